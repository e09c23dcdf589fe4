"""`rank` counts every vote that is kept, as an independent calculation does; `evaluate` stays honest."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import log_softmax

from model_behavior.arrays import Float64Array
from model_behavior.artifact import Artifact
from model_behavior.data.arena import build_arena
from model_behavior.data.filters import FilterConfig, select_votes
from model_behavior.data.split import split_votes
from model_behavior.data_models.votes import Outcome, TrainingData, ValidationSplit
from model_behavior.models.behavior.configuration import EncoderConfig
from model_behavior.models.behavior.text.registry import TextConfig
from model_behavior.models.scoring.dense_network_config import DenseNetworkConfig
from model_behavior.models.scoring.dense_network_training import ScoringSchedule
from model_behavior.pipeline import TrainingConfig, train_encoder, train_scorer
from model_behavior.preprocessing.behavior_embedding_preprocessor import PreprocessingConfig

MODELS = 6
SHORT = DenseNetworkConfig(schedule=ScoringSchedule(epochs=1))
CASES = ("plain", "islands", "separation", "ties", "both_bad", "duplicated")


@cache
def encoder() -> Artifact:
    config = TrainingConfig(TextConfig(("style",)), split=ValidationSplit(0.2), epochs=1)
    return train_encoder(some_votes(), config)


@cache
def some_votes() -> TrainingData:
    """Votes between a few models."""
    data = build_arena(seed=3, n_prompts=30).votes
    a, b = data.pairs.model_index[data.pair_a], data.pairs.model_index[data.pair_b]
    return select_votes(data, np.flatnonzero((a < MODELS) & (b < MODELS)))


@cache
def case(name: str) -> TrainingData:
    """Votes with other outcomes, or some of the votes."""
    data = some_votes()
    a, b = data.pairs.model_index[data.pair_a], data.pairs.model_index[data.pair_b]
    every = np.arange(len(data))
    if name == "islands":
        return select_votes(data, every[(a < MODELS // 2) == (b < MODELS // 2)])
    if name == "separation":
        return replace(data, outcome=np.where(a < b, 0, 1).astype(np.int8))
    if name == "ties":
        return replace(data, outcome=np.where(every % 3, Outcome.TIE, data.outcome).astype(np.int8))
    if name == "both_bad":
        return replace(data, outcome=np.where(every % 4 == 0, Outcome.BOTH_BAD, data.outcome).astype(np.int8))
    if name == "duplicated":
        return select_votes(data, np.concatenate([every, every[::3], every[::3]]))
    return data


def calculate(data: TrainingData) -> dict[str, float]:
    """The mode of Bradley-Terry with the priors of `score_fit`, by a general minimiser over all parameters at once."""
    n = len(data.pairs.models)
    a, b = data.pairs.model_index[data.pair_a], data.pairs.model_index[data.pair_b]

    def logits(left: Float64Array, right: Float64Array, rest: Float64Array) -> Float64Array:
        tie, bad, tie_slope, bad_slope = rest
        return np.stack([left, right, tie_slope * (left + right) + tie, bad - bad_slope * (left + right)], axis=-1)

    def loss(point: Float64Array) -> float:
        theta, rest = point[:n], point[n:]
        likelihood = log_softmax(logits(theta[a], theta[b], rest), axis=1)[np.arange(len(data)), data.outcome].sum()
        pseudo = 0.5 * log_softmax(np.array([0, 0, rest[0], rest[1]])).sum()
        slopes = 10 * ((rest[2] - 0.5) ** 2 + rest[3] ** 2)
        prior = (0.1 * np.square(theta).sum() + 1e-3 * np.square(rest[:2]).sum() + slopes) / 2
        return float(prior - likelihood - pseudo)

    bounds = [(None, None)] * (n + 2) + [(0.0, 1.5), (-0.5, 1.5)]
    start = np.concatenate([np.zeros(n + 2), [0.5, 0.0]])
    theta = minimize(loss, start, bounds=bounds, options={"maxiter": 5000, "maxfun": 10**6, "ftol": 1e-14}).x[:n]
    group = np.arange(n)
    for _ in range(n):  # each takes the least number among those it met, as often as a chain can be long
        group = np.array([min(group[np.concatenate([b[a == m], a[b == m], [m]])]) for m in range(n)])
    return {name: theta[m] - theta[group == group[m]].mean() for m, name in enumerate(data.pairs.models)}


@pytest.mark.filterwarnings("ignore:the encoder was trained on other votes", "ignore:no chain of votes")
@pytest.mark.parametrize("name", CASES)
def test_rank_is_bradley_terry_of_all_votes(name: str) -> None:
    votes = case(name)
    ranked = {row.model: row for row in train_scorer(encoder(), votes, SHORT).rank(scale="log-odds")}
    expected = calculate(votes)
    sides = np.concatenate([votes.pairs.model_index[votes.pair_a], votes.pairs.model_index[votes.pair_b]])
    counts = np.bincount(sides)
    assert set(ranked) == set(expected)
    for row, model in enumerate(votes.pairs.models):
        assert ranked[model].votes == counts[row]
        assert ranked[model].rating == pytest.approx(expected[model], abs=2e-3)
    assert sum(row.votes for row in ranked.values()) == 2 * len(votes)
    assert len({row.component for row in ranked.values()}) == (2 if name == "islands" else 1)


@cache
def trained() -> Artifact:
    return train_scorer(encoder(), case("plain"), SHORT)


def test_the_scorer_that_is_measured_has_seen_no_validation_vote() -> None:
    artifact = trained()
    assert artifact.scorer is not None and artifact.training_scorer is not None
    measured, final = (each.ratings.votes.sum() for each in (artifact.training_scorer, artifact.scorer))
    assert final == 2 * len(case("plain")) and measured < 0.9 * final
    assert artifact.measured_scorer is artifact.training_scorer
    figures = artifact.evaluate(case("plain")).stage2
    alone = replace(artifact, scorer=artifact.training_scorer, training_scorer=None).evaluate(case("plain")).stage2
    flattered = replace(artifact, training_scorer=None).evaluate(case("plain")).stage2
    assert figures == alone != flattered


def test_both_scorers_are_saved_enrol_and_forget_and_older_folders_are_read(tmp_path: Path) -> None:
    trained().save(tmp_path / "a")
    loaded = Artifact.load(tmp_path / "a")
    assert loaded.training_scorer is not None and loaded.scorer is not None
    assert loaded.rank() == trained().rank()
    assert loaded.evaluate(case("plain")).stage2 == trained().evaluate(case("plain")).stage2
    texts = [{"model": "new", "prompt": f"Name {n} trees.", "response": f"Oak, and {n} others."} for n in range(12)]
    grown = loaded.onboard(texts)
    for scorer in (grown.scorer, grown.training_scorer):
        assert scorer is not None and "new" in scorer.models and "new" not in scorer.voted_models
    left = grown.remove("new")
    assert left.training_scorer is not None and "new" not in left.training_scorer.models
    replace(loaded, training_scorer=None).save(tmp_path / "old")
    names = json.loads((tmp_path / "old" / "config.json").read_text("utf-8"))["files"]
    assert not any(name.startswith("scorer-training") for name in names)
    old = Artifact.load(tmp_path / "old")
    assert old.training_scorer is None and old.measured_scorer is old.scorer and old.rank() == loaded.rank()


def test_a_model_with_validation_votes_alone_is_left_out_and_named() -> None:
    data, split = some_votes(), ValidationSplit(0.2)
    is_training = np.isin(np.arange(len(data)), split_votes(data, split).train)
    stray = data.pairs.models[0]
    has_stray = (data.pairs.model_index[data.pair_a] == 0) | (data.pairs.model_index[data.pair_b] == 0)
    votes = select_votes(data, np.flatnonzero(~(has_stray & is_training)))
    settings = EncoderConfig(preprocessing=PreprocessingConfig(FilterConfig(min_comparisons=0)))
    config = TrainingConfig(TextConfig(("style",)), settings, split, epochs=1)
    n_stray = int((has_stray & ~is_training).sum())
    with pytest.warns(UserWarning, match=rf"all their votes are on validation prompts: {stray} \({n_stray} votes\)"):
        artifact = train_scorer(train_encoder(votes, config), votes, SHORT)
    ranked = artifact.rank()
    assert stray not in {row.model for row in ranked}
    assert sum(row.votes for row in ranked) == 2 * (len(votes) - n_stray)
