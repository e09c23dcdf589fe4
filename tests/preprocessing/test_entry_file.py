from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file
from safetensors.torch import save_file as save_torch_file

from model_behavior.arrays import AnyArray
from model_behavior.preprocessing.entry_file import (
    CacheEntry,
    DamagedEntryError,
    digest_of,
    inside,
    read_entry,
    write_entry,
)

DTYPES = (np.float32, np.float64, np.float16, np.int8, np.int32, np.int64, np.uint8, np.uint64, np.bool_)
METADATA = {"shape": [2, 3], "name": "é\n\0", "nested": {"none": None, "share": 0.1}, "ok": True}


def example() -> CacheEntry:
    arrays: dict[str, AnyArray] = {
        "numbers": np.arange(12, dtype=np.float32).reshape(3, 4),
        "empty": np.zeros((0, 5), dtype=np.int64),
        "strided": np.arange(20, dtype=np.int32)[::3],
        "transposed": np.arange(6, dtype=np.float64).reshape(2, 3).T,
    }
    return CacheEntry(arrays, METADATA)


def assert_equal(one: CacheEntry, other: CacheEntry) -> None:
    assert dict(one.metadata) == dict(other.metadata)
    assert set(one.arrays) == set(other.arrays)
    for name, array in other.arrays.items():
        assert one.arrays[name].dtype == array.dtype
        assert one.arrays[name].shape == array.shape
        np.testing.assert_array_equal(one.arrays[name], array)


def test_what_is_written_is_read(tmp_path: Path) -> None:
    write_entry(tmp_path / "entry", example())
    assert_equal(read_entry(tmp_path / "entry"), example())
    assert [path.name for path in tmp_path.iterdir()] == ["entry"]


@pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: dtype.__name__)
def test_every_type_of_number_is_kept(tmp_path: Path, dtype: type[np.generic]) -> None:
    entry = CacheEntry({"x": np.array([0, 1, 2, 100]).astype(dtype)}, {})
    write_entry(tmp_path / "entry", entry)
    assert_equal(read_entry(tmp_path / "entry"), entry)


def test_an_entry_may_be_empty(tmp_path: Path) -> None:
    write_entry(tmp_path / "entry", CacheEntry({}, {}))
    assert_equal(read_entry(tmp_path / "entry"), CacheEntry({}, {}))


def test_not_a_number_and_infinity_are_kept(tmp_path: Path) -> None:
    entry = CacheEntry({"x": np.array([np.nan, np.inf, -0.0], dtype=np.float32)}, {})
    write_entry(tmp_path / "entry", entry)
    assert_equal(read_entry(tmp_path / "entry"), entry)


def test_writing_again_replaces(tmp_path: Path) -> None:
    write_entry(tmp_path / "entry", example())
    write_entry(tmp_path / "entry", CacheEntry({"x": np.ones(1)}, {}))
    assert list(read_entry(tmp_path / "entry").arrays) == ["x"]
    assert len(list(tmp_path.iterdir())) == 1


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_entry(tmp_path / "entry")


def test_every_truncation_is_found(tmp_path: Path) -> None:
    path = tmp_path / "entry"
    write_entry(path, example())
    whole = path.read_bytes()
    for length in [*range(0, len(whole), 7), len(whole) - 1]:
        path.write_bytes(whole[:length])
        with pytest.raises(DamagedEntryError, match="entry"):
            read_entry(path)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_every_altered_byte_is_found(tmp_path: Path, data: st.DataObject) -> None:
    path = tmp_path / "entry"
    write_entry(path, example())
    raw = bytearray(path.read_bytes())
    place = data.draw(st.integers(0, len(raw) - 1))
    before = raw[place]
    raw[place] = data.draw(st.integers(0, 255).filter(lambda byte: byte != before))
    path.write_bytes(raw)
    try:
        entry = read_entry(path)
    except DamagedEntryError:
        return
    assert_equal(entry, example())  # white space in the header, say


@pytest.mark.parametrize("part", ["last array byte", "metadata", "digest", "array name"])
def test_an_altered_part_is_found(tmp_path: Path, part: str) -> None:
    path = tmp_path / "entry"
    write_entry(path, example())
    raw = path.read_bytes()
    altered = {
        "last array byte": raw[:-1] + bytes([raw[-1] ^ 1]),
        "metadata": raw.replace(b"0.1", b"0.2"),
        "digest": raw.replace(b'"digest":"', b'"digest":"0', 1)[: len(raw)],
        "array name": raw.replace(b"strided", b"strides"),
    }[part]
    assert altered != raw
    path.write_bytes(altered)
    with pytest.raises(DamagedEntryError):
        read_entry(path)


def test_files_of_others_are_not_ours(tmp_path: Path) -> None:
    contents = {"text": b"hello", "empty": b"", "json": json.dumps({"a": 1}).encode(), "zeros": bytes(4096)}
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    save_file({"x": np.ones(3)}, tmp_path / "no metadata")
    save_file({"x": np.ones(3)}, tmp_path / "other metadata", metadata={"format": "pt"})
    save_torch_file({"x": torch.ones(3, dtype=torch.bfloat16)}, tmp_path / "a type that NumPy lacks")
    (tmp_path / "folder").mkdir()
    for path in list(tmp_path.iterdir()):
        with pytest.raises(DamagedEntryError):
            read_entry(path)


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="file"):
        write_entry(tmp_path / "file" / "entry", example())


def test_a_failed_write_keeps_the_old_entry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(arrays: object, path: str, metadata: object) -> None:
        Path(path).write_bytes(b"half an ent")
        raise OSError("no space left on device")

    write_entry(tmp_path / "entry", example())
    monkeypatch.setattr("model_behavior.preprocessing.entry_file.save_file", fail)
    with pytest.raises(OSError, match="no space"):
        write_entry(tmp_path / "entry", CacheEntry({}, {}))
    assert_equal(read_entry(tmp_path / "entry"), example())
    assert len(list(tmp_path.iterdir())) == 1


def test_digests_tell_parts_types_and_shapes_apart() -> None:
    numbers = np.arange(6, dtype=np.int32)
    parts: list[Sequence[str | bytes | AnyArray]] = [
        (),
        ("",),
        ("", ""),
        ("ab", "c"),
        ("a", "bc"),
        ("abc",),
        ("c", "ab"),
        (numbers,),
        (numbers.astype(np.uint32),),
        (numbers.astype(np.int64),),
        (numbers.astype(">i4"),),
        (numbers.reshape(2, 3),),
        (numbers.reshape(3, 2),),
        (numbers[:3], numbers[3:]),
        (numbers.tobytes(),),
        (np.zeros((0, 2), dtype=np.int32),),
        (np.zeros((0, 3), dtype=np.int32),),
        ("a", "b"),
        ("atext b",),
        ("atext 1 b",),
    ]
    for one, other in itertools.combinations(parts, 2):
        assert digest_of(*one) != digest_of(*other), (one, other)


def test_digests_look_at_content_alone() -> None:
    numbers = np.arange(12, dtype=np.float32).reshape(3, 4)
    assert digest_of("a", numbers) == digest_of("a", numbers.copy(order="F"))
    assert digest_of(numbers[:, ::2]) == digest_of(numbers[:, ::2].copy())
    assert digest_of("é\ud800") == digest_of("é\ud800") != digest_of("é")
    assert digest_of() == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


def test_inside_takes_one_level_off_names() -> None:
    one = np.ones(1)
    assert list(inside({"1.a": one, "1.b.c": one, "10.a": one, "x1.a": one}, "1.")) == ["a", "b.c"]
