"""The artifact is there whole or not at all, and says when it was touched."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from model_behavior import ValidationSplit, artifact, pipeline
from model_behavior.artifact import Artifact
from model_behavior.catalog import ModelEmbeddings, enrol, merge
from model_behavior.data.arena import Arena
from model_behavior.errors import ArtifactError, UsageError
from model_behavior.models.behavior.configuration import EncoderConfig
from model_behavior.models.behavior.monitor import Runtime
from model_behavior.models.behavior.projection import ProjectionConfig
from model_behavior.models.behavior.text.registry import TextConfig
from model_behavior.pipeline import TrainingConfig
from model_behavior.preprocessing.cache import ContentCache
from tests.catalog.version_2 import samples_to_arrays

FILES = [
    *("encoder.safetensors", "models.safetensors", "models.json", "history.json"),
    *("samples.safetensors", "samples.json"),
]
CONFIG = TrainingConfig(
    TextConfig(("style",)),
    EncoderConfig(projection=ProjectionConfig(dim=8, hidden=16)),
    split=ValidationSplit(0.2, seed=1),
    epochs=1,
    batch_size=256,
)


@pytest.fixture(scope="module")
def trained(arena: Arena, tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    runtime = Runtime(ContentCache(tmp_path_factory.mktemp("cache")))
    return pipeline.train_encoder(arena.votes, CONFIG, runtime)


def test_embeddings_are_means_of_training_responses_only(trained: Artifact, arena: Arena) -> None:
    from model_behavior.data.split import split_votes

    pairs = arena.votes.pairs
    train = split_votes(arena.votes, CONFIG.split).train
    used = set(arena.votes.pair_a[train].tolist()) | set(arena.votes.pair_b[train].tolist())
    for row, name in enumerate(trained.models.names):
        own = [p for p in sorted(used) if pairs.models[pairs.model_index[p]] == name]
        prompts = [pairs.prompts[int(pairs.prompt_index[p])].as_py() for p in own]
        responses = [pairs.responses[p].as_py() for p in own]
        vectors = trained.encoder.encode(prompts, responses, 64)
        np.testing.assert_allclose(trained.models.mean[row], vectors.mean(axis=0), atol=1e-5)
        assert trained.models.count[row] == len(own)
        distance = np.linalg.norm(vectors - vectors.mean(axis=0), axis=1)
        np.testing.assert_allclose(trained.models.spread[row], np.sqrt((distance**2).mean()), atol=1e-3)


def test_round_trip(trained: Artifact, tmp_path: Path) -> None:
    trained.save(tmp_path / "a")
    loaded = Artifact.load(tmp_path / "a")
    assert loaded.models.names == trained.models.names
    for name in ("mean", "count", "spread"):
        np.testing.assert_array_equal(getattr(loaded.models, name), getattr(trained.models, name))
    kept, stored = trained.catalog.samples, loaded.catalog.samples
    for name, array in samples_to_arrays(kept).items():
        np.testing.assert_array_equal(samples_to_arrays(stored)[name], array)
        assert samples_to_arrays(stored)[name].dtype == array.dtype
    assert stored.exemplars == kept.exemplars and all(len(each) == 3 for each in stored.exemplars)
    assert stored.answers == kept.answers and all(len(each) == 6 for each in stored.answers)
    np.testing.assert_array_equal(loaded.encoder.encode(["p"], ["r"], 1), trained.encoder.encode(["p"], ["r"], 1))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a"]
    card = (tmp_path / "a" / "README.md").read_text()
    assert all(name in card for name in trained.models.names)
    assert f"{max(log.triplet_accuracy for log in trained.encoder.history):.3f}" in card


@pytest.mark.parametrize("name", FILES)
def test_a_missing_or_altered_file_is_named(trained: Artifact, tmp_path: Path, name: str) -> None:
    trained.save(tmp_path / "a")
    path = tmp_path / "a" / name
    raw = path.read_bytes()
    path.write_bytes(raw[:-1] + bytes([raw[-1] ^ 1]))
    with pytest.raises(ArtifactError, match=f"{name} was altered"):
        Artifact.load(tmp_path / "a")
    path.unlink()
    with pytest.raises(ArtifactError, match=f"{name} is missing"):
        Artifact.load(tmp_path / "a")


def test_wrong_folders_say_what_they_are(trained: Artifact, tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="is not a folder"):
        Artifact.load(tmp_path / "nothing")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ArtifactError, match=r"has no config\.json"):
        Artifact.load(tmp_path / "empty")
    trained.save(tmp_path / "a")
    config = tmp_path / "a" / "config.json"
    value = json.loads(config.read_text())
    config.write_text(json.dumps(value | {"format_version": 4}))
    with pytest.raises(ArtifactError, match="format version 4.*upgrade"):
        Artifact.load(tmp_path / "a")
    config.write_text(json.dumps(value | {"format_version": 0}))
    with pytest.raises(ArtifactError, match="format version 0.*train again"):
        Artifact.load(tmp_path / "a")
    value["encoder"]["config"]["preprocessing"]["filters"]["mask_self_naming"] = False
    config.write_text(json.dumps(value))
    with pytest.raises(ArtifactError, match=r"config.json was altered"):
        Artifact.load(tmp_path / "a")
    config.write_text(json.dumps(value | {"format": "other"}))
    with pytest.raises(ArtifactError, match="format 'other'"):
        Artifact.load(tmp_path / "a")
    config.write_text("{")
    with pytest.raises(ArtifactError, match="is damaged"):
        Artifact.load(tmp_path / "a")


def test_a_card_may_be_edited(trained: Artifact, tmp_path: Path) -> None:
    trained.save(tmp_path / "a")
    (tmp_path / "a" / "README.md").write_text("mine")
    assert len(Artifact.load(tmp_path / "a").models) == len(trained.models)


def test_what_a_user_put_there_is_kept(trained: Artifact, tmp_path: Path) -> None:
    folder = tmp_path / "a"
    trained.save(folder)
    generated = (folder / "README.md").read_text()
    (folder / "map.html").write_text("my map")
    (folder / "notes").mkdir()
    (folder / "notes" / "one.txt").write_text("my note")
    trained.save(folder)
    assert (folder / "map.html").read_text() == "my map" and (folder / "notes" / "one.txt").read_text() == "my note"
    assert (folder / "README.md").read_text() == generated
    (folder / "README.md").write_text("mine")
    trained.save(folder)
    assert (folder / "README.md").read_text() == "mine"


def test_output_is_checked_before_any_work(trained: Artifact, tmp_path: Path) -> None:
    artifact.check_output(tmp_path / "new", overwrite=False)
    trained.save(tmp_path / "a")
    with pytest.raises(UsageError, match="choose another --output, or add --overwrite"):
        artifact.check_output(tmp_path / "a", overwrite=False, hint=", or add --overwrite")
    artifact.check_output(tmp_path / "a", overwrite=True)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.txt").write_text("keep me")
    with pytest.raises(UsageError, match="is not a model-behavior artifact"):
        artifact.check_output(tmp_path / "other", overwrite=True)
    with pytest.raises(UsageError, match="is not a model-behavior artifact"):
        trained.save(tmp_path / "other")
    assert (tmp_path / "other" / "thesis.txt").read_text() == "keep me"


def test_a_failed_save_leaves_the_old_artifact(
    trained: Artifact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained.save(tmp_path / "a")
    before = (tmp_path / "a" / "config.json").read_bytes()

    def fail(*_: object) -> str:
        raise OSError("disk full")

    monkeypatch.setattr("model_behavior.artifact.folder.write_card", fail)
    with pytest.raises(OSError, match="disk full"):
        trained.save(tmp_path / "a")
    assert (tmp_path / "a" / "config.json").read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a"]
    monkeypatch.undo()
    trained.save(tmp_path / "a")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a"]


def test_new_models_join_and_known_ones_are_replaced(trained: Artifact, arena: Arena) -> None:
    new = enrol(trained.encoder, arena.held_out_responses, 256).models
    assert new.names == arena.held_out
    grown = merge(trained.models, new)
    assert grown.names == tuple(sorted([*trained.models.names, *arena.held_out]))
    zeros = ModelEmbeddings(new.names[:1], np.zeros((1, 8), np.float32), np.array([7]), np.zeros(1, np.float32))
    replaced = merge(grown, zeros)
    row = replaced.names.index(new.names[0])
    assert len(replaced) == len(grown) and replaced.count[row] == 7 and not replaced.mean[row].any()
