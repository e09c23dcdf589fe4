"""Named arrays with JSON metadata in one safetensors file, whole or not there, and verified when read."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from model_behavior.files import written_aside

Arrays: TypeAlias = dict[str, npt.NDArray[Any]]


def inside(arrays: Mapping[str, npt.NDArray[Any]], prefix: str) -> Arrays:
    """The arrays whose names start with `prefix`, without it."""
    return {name.removeprefix(prefix): value for name, value in arrays.items() if name.startswith(prefix)}


class DamagedEntryError(Exception):
    """The file is there, but it is truncated, altered, or not one of ours."""


@dataclass(frozen=True)
class CacheEntry:
    """What one file keeps.

    Attributes:
        arrays: named arrays.
        metadata: JSON values.
    """

    arrays: Arrays
    metadata: Mapping[str, Any]


def digest_of(*parts: str | bytes | npt.NDArray[Any]) -> str:
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


def read_entry(path: Path) -> CacheEntry:
    """Reads a file and checks its digest.

    Raises:
        FileNotFoundError: there is no such file.
        DamagedEntryError: it is truncated or altered.
    """
    try:
        with safe_open(path, framework="numpy") as file:
            arrays: Arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            stored = file.metadata() or {}
    except (FileNotFoundError, NotADirectoryError):
        raise
    except (SafetensorError, OSError, TypeError, ValueError) as error:  # TypeError: bfloat16, which NumPy lacks
        raise DamagedEntryError(f"{path} cannot be read ({error})") from error
    metadata = stored.get("metadata", "")
    if stored.get("digest") != _entry_digest(arrays, metadata):
        raise DamagedEntryError(f"{path} was altered")
    return CacheEntry(arrays, json.loads(metadata))


def write_entry(path: Path, entry: CacheEntry) -> None:
    """Writes beside `path`, then renames: another process sees the old file, or the new one whole.

    Raises:
        OSError: the folder cannot be written; what was there before is still there.
    """
    metadata = json.dumps(dict(entry.metadata), sort_keys=True)
    arrays = {name: np.asarray(array, order="C") for name, array in entry.arrays.items()}
    header = {"metadata": metadata, "digest": _entry_digest(arrays, metadata)}
    try:
        with written_aside(path) as aside:
            save_file(arrays, aside, metadata=header)
    except SafetensorError as error:
        raise OSError(str(error)) from error


def _entry_digest(arrays: Arrays, metadata: str) -> str:
    parts: list[str | bytes | npt.NDArray[Any]] = [metadata]
    for name in sorted(arrays):
        parts += [name, arrays[name]]
    return digest_of(*parts)
