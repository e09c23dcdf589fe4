"""What a folder keeps of each model's responses, read model by model when it is needed.

A *row* is all that is kept of one model: a complete safetensors file with its sampled vectors, and its texts as JSON.
Rows lie one after the other in *segments*, files that are mapped into memory. The bytes of a row are compared with
their SHA-256 when they are used for the first time, so that a question about some models of thousands reads these
models alone.
"""

from __future__ import annotations

import hashlib
import json
import mmap
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import IO, Any, Generic, Literal, Protocol, TypeAlias, TypeVar, cast, final, overload

import numpy as np
import numpy.typing as npt

from model_behavior.arrays import AnyArray, Arrays, BoolArray, Int64Array
from model_behavior.errors import ArtifactError
from model_behavior.preprocessing.entry_file import arrays_in

TEXTS = "texts"
T = TypeVar("T")


@dataclass(frozen=True)
class Exemplar:
    """One response of a model and the prompt that it is to; both texts may be cut short."""

    prompt: str
    response: str


@final
class Segment:
    """A file of rows, mapped into memory: it stays readable when the file is replaced or removed.

    Args:
        path: file, for messages.
        file: the same, open.
        size: number of bytes that it must have.

    Attributes:
        inode: device and number of the file, which tell it from any other.
        mapped: its content.

    Raises:
        ArtifactError: it has another size.
    """

    def __init__(self, path: Path, file: IO[bytes], size: int) -> None:
        self.path = path
        found = file.seek(0, 2)
        if found != size:
            raise ArtifactError(
                f"{path} was altered or truncated: it has {found:,} bytes, and {size:,} were written. "
                "Fix: restore the folder from a copy, or train again"
            )
        status = os.fstat(file.fileno())
        self.inode = status.st_dev, status.st_ino
        self.mapped = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))


@final
class StoredRow:
    """What a segment keeps of one model.

    Args:
        segment: segment that it lies in.
        start: first byte.
        size: number of bytes.
        digest: SHA-256 of these bytes.
        lengths: number of vectors of each kind.

    Raises:
        ArtifactError: by `content` and all that is read from it: the bytes were altered.
    """

    __slots__ = ("_arrays", "digest", "lengths", "segment", "size", "start")

    def __init__(self, segment: Segment, start: int, size: int, digest: bytes, lengths: Mapping[str, int]) -> None:
        self.segment, self.start, self.size, self.digest, self.lengths = segment, start, size, digest, lengths
        self._arrays: Arrays | None = None

    @property
    def content(self) -> memoryview:
        """All bytes; verified at the first call."""
        content = self.segment.mapped[self.start : self.start + self.size]
        if self._arrays is None and hashlib.sha256(content).digest() != self.digest:
            raise self._damaged("its SHA-256 differs from the recorded one")
        return content

    @property
    def arrays(self) -> Arrays:
        """Arrays by name, mapped."""
        if self._arrays is None:
            try:
                found = arrays_in(self.content)
                for name, length in self.lengths.items():
                    if len(found[f"{name}.vectors"]) != length or len(found[f"{name}.prompt_keys"]) != length:
                        raise ValueError(f"{name} has another length than recorded")
            except (KeyError, ValueError, TypeError) as error:
                raise self._damaged(str(error)) from error
            self._arrays = found
        return self._arrays

    @property
    def exemplars(self) -> tuple[Exemplar, ...]:
        """Responses nearest to the embedding."""
        return tuple(Exemplar(**each) for each in self._texts()["exemplars"])

    @property
    def answers(self) -> dict[int, Exemplar]:
        """Responses to the prompts with the smallest keys, by key."""
        return {int(key, 16): Exemplar(**each) for key, each in self._texts()["answers"].items()}

    def _texts(self) -> Any:
        return json.loads(self.arrays[TEXTS].tobytes())

    def _damaged(self, why: str) -> ArtifactError:
        return ArtifactError(
            f"{self.segment.path} was altered at byte {self.start:,}: {why}. "
            "Fix: restore the folder from a copy, or train again"
        )


class Chunk(Protocol):
    """Consecutive rows of an array."""

    def __len__(self) -> int: ...

    def read(self) -> AnyArray:
        """The rows."""


@final
@dataclass(frozen=True, eq=False, slots=True)
class ArrayChunk:
    """Rows in memory."""

    array: AnyArray

    def __len__(self) -> int:
        return len(self.array)

    def read(self) -> AnyArray:
        """The rows."""
        return self.array


@final
@dataclass(frozen=True, eq=False, slots=True)
class StoredChunk:
    """One array of a stored row.

    Attributes:
        row: the row.
        sample: kind of vectors, such as "styles".
        part: "vectors" or "prompt_keys".
    """

    row: StoredRow
    sample: str
    part: str

    def __len__(self) -> int:
        return self.row.lengths[self.sample]

    def read(self) -> AnyArray:
        """The rows."""
        return self.row.arrays[f"{self.sample}.{self.part}"]


@final
class ChunkedArray:
    """An array whose rows are read when they are asked for, [n_rows, ...]; `numpy.asarray` reads all.

    Args:
        chunks: its rows, one chunk a model.
        dtype: type of its values.
        row_shape: shape of one row.
    """

    def __init__(self, chunks: Sequence[Chunk], dtype: npt.DTypeLike, row_shape: tuple[int, ...]) -> None:
        self.chunks, self.dtype, self._row_shape = tuple(chunks), np.dtype(dtype), row_shape
        self.offsets: Int64Array = np.concatenate([[0], np.cumsum([len(each) for each in chunks])]).astype(np.int64)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the whole array."""
        return int(self.offsets[-1]), *self._row_shape

    def __len__(self) -> int:
        return int(self.offsets[-1])

    def __array__(self, dtype: npt.DTypeLike | None = None, copy: bool | None = None) -> AnyArray:
        return self._between(0, len(self)).astype(dtype if dtype is not None else self.dtype, copy=False)

    def __getitem__(self, rows: slice | Int64Array | BoolArray) -> AnyArray:
        if isinstance(rows, slice):
            start, stop, step = rows.indices(len(self))
            if step == 1:
                return self._between(start, max(start, stop))
            return self._gather(np.arange(start, stop, step))
        chosen = np.asarray(rows)
        if chosen.dtype == np.bool_:
            chosen = np.flatnonzero(chosen)
        return self._gather(chosen.ravel().astype(np.int64)).reshape(*chosen.shape, *self._row_shape)

    def _between(self, start: int, stop: int) -> AnyArray:
        first = int(np.searchsorted(self.offsets, start, side="right")) - 1
        parts = []
        for index in range(max(first, 0), len(self.chunks)):
            begin, end = int(self.offsets[index]), int(self.offsets[index + 1])
            if begin >= stop:
                break
            if end > max(start, begin):
                parts.append(self.chunks[index].read()[max(start - begin, 0) : stop - begin])
        if len(parts) == 1:
            return parts[0]
        return np.concatenate([np.zeros((0, *self._row_shape), self.dtype), *parts])

    def _gather(self, rows: Int64Array) -> AnyArray:
        found = np.empty((len(rows), *self._row_shape), self.dtype)
        rows = np.where(rows < 0, rows + len(self), rows)
        if len(rows) and not 0 <= int(rows.min()) <= int(rows.max()) < len(self):
            raise IndexError(f"rows up to {int(rows.max())} of {len(self)}")
        order = np.argsort(rows, kind="stable")
        owner = np.searchsorted(self.offsets, rows[order], side="right") - 1
        for part in np.split(np.arange(len(rows)), np.flatnonzero(np.diff(owner)) + 1):
            if len(part):
                chunk = int(owner[part[0]])
                places = order[part]
                found[places] = self.chunks[chunk].read()[rows[places] - self.offsets[chunk]]
        return found


Rows: TypeAlias = AnyArray | ChunkedArray


def chunks_of(rows: Rows, offsets: Int64Array) -> Sequence[Chunk]:
    """One chunk a model of an array whose models begin at `offsets`, [n_models + 1]."""
    if isinstance(rows, ChunkedArray) and np.array_equal(rows.offsets, offsets):
        return rows.chunks
    return [ArrayChunk(rows[start:stop]) for start, stop in pairwise(offsets.tolist())]


@final
class KeptTexts(Sequence[T], Generic[T]):
    """Texts of each model, [n_models]; those of a stored row are read when they are asked for.

    Args:
        kind: attribute of a stored row.
        items: texts, or the row that has them.
    """

    def __init__(self, kind: Literal["exemplars", "answers"], items: Iterable[T | StoredRow]) -> None:
        self.kind, self.items = kind, tuple(items)

    def __len__(self) -> int:
        return len(self.items)

    @overload
    def __getitem__(self, index: int) -> T: ...

    @overload
    def __getitem__(self, index: slice) -> tuple[T, ...]: ...

    def __getitem__(self, index: int | slice) -> T | tuple[T, ...]:
        if isinstance(index, slice):
            return tuple(map(self._read, self.items[index]))
        return self._read(self.items[index])

    def __iter__(self) -> Iterator[T]:
        return map(self._read, self.items)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and tuple(self) == tuple(other)

    __hash__ = None  # type: ignore[assignment]

    def _read(self, item: T | StoredRow) -> T:
        return cast(T, getattr(item, self.kind)) if isinstance(item, StoredRow) else item


def items_of(texts: Sequence[T]) -> Sequence[T | StoredRow]:
    """The texts, or the rows that have them, without reading any."""
    return texts.items if isinstance(texts, KeptTexts) else texts
