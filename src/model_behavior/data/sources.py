"""Where rows come from: files, Hugging Face datasets, lists and DataFrames, all read batch by batch.

`open_rows` makes any of them a `RowSource`: columns, and batches of rows. Files can also be cut into shards, which can
be worked on apart from one another.
"""

from __future__ import annotations

import hashlib
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence, Sized
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import pyarrow as pa

from model_behavior.data import remote_files
from model_behavior.data.byte_streams import COMPRESSIONS, find_archive, list_members, shorten
from model_behavior.data.csv_rows import iterate_csv_batches, iterate_csv_rows, read_csv_columns
from model_behavior.data.hub_rows import HUB_PREFIX, iterate_hub_batches, open_hub_dataset
from model_behavior.data.json_rows import (
    MAX_COLUMNS,
    iterate_json_batches,
    iterate_json_rows,
    read_json_columns,
    to_batches_and_rows,
)
from model_behavior.data.memory_rows import (
    ArrowStream,
    describe_rows,
    iterate_list_batches,
    iterate_list_rows,
    iterate_table_batches,
    open_table,
    read_list_columns,
)
from model_behavior.data.parquet_rows import iterate_parquet_batches, read_parquet_columns, text_columns, to_rows
from model_behavior.errors import DataError
from model_behavior.names import nearest

EXTENSIONS = (".csv", ".tsv", ".json", ".jsonl", ".ndjson", ".parquet")
_DELIMITERS = {".csv": ",", ".tsv": "\t"}
_ALLOWED = f"Allowed: {', '.join(EXTENSIONS)}, each also with {' or '.join(COMPRESSIONS)} after it, and .zip."
_NO_PATH = "Fix: to give rows rather than a path, make them a list of dictionaries, as json.loads does with JSON."

Source: TypeAlias = str | Path | Sequence[Mapping[str, Any]] | ArrowStream
"""A file, a folder of files, `hf://owner/name[@split]`, or an address such as `s3://bucket/votes/`; rows as
dictionaries; a DataFrame or another Arrow table."""

ReadBatches = Callable[[Sequence[str] | None, int], Iterator[pa.RecordBatch]]
ReadRows = Callable[[Sequence[str], int], Iterator[list[dict[str, Any]]]]
ReadBoth = Callable[[Sequence[str] | None, int], Iterator[tuple[pa.RecordBatch, list[dict[str, Any]]]]]


@dataclass(frozen=True)
class RowSource:
    """One opened source; nothing but its beginning has been read.

    Attributes:
        name: name in messages: the path or address as given, or a description such as "list of 12 rows".
        columns: column names; for JSON, the keys of the first 1,000 rows.
        n_rows: number of rows where it is known before they are read (Parquet, rows in memory), else None.
        texts: columns that hold text, lists or objects, as far as the beginning or the types say.
    """

    name: str
    columns: tuple[str, ...]
    n_rows: int | None
    read_batches: ReadBatches = field(repr=False)
    read_rows: ReadRows = field(repr=False)
    texts: frozenset[str] = frozenset()
    read_both: ReadBoth | None = field(default=None, repr=False)

    def batches(self, columns: Sequence[str] | None = None, batch_rows: int = 1024) -> Iterator[pa.RecordBatch]:
        """Record batches of one schema, rows in order; all columns, or those asked for.

        CSV columns are text. Nested values of JSON and of lists are JSON text. None of JSON's columns is left out,
        also where a key first appears after the rows that `columns` was read from.

        Raises:
            DataError: broken content; names the row.
        """
        return self.read_batches(columns, batch_rows)

    def rows(self, columns: Sequence[str], batch_rows: int = 1024) -> Iterator[list[dict[str, Any]]]:
        """The same rows as lists of dicts, nested values as lists and dicts where the format has them.

        A missing key is a null; there may be more keys than `columns`.

        Raises:
            DataError: broken content; names the row.
        """
        return self.read_rows(columns, batch_rows)

    def batches_and_rows(
        self, columns: Sequence[str], batch_rows: int = 1024
    ) -> Iterator[tuple[pa.RecordBatch, list[dict[str, Any]]]]:
        """Record batches of all columns, and of each its rows as in `rows`.

        Raises:
            DataError: broken content; names the row.
        """
        if self.read_both is not None:
            yield from self.read_both(None, batch_rows)
            return
        done = 0
        for batch in self.batches(None, batch_rows):
            (rows,) = to_rows([batch.select(list(columns))], self.name, done)
            yield batch, rows
            done += batch.num_rows


@dataclass(frozen=True)
class Shard:
    """A part of a source.

    Attributes:
        source: a file, or `hf://owner/name`.
        part: rows of a Parquet file; None for the whole source.
        digest: SHA-256 of the file; of one behind an address, of its size and time; of a dataset that is no file, a
            value that is never the same again.
    """

    source: str
    part: range | None
    digest: str


def open_rows(source: Source, part: range | None = None) -> RowSource:
    """Open a file (CSV, TSV, JSON, JSON lines or Parquet, also as .gz or .zst), a dataset, or rows in memory.

    Args:
        source: what to open; no folder.
        part: rows to read of a Parquet file, all by default.

    Raises:
        DataError: the source is missing, empty, broken, or of an unknown kind.
        MissingExtraError: `hf://` without the optional dependency.
    """
    if isinstance(source, str | Path):
        opened = _open_address(str(source), part)
    elif isinstance(source, ArrowStream):
        opened = _open_table(source)
    else:
        opened = _open_list(source)
    if len(opened.columns) > MAX_COLUMNS:
        raise DataError(
            f"{opened.name}: {len(opened.columns):,} columns. Allowed: {MAX_COLUMNS:,}. Fix: leave out the rest."
        )
    repeated = [column for column, count in Counter(opened.columns).items() if count > 1]
    if repeated:
        raise DataError(f"{opened.name}: the column {repeated[0]!r} is there more than once. Fix: rename one of them.")
    return opened


def expand_sources(*sources: Source) -> list[Source]:
    """The sources with every folder replaced by the data files in it.

    Raises:
        DataError: a folder without data files.
    """
    expanded: list[Source] = []
    for source in sources:
        expanded.extend(_expand_address(source) if isinstance(source, str | Path) else [source])
    return expanded


def list_shards(path: str | Path) -> list[Path]:
    """The data files below a folder or in a .zip file, sorted by path, without hidden ones and those with "_" first.

    Raises:
        DataError: no such folder, or no data file in it.
    """
    folder = Path(path)
    is_archive = is_zip(folder)
    if not folder.is_dir() and not is_archive:
        raise DataError(f"{path}: there is no such folder. Fix: check the path.")
    shards = [
        file
        for file in (list_members(folder) if is_archive else folder.rglob("*"))
        if not any(part.startswith((".", "_")) for part in file.relative_to(folder).parts)
        and data_extension(file) is not None
        and (is_archive or file.is_file())
    ]
    if not shards:
        raise DataError(f"{path}: the {'.zip file' if is_archive else 'folder'} holds no data file. {_ALLOWED}")
    return sorted(shards, key=lambda file: file.relative_to(folder).as_posix())


def is_zip(path: Path) -> bool:
    """Whether a path is a .zip file, which is read as a folder."""
    return path.suffix.lower() == ".zip" and path.is_file()


def data_extension(path: Path) -> str | None:
    """The ending that says the format, without a compression's, or None where it is not a data file's."""
    inner = Path(path.name.lower())
    inner = inner.with_suffix("") if inner.suffix in COMPRESSIONS else inner
    return inner.suffix if inner.suffix in EXTENSIONS else None


def cut_into_shards(source: str | Path, shard_rows: int) -> list[Shard]:
    """Every file of a source as shards, in order: of Parquet at most `shard_rows` rows each, any other file whole.

    Raises:
        DataError: no data file, or a Parquet file that cannot be read.
    """
    return [shard for each in _expand_address(source) for shard in _cut(each, shard_rows)]


def _expand_address(source: str | Path) -> list[str | Path]:
    if str(source).startswith(HUB_PREFIX):
        return [source]
    if remote_files.is_remote(str(source)):
        return [*_list_remote(str(source))]
    try:
        is_folder = Path(source).is_dir() or is_zip(Path(source))
    except OSError as error:
        raise DataError(f"{shorten(str(source))}: cannot be a path ({error.strerror}). {_NO_PATH}") from None
    return [*list_shards(Path(source))] if is_folder else [source]


def _list_remote(address: str) -> list[str]:
    """The data files below an address, as `list_shards` lists those of a folder."""
    files = remote_files.list_files(address)
    found = files if files == [address] else [each for each in files if _data_extension_of(each) is not None]
    if not found:
        raise DataError(f"{address}: the folder holds no data file. {_ALLOWED}")
    return found


def _data_extension_of(address: str) -> str | None:
    return data_extension(Path(remote_files.name_of(address).name))


def _open_address(name: str, part: range | None) -> RowSource:
    if name.startswith(HUB_PREFIX):
        dataset, columns = open_hub_dataset(name)
        return _from_batches(name, columns, None, partial(iterate_hub_batches, name, dataset), frozenset(columns))
    if remote_files.is_remote(name):
        return _open_remote(name, part)
    path = _require_file(Path(name))
    extension = data_extension(path)
    if extension is None:
        raise DataError(f"{name}: unknown file type {''.join(path.suffixes[-2:]) or '(no extension)'!r}. {_ALLOWED}")
    if extension == ".parquet":
        schema, n_rows = read_parquet_columns(path)
        read = partial(iterate_parquet_batches, path, part=part)
        return _from_batches(name, tuple(schema.names), n_rows, read, text_columns(schema))
    if extension in _DELIMITERS:
        return _open_csv(path, _DELIMITERS[extension])
    found = read_json_columns(path)
    return RowSource(
        name,
        tuple(found),
        None,
        partial(iterate_json_batches, path),
        lambda _, batch_rows: iterate_json_rows(path, batch_rows),
        frozenset(column for column, is_text in found.items() if is_text),
        partial(to_batches_and_rows, partial(iterate_json_rows, path)),
    )


def _open_remote(address: str, part: range | None) -> RowSource:
    if remote_files.name_of(address).suffix.lower() != ".parquet":
        return replace(_open_address(str(remote_files.fetch(address)), part), name=address)
    schema, n_rows = read_parquet_columns(address)
    read = partial(iterate_parquet_batches, address, part=part)
    return _from_batches(address, tuple(schema.names), n_rows, read, text_columns(schema))


def _require_file(path: Path) -> Path:
    if path.is_dir():
        raise DataError(f"{path}: this is a folder. Fix: name a file in it.")
    if path.exists() or find_archive(path) is not None:
        return path
    if str(path).lstrip().startswith(("[", "{")):
        raise DataError(f"{shorten(str(path))}: there is no such file. {_NO_PATH}")
    folder = path.parent
    if not folder.is_dir():
        raise DataError(f"{path}: there is no such file, and no folder {folder}. Fix: check the path.")
    names = [entry.name for entry in folder.iterdir()]
    near = nearest(names, path.name, 3, 0.6) or sorted(n for n in names if data_extension(Path(n)))[:5]
    hint = f"Near names there: {', '.join(near)}." if near else f"The folder {folder} holds no data file."
    raise DataError(f"{path}: there is no such file. {hint} Fix: check the path.")


def _open_csv(path: Path, delimiter: str) -> RowSource:
    columns, texts = read_csv_columns(path, delimiter)
    return RowSource(
        str(path),
        columns,
        None,
        lambda chosen, batch_rows: iterate_csv_batches(path, delimiter, chosen or columns, batch_rows),
        lambda _, batch_rows: iterate_csv_rows(path, delimiter, batch_rows),
        texts,
    )


def _from_batches(
    name: str, columns: tuple[str, ...], n_rows: int | None, read: ReadBatches, texts: frozenset[str]
) -> RowSource:
    return RowSource(
        name, columns, n_rows, read, lambda chosen, batch_rows: to_rows(read(chosen, batch_rows), name), texts
    )


def _open_list(rows: object) -> RowSource:
    if isinstance(rows, bytes | bytearray) or not isinstance(rows, Sequence):
        raise DataError(
            f"{shorten(rows)} ({type(rows).__name__}) is no source of rows. Allowed: the path of a file or folder, "
            f"{HUB_PREFIX}owner/name, a list with one dictionary per row, a DataFrame of pandas (2.2 or later) or "
            "polars, or another table with __arrow_c_stream__. Fix: make it one of these, as [row] and list(rows) do."
        )
    found = read_list_columns(rows)
    columns = tuple(found)
    return RowSource(
        describe_rows(rows),
        columns,
        len(rows),
        lambda chosen, batch_rows: iterate_list_batches(rows, chosen or columns, batch_rows),
        partial(iterate_list_rows, rows),
        frozenset(column for column, is_text in found.items() if is_text),
        lambda chosen, batch_rows: to_batches_and_rows(
            partial(iterate_list_rows, rows, chosen or columns), chosen or columns, batch_rows
        ),
    )


def _open_table(table: ArrowStream) -> RowSource:
    name, reader = describe_rows(table), open_table(table)
    columns = tuple(reader.schema.names)
    n_rows = len(table) if isinstance(table, Sized) else None
    if n_rows == 0:
        raise DataError(f"{name}: there are columns ({', '.join(columns)}) but no row.")
    read = partial(iterate_table_batches, table, [reader])
    return _from_batches(name, columns, n_rows, read, text_columns(reader.schema))


def _cut(source: str | Path, shard_rows: int) -> Iterator[Shard]:
    name, path = str(source), Path(source)
    if remote_files.is_remote(name):
        parts = _parts_of(name, shard_rows) if remote_files.name_of(name).suffix.lower() == ".parquet" else [None]
        digest = remote_files.digest_of_file(name)
        yield from (Shard(name, part, digest) for part in parts)
        return
    if name.startswith(HUB_PREFIX) or not path.is_file():
        yield Shard(name, None, uuid.uuid4().hex)
        return
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    name = str(path.resolve())
    if path.suffix.lower() != ".parquet":
        yield Shard(name, None, digest)
        return
    yield from (Shard(name, part, digest) for part in _parts_of(path, shard_rows))


def _parts_of(path: Path | str, shard_rows: int) -> list[range]:
    _, n_rows = read_parquet_columns(path)
    return [range(start, min(start + shard_rows, n_rows)) for start in range(0, n_rows, shard_rows)]
