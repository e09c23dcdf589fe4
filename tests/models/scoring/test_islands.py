"""Models that no chain of votes connects, and what is said of votes that tell little."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from model_behavior.data_models.scoring_types import ModelTable, ScoringVotes
from model_behavior.models.scoring.bradley_terry import BradleyTerry, find_components
from model_behavior.models.scoring.dense_network_config import DenseNetworkConfig
from model_behavior.models.scoring.dense_network_model import DenseNetworkModel
from model_behavior.models.scoring.dense_network_training import ScoringSchedule
from model_behavior.models.scoring.model_base import rank_best_first
from model_behavior.models.scoring.vote_notes import describe_islands, describe_votes

ISLAND, MAINLAND = ("b", "d"), ("a", "c", "e", "f")
SHORT = DenseNetworkConfig(schedule=ScoringSchedule(epochs=2))


def two_islands(n_votes: int = 400) -> ScoringVotes:
    """Votes within each of two groups; in each, a later name is the better model."""
    rng = np.random.default_rng(0)
    names = tuple(sorted(ISLAND + MAINLAND))
    groups = [[names.index(name) for name in group] for group in (MAINLAND, MAINLAND, ISLAND)]
    sides = np.array([rng.choice(groups[rng.integers(3)], 2, replace=False) for _ in range(n_votes)])
    lead = (sides[:, 0] - sides[:, 1]) / 2 + rng.logistic(size=n_votes)
    outcome = np.where(np.abs(lead) < 0.3, 2, np.where(lead > 0, 0, 1))
    prompts = tuple(f"prompt {n}" for n in range(40))
    a, b = sides.T.astype(np.int32)
    return ScoringVotes(prompts, names, (np.arange(n_votes) % 40).astype(np.int32), a, b, outcome.astype(np.int8))


def embeddings(names: tuple[str, ...]) -> ModelTable:
    vectors = np.random.default_rng(1).normal(size=(len(names), 8)).astype(np.float32)
    ones = np.ones(len(names))
    return ModelTable(names, vectors, (50 * ones).astype(np.int64), ones.astype(np.float32))


@pytest.fixture(scope="module")
def scorer() -> DenseNetworkModel:
    votes = two_islands()
    model = DenseNetworkModel(embeddings((*votes.models, "new")), SHORT)
    model.fit(votes)
    return model


def test_components_are_numbered_by_size() -> None:
    votes = two_islands()
    component = dict(zip(votes.models, find_components(votes).tolist(), strict=True))
    assert component == {name: int(name in ISLAND) for name in votes.models}
    one = replace(votes, model_a=np.zeros(3, np.int32), model_b=np.arange(1, 4, dtype=np.int32), models=tuple("wxyz"))
    assert find_components(replace(one, outcome=votes.outcome[:3])).tolist() == [0] * 4


def test_each_component_is_rated_around_its_own_mean_and_listed_by_itself(scorer: DenseNetworkModel) -> None:
    rows = rank_best_first(scorer.rate())
    assert [row.component for row in rows] == [0] * 4 + [1] * 2 + [None]
    assert [row.model for row in rows] == ["f", "e", "c", "a", "d", "b", "new"]
    for group in (MAINLAND, ISLAND):
        assert sum(row.rating for row in rows if row.model in group) == pytest.approx(0, abs=1e-9)
        assert all(row.high - row.low < 3 for row in rows if row.model in group)
    on_prompt = scorer.rate(prompt="prompt 3")
    assert rank_best_first(on_prompt)[0].component == 0


def test_predictions_across_components_are_near_even_and_those_within_are_not(scorer: DenseNetworkModel) -> None:
    within = scorer.predict_on_average(["f"], ["a"])[0]
    across = scorer.predict_on_average(["f", "b"], ["b", "f"])
    assert scorer.are_apart(["f", "f", "f"], ["a", "b", "new"]).tolist() == [False, True, False]
    assert within[0] - within[1] > 0.5
    assert abs(across[0, 0] - across[0, 1]) < 0.5 * (within[0] - within[1])
    np.testing.assert_allclose(across[0], across[1][[1, 0, 2, 3]], atol=1e-6)


def test_the_interval_of_a_model_without_votes_includes_the_levels_of_the_groups(scorer: DenseNetworkModel) -> None:
    (new,) = rank_best_first(scorer.rate(["new"]))
    precision = scorer.precision("new", 50)
    assert precision is not None
    read = scorer.get_state_dict()["enrolled"]["new"]["variance"]
    levels = 5 * np.mean([(1 - w) ** 2 + (1 - w) ** 2 for w in (4 / 6,) * 4 + (2 / 6,) * 2])
    assert precision.variance == pytest.approx(read + levels)
    assert (new.high - new.low) / 2 == pytest.approx(1.96 * np.sqrt(read + levels), rel=1e-3)
    ratings = BradleyTerry()
    ratings.fit(two_islands())
    assert ratings.mixed_level_variance == pytest.approx(levels)
    ratings.component = np.zeros(6, np.int64)
    assert ratings.mixed_level_variance == 0


def test_what_was_saved_predicts_the_same(scorer: DenseNetworkModel) -> None:
    again = DenseNetworkModel.load_state_dict(scorer.get_state_dict())
    sides = ["f", "b", "new"], ["b", "d", "d"]
    np.testing.assert_array_equal(again.predict(["p"] * 3, *sides), scorer.predict(["p"] * 3, *sides))
    assert rank_best_first(again.rate()) == rank_best_first(scorer.rate())
    assert again.notes == scorer.notes


def test_ratings_saved_before_components_were_told_apart_are_one_component() -> None:
    ratings = BradleyTerry()
    ratings.fit(two_islands())
    state = ratings.get_state_dict() | {"state_version": 2}
    state["tensors"].pop("component")
    old = BradleyTerry.load_state_dict(state)
    found = old.rate()
    assert found.component is not None and not found.component.any()
    np.testing.assert_array_equal(found.rating, ratings.rating)


def test_what_is_said_of_votes() -> None:
    votes = two_islands()
    said = describe_islands(votes)
    assert said.startswith("no chain of votes connects 2 groups of models") and "between b, d" in said
    assert describe_votes(votes) == ()
    ties = replace(votes, outcome=np.full_like(votes.outcome, 2))
    assert describe_votes(ties) == ("every vote is tie",)
    left = replace(votes, outcome=np.zeros_like(votes.outcome))
    assert describe_votes(left)[0] == "every vote is model_a"
    one = replace(votes, prompts=("p",), prompt_index=np.zeros_like(votes.prompt_index))
    assert describe_votes(one)[0].startswith("all votes are on one prompt")
    never = np.where(votes.model_a == 5, 0, np.where(votes.model_b == 5, 1, votes.outcome)).astype(np.int8)
    n_votes = int(((votes.model_a == 5) | (votes.model_b == 5)).sum())
    (note,) = describe_votes(replace(votes, outcome=never))
    assert note == f"never beaten, so that the prior alone keeps the rating finite: f ({n_votes} votes)"
