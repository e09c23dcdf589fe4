"""A table that the worker processes of one service share: what each of them has to know of the others' requests.

It lies in a file without a name, mapped by all of them. A key has a set of eight places; where all are taken, the
oldest goes. A set is locked by its bytes of the file, which a process that ends gives up.
"""

from __future__ import annotations

import hashlib
import mmap
import os
import secrets
import struct
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import final

try:
    import fcntl
except ImportError:  # Windows, where one process serves
    fcntl = None  # type: ignore[assignment]

_ENTRY = struct.Struct("<16sdd")
_WAYS = 8
_HEAD = 64  # bytes, of which the first 16 are the secret
_SETS = 1 << 13


@dataclass
class Place:
    """The place of a key, locked.

    Attributes:
        stamp: time of the last change; None where the key is new.
        value: number that is kept of it.
    """

    stamp: float | None
    value: float


@final
class SharedTable:
    """Times and values of the latest keys.

    Args:
        descriptor: file that another process has made; None to make one.

    Attributes:
        descriptor: file of the table, which a child process may inherit.
        secret: 16 random bytes, the same in all processes.
    """

    def __init__(self, descriptor: int | None = None) -> None:
        size = _HEAD + _SETS * _WAYS * _ENTRY.size
        if descriptor is None:
            with tempfile.TemporaryFile() as file:
                file.truncate(size)
                os.pwrite(file.fileno(), secrets.token_bytes(16), 0)
                descriptor = os.dup(file.fileno())
        self.descriptor = descriptor
        self._mapped = mmap.mmap(descriptor, size)
        self.secret = bytes(self._mapped[:16])

    @contextmanager
    def place(self, kind: str, key: bytes) -> Iterator[Place]:
        """The place of a key while the block runs; what is in it at the end is kept, if it has a stamp.

        Args:
            kind: what the key is of, so that keys of one kind are never those of another.
            key: any bytes.
        """
        own = hashlib.blake2b(key, key=self.secret, person=kind.encode()[:16], digest_size=16).digest()
        start = _HEAD + int.from_bytes(own[:4], "little") % _SETS * _WAYS * _ENTRY.size
        with self._locked(start):
            entries = [_ENTRY.unpack_from(self._mapped, start + way * _ENTRY.size) for way in range(_WAYS)]
            ways = [way for way, entry in enumerate(entries) if entry[0] == own]
            way = ways[0] if ways else min(range(_WAYS), key=lambda each: entries[each][1])
            found = Place(entries[way][1], entries[way][2]) if ways else Place(None, 0.0)
            yield found
            if found.stamp is not None:
                _ENTRY.pack_into(self._mapped, start + way * _ENTRY.size, own, found.stamp, found.value)

    @contextmanager
    def _locked(self, start: int) -> Iterator[None]:
        fcntl.lockf(self.descriptor, fcntl.LOCK_EX, _WAYS * _ENTRY.size, start)
        try:
            yield
        finally:
            fcntl.lockf(self.descriptor, fcntl.LOCK_UN, _WAYS * _ENTRY.size, start)
