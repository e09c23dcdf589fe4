"""Atomic writing of files: a file is complete or absent."""

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


_OTHER_TABLES = frozenset((".csv", ".tsv", ".json", ".jsonl", ".ndjson", ".txt", ".xlsx", ".gz", ".zst", ".zip"))


def check_output_file(path: Path) -> None:
    """Checks before any work that a file can be written there.

    Raises:
        UsageError: the path is a folder, a device or the like, or its folder is not writable.
    """
    if path.exists() and not path.is_file():
        raise UsageError(f"--output {path} exists and is not a regular file. Fix: choose another one")
    folder = path.resolve().parent
    while not folder.exists():
        folder = folder.parent
    if not folder.is_dir() or not os.access(folder, os.W_OK):
        raise UsageError(f"--output {path}: {folder} is not a folder that can be written to. Fix: choose another one")


def check_table_file(path: Path) -> None:
    """`check_output_file`, for a Parquet file.

    Raises:
        UsageError: also an ending that says another format.
    """
    check_output_file(path)
    if path.suffix.lower() in _OTHER_TABLES:
        raise UsageError(
            f"--output {path}: the table is written as Parquet, which is not what {path.suffix} says. "
            f"Fix: --output {path.with_suffix('.parquet')}"
        )


@contextmanager
def written_aside(path: Path) -> Iterator[Path]:
    """Gives a temporary path to write to, and renames it to `path` if the block succeeds.

    An older file at `path` stays until then, and is kept if the block fails. The folder is created. A symbolic link is
    kept, and its target is replaced.

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
    """Gives a file the permissions of any new file in its folder; some libraries write files for the owner only.

    A new file beside it shows them: the umask can only be read by setting it, which would affect other threads.
    """
    sample = name_aside(path)
    descriptor = os.open(sample, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666)
    try:
        path.chmod(stat.S_IMODE(os.fstat(descriptor).st_mode))
    finally:
        os.close(descriptor)
        sample.unlink()
