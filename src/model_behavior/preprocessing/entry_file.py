"""The file of a cache entry: named arrays and JSON metadata, written atomically and verified when read."""

from __future__ import annotations

import hashlib
import json
import math
import mmap
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from model_behavior.arrays import AnyArray, Arrays
from model_behavior.files import written_aside

_TYPES = {
    **{f"{kind}{bits}": np.dtype(f"<{kind.lower()}{bits // 8}") for kind in "IUF" for bits in (16, 32, 64)},
    **{"I8": np.dtype("i1"), "U8": np.dtype("u1"), "BOOL": np.dtype("?")},
}


def inside(arrays: Mapping[str, AnyArray], prefix: str) -> Arrays:
    """The arrays whose names start with `prefix`, without it."""
    return {name.removeprefix(prefix): value for name, value in arrays.items() if name.startswith(prefix)}


class DamagedEntryError(Exception):
    """The file is there, but it is truncated, altered, or not one of ours."""


@dataclass(frozen=True)
class CacheEntry:
    """Contents of one file.

    Attributes:
        arrays: named arrays.
        metadata: JSON values.
    """

    arrays: Arrays
    metadata: Mapping[str, Any]


def digest_of(*parts: str | bytes | AnyArray) -> str:
    """SHA-256 over the parts, their types and their lengths, as hexadecimal."""
    digest = hashlib.sha256()
    for part in parts:
        if isinstance(part, np.ndarray):
            digest.update(f"array {part.dtype.str} {part.shape} ".encode())
            digest.update(np.ascontiguousarray(part).data)
        else:
            raw = part.encode("utf-8", "surrogatepass") if isinstance(part, str) else part
            digest.update(f"{type(part).__name__} {len(raw)} ".encode())
            digest.update(raw)
    return digest.hexdigest()


def read_entry(path: Path, verify: bool = True) -> CacheEntry:
    """Reads a file and checks its digest. Its arrays are mapped into memory: what is written to them stays there.

    Args:
        path: file to read.
        verify: False to read no more of it than is used, if another process has checked its digest.

    Raises:
        FileNotFoundError: there is no such file.
        DamagedEntryError: it is truncated or altered.
    """
    try:
        with safe_open(path, framework="numpy") as file:  # refuses a header that does not fit the file
            stored = file.metadata() or {}
        arrays = _map_arrays(path)
    except (FileNotFoundError, NotADirectoryError):
        raise
    except (SafetensorError, OSError, KeyError, ValueError) as error:  # KeyError: bfloat16, which NumPy lacks
        raise DamagedEntryError(f"{path} cannot be read ({error})") from error
    metadata = stored.get("metadata", "")
    if verify and stored.get("digest") != _entry_digest(arrays, metadata):
        raise DamagedEntryError(f"{path} was altered")
    return CacheEntry(arrays, json.loads(metadata))


def _map_arrays(path: Path) -> Arrays:
    """The arrays of a safetensors file."""
    with path.open("rb") as file:
        return arrays_in(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY))


def arrays_in(buffer: mmap.mmap | memoryview) -> Arrays:
    """Arrays of a safetensors file in a buffer: 8 bytes with the header's length, the header in JSON, the arrays.

    Raises:
        KeyError, TypeError, ValueError: the header is damaged, or has types that NumPy lacks.
    """
    start = 8 + int.from_bytes(buffer[:8], "little")
    header = json.loads(bytes(buffer[8:start]))
    return {
        name: np.frombuffer(
            buffer, _TYPES[entry["dtype"]], math.prod(entry["shape"]), start + entry["data_offsets"][0]
        ).reshape(entry["shape"])
        for name, entry in header.items()
        if name != "__metadata__"
    }


def write_entry(path: Path, entry: CacheEntry, durable: bool = True) -> None:
    """Writes beside `path`, then renames: another process sees the old file, or the new one whole.

    Args:
        path: file to write.
        entry: contents.
        durable: False to save the time that the disk needs, if a file that a crash of the machine has damaged may be
            made again.

    Raises:
        OSError: the folder cannot be written; what was there before is still there.
    """
    metadata = json.dumps(dict(entry.metadata), sort_keys=True)
    arrays = {name: np.asarray(array, order="C") for name, array in entry.arrays.items()}
    header = {"metadata": metadata, "digest": _entry_digest(arrays, metadata)}
    try:
        with written_aside(path, durable) as aside:
            save_file(arrays, aside, metadata=header)
    except SafetensorError as error:
        raise OSError(str(error)) from error


def _entry_digest(arrays: Arrays, metadata: str) -> str:
    parts: list[str | bytes | AnyArray] = [metadata]
    for name in sorted(arrays):
        parts += [name, arrays[name]]
    return digest_of(*parts)
