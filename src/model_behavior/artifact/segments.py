"""The files in which an artifact keeps the samples of its models: many rows each, written once, replaced as a whole.

A row (`catalog/stored_rows.py`) is known by its SHA-256, and so is a segment by those of its rows. A write leaves every
segment whose rows are all still wanted where it is, and puts what is new into new ones. A segment that has lost a row
is written again without it, so that nothing of a removed model stays. Small segments are joined once there are more
than a few of about one size, as log-structured stores do (O'Neil et al. 1996, https://doi.org/10.1007/s002360050048):
a catalog that grows model by model writes each row about three times altogether.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save

from model_behavior.arrays import AnyArray, Arrays
from model_behavior.catalog.samples import (
    ModelSamples,
    columns_of,
    lengths_of,
    moments_to_arrays,
    row_to_arrays,
    samples_of_rows,
    stored_rows_of,
)
from model_behavior.catalog.stored_rows import Segment, StoredRow
from model_behavior.models.behavior.text.style import StyleEncoder

FOLDER = "samples"
MOST_BYTES = 64 << 20  # of a segment, unless one row has more
_ALIKE = (64, 8, 2)  # segments count as alike up to these fractions of it, and as full beyond
_MOST_ALIKE = 8
_ALIGNED = 64
_KINDS = ("embedded", "styles", "words")


@dataclass(frozen=True)
class Place:
    """Where a row lies.

    Attributes:
        segment: name of its segment.
        start: first byte.
        size: number of bytes.
        digest: SHA-256 of these.
    """

    segment: str
    start: int
    size: int
    digest: bytes


@dataclass(frozen=True)
class Layout:
    """Where the rows of a folder lie, in the order of its models, and the sizes of its segments by name."""

    places: tuple[Place, ...] = ()
    sizes: Mapping[str, int] = field(default_factory=dict)


@dataclass
class _Writer:
    """Writes rows into new segments of a folder."""

    folder: Path
    places: dict[int, Place] = field(default_factory=dict)
    sizes: dict[str, int] = field(default_factory=dict)
    _open: list[tuple[int, bytes]] = field(default_factory=list)
    _size: int = 0

    def add(self, row: int, content: bytes) -> None:
        """Adds the row of a model."""
        if self._open and self._size + len(content) > MOST_BYTES:
            self.finish()
        self._open.append((row, content))
        self._size += len(content) + -len(content) % _ALIGNED

    def finish(self) -> None:
        """Writes what is left."""
        if not self._open:
            return
        digests = [hashlib.sha256(content).digest() for _, content in self._open]
        name = hashlib.sha256(b"".join(digests)).hexdigest()[:32]
        self.folder.mkdir(exist_ok=True)
        start = 0
        with (self.folder / name).open("wb") as file:
            for (row, content), digest in zip(self._open, digests, strict=True):
                self.places[row] = Place(name, start, len(content), digest)
                file.write(content)
                file.write(bytes(-len(content) % _ALIGNED))
                start = file.tell()
        self.sizes[name] = start
        self._open, self._size = [], 0


def write_samples(samples: ModelSamples, folder: Path, old: Layout, at: Path) -> tuple[Arrays, dict[str, Any], Layout]:
    """Writes the segments that a folder does not have yet.

    Args:
        samples: samples to keep.
        folder: folder of the new segments.
        old: rows of the artifact that is replaced.
        at: folder of its segments.

    Returns:
        Index of the rows as arrays, the rest of it as JSON values, and the new layout, kept segments included.
    """
    stored = stored_rows_of(samples)
    kept = _find_kept(samples, stored, old, at)
    writer = _Writer(folder)
    for row, place in enumerate(kept):
        if place is None:
            source = stored[row]
            writer.add(row, bytes(source.content) if source is not None else _serialise(samples, row))
    writer.finish()
    places = tuple(writer.places[row] if place is None else place for row, place in enumerate(kept))
    sizes = {name: old.sizes[name] for name in sorted({place.segment for place in kept if place is not None})}
    layout = Layout(places, dict(sorted({**sizes, **writer.sizes}.items())))
    names = {name: number for number, name in enumerate(layout.sizes)}
    index: Arrays = {
        **moments_to_arrays(samples),
        "segment": np.array([names[place.segment] for place in places], np.int32),
        "start": np.array([place.start for place in places], np.int64),
        "size": np.array([place.size for place in places], np.int64),
        "digest": np.frombuffer(b"".join(place.digest for place in places), np.uint8).reshape(-1, 32),
        **{f"{kind}.length": length for kind, length in lengths_of(samples).items()},
    }
    return index, {"style_features": list(StyleEncoder.feature_names), "columns": columns_of(samples)}, layout


def read_samples(
    names: Sequence[str], index: Mapping[str, AnyArray], value: Mapping[str, Any], segments: Mapping[str, Segment]
) -> ModelSamples:
    """The inverse of `write_samples`; rows are read when they are asked for.

    Raises:
        KeyError, TypeError, ValueError: something is missing or does not fit.
    """
    counts = np.stack([index[f"{kind}.length"] for kind in _KINDS], axis=1).tolist()
    shared = {row: dict(zip(_KINDS, row, strict=True)) for row in set(map(tuple, counts))}
    lengths = [shared[tuple(row)] for row in counts]  # most models have as many as are kept
    rows = [
        StoredRow(segments[place.segment], place.start, place.size, place.digest, own)
        for place, own in zip(read_places(index, sorted(segments)), lengths, strict=True)
    ]
    if len(rows) != len(names):
        raise ValueError(f"samples of {len(rows)} models beside {len(names)} names")
    return samples_of_rows(names, rows, index, value["columns"], value["style_features"])


def read_places(index: Mapping[str, AnyArray], segments: Sequence[str]) -> tuple[Place, ...]:
    """Where the rows of an index lie, given the sorted names of the segments."""
    digests = [bytes(digest) for digest in index["digest"]]
    columns = (index[name].tolist() for name in ("segment", "start", "size"))
    return tuple(
        Place(segments[number], start, size, digest)
        for number, start, size, digest in zip(*columns, digests, strict=True)
    )


def _serialise(samples: ModelSamples, row: int) -> bytes:
    return save(row_to_arrays(samples, row))


def _find_kept(samples: ModelSamples, stored: Sequence[StoredRow | None], old: Layout, at: Path) -> list[Place | None]:
    """Where a row lies already in a segment that stays, [n_models]; None for a row to write."""
    if not old.places:
        return [None] * len(samples.names)
    there = {
        name: path for name in old.sizes if (path := at / name).is_file() and path.stat().st_size == old.sizes[name]
    }
    segments = {_inode(path): name for name, path in there.items()}
    free: dict[bytes, list[Place]] = defaultdict(list)  # one content may be that of several models
    for place in reversed(old.places):
        if place.segment in there:
            free[place.digest].append(place)
    own = {(place.segment, place.start): place for place in old.places}
    found: list[Place | None] = []
    for row, source in enumerate(stored):
        here = None if source is None else own.get((segments.get(source.segment.inode, ""), source.start))
        if here is None:  # read from another file, or new
            digest = source.digest if source is not None else hashlib.sha256(_serialise(samples, row)).digest()
            here = free[digest].pop() if free[digest] else None
            here = here if here is not None and _is_whole(there[here.segment], here) else None
        found.append(here)
    wanted, starts = _starts(found), _starts(old.places)
    stay = {name: old.sizes[name] for name in there if wanted[name] == starts[name]}
    fresh = any(place is None or place.segment not in stay for place in found)
    leave = _too_many(stay) if fresh else set()
    return [None if place is None or place.segment not in stay or place.segment in leave else place for place in found]


def _starts(places: Iterable[Place | None]) -> Mapping[str, set[int]]:
    """Starts of the rows by segment."""
    found: dict[str, set[int]] = defaultdict(set)
    for place in places:
        if place is not None:
            found[place.segment].add(place.start)
    return found


def _too_many(sizes: Mapping[str, int]) -> set[str]:
    """Segments to join with others: all of a size of which there are more than a few."""
    leave: set[str] = set()
    for low, high in pairwise((0, *(MOST_BYTES // share for share in _ALIKE))):
        alike = {name for name, size in sizes.items() if low <= size < high}
        if len(alike) > _MOST_ALIKE:
            leave |= alike
    return leave


def _inode(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_dev, status.st_ino


def _is_whole(path: Path, place: Place) -> bool:
    with path.open("rb") as file:
        file.seek(place.start)
        content = file.read(place.size)
    return hashlib.sha256(content).digest() == place.digest
