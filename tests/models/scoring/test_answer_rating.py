"""Ratings read from what votes say about responses, on a world whose truth is known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from model_behavior.data_models.scoring_types import ModelAnswers, ModelTable, ScoringVotes, VotedAnswers
from model_behavior.models.scoring.answer_rating import STRUCTURE, AnswerRating, AnswerRatingConfig, fit_line
from model_behavior.models.scoring.rating_reader import RatingReader, RatingReading

NAMES = (*STRUCTURE, "whim", "quirk")
WORTH = np.array([1.0, *np.zeros(len(NAMES) - 3), 0.8, 0.0])  # of a feature to a voter: length and whim
N_KNOWN, N_NEW, K = 30, 10, 60


class World:
    """Models that differ in their mean features, each a family of its own; voters see single responses."""

    def __init__(self, seed: int) -> None:
        rng = np.random.default_rng(seed)
        letters = "abcdefghijklmnopqrstuvwxyz"
        self.names = tuple(f"{letters[i // 26]}{letters[i % 26]}x-1" for i in range(N_KNOWN + N_NEW))
        self.place = 0.8 * rng.normal(size=(len(self.names), len(NAMES)))
        self.rating = self.place @ WORTH
        self.values = (np.repeat(self.place, K, axis=0) + rng.normal(size=(len(self.names) * K, len(NAMES)))).astype(
            np.float32
        )
        a, b = rng.integers(0, N_KNOWN, 4000), rng.integers(1, N_KNOWN, 4000)
        b = (a + b) % N_KNOWN
        rows = a * K + rng.integers(0, K, 4000), b * K + rng.integers(0, K, 4000)
        lead = (self.values[rows[0]] - self.values[rows[1]]) @ WORTH
        outcome = (rng.random(4000) > 1 / (1 + np.exp(-lead))).astype(np.int8)
        self.votes = ScoringVotes(
            tuple(map(str, range(4000))),  # one vote per prompt
            self.names[:N_KNOWN],
            np.arange(4000, dtype=np.int32),
            a.astype(np.int32),
            b.astype(np.int32),
            outcome,
            answers=VotedAnswers(NAMES, self.values, *(side.astype(np.int64) for side in rows)),
        )

    def table(self, models: range, k: int) -> ModelTable:
        owner = np.repeat(np.arange(len(models)), k)
        rows = np.concatenate([np.arange(model * K, model * K + k) for model in models])
        n = len(models)
        return ModelTable(
            tuple(self.names[model] for model in models),
            np.zeros((n, 2), np.float32) + np.arange(n, dtype=np.float32)[:, None] % 3,  # says nothing
            np.full(n, k),
            np.ones(n, np.float32),
            answers=ModelAnswers(NAMES, owner, self.values[rows]),
        )


@pytest.fixture(scope="module")
def world() -> World:
    return World(0)


@pytest.fixture(scope="module")
def fitted(world: World) -> AnswerRating:
    rating = AnswerRating()
    known = world.table(range(N_KNOWN), K)
    rating.fit(world.votes, known, world.rating[:N_KNOWN], np.full(N_KNOWN, 0.01))
    return rating


def test_new_models_are_rated_from_responses_to_prompts_of_their_own(world: World, fitted: AnswerRating) -> None:
    new = world.table(range(N_KNOWN, N_KNOWN + N_NEW), K)
    found = fitted.predict(new)
    error = np.sqrt(np.square(found.mean - world.rating[N_KNOWN:]).mean())
    length = world.place[N_KNOWN:, 0] * WORTH[0]
    assert error < 0.5 * np.sqrt(np.square(length - world.rating[N_KNOWN:]).mean())  # it sees the whim, too
    few = fitted.predict(world.table(range(N_KNOWN, N_KNOWN + N_NEW), 2))
    assert np.square(few.mean - world.rating[N_KNOWN:]).mean() > np.square(error)
    assert fitted.sampling_variance(np.array([2])) > 5 * fitted.sampling_variance(np.array([60]))


def test_a_family_is_read_by_a_regression_that_has_not_seen_it(world: World, fitted: AnswerRating) -> None:
    """The moved solution against one fitted without the votes of the first model."""
    keep = np.flatnonzero((world.votes.model_a != 0) & (world.votes.model_b != 0))
    assert world.votes.answers is not None
    rest = ScoringVotes(
        world.votes.prompts,
        world.votes.models,
        world.votes.prompt_index[keep],
        world.votes.model_a[keep],
        world.votes.model_b[keep],
        world.votes.outcome[keep],
        answers=world.votes.answers.of_votes(keep),
    )
    without = AnswerRating()
    without.fit(rest, world.table(range(1, N_KNOWN), K), world.rating[1:N_KNOWN], np.full(N_KNOWN - 1, 0.01))
    found = without.predict(world.table(range(1), K))
    np.testing.assert_allclose(fitted.left_out[0], found.mean[0], atol=0.03)


def test_a_line_by_hand() -> None:
    score, rating = np.array([-1.0, 0.0, 1.0, 2.0]), np.array([-2.0, 0.0, 2.0, 4.0])
    line = fit_line(score, rating, np.zeros(4), np.arange(4))
    assert (line.centre, line.level) == (0.5, 1.0)
    assert line.slope == pytest.approx(2 * 4 / 5)  # the prior is worth one of five models
    assert fit_line(score, -rating, np.zeros(4), np.arange(4)).slope == 0  # the votes say which direction is up


def test_too_little_teaches_nothing_and_the_state_comes_back(world: World, fitted: AnswerRating) -> None:
    none = AnswerRating(AnswerRatingConfig(least_votes=5000))
    none.fit(world.votes, world.table(range(N_KNOWN), K), world.rating[:N_KNOWN], np.full(N_KNOWN, 0.01))
    assert not none.is_fitted
    again = AnswerRating.load_state_dict(fitted.get_state_dict(), fitted.config)
    new = world.table(range(N_KNOWN, N_KNOWN + N_NEW), 8)
    np.testing.assert_array_equal(again.predict(new).mean, fitted.predict(new).mean)


def test_the_joint_reading_goes_by_the_witness_that_is_right_and_its_intervals_hold() -> None:
    inside, weights = [], []
    for seed in range(6):
        world = World(seed)
        reader = RatingReader()
        known = world.table(range(N_KNOWN), K)
        reader.fit(known, world.rating[:N_KNOWN], np.full(N_KNOWN, 0.01), world.votes)
        for k in (8, 60):
            readings = reader.read(world.table(range(N_KNOWN, N_KNOWN + N_NEW), k))
            error = np.array([reading.mean for reading in readings]) - world.rating[N_KNOWN:]
            inside += (np.abs(error) < 1.96 * np.sqrt([reading.variance for reading in readings])).tolist()
            weights += [reading.parts["answers"].weight for reading in readings]
    assert 0.9 <= np.mean(inside) <= 0.99
    assert np.mean(weights) > 0.7


def test_a_fit_to_votes_without_responses_keeps_what_an_earlier_one_has_learned() -> None:
    world = World(2)
    known, new = world.table(range(N_KNOWN), K), world.table(range(N_KNOWN, N_KNOWN + N_NEW), K)
    first, later = RatingReader(), RatingReader()
    first.fit(known, world.rating[:N_KNOWN], np.full(N_KNOWN, 0.01), world.votes)
    later.fit(known, world.rating[:N_KNOWN], np.full(N_KNOWN, 0.01))
    assert later.witnesses == ("embedding",)
    later.adopt(first)
    assert later.read(new) == first.read(new)


def test_models_of_another_scale_teach_by_their_votes_alone() -> None:
    world = World(3)
    known, new = world.table(range(N_KNOWN), K), world.table(range(N_KNOWN, N_KNOWN + N_NEW), K)
    placed, variance = np.arange(0, N_KNOWN, 2), np.full(N_KNOWN, 0.01)
    elsewhere = np.where(np.arange(N_KNOWN) % 2, 7.0, world.rating[:N_KNOWN])
    reader, alone = RatingReader(), RatingReader()
    reader.fit(known, elsewhere, variance, world.votes, placed)
    alone.fit(known.select(placed), world.rating[placed], variance[placed], world.votes)
    assert reader.witnesses == ("embedding", "answers")
    means = [[reading.mean for reading in each.read(new)] for each in (reader, alone)]
    np.testing.assert_allclose(means[0], means[1], rtol=1e-6)


def test_a_model_unlike_all_known_ones_is_beyond_the_field() -> None:
    world = World(1)
    order = np.argsort(world.rating[:N_KNOWN])
    reader = RatingReader()
    reader.fit(world.table(range(N_KNOWN), K), world.rating[:N_KNOWN], np.full(N_KNOWN, 0.01), world.votes)
    best = int(order[-1])
    table = world.table(range(best, best + 1), K)
    assert table.answers is not None
    readings: list[RatingReading] = []
    for shift in (0.0, 3.0, -9.0):
        moved = ModelAnswers(NAMES, table.answers.owner, (table.answers.values + shift * WORTH).astype(np.float32))
        readings += reader.read(ModelTable(("new-1",), table.embedding, table.count, table.spread, answers=moved))
    assert [reading.beyond for reading in readings[1:]] == [1, -1]
    assert min(readings[1].variance, readings[2].variance) > 1.5 * readings[0].variance


def test_votes_drawn_from_ratings_teach_only_where_none_was_cast(world: World, fitted: AnswerRating) -> None:
    """Drawn votes that say the contrary change nothing beside cast ones, and turn the weights where they are alone."""
    votes, known = world.votes, world.table(range(N_KNOWN), K)
    assert votes.answers is not None
    twice = np.tile(np.arange(len(votes)), 2)
    drawn = np.arange(2 * len(votes)) >= len(votes)
    outcome = np.where(drawn, 1 - votes.outcome[twice], votes.outcome[twice]).astype(np.int8)
    both = ScoringVotes(
        votes.prompts,
        votes.models,
        votes.prompt_index[twice],
        votes.model_a[twice],
        votes.model_b[twice],
        outcome,
        answers=votes.answers.of_votes(twice),
        drawn=drawn,
    )
    rating = AnswerRating()
    rating.fit(both, known, world.rating[:N_KNOWN], np.full(N_KNOWN, 0.01))
    np.testing.assert_array_equal(rating.predict(known).mean, fitted.predict(known).mean)
    alone = replace(both, drawn=np.ones(len(both), dtype=np.bool_))
    rating.fit(alone, known, world.rating[:N_KNOWN], np.full(N_KNOWN, 0.01))
    assert np.ptp(rating.predict(known).mean) < 0.1  # votes for both sides say nothing


def test_effects_of_features_add_up_to_the_difference_of_two_readings(world: World, fitted: AnswerRating) -> None:
    known, new = world.table(range(N_KNOWN), K), world.table(range(N_KNOWN, N_KNOWN + N_NEW), 20)
    assert known.answers is not None
    effects, read = fitted.effects(new, known.answers), fitted.predict(new).mean
    assert effects.shape == (N_NEW, len(NAMES))
    added = effects.sum(axis=1)
    assert added - added[0] == pytest.approx(read - read[0])
    length, whim, quirk = (NAMES.index(name) for name in ("log_characters", "whim", "quirk"))
    strength = np.abs(effects).mean(axis=0)
    assert min(strength[length], strength[whim]) > 3 * strength[quirk]
    truth = new.answers.values.reshape(N_NEW, 20, -1).mean(axis=1)[:, whim]  # type: ignore[union-attr]
    assert np.corrcoef(effects[:, whim], truth)[0, 1] > 0.9
