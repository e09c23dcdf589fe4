"""Samples of thousands of models: a change reads and writes what it is about, and nothing of a removed one stays."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from safetensors.numpy import save_file

from model_behavior.arrays import BoolArray
from model_behavior.artifact import Artifact, fingerprint, segments
from model_behavior.artifact.config_file import digest, write_config, write_json
from model_behavior.catalog import Catalog, ModelEmbeddings, merge_catalogs, revisions, stored_rows
from model_behavior.catalog.revisions import digest_row, record_changes
from model_behavior.catalog.samples import ModelSamples, VectorSample, select_samples
from model_behavior.data.arena import Arena
from model_behavior.data.text_columns import PairBuilder
from model_behavior.data_models.votes import PairTable
from model_behavior.errors import ArtifactError
from tests.catalog.version_2 import samples_to_arrays, samples_to_json


@pytest.fixture
def small(scored_arena: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(scored_arena / "a", tmp_path / "small"))


def enlarge(loaded: Artifact, n: int) -> Artifact:
    """An artifact with `n` models more, each with responses to prompts of its own."""
    rng = np.random.default_rng(n)
    samples = loaded.catalog.samples
    like = rng.integers(0, len(loaded.models), n)
    names = tuple(f"clone-{number:05d}" for number in range(n))
    mean = loaded.models.mean[like] + rng.normal(0, 0.05, (n, loaded.encoder.dim)).astype(np.float32)
    copied = select_samples([samples], [samples.names[row] for row in like])

    def asked(sample: VectorSample) -> VectorSample:
        keys = np.sort(rng.integers(0, 2**63, len(sample.prompt_keys)).astype(np.uint64))
        return replace(sample, prompt_keys=keys)

    embedded, styles, words = map(asked, (copied.embedded, copied.styles, copied.words))
    moved = replace(copied, names=names, embedded=embedded, styles=styles, words=words)
    new = ModelEmbeddings(names, mean, np.full(n, 40), loaded.models.spread[like])
    return loaded.with_catalog(merge_catalogs(loaded.catalog, Catalog(new, moved)))


def responses_of(model: str, n: int = 20) -> PairTable:
    builder = PairBuilder()
    for number in range(n):
        builder.add(f"What is {number} plus {number}?", model, f"It is {2 * number}, says {len(model)}, surely.", "")
    return builder.finish()


def files_in(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_ino for path in (folder / "samples").iterdir()}


def assert_same_samples(found: ModelSamples, expected: ModelSamples) -> None:
    arrays = samples_to_arrays(expected)
    for name, array in samples_to_arrays(found).items():
        np.testing.assert_array_equal(array, arrays[name], err_msg=name)
        assert array.dtype == arrays[name].dtype
    assert found.exemplars == expected.exemplars and found.answers == expected.answers


def test_a_change_of_one_model_reads_and_writes_as_much_beside_ten_times_as_many(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(segments, "MOST_BYTES", 1 << 20)
    read: list[int] = []

    def counted(content: bytes = b"") -> object:
        read.append(len(content))
        return hashlib.sha256(content)

    sizes = {}
    for n in (30, 300):
        enlarge(Artifact.load(small), n).save(tmp_path / str(n))
        folder = tmp_path / str(n)
        before = files_in(folder)
        for number in range(2):
            read.clear()
            with monkeypatch.context() as patch:
                patch.setattr(stored_rows, "hashlib", SimpleNamespace(sha256=counted))
                Artifact.load(folder).onboard(responses_of(f"new-{number}")).save(folder)
            now = files_in(folder)
            new = [name for name, inode in now.items() if before.get(name) != inode]
            written = sum((folder / "samples" / name).stat().st_size for name in new)
            sizes[n, number] = sum(read), written
            assert set(before) <= set(now)  # what others have stays where it is
            before = now
    (read_few, written_few), (read_many, written_many) = sizes[30, 1], sizes[300, 1]
    whole = sum(path.stat().st_size for path in (tmp_path / "300" / "samples").iterdir())
    assert written_many == written_few < whole / 20
    assert read_many <= 1.1 * read_few < whole / 5  # the voted models, whose answers are compared


def test_what_is_read_model_by_model_is_what_was_kept(small: Path, tmp_path: Path) -> None:
    grown = enlarge(Artifact.load(small), 40)
    grown.save(tmp_path / "a")
    loaded = Artifact.load(tmp_path / "a")
    assert_same_samples(loaded.catalog.samples, grown.catalog.samples)
    assert loaded.rank() == grown.rank()
    name = grown.models.names[3]
    assert loaded.neighbours(name) == grown.neighbours(name)
    for rows in ([5, 2, 2, 90], np.array([[1, 60], [3, -1]]), slice(7, 95, 3), slice(90, 20)):
        vectors = loaded.catalog.samples.styles.vectors
        index = rows if isinstance(rows, slice) else np.array(rows)
        np.testing.assert_array_equal(vectors[index], np.asarray(vectors)[index])
    with pytest.raises(IndexError):
        loaded.catalog.samples.styles.vectors[np.array([10**6])]


def test_one_by_one_is_all_at_once_and_leaves_few_files(small: Path, tmp_path: Path) -> None:
    names = [f"new-{number:02d}" for number in range(12)]
    together = Artifact.load(small)
    for name in names:
        Artifact.load(small).onboard(responses_of(name)).save(small)
        together = together.onboard(responses_of(name))
    together.save(tmp_path / "together")
    assert_same_samples(Artifact.load(small).catalog.samples, Artifact.load(tmp_path / "together").catalog.samples)
    assert len(files_in(small)) <= 2 * segments._MOST_ALIKE + 1


def test_nothing_of_a_removed_model_stays(small: Path) -> None:
    Artifact.load(small).onboard(responses_of("to-be-gone")).onboard(responses_of("to-stay")).save(small)
    text = b"says 10, surely"
    assert any(text in path.read_bytes() for path in (small / "samples").iterdir())
    held = Artifact.load(small)
    held.remove("to-be-gone").save(small)
    assert not any(text in path.read_bytes() for path in (small / "samples").iterdir())
    assert "to-stay" in Artifact.load(small).models.names
    assert held.catalog.samples.exemplars[held.models.names.index("to-be-gone")]  # whoever has it open reads on


def test_an_artifact_in_memory_is_saved_again_and_again_without_writing_what_is_there(small: Path) -> None:
    grown = Artifact.load(small).onboard(responses_of("new"))
    grown.save(small)
    before, version = files_in(small), fingerprint(small)
    grown.save(small)  # its new model is in memory still
    assert files_in(small) == before and fingerprint(small) == version
    grown.onboard(responses_of("newer")).save(small)
    assert before.items() <= files_in(small).items()


def test_a_damaged_segment_is_told_when_it_is_read_and_mended_by_a_sound_artifact(small: Path, tmp_path: Path) -> None:
    sound = Path(shutil.copytree(small, tmp_path / "sound"))
    (path,) = (small / "samples").iterdir()
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 1
    path.write_bytes(raw)
    loaded = Artifact.load(small)
    with pytest.raises(ArtifactError, match=rf"{path.name} was altered at byte .*SHA-256.*Fix: restore the folder"):
        [np.asarray(loaded.catalog.samples.styles.vectors), list(loaded.catalog.samples.exemplars)]
    Artifact.load(sound).save(small)
    assert_same_samples(Artifact.load(small).catalog.samples, Artifact.load(sound).catalog.samples)
    path.write_bytes(raw[:-1])
    with pytest.raises(ArtifactError, match=f"{path.name} was altered or truncated"):
        Artifact.load(small)
    path.unlink()
    with pytest.raises(ArtifactError, match=f"{path.name} is missing"):
        Artifact.load(small)


def write_version_2(folder: Path) -> None:
    """Turns an artifact into what the release before segments wrote."""
    samples = Artifact.load(folder).catalog.samples
    arrays, value = samples_to_arrays(samples), samples_to_json(samples)
    save_file(arrays, folder / "samples.safetensors")
    write_json(folder / "exemplars.json", value)
    shutil.rmtree(folder / "samples")
    (folder / "samples.json").unlink()
    config = json.loads((folder / "config.json").read_text())
    del config["config_digest"], config["segments"], config["files"]["samples.json"]
    for name in ("samples.safetensors", "exemplars.json"):
        config["files"][name] = digest(folder / name)
    write_config(folder, config | {"format_version": 2})


def test_an_older_artifact_is_read_and_rewritten_at_the_first_change(small: Path, arena: Arena) -> None:
    expected = Artifact.load(small)
    write_version_2(small)
    loaded = Artifact.load(small)
    assert loaded.rank() == expected.rank()
    grown = loaded.onboard(arena.held_out_responses)
    grown.save(small)
    assert not (small / "exemplars.json").exists() and (small / "samples.json").exists()
    found = Artifact.load(small)
    assert_same_samples(found.catalog.samples, grown.catalog.samples)
    assert json.loads((small / "config.json").read_text())["format_version"] == 3


def test_only_what_changed_is_a_revision(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = Artifact.load(small)
    name = loaded.models.names[2]
    new = loaded.onboard(responses_of("new")).catalog
    digested: list[int] = []

    def counted(catalog: Catalog, row: int) -> str:
        digested.append(row)
        return digest_row(catalog, row)

    monkeypatch.setattr(revisions, "digest_row", counted)
    assert set(record_changes({}, loaded.catalog, new)) == {"new"}
    assert len(digested) == 1  # all others are known by where they are
    moved = replace(loaded.models, count=np.where(_is(name, loaded.models.names), 99, loaded.models.count))
    found = record_changes({}, loaded.catalog, Catalog(moved, loaded.catalog.samples))
    assert set(found) == {name} and found[name][-1].change == "updated"


def _is(name: str, names: Sequence[str]) -> BoolArray:
    return np.array([each == name for each in names])
