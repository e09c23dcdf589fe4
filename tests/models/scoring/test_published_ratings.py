"""Ratings that were published: kept as they are, joined with votes on their scale, and told apart in groups."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from model_behavior.data.ratings import RatingTable
from model_behavior.data_models.scoring_types import ELO_PER_LOG_ODDS, ScoringVotes
from model_behavior.errors import UsageError
from model_behavior.models.scoring.bradley_terry import BradleyTerry, BradleyTerryConfig
from model_behavior.models.scoring.dense_network_config import DenseNetworkConfig
from model_behavior.models.scoring.dense_network_model import DenseNetworkModel
from model_behavior.models.scoring.dense_network_training import ScoringSchedule
from model_behavior.models.scoring.model_base import SharedCovariance, group_ratings, rank_best_first
from model_behavior.models.scoring.published_ratings import RATINGS_ALONE, fit_published
from tests.models.scoring.scoring_votes import draw_votes, table_for

TRUE = np.linspace(-1.4, 1.4, 8)  # of the votes' models


def table(names: tuple[str, ...], rating: np.ndarray, half: float = 5.0, **categories: RatingTable) -> RatingTable:
    return RatingTable(names, rating, rating - half, rating + half, categories)


def drawn(votes: ScoringVotes) -> ScoringVotes:
    decided = np.minimum(votes.outcome, 1).astype(np.int8)
    return replace(votes, outcome=decided, drawn=np.ones(len(votes), dtype=np.bool_))


def published_model() -> tuple[DenseNetworkModel, RatingTable]:
    votes = drawn(draw_votes(300))
    elo = 1200 + 100 * TRUE
    coding = table(votes.models[:6], (900 + 120 * TRUE)[:6])
    given = table((*votes.models, "unheard-of"), np.append(elo, 1500.0), coding=coding)
    model = DenseNetworkModel(table_for((*votes.models, "new-1")), published=given)
    model.fit(votes)
    return model, given


def test_ratings_alone_are_kept_to_the_last_digit() -> None:
    model, given = published_model()
    loaded = DenseNetworkModel.load_state_dict(json_round_trip(model))
    for each in (model, loaded):
        assert each.scale("elo").origin == pytest.approx(1200)
        rated = each.rate(each.voted_models).on(each.scale("elo"))
        assert rated.models == given.models[:8]
        np.testing.assert_allclose(rated.rating, given.rating[:8], rtol=1e-12)
        np.testing.assert_allclose(rated.low, given.low[:8], rtol=1e-12)
        np.testing.assert_allclose(rated.high, given.high[:8], rtol=1e-12)
        assert not rated.votes.any() and each.notes == (RATINGS_ALONE,)
        assert each.temperature.value == 1 and not each.history  # nothing was learned from votes that nobody cast
        new = each.rate(["new-1"]).on(each.scale("elo"))
        assert new.high[0] - new.low[0] > 50


def json_round_trip(model: DenseNetworkModel) -> dict[str, object]:
    state = model.get_state_dict()
    tensors = state.pop("tensors")
    return {**json.loads(json.dumps(state, allow_nan=False)), "tensors": tensors}


def test_what_the_ratings_say_of_votes() -> None:
    model, given = published_model()
    probabilities = model.predict(["any prompt"], [given.models[7]], [given.models[0]])[0]
    lead = (given.rating[7] - given.rating[0]) / ELO_PER_LOG_ODDS
    assert probabilities[0] / (probabilities[0] + probabilities[1]) == pytest.approx(1 / (1 + np.exp(-lead)), abs=0.01)


def test_a_category_is_published_or_on_the_line() -> None:
    model, given = published_model()
    assert model.categories == ("coding",)
    rated = model.rate(model.voted_models, category="coding").on(model.scale("elo"))
    coding = given.categories["coding"]
    np.testing.assert_allclose(rated.rating[:6], coding.rating, rtol=1e-12)
    np.testing.assert_allclose(rated.low[:6], coding.low, rtol=1e-12)
    np.testing.assert_allclose(rated.rating[6:], (900 + 120 * TRUE)[6:], rtol=1e-6)  # on the line through the others
    with pytest.raises(UsageError, match="unknown category 'maths'. Allowed: coding"):
        model.rate(category="maths")
    with pytest.raises(UsageError, match="a prompt and a category"):
        model.rate(prompt="Is 7 prime?", category="coding")


def test_votes_are_brought_to_the_published_scale() -> None:
    votes = draw_votes(8_000)
    some = tuple(votes.models[:6])
    given = table(some, 1500 + 0.5 * ELO_PER_LOG_ODDS * TRUE[:6], half=2.0)  # half of the votes' spread
    ratings, published, _ = fit_published(votes, given, BradleyTerryConfig())
    elo = published.anchor + ELO_PER_LOG_ODDS * ratings.rating
    np.testing.assert_allclose(elo[:6], given.rating, atol=4)
    np.testing.assert_allclose(elo[6:], 1500 + 0.5 * ELO_PER_LOG_ODDS * TRUE[6:], atol=20)
    assert ratings.votes.sum() == 2 * len(votes)
    deviation = np.sqrt(np.diag(ratings.covariance)) * ELO_PER_LOG_ODDS
    assert (deviation[:6] <= 2.0 / 1.96).all() and (deviation[6:] > deviation[:6].max()).all()


def test_votes_without_a_rated_model_in_reach_have_wide_intervals() -> None:
    near, far = draw_votes(3_000), draw_votes(3_000, seed=1)
    names = (*near.models, *(f"z-{name}" for name in far.models))
    votes = ScoringVotes(
        near.prompts,
        names,
        np.concatenate([near.prompt_index, far.prompt_index]),
        np.concatenate([near.model_a, far.model_a + 8]).astype(np.int32),
        np.concatenate([near.model_b, far.model_b + 8]).astype(np.int32),
        np.concatenate([near.outcome, far.outcome]),
    )
    ratings, _, placed = fit_published(votes, table(near.models[:7], 1000 + 170 * TRUE[:7]), BradleyTerryConfig())
    assert placed.tolist() == list(range(8))  # the eighth by its votes
    deviation = np.sqrt(np.diag(ratings.covariance))
    assert deviation[:8].max() < 0.2 and deviation[8:].min() > 0.7  # as the ratings vary


def test_a_judge_who_is_more_decided_does_not_stretch_the_field() -> None:
    votes = draw_votes(6_000)  # as decided as ratings of -1.4 to 1.4
    names = tuple(f"{animal}-2" for animal in ("ape", "bat", "cow", "doe", "elk", "fly", "gar", "hog"))
    both = votes.models[:1]  # the one bridge, and the worst of its votes
    narrow = 1000 + 0.2 * ELO_PER_LOG_ODDS * np.append(TRUE, 0.0)
    every = (*names, *votes.models)
    models = tuple(sorted(every))
    place = np.array([models.index(name) for name in votes.models], dtype=np.int32)
    drawn_too = replace(votes, models=models, model_a=place[votes.model_a], model_b=place[votes.model_b])
    ratings, published, placed = fit_published(drawn_too, table((*names, *both), narrow), BradleyTerryConfig())
    assert {drawn_too.models[row] for row in placed} == {*names, *both}  # of them alone levels are learned
    elo = dict(zip(ratings.models, published.anchor + ELO_PER_LOG_ODDS * ratings.rating, strict=True))
    spread = {kind: float(np.std([elo[name] for name in group])) for kind, group in (("p", names), ("v", votes.models))}
    assert spread["v"] < 1.5 * spread["p"]
    rated = [elo[name] for name in votes.models]
    assert np.corrcoef(rated, TRUE)[0, 1] > 0.95
    deviation = dict(zip(ratings.models, np.sqrt(np.diag(ratings.covariance)), strict=True))
    # One bridge does not tell the level of the seven others: it is as uncertain as their disagreement at least.
    assert min(deviation[name] for name in votes.models[1:]) > 3 * max(deviation[name] for name in names)


@pytest.mark.parametrize("n_votes", [2, 5, 12, 40])
def test_a_handful_of_votes_does_not_throw_models_out_of_the_field(n_votes: int) -> None:
    votes = draw_votes(n_votes, seed=n_votes)
    names = tuple(f"{animal}-2" for animal in ("ape", "bat", "cow", "doe", "elk", "fly", "gar", "hog"))
    heard = set(votes.model_a.tolist()) | set(votes.model_b.tolist())
    models = (*names, *(votes.models[row] for row in sorted(heard)))
    place = np.array([models.index(name) if name in models else -1 for name in votes.models], dtype=np.int32)
    taken = replace(votes, models=models, model_a=place[votes.model_a], model_b=place[votes.model_b])
    ratings, published, _ = fit_published(taken, table(names, 1000 + 100 * TRUE), BradleyTerryConfig())
    elo = published.anchor + ELO_PER_LOG_ODDS * ratings.rating
    assert np.abs(elo - 1000).max() < 400
    assert (np.sqrt(np.diag(ratings.covariance)) * ELO_PER_LOG_ODDS).max() < 1000


def test_without_ratings_nothing_changes() -> None:
    votes = draw_votes(400)
    plain, other = BradleyTerry(), BradleyTerry()
    plain.fit(votes)
    other.fit(replace(votes, drawn=np.zeros(len(votes), dtype=np.bool_)))
    np.testing.assert_array_equal(plain.rating, other.rating)


def test_groups_by_hand() -> None:
    # The best differs from the second by 1 (deviation of the difference sqrt(.5)), from the third by 3.
    covariance = 0.25 * np.eye(4)
    component = np.zeros(4, dtype=np.int64)
    assert group_ratings(np.array([0.0, 3.0, -0.2, 2.0]), covariance, component).tolist() == [2, 1, 2, 1]
    # What two ratings share does not blur their difference.
    together = 0.25 * np.eye(4) + 0.24 * (np.ones((4, 4)) - np.eye(4))
    assert group_ratings(np.array([0.0, 3.0, -0.2, 2.0]), together, component).tolist() == [3, 1, 3, 2]
    # Of a chain, the third differs from the first: a wide interval in between joins no others.
    wide = np.diag([0.01, 1.0, 0.01])
    assert group_ratings(np.array([1.0, 0.6, 0.3]), wide, component[:3]).tolist() == [1, 1, 2]
    # Ratings of different components are not compared.
    assert group_ratings(np.array([1.0, 1.0]), np.eye(2), np.array([0, 1])).tolist() == [1, 2]


def test_a_covariance_by_rows_is_the_dense_one() -> None:
    rng = np.random.default_rng(0)
    root = rng.standard_normal((5, 5))
    known, n_models = root @ root.T, 40
    known[2] = known[:, 2] = 0.0  # one whose rating is certain
    place = rng.permutation(np.concatenate([np.arange(5), np.full(n_models - 5, -1)]))
    deviation, rating = rng.uniform(0.1, 1, n_models), rng.standard_normal(n_models)
    dense = np.empty((n_models, n_models))
    for one in range(n_models):
        for other in range(n_models):
            a, b = place[one], place[other]
            both = known[a, b] / np.sqrt(max(known[a, a], 1e-12) * max(known[b, b], 1e-12)) if min(a, b) >= 0 else 0.0
            dense[one, other] = (1.0 if one == other else both) * deviation[one] * deviation[other]
    rows = SharedCovariance(deviation, place, known)
    np.testing.assert_allclose(rows.diagonal(), np.diag(dense), rtol=1e-12)
    for row in range(n_models):
        others = np.delete(np.arange(n_models), row)
        np.testing.assert_allclose(rows[row, others], dense[row, others], rtol=1e-12)
    component = np.zeros(n_models, np.int64)
    groups = group_ratings(rating, rows, component)
    assert groups.tolist() == group_ratings(rating, dense, component).tolist() and groups.max() > 2
    assert groups.tolist() != group_ratings(rating, np.diag(np.diag(dense)), component).tolist()


def test_the_groups_of_rank() -> None:
    votes = draw_votes(2_000)
    config = DenseNetworkConfig(schedule=ScoringSchedule(epochs=1, folds=2))
    model = DenseNetworkModel(table_for(votes.models), config)
    model.fit(votes)
    rows = rank_best_first(model.rate())
    groups = [row.group for row in rows]
    assert groups == sorted(groups) and groups[0] == 1 and len(set(groups)) > 3  # type: ignore[type-var]
    assert rank_best_first(model.ratings.rate())[0].group is None  # a baseline does not say
