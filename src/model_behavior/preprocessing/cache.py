"""The content-addressed cache of text features, triplets, tuned weights and exports.

An entry is a file named by the hash of everything that decides its content. It is renamed into place once complete,
so that processes can share a cache, and its digest is checked on every read.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from model_behavior.files import PART
from model_behavior.memory import Memory, spare_memory
from model_behavior.preprocessing.entry_file import CacheEntry, DamagedEntryError, read_entry, write_entry

FORMAT_VERSION = 1
_SUFFIX = ".safetensors"
_KEY = "cache_key"
_MAPPED_FROM = 1 << 26  # bytes; an entry as large is given back from its file, so that it is not held in memory


class CacheWarning(UserWarning):
    """A cache entry was damaged and is computed again, or could not be written."""


@dataclass(frozen=True)
class CacheInfo:
    """Contents of a cache folder.

    Attributes:
        entries: number of entries by kind.
        bytes: their size by kind.
    """

    path: Path
    entries: Mapping[str, int]
    bytes: Mapping[str, int]


def default_cache_path() -> Path | None:
    """$MODEL_BEHAVIOR_CACHE, else model-behavior in $XDG_CACHE_HOME, else in ~/.cache; None without a home folder."""
    if chosen := os.environ.get("MODEL_BEHAVIOR_CACHE"):
        return Path(chosen)
    base = os.environ.get("XDG_CACHE_HOME")
    try:
        return (Path(base) if base else Path.home() / ".cache") / "model-behavior"
    except RuntimeError:
        return None


class ContentCache:
    """A folder of verified entries. The arrays of an entry that was read lie in its file, not in memory.

    Args:
        path: folder, created when the first entry is written; by default `default_cache_path()`. Without one, nothing
            is kept, and a warning says so.
        enabled: False to compute everything anew and write nothing, if texts must leave no trace on disk.
        memory: limit that decides from which size on a matrix lies in a mapped file of the folder, by default what the
            machine has to spare.
    """

    def __init__(self, path: Path | None = None, enabled: bool = True, memory: Memory | None = None) -> None:
        chosen = path if path is not None else default_cache_path()
        if chosen is None and enabled:
            warnings.warn(
                "there is no home folder for the cache; going on without it. Fix: set MODEL_BEHAVIOR_CACHE to a folder",
                CacheWarning,
                2,
            )
        self.path = chosen if chosen is not None else Path(os.devnull)
        self.enabled = enabled and chosen is not None
        self.memory = memory if memory is not None else spare_memory()

    def get_or_build(self, kind: str, key: str, build: Callable[[], CacheEntry]) -> CacheEntry:
        """Returns the entry from disk if it is there and intact; otherwise computes and keeps it.

        Args:
            kind: kind of the entry, a plain word.
            key: hexadecimal digest of all that decides the content.
            build: computes the entry.
        """
        entry = self.find(kind, key)
        if entry is None:
            entry = build()
            kept = self.keep(kind, key, entry)
            if kept and sum(array.nbytes for array in entry.arrays.values()) >= _MAPPED_FROM:
                del entry  # before the file is mapped, so that memory never holds both
                entry = self.find(kind, key) or build()
        return entry

    def find(self, kind: str, key: str, verify: bool = True) -> CacheEntry | None:
        """Returns the entry if it is there and intact; arguments as for `get_or_build` and `read_entry`."""
        return self._read(self._place(kind, key), key, verify) if self.enabled else None

    def has(self, kind: str, key: str) -> bool:
        """Tells if the entry is there, without reading it."""
        return self.enabled and self._place(kind, key).is_file()

    def keep(self, kind: str, key: str, entry: CacheEntry) -> bool:
        """Writes the entry if possible; returns True if it was written."""
        return self.enabled and self._write(
            self._place(kind, key), CacheEntry(entry.arrays, {**entry.metadata, _KEY: key})
        )

    def info(self) -> CacheInfo:
        """Counts entries and bytes by kind."""
        entries: dict[str, int] = {}
        sizes: dict[str, int] = {}
        for path in self._files():
            with contextlib.suppress(FileNotFoundError):  # another process may clear at the same time
                size = path.stat().st_size
                kind = path.relative_to(self.path).parts[1]
                entries[kind] = entries.get(kind, 0) + 1
                sizes[kind] = sizes.get(kind, 0) + size
        return CacheInfo(self.path, entries, sizes)

    def clear(self) -> CacheInfo:
        """Removes every entry and the partial files of killed processes; returns what was removed."""
        info = self.info()
        for path in self._files():
            path.unlink(missing_ok=True)
        for part in self.path.glob(f"v*/*/*/.*{_SUFFIX}.*{PART}"):
            shutil.rmtree(part, ignore_errors=True)
        return info

    def _place(self, kind: str, key: str) -> Path:
        return self.path / f"v{FORMAT_VERSION}" / kind / key[:2] / f"{key}{_SUFFIX}"

    def _files(self) -> Iterator[Path]:
        return self.path.glob(f"v*/*/*/*{_SUFFIX}")

    def _read(self, path: Path, key: str, verify: bool) -> CacheEntry | None:
        try:
            entry = read_entry(path, verify)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except DamagedEntryError as error:
            warnings.warn(f"{error}; computing it again", CacheWarning, 3)
            return None
        if entry.metadata.get(_KEY) != key:
            warnings.warn(f"{path} is an entry of another key; computing it again", CacheWarning, 3)
            return None
        return entry

    def _write(self, path: Path, entry: CacheEntry) -> bool:
        try:
            write_entry(path, entry, durable=False)
        except OSError as error:
            # A full or read-only disk must not lose the work: it goes on without the cache, and says so once.
            reason = error.strerror or error
            warnings.warn(f"cannot write to the cache {self.path}: {reason}; going on without it", CacheWarning, 3)
            return False
        return True
