from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from model_behavior.preprocessing.cache import CacheInfo, CacheWarning, ContentCache, default_cache_path
from model_behavior.preprocessing.entry_file import CacheEntry, digest_of, read_entry

KEY = digest_of("key")


class Builder:
    """Builds entries with a number, and counts how often it had to."""

    def __init__(self, value: float = 1.0) -> None:
        self.value = value
        self.calls = 0

    def __call__(self) -> CacheEntry:
        self.calls += 1
        return CacheEntry({"x": np.full(3, self.value)}, {"value": self.value})


def value_of(entry: CacheEntry) -> float:
    assert entry.arrays["x"].tolist() == [entry.metadata["value"]] * 3
    return float(entry.metadata["value"])


def files_in(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def test_an_entry_is_built_once(tmp_path: Path) -> None:
    build = Builder()
    cache = ContentCache(tmp_path / "new" / "cache")
    assert value_of(cache.get_or_build("kind", KEY, build)) == 1
    assert value_of(cache.get_or_build("kind", KEY, build)) == 1
    assert value_of(ContentCache(cache.path).get_or_build("kind", KEY, Builder(2))) == 1
    assert build.calls == 1
    assert files_in(tmp_path) == [cache.path / "v1" / "kind" / KEY[:2] / f"{KEY}.safetensors"]


def test_keys_and_kinds_are_apart(tmp_path: Path) -> None:
    cache = ContentCache(tmp_path)
    places = [("one", KEY), ("other", KEY), ("one", digest_of("other key"))]
    for number, (kind, key) in enumerate(places):
        cache.get_or_build(kind, key, Builder(number))
    assert [value_of(cache.get_or_build(kind, key, Builder(9))) for kind, key in places] == [0, 1, 2]


def test_nothing_is_written_before_the_first_entry(tmp_path: Path) -> None:
    cache = ContentCache(tmp_path / "cache")
    assert cache.info() == CacheInfo(tmp_path / "cache", {}, {})
    assert cache.clear() == cache.info()
    assert list(tmp_path.iterdir()) == []


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-5])


def flip_array_byte(path: Path) -> None:
    raw = path.read_bytes()
    path.write_bytes(raw[:-1] + bytes([raw[-1] ^ 0xFF]))


def alter_metadata(path: Path) -> None:
    raw = path.read_bytes()
    assert raw.count(b"1.0") == 1
    path.write_bytes(raw.replace(b"1.0", b"2.0"))


def write_something_else(path: Path) -> None:
    path.write_text("not ours")


def empty(path: Path) -> None:
    path.write_bytes(b"")


@pytest.mark.parametrize("damage", [truncate, flip_array_byte, alter_metadata, write_something_else, empty])
def test_a_damaged_entry_is_built_again(tmp_path: Path, damage: Callable[[Path], None]) -> None:
    cache, build = ContentCache(tmp_path), Builder()
    cache.get_or_build("kind", KEY, build)
    (path,) = files_in(tmp_path)
    damage(path)
    with pytest.warns(CacheWarning, match=f"{KEY}.*computing it again"):
        assert value_of(cache.get_or_build("kind", KEY, build)) == 1
    assert build.calls == 2
    assert files_in(tmp_path) == [path]
    assert value_of(cache.get_or_build("kind", KEY, build)) == 1
    assert build.calls == 2


def test_a_folder_in_the_place_of_an_entry(tmp_path: Path) -> None:
    cache, build = ContentCache(tmp_path), Builder()
    (tmp_path / "v1" / "kind" / KEY[:2] / f"{KEY}.safetensors").mkdir(parents=True)
    with pytest.warns(CacheWarning) as warned:
        assert value_of(cache.get_or_build("kind", KEY, build)) == 1
    assert [str(each.message).split("; ")[-1] for each in warned] == ["computing it again", "going on without it"]
    assert files_in(tmp_path) == []


def test_an_unwritable_folder_costs_the_cache_only(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("a file where the folder should be")
    cache, build = ContentCache(tmp_path / "file" / "cache"), Builder()
    for calls in (1, 2):
        with pytest.warns(CacheWarning, match="cannot write to the cache .*going on without it"):
            assert value_of(cache.get_or_build("kind", KEY, build)) == 1
        assert build.calls == calls
    assert cache.info().entries == cache.clear().entries == {}
    assert files_in(tmp_path) == [tmp_path / "file"]


def test_a_full_disk_costs_the_cache_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("model_behavior.preprocessing.entry_file.save_file", fail)
    with pytest.warns(CacheWarning, match="No space left"):
        assert value_of(ContentCache(tmp_path).get_or_build("kind", KEY, Builder())) == 1
    assert files_in(tmp_path) == []


def test_a_failing_build_leaves_nothing(tmp_path: Path) -> None:
    def fail() -> CacheEntry:
        raise RuntimeError("no result")

    with pytest.raises(RuntimeError, match="no result"):
        ContentCache(tmp_path).get_or_build("kind", KEY, fail)
    assert files_in(tmp_path) == []


# Each process waits for the other and lingers a little before each entry, so that one reads what the other writes.
RACE = """
import random, sys, time
from pathlib import Path
import numpy as np
from model_behavior.preprocessing.cache import ContentCache
from model_behavior.preprocessing.entry_file import CacheEntry, digest_of

folder, name = Path(sys.argv[1]), sys.argv[2]
(folder / f"ready {name}").touch()
while len(list(folder.glob("ready *"))) < 2:
    time.sleep(0.001)
built = 0
for number in range(20):
    def build():
        global built
        built += 1
        return CacheEntry({"x": np.full(400_000, number)}, {"number": number})
    time.sleep(random.random() / 100)
    entry = ContentCache(folder / "cache").get_or_build("race", digest_of(str(number)), build)
    assert entry.metadata["number"] == number and (entry.arrays["x"] == number).all()
print(built)
"""


def test_two_processes_share_a_cache(tmp_path: Path) -> None:
    command = [sys.executable, "-W", "error", "-c", RACE, str(tmp_path)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    running = [
        subprocess.Popen([*command, name], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for name in ("one", "other")
    ]
    outputs = [process.communicate(timeout=120) for process in running]
    assert [(process.returncode, errors) for process, (_, errors) in zip(running, outputs, strict=True)] == [
        (0, "")
    ] * 2
    assert sum(int(built) for built, _ in outputs) >= 20
    cache = ContentCache(tmp_path / "cache")
    expected = {f"{digest_of(str(number))}.safetensors": number for number in range(20)}
    assert {path.name: read_entry(path).metadata["number"] for path in files_in(cache.path)} == expected


def test_info_and_clear_count_entries_and_leave_the_rest(tmp_path: Path) -> None:
    cache = ContentCache(tmp_path)
    for kind, key in (("one", "aa"), ("one", "ab"), ("other", "aa")):
        cache.get_or_build(kind, digest_of(key), Builder())
    ours = files_in(tmp_path)
    theirs = [tmp_path / "notes.safetensors", tmp_path / "v1" / "one" / "notes.txt", tmp_path / "v1" / ".half.part"]
    for path in theirs:
        path.write_text("keep")
    sizes = {kind: sum(path.stat().st_size for path in ours if kind in path.parts) for kind in ("one", "other")}
    expected = CacheInfo(tmp_path, {"one": 2, "other": 1}, sizes)
    assert cache.info() == expected
    assert cache.clear() == expected
    assert files_in(tmp_path) == sorted(theirs)
    assert cache.info() == CacheInfo(tmp_path, {}, {})


def test_the_default_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    monkeypatch.setenv("MODEL_BEHAVIOR_CACHE", str(tmp_path / "chosen"))
    assert default_cache_path() == tmp_path / "chosen"
    monkeypatch.setenv("MODEL_BEHAVIOR_CACHE", "")
    assert default_cache_path() == tmp_path / "xdg" / "model-behavior"
    monkeypatch.delenv("MODEL_BEHAVIOR_CACHE")
    assert default_cache_path() == ContentCache().path == tmp_path / "xdg" / "model-behavior"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert default_cache_path() == tmp_path / "home" / ".cache" / "model-behavior"
    assert ContentCache(tmp_path / "own").path == tmp_path / "own"
