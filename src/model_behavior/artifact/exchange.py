"""How a folder changes as a whole, beside other processes and through a loss of power.

A new folder is written under a temporary name, and renamed. Where there is one already, the new files are written to a
temporary folder in it, which is renamed to `.next` once they are on the disk. From that moment readers take them from
there, until they have replaced the old ones and `.next` is gone; whoever writes next finishes what a killed process has
not. The folder itself stays, with its owner, its rights, and the files that the user has added, and it may be a mount
point. Who writes holds the lock; who reads opens all files of one state before reading any.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from filelock import FileLock

from model_behavior.artifact.config_file import CONFIG, NEXT, current, read_config
from model_behavior.artifact.segments import FOLDER as SEGMENTS
from model_behavior.catalog.stored_rows import Segment
from model_behavior.errors import ArtifactError
from model_behavior.files import copy_rights, make_folder, sync, temporary_folder
from model_behavior.preprocessing.entry_file import digest_of

PART, LOCK = ".new.", ".lock"
_PATIENCE_SECONDS = 30.0  # for a generation that stays while its files are opened


def exchange(path: Path, names: Sequence[str], write: Callable[[Path, Path | None], Path]) -> None:
    """Puts a new folder there, or new files in the place of old ones, at once.

    Args:
        path: folder, absolute; nothing there, or an artifact.
        names: names that files of an artifact may have, besides segments.
        write: writes the new folder into the one that it is given, on the disk, and returns it; its second argument is
            the folder with the old files, None where there is none.

    Raises:
        OSError: the folder cannot be written; an older artifact there stays unchanged.
    """
    with locked(path):
        if path.exists():
            _finish(path, names)
            with temporary_folder(path, PART) as parent:
                write(parent, path).rename(path / NEXT)
                sync(path)
            with contextlib.suppress(OSError):  # what is left is done by whoever writes next
                _finish(path, names)
        else:
            with temporary_folder(path.parent, f".{path.name[:100]}.") as parent:
                write(parent, None).rename(path)
                sync(path.parent)


def _finish(path: Path, names: Sequence[str]) -> None:
    """Puts the files of a complete `.next` in the place of the old ones; does nothing where there is none."""
    after = path / NEXT
    if not after.is_dir():
        return
    with temporary_folder(path, PART) as parent:
        for name in names:
            if (after / name).exists():
                _link(after / name, parent / name)
                (parent / name).replace(path / name)
            else:
                (path / name).unlink(missing_ok=True)
        _finish_segments(path, after, parent)
        sync(path)
        after.rename(parent / NEXT)
        sync(path)


def _finish_segments(path: Path, after: Path, parent: Path) -> None:
    """Puts new segments beside those that stay, and removes the others."""
    place = path / SEGMENTS
    if (after / SEGMENTS).is_dir():
        if not place.exists():
            place.mkdir()
            copy_rights(path, place)
        for new in sorted((after / SEGMENTS).iterdir()):
            _link(new, parent / new.name)
            (parent / new.name).replace(place / new.name)
    if place.is_dir():
        named = read_config(path).get("segments", {})
        for old in place.iterdir():
            if old.name not in named and is_segment(f"{SEGMENTS}/{old.name}"):
                old.unlink()
        sync(place)


def is_segment(name: str) -> bool:
    """Tells if a name, relative to an artifact, is one that a segment has."""
    folder, _, own = name.partition("/")
    return folder == SEGMENTS and len(own) == 32 and not set(own) - set("0123456789abcdef")


def _link(old: Path, new: Path) -> None:
    """A second name for a file, or a copy where the file system has no second names."""
    try:
        os.link(old, new)
    except OSError:
        shutil.copy2(old, new)
        copy_rights(old, new)
        sync(new)


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Keeps other processes from changing the same folder; waits for them. A thread may lock what it has locked.

    Raises:
        OSError: the folder cannot be written.
    """
    path = path.resolve()
    while True:
        inside = path.is_dir()
        if not inside:
            make_folder(path.parent)
        place = path / LOCK if inside else path.with_name(f".{path.name}.lock")
        try:
            lock = FileLock(place, is_singleton=True)
            lock.acquire()
        except OSError as error:
            raise OSError(error.errno, f"{path} cannot be changed: {error.strerror}") from error
        try:
            if path.is_dir() == inside:  # where it has been made meanwhile, its own lock is the one to wait for
                yield
                return
        finally:
            lock.release()
            if not inside and path.is_dir():  # from now on the lock in it counts
                with contextlib.suppress(OSError):
                    place.unlink(missing_ok=True)


def _state_of(path: Path) -> tuple[str, int, int] | None:
    """Differs after every write, and from the state in which its files have not come to their places."""
    try:
        folder = current(path)
        status = (folder / CONFIG).stat()
    except OSError:
        return None
    return folder.name, status.st_ino, status.st_mtime_ns


@dataclass(frozen=True, eq=False)
class Opened:
    """Files of one write; none of them changes once it is open.

    Attributes:
        config: verified content of `config.json`.
        files: other files by name, open.
        segments: mapped segments by name.
    """

    config: dict[str, Any]
    files: Mapping[str, IO[bytes]]
    segments: Mapping[str, Segment]


@contextlib.contextmanager
def open_state(path: Path, names: Sequence[str] = (), unrecorded: Sequence[str] = ()) -> Iterator[Opened]:
    """Opens all files of one write that are there.

    Args:
        path: folder to read.
        names: files to open where `config.json` has their digest, and the segments with them; none for it alone.
        unrecorded: files to open without a digest.

    Raises:
        ArtifactError: `config.json` is missing, altered, or of another version; or a segment is missing.
    """
    until = time.monotonic() + _PATIENCE_SECONDS
    while True:
        state, failure = _state_of(path), None
        with contextlib.ExitStack() as stack:
            folder = current(path)
            try:
                config = read_config(path)
                digests, sizes = (config.get(each) or {} if names else {} for each in ("files", "segments"))
                named = [*(name for name in names if name in digests), *unrecorded]
                files: dict[str, IO[bytes]] = {
                    name: stack.enter_context((folder / name).open("rb")) for name in named if (folder / name).is_file()
                }
                opened = Opened(config, files, _open_segments(path, folder, sizes))
            except (ArtifactError, OSError) as error:
                failure = error
            if _state_of(path) == state or time.monotonic() > until:
                if failure is not None:
                    raise failure
                yield opened
                return


def _open_segments(path: Path, folder: Path, sizes: Mapping[str, int]) -> dict[str, Segment]:
    """The segments of a folder; while `folder` is its next state, those that stay are in `path`."""
    found = {}
    for name, size in sizes.items():
        places = [each for each in (folder / SEGMENTS / name, path / SEGMENTS / name) if each.is_file()]
        if not places:
            raise ArtifactError(
                f"{path / SEGMENTS / name} is missing. Fix: restore the folder from a copy, or train again"
            )
        with places[0].open("rb") as file:
            found[name] = Segment(path / SEGMENTS / name, file, size)
    return found


def fingerprint(path: Path) -> str:
    """Hash of the whole content of a folder: that of `config.json`, which holds the digests of all other files.

    Raises:
        ArtifactError: `config.json` is missing, altered, or of another version.
    """
    with open_state(path) as opened:
        return digest_of(json.dumps(opened.config, sort_keys=True))
