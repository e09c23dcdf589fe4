"""A power loss, simulated: what of a folder is on the disk after each call that a program has made.

The recorder wraps the calls of `os` that change names or wait for the disk. At each it takes down the folder as the
program sees it and as the disk has it: the content of a file as of its last `fsync`, the names in a folder as of the
folder's. Of what was not synced a disk may have kept anything, so three states follow from each moment: nothing of it,
all names but no content, and names by chance.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

_CALLS = ("fsync", "rename", "replace", "link", "unlink", "rmdir", "mkdir", "ftruncate")
Names = dict[str, int]
"""Inode by name."""


@dataclass(frozen=True)
class Moment:
    """What the program sees and what the disk has, between two calls.

    Attributes:
        root: inode of the folder.
        call: call that has just returned.
        seen: names in each folder, by its inode.
        synced: names of each folder at its last `fsync`.
        content: content of each file at its last `fsync`.
        folders: inodes that are or were folders.
    """

    root: int
    call: str
    seen: Mapping[int, Names]
    synced: Mapping[int, Names]
    content: Mapping[int, bytes]
    folders: frozenset[int]

    def states(self, rng: random.Random) -> Iterator[dict[str, bytes]]:
        """Files by path that a machine may find when it starts again."""
        yield self._tree(lambda folder: self.synced.get(folder, {}))
        yield self._tree(lambda folder: self.seen.get(folder, self.synced.get(folder, {})))
        for _ in range(2):
            yield self._tree(lambda folder: self._mixed(folder, rng))

    def _mixed(self, folder: int, rng: random.Random) -> Names:
        """Of each name that differs, either what the disk had or what was to come."""
        before, after = self.synced.get(folder, {}), self.seen.get(folder, self.synced.get(folder, {}))
        chosen = {name: (before if rng.random() < 0.5 else after).get(name) for name in sorted({*before, *after})}
        return {name: inode for name, inode in chosen.items() if inode is not None}

    def _tree(self, names_of: Any) -> dict[str, bytes]:
        found: dict[str, bytes] = {}

        def walk(folder: int, prefix: str) -> None:
            for name, inode in names_of(folder).items():
                if inode in self.folders:
                    walk(inode, f"{prefix}{name}/")
                else:
                    found[prefix + name] = self.content.get(inode, b"")

        walk(self.root, "")
        return found


@dataclass
class Recorder:
    """Records what happens below a folder, which is on the disk as it is when the recording begins.

    Attributes:
        moments: states, one after every call.
    """

    folder: Path
    moments: list[Moment] = field(default_factory=list)
    _synced: dict[int, Names] = field(default_factory=dict)
    _content: dict[int, bytes] = field(default_factory=dict)
    _folders: set[int] = field(default_factory=set)
    _kept: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._synced = self._look()
        for path in self.folder.rglob("*"):
            if path.is_file():
                self._keep(path)
                self._content[path.stat().st_ino] = path.read_bytes()

    def _keep(self, path: Path) -> None:
        """Holds a file or folder open, so that no later one gets its inode."""
        self._kept.append(os.open(path, os.O_RDONLY))

    def _look(self) -> dict[int, Names]:
        folders = [self.folder, *(path for path in self.folder.rglob("*") if path.is_dir())]
        for each in folders:
            if (inode := each.stat().st_ino) not in self._folders:
                self._folders.add(inode)
                self._keep(each)
        return {each.stat().st_ino: {path.name: path.lstat().st_ino for path in each.iterdir()} for each in folders}

    def note(self, call: str, descriptor: int | None = None) -> None:
        """Takes down the moment after a call."""
        seen = self._look()
        if descriptor is not None:
            inode = os.fstat(descriptor).st_ino
            if inode in seen:
                self._synced[inode] = seen[inode]
            else:
                path = Path(f"/proc/self/fd/{descriptor}").readlink()
                if path.is_relative_to(self.folder):
                    self._keep(path)
                    self._content[inode] = path.read_bytes()
        root = self.folder.stat().st_ino
        self.moments.append(Moment(root, call, seen, dict(self._synced), dict(self._content), frozenset(self._folders)))

    def close(self) -> None:
        """Lets go of the files."""
        for descriptor in self._kept:
            os.close(descriptor)


@contextmanager
def recorded(folder: Path) -> Iterator[Recorder]:
    """Records every call of this process below a folder while the block runs."""
    recorder = Recorder(folder.resolve())
    with pytest.MonkeyPatch.context() as patch:
        for name in _CALLS:
            patch.setattr(os, name, _wrapped(name, getattr(os, name), recorder))
        yield recorder
    recorder.close()


def _wrapped(name: str, call: Any, recorder: Recorder) -> Any:
    def recording(*arguments: Any, **named: Any) -> Any:
        result = call(*arguments, **named)
        recorder.note(name, arguments[0] if name == "fsync" else None)
        return result

    return recording


def write_state(state: Mapping[str, bytes], folder: Path) -> None:
    """Makes the folder that a machine finds."""
    for name, content in state.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
