"""Writing a file so that it is there whole or not at all."""

from __future__ import annotations

import os
import stat
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from model_behavior.errors import UsageError


def name_aside(path: Path) -> Path:
    """A hidden name beside `path`, in its real folder, that no other process uses."""
    path = path.resolve()
    return path.with_name(f".{path.name[:100]}.{uuid.uuid4().hex[:12]}.part")


def check_output_file(path: Path) -> None:
    """Says before any work whether a file can be written there.

    Raises:
        UsageError: it is a folder, a device or the like, or its folder is not writable.
    """
    if path.exists() and not path.is_file():
        raise UsageError(f"--output {path} is there and is no regular file. Fix: name a file")
    folder = path.resolve().parent
    while not folder.exists():
        folder = folder.parent
    if not folder.is_dir() or not os.access(folder, os.W_OK):
        raise UsageError(f"--output {path}: {folder} is not a folder that can be written to. Fix: choose another one")


@contextmanager
def written_aside(path: Path) -> Iterator[Path]:
    """Gives a name to write to, and renames it to `path` when the block ends well.

    Whatever was at `path` before stays until then, and stays for good when the block fails. The folder is made; a
    symbolic link stays one, and the file that it leads to is replaced.

    Raises:
        OSError: the folder cannot be written.
    """
    target = path.resolve()
    target.parent.mkdir(parents=True, exist_ok=True)
    aside = name_aside(target)
    try:
        yield aside
        open_to_others(aside)
        aside.replace(target)
    finally:
        aside.unlink(missing_ok=True)


def open_to_others(path: Path) -> None:
    """Gives a file the rights that any new file gets in its folder; some libraries write for the owner alone.

    A new file beside it shows them: to read the umask is to set it, and other threads may make files meanwhile.
    """
    sample = name_aside(path)
    descriptor = os.open(sample, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666)
    try:
        path.chmod(stat.S_IMODE(os.fstat(descriptor).st_mode))
    finally:
        os.close(descriptor)
        sample.unlink()
