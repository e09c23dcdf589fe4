"""A training that starts from a trained artifact."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from model_behavior import pipeline
from model_behavior.artifact import Artifact
from model_behavior.cli.app import run
from model_behavior.data.arena import Arena, build_arena, write_votes
from model_behavior.data.filters import select_votes
from model_behavior.data.split import hash_prompts
from model_behavior.data_models.votes import TrainingData, ValidationSplit
from model_behavior.errors import UsageError
from model_behavior.models.behavior.configuration import EncoderConfig
from model_behavior.models.behavior.objectives import Objective
from model_behavior.models.behavior.projection import DenseInput, ProjectionConfig
from model_behavior.models.behavior.starting_point import StartingPoint
from model_behavior.models.behavior.text.registry import TextConfig
from model_behavior.pipeline import TrainingConfig
from tests.conftest import answer, one_thread

CONFIG = TrainingConfig(text=TextConfig(encoders=("style",)), split=ValidationSplit(0.3, 1), epochs=1, batch_size=128)


@pytest.fixture(scope="module")
def start(scored_arena: Path) -> Artifact:
    return Artifact.load(scored_arena / "a")


@pytest.fixture(scope="module")
def few() -> TrainingData:
    """Votes on prompts and between models that `start` was not trained on, but for the models' families."""
    votes = build_arena(seed=8, n_prompts=30).votes
    return select_votes(votes, np.sort(np.random.default_rng(0).permutation(len(votes))[:150]))


def test_the_same_seed_gives_the_same_bytes_and_starts_near_the_old_encoder(start: Artifact, few: TrainingData) -> None:
    with one_thread():
        once, again = (pipeline.train_encoder(few, CONFIG, start=start) for _ in range(2))
        afresh = pipeline.train_encoder(few, CONFIG)
    assert once.encoder.fingerprint == again.encoder.fingerprint != afresh.encoder.fingerprint
    old, new, own = (
        each.encoder.encode(["Name a river."] * 2, ["The Loire.", "# Rivers\n\n- **Loire**!"], 8)
        for each in (start, once, afresh)
    )
    assert (old * new).sum(axis=1).min() > 0.8 > np.abs((old * own).sum(axis=1)).max()


def test_few_votes_learn_more_from_a_start(start: Artifact, few: TrainingData) -> None:
    with one_thread():
        begun, afresh = (pipeline.train_encoder(few, CONFIG, start=each).encoder for each in (start, None))
    before, without = (encoder.history[0].balanced_accuracy for encoder in (begun, afresh))
    assert before is not None and without is not None and before > without + 0.02
    assert begun.history[0].validation_loss < afresh.history[0].validation_loss


def test_the_record_covers_the_prompts_of_both_trainings(start: Artifact, few: TrainingData) -> None:
    trained = pipeline.train_encoder(few, CONFIG, start=start)
    assert start.training is not None and trained.training is not None
    assert np.isin(start.training.prompts, trained.training.prompts).all()
    own = np.isin(trained.training.prompts, hash_prompts(few.pairs.prompts.to_pylist()))
    assert 0 < own.sum() < len(own)


def test_known_models_keep_their_places_and_new_ones_begin_at_their_responses(start: Artifact) -> None:
    point = start.encoder.as_start(start.models.names, start.models.mean, np.zeros(0, np.uint64))
    config = start.encoder.config
    objective = Objective(3, config.quality_dim, config.objectives)
    fresh = objective.proxies.detach().clone()
    known = start.models.names[2]
    prepared = point.head.prepare([np.random.default_rng(0).normal(size=(6, _width(point))).astype(np.float32)])
    model = np.array([0, 0, 0, 1, 1, 1])
    point.place(objective, ["new one", known, "silent"], (prepared, model))

    def direction(vector: np.ndarray) -> np.ndarray:
        return np.asarray(vector / np.linalg.norm(vector))

    proxies = objective.proxies.detach().numpy()
    embedded = point.head.embed(prepared, 8)
    np.testing.assert_allclose(direction(proxies[0]), direction(embedded[:3].mean(axis=0)), atol=1e-5)
    np.testing.assert_allclose(direction(proxies[1]), direction(point.places[known]), atol=1e-5)
    np.testing.assert_array_equal(proxies[2], fresh[2].numpy())
    assert objective.quality_direction() == pytest.approx(point.quality, rel=1e-5)


def _width(point: StartingPoint) -> int:
    layer = point.head.inputs[0]
    assert isinstance(layer, DenseInput)
    return len(layer.mean)


@pytest.mark.parametrize(
    ("config", "name"),
    [
        (replace(CONFIG, text=TextConfig(encoders=("style", "lexical"))), "text.encoders"),
        (replace(CONFIG, encoder=EncoderConfig(projection=ProjectionConfig(dim=32))), "encoder.projection.dim"),
    ],
)
def test_another_configuration_is_refused(
    config: TrainingConfig, name: str, start: Artifact, few: TrainingData
) -> None:
    with pytest.raises(UsageError, match=f"has {name} = .*Fix: set {name}"):
        pipeline.train_encoder(few, config, start=start)


def test_the_command_line_starts_from_a_folder(
    arena: Arena, scored_arena: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_votes(arena, tmp_path / "votes.parquet")
    arguments = ["train-encoder", tmp_path / "votes.parquet", "--encoder", "style", "--epochs", "1"]
    value = answer(capsys, *arguments, "--from", scored_arena / "a", "--output", tmp_path / "b")
    assert value["balanced_accuracy"] > 0.6
    assert run([*map(str, arguments), "--from", str(tmp_path / "nothing"), "--output", str(tmp_path / "c")]) == 1
    assert "nothing" in capsys.readouterr().err and not (tmp_path / "c").exists()
