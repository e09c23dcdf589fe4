"""Files and folders that are complete or absent, also after a crash of the program or of the machine.

What is written lies under a temporary name until it is complete and on the disk. A temporary folder is locked while
its process lives, so that whoever comes next can tell what a killed process has left, and removes it.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock

from model_behavior.errors import UsageError

try:
    import fcntl
except ImportError:  # Windows, where a folder cannot be locked: what a killed process has left stays
    fcntl = None  # type: ignore[assignment]

PART = ".part"
_ACL = ("system.posix_acl_access", "system.nfs4_acl")
_CONTENT = "content"


_OTHER_TABLES = frozenset((".csv", ".tsv", ".json", ".jsonl", ".ndjson", ".txt", ".xlsx", ".gz", ".zst", ".zip"))


def check_output_file(path: Path) -> None:
    """Checks before any work that a file can be written there.

    Raises:
        UsageError: the path is a folder, a device or the like, or its folder is not writable.
    """
    if path.exists() and not path.is_file():
        raise UsageError(f"--output {path} exists and is not a regular file. Fix: choose another one")
    check_writable(path.resolve().parent, f"--output {path}")


def check_writable(folder: Path, what: str) -> None:
    """Checks that a folder, or the nearest one above it that exists, can be written to.

    Raises:
        UsageError: it cannot; the message begins with `what`.
    """
    while not folder.exists():
        folder = folder.parent
    if not folder.is_dir() or not os.access(folder, os.W_OK | os.X_OK):
        raise UsageError(f"{what}: {folder} is not a folder that can be written to. Fix: choose another one")


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
def written_aside(path: Path, durable: bool = True) -> Iterator[Path]:
    """Gives a temporary path to write to, and renames it to `path` if the block succeeds.

    An older file at `path` stays until then, and is kept if the block fails. The new file has its permissions, or
    those of any new file. The folder is created. A symbolic link is kept, and its target is replaced.

    Args:
        path: file to write.
        durable: True to have the file on the disk before the older one is given up.

    Raises:
        OSError: the folder cannot be written.
    """
    target = path.resolve()
    make_folder(target.parent)
    with temporary_folder(target.parent, f".{target.name[:100]}.") as folder:
        aside = folder / _CONTENT
        yield aside
        if target.exists():
            copy_rights(target, aside)
        else:
            open_to_others(aside)
        if durable:
            sync(aside)
        aside.replace(target)
        if durable:
            sync(target.parent)


@contextmanager
def temporary_folder(parent: Path, prefix: str) -> Iterator[Path]:
    """Gives a new folder that is removed at the end; those with this prefix that killed processes left are, too.

    Args:
        parent: folder that it is made in.
        prefix: beginning of its name, which ends in `.part`.
    """
    remove_leftovers(parent, prefix)
    while True:
        folder = parent / f"{prefix}{uuid.uuid4().hex[:12]}{PART}"
        folder.mkdir(0o700)
        held = _hold(folder)
        if folder.exists():  # nobody has taken it for one that was left, before it was held
            break
        _release(held)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        _release(held)


def remove_leftovers(parent: Path, prefix: str) -> None:
    """Removes temporary folders with this prefix whose processes have ended."""
    with contextlib.suppress(OSError):
        for path in parent.iterdir():
            if path.name.startswith(prefix) and path.name.endswith(PART) and (held := _hold(path)) is not None:
                shutil.rmtree(path, ignore_errors=True)
                _release(held)


def _hold(folder: Path) -> int | None:
    """Locks a folder; None where it is locked, gone, or cannot be locked on this system."""
    if fcntl is None:
        return None
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        return None
    return descriptor


def _release(held: int | None) -> None:
    if held is not None:
        os.close(held)


@contextmanager
def locked_file(path: Path) -> Iterator[None]:
    """Keeps other processes from changing the same file between reading and writing it; waits for them."""
    target = path.resolve()
    make_folder(target.parent)
    with FileLock(target.with_name(f".{target.name[:100]}.lock")):
        yield


def make_folder(path: Path) -> None:
    """Creates a folder and those above it, so that they outlast a crash of the machine."""
    missing = []
    while not path.exists():
        missing.append(path)
        path = path.parent
    for folder in reversed(missing):
        folder.mkdir(exist_ok=True)
        sync(folder.parent)


def sync(path: Path) -> None:
    """Waits until a file, or the names in a folder, are on the disk.

    Raises:
        OSError: the disk has failed or is full.
    """
    if path.is_dir() and os.name == "nt":  # which has no such call for a folder
        return
    descriptor = os.open(path, os.O_RDONLY if path.is_dir() or os.name != "nt" else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def copy_rights(old: Path, new: Path) -> None:
    """Gives a file the mode and the access list of the one that it replaces, and its owner where that is allowed."""
    status = old.stat()
    with contextlib.suppress(OSError, AttributeError):
        os.chown(new, status.st_uid, status.st_gid)
    new.chmod(stat.S_IMODE(status.st_mode))
    for name in _ACL:
        with contextlib.suppress(OSError, AttributeError):
            os.setxattr(new, name, os.getxattr(old, name))


def open_to_others(path: Path) -> None:
    """Gives a file the permissions of any new file in its folder; some libraries write files for the owner only.

    A new file beside it shows them: the umask can only be read by setting it, which would affect other threads.
    """
    sample = path.with_name(f".{path.name[:100]}.{uuid.uuid4().hex[:12]}{PART}")
    descriptor = os.open(sample, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666)
    try:
        path.chmod(stat.S_IMODE(os.fstat(descriptor).st_mode))
    finally:
        os.close(descriptor)
        sample.unlink()
