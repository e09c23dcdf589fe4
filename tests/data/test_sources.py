from __future__ import annotations

import csv
import gzip
import json
import sys
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from model_behavior.data.sources import list_shards, open_rows
from model_behavior.errors import DataError, MissingExtraError

ROWS: list[dict[str, Any]] = [
    {"prompt": 'Grüße, "you"\nsaid 😀', "model": "m1", "response": "NA"},
    {"prompt": "null", "model": "m2", "response": ""},
    {"prompt": " p ", "model": "007", "response": "x" * 300_000},
]
NAMES = ["a.csv", "a.tsv", "a.json", "a.jsonl", "a.ndjson", "a.parquet"]


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    """Write rows in the format that the name says, by means other than the library's."""
    plain = path.with_suffix("") if path.suffix in (".gz", ".zst") else path
    if plain.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), plain)
    elif plain.suffix in (".csv", ".tsv"):
        with plain.open("w", newline="", encoding="utf-8-sig") as stream:
            writer = csv.DictWriter(stream, list(rows[0]), delimiter="," if plain.suffix == ".csv" else "\t")
            writer.writeheader()
            writer.writerows(rows)
    else:
        lines = [json.dumps(row) for row in rows]
        plain.write_text("[" + ",\n".join(lines) + "]" if plain.suffix == ".json" else "\n".join(lines) + "\n")
    if path != plain:
        data = plain.read_bytes()
        plain.unlink()
        packed = gzip.compress(data) if path.suffix == ".gz" else pa.Codec("zstd").compress(data, asbytes=True)
        path.write_bytes(packed)
    return path


def flatten(batches: Iterator[pa.RecordBatch]) -> list[dict[str, Any]]:
    return [row for batch in batches for row in batch.to_pylist()]


@pytest.mark.parametrize("compression", ["", ".gz", ".zst"])
@pytest.mark.parametrize("name", NAMES)
def test_rows_come_back_as_written(tmp_path: Path, name: str, compression: str) -> None:
    source = open_rows(write(tmp_path / (name + compression), ROWS))
    assert source.name == str(tmp_path / (name + compression))
    assert source.columns == ("prompt", "model", "response")
    assert source.n_rows == (3 if name == "a.parquet" else None)
    assert flatten(source.batches(batch_rows=2)) == ROWS
    assert [batch.num_rows for batch in source.batches(batch_rows=2)] == [2, 1]
    assert [row for rows in source.rows(source.columns, 2) for row in rows] == ROWS
    chosen = flatten(source.batches(["response", "model"]))
    assert chosen == [{"response": row["response"], "model": row["model"]} for row in ROWS]
    assert list(tmp_path.iterdir()) == [tmp_path / (name + compression)]


def test_json_lines_are_told_by_content(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text("\ufeff\n" + "\n\n".join(json.dumps(row) for row in ROWS), encoding="utf-8")
    assert flatten(open_rows(path).batches()) == ROWS
    path = tmp_path / "b.jsonl"
    path.write_text("\ufeff \n" + json.dumps(ROWS, indent=2), encoding="utf-8")
    assert flatten(open_rows(path).batches()) == ROWS


def test_blank_lines_in_csv_are_no_rows(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("\na,b\n\n1,2\n\n3,4\n\n")
    assert flatten(open_rows(path).batches()) == [{"a": "1", "b": "2"}, {"a": "3", "b": "4"}]


def test_mixed_json_columns_have_one_type_in_every_batch(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [
        {"i": 1, "f": 1, "b": True, "mixed": 1, "nested": [1, {"a": "é"}], "null": None, "big": 2**60},
        {"i": None, "f": 0.5, "b": False, "mixed": "two", "nested": "text", "null": None, "big": 2**60 + 1},
        {
            "i": 3,
            "f": None,
            "b": None,
            "mixed": False,
            "nested": {"x": 1.5},
            "null": None,
            "huge": 10**30,
            "late": "\ud83d",
        },
    ]
    for name in ("a.jsonl", "a.json"):
        batches = list(open_rows(write(tmp_path / name, rows)).batches(batch_rows=1))
        assert len({str(batch.schema) for batch in batches}) == 1
        types = {field.name: str(field.type) for field in batches[0].schema}
        expected = {"i": "int64", "f": "double", "b": "bool", "null": "null", "big": "int64"}
        assert {key: types[key] for key in expected} == expected
        columns = pa.Table.from_batches(batches).to_pydict()
        assert columns["mixed"] == ["1", "two", "false"]
        assert columns["nested"] == ['[1, {"a": "é"}]', "text", '{"x": 1.5}']
        assert columns["f"] == [1.0, 0.5, None]
        assert columns["big"] == [2**60, 2**60 + 1, None]
        assert columns["huge"] == [None, None, str(10**30)]
        # ijson writes "?" for a lone surrogate, which UTF-8 cannot hold.
        assert columns["late"] == [None, None, "\ufffd" if name == "a.jsonl" else columns["late"][2]]


def test_a_folder_lists_its_data_files(tmp_path: Path) -> None:
    wanted = ["a/z.csv", "b.jsonl.gz", "c.PARQUET", "d.json.zst"]
    ignored = [".hidden.csv", "_SUCCESS.json", "README.md", "_x/a.csv", ".git/b.csv", "e.txt.gz", "f.csv.bak"]
    for name in wanted + ignored:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert list_shards(tmp_path) == [tmp_path / name for name in wanted]
    with pytest.raises(DataError, match=r"nowhere: there is no such folder"):
        list_shards(tmp_path / "nowhere")
    with pytest.raises(DataError, match=r"this is a folder\. Fix: name a file in it"):
        open_rows(tmp_path)


def hub_folder(path: Path, *splits: str) -> str:
    path.mkdir()
    for split in splits:
        write(path / f"{split}.jsonl", [{**row, "split": split} for row in ROWS])
    return f"hf://{path}"


@pytest.fixture
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    datasets = pytest.importorskip("datasets", reason="the extra `hub` is not installed")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("cache"))


@pytest.mark.usefixtures("own_cache")
def test_a_hub_dataset_is_streamed(tmp_path: Path) -> None:
    address = hub_folder(tmp_path / "set", "train", "test")
    for given, split in ((address, "train"), (f"{address}@test", "test")):
        source = open_rows(given)
        assert source.name == given
        assert source.columns == ("prompt", "model", "response", "split")
        assert source.n_rows is None
        rows = [{**row, "split": split} for row in ROWS]
        assert flatten(source.batches(batch_rows=2)) == rows
        assert [row for part in source.rows(["split", "model"], 2) for row in part] == [
            {"split": split, "model": row["model"]} for row in ROWS
        ]


@pytest.mark.usefixtures("own_cache")
def test_the_only_split_is_taken(tmp_path: Path) -> None:
    assert len(flatten(open_rows(hub_folder(tmp_path / "set", "validation")).batches())) == 3


@pytest.mark.usefixtures("own_cache")
def test_hub_errors_name_what_is_allowed(tmp_path: Path) -> None:
    address = hub_folder(tmp_path / "set", "validation", "test")
    with pytest.raises(DataError, match=r"several splits and none called train: validation, test\. Fix: .*@validation"):
        open_rows(address)
    with pytest.raises(DataError, match=r"there is no split 'train'\. Allowed: validation, test\."):
        open_rows(f"{address}@train")
    with pytest.raises(DataError, match=r"the dataset cannot be opened .*nowhere"):
        open_rows(f"hf://{tmp_path}/nowhere")
    with pytest.raises(DataError, match=r"names no dataset\. Allowed: hf://owner/name"):
        open_rows("hf://")


def test_a_missing_extra_names_the_install_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'model-behavior\[hub\]'"):
        open_rows("hf://owner/name")


@pytest.mark.parametrize("name", ["a.csv", "a.jsonl", "a.json", "a.parquet", "a.csv.gz"])
def test_memory_stays_bounded(tmp_path: Path, name: str) -> None:
    row = {"prompt": "p" * 1000, "model": "m", "response": "lorem ipsum " * 1000}
    path = write(tmp_path / name, [row] * 4000)
    before = pa.total_allocated_bytes()
    tracemalloc.start()
    try:
        largest = n_rows = 0
        for batch in open_rows(path).batches(batch_rows=64):
            n_rows += batch.num_rows
            largest = max(largest, pa.total_allocated_bytes() - before)
        for rows in open_rows(path).rows(["prompt"], 64):
            n_rows += len(rows)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert n_rows == 8000
    # The file holds 52 MB of text, a batch 0.8 MB.
    assert largest + peak < 12e6


@pytest.mark.parametrize("indent", [None, 1])
def test_rows_inside_an_object_are_streamed(tmp_path: Path, indent: int | None) -> None:
    row = {"prompt": "p" * 1000, "model": "m", "response": "lorem ipsum " * 1000}
    path = tmp_path / "a.json"
    path.write_text(json.dumps({"version": 1, "data": [row] * 2000}, indent=indent))
    tracemalloc.start()
    try:
        n_rows = sum(len(rows) for rows in open_rows(path).rows(["prompt"], 64))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert n_rows == 2000
    # The file holds 26 MB of text; the first 4 MiB are looked at.
    assert peak < 15e6
