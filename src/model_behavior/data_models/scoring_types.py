"""Data of stage 2: votes without their responses, ratings, and training logs."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, TypeAlias

import numpy as np
from scipy import sparse

from model_behavior.arrays import (
    BoolArray,
    Float32Array,
    Float64Array,
    Int8Array,
    Int32Array,
    Int64Array,
    IntArray,
    UInt64Array,
)
from model_behavior.errors import UsageError

ScaleName: TypeAlias = Literal["elo", "log-odds"]
ELO_PER_LOG_ODDS = 400 / math.log(10)

STYLE_COLUMNS = ("length", "headings", "list items", "bold")
"""Features of style control: number of characters, and counts of Markdown elements."""


@dataclass(frozen=True, eq=False)
class ScoringVotes:
    """Votes as stage 2 sees them.

    Attributes:
        prompts: unique prompts, [n_prompts].
        models: model names, sorted, [n_models].
        prompt_index: index into `prompts`, [n_votes].
        model_a: index into `models` of the left side, [n_votes].
        model_b: index into `models` of the right side, [n_votes].
        outcome: `Outcome` of each vote, int8, [n_votes].
        style_a: `STYLE_COLUMNS` of the left response, [n_votes, 4]; None where the responses are not known. Only the
            baselines that look at responses read it.
        style_b: `STYLE_COLUMNS` of the right response, likewise.
        answers: features of the responses of both sides; None where the responses are not known. Only the reading of
            ratings from what votes say about responses uses them; predictions never do.
        drawn: True for each vote that was drawn from published ratings, [n_votes]; None where there is none.
    """

    prompts: tuple[str, ...]
    models: tuple[str, ...]
    prompt_index: Int32Array
    model_a: Int32Array
    model_b: Int32Array
    outcome: Int8Array
    style_a: Float32Array | None = None
    style_b: Float32Array | None = None
    answers: VotedAnswers | None = None
    drawn: BoolArray | None = None

    def __len__(self) -> int:
        return len(self.outcome)

    @property
    def cast(self) -> Int64Array:
        """Rows of the votes that somebody cast, ascending."""
        rows: Int64Array = np.arange(len(self)) if self.drawn is None else np.flatnonzero(~self.drawn)
        return rows


@dataclass(frozen=True, eq=False)
class VotedAnswers:
    """Features of the responses that were voted on.

    Attributes:
        names: names of the features, [n_features].
        values: features of distinct responses, float32, [n_responses, n_features].
        row_a: row of the left response of each vote, int64, [n_votes].
        row_b: row of the right response, likewise.
    """

    names: tuple[str, ...]
    values: Float32Array
    row_a: Int64Array
    row_b: Int64Array

    def of_votes(self, chosen: IntArray) -> VotedAnswers:
        """Those of some votes, in this order; the responses stay where they are."""
        return VotedAnswers(self.names, self.values, self.row_a[chosen], self.row_b[chosen])


@dataclass(frozen=True, eq=False)
class Ratings:
    """Ratings on the log-odds scale, each with a 95 % interval; arrays [n_models].

    Attributes:
        models: names in the order asked for.
        rating: the estimate. A difference of 1 means odds of e to 1 among decided votes.
        low: lower end of the interval, `rating` where the model has none.
        high: upper end.
        votes: votes behind the rating; 0 for a model that was only enrolled.
        component: group of models that chains of votes connect, from 0, -1 for a model that is read from its responses
            beside several groups; ratings of different groups cannot be compared. None where all can be.
        beyond: 1 where a model that is read from its responses looks better than every known one, -1 where it looks
            worse, 0 otherwise; None where nothing was read from responses.
        group: models that cannot be told apart share one, see `group_ratings`; None where that is not known.
    """

    models: tuple[str, ...]
    rating: Float64Array
    low: Float64Array
    high: Float64Array
    votes: Int64Array
    component: Int64Array | None = None
    group: Int64Array | None = None
    beyond: Int64Array | None = None

    def on(self, scale: RatingScale) -> Ratings:
        """The same on another scale than log-odds."""
        rating, low, high = (scale.place(column) for column in (self.rating, self.low, self.high))
        return replace(self, rating=rating, low=low, high=high)


@dataclass(frozen=True)
class RatingScale:
    """Scale that ratings are shown on.

    Attributes:
        name: "elo", where 400 points are odds of 10 to 1, or "log-odds".
        origin: value of a rating of 0 log-odds on the scale.
        unit: length of 1 log-odds on the scale.
    """

    name: ScaleName = "log-odds"
    origin: float = 0.0
    unit: float = 1.0

    @classmethod
    def of(cls, name: ScaleName, elo: float) -> RatingScale:
        """The scale of a name, on which 0 log-odds is that Elo, or 0.

        Raises:
            UsageError: there is no such scale.
        """
        if name == "log-odds":
            return cls()
        if name != "elo":
            raise UsageError(f"scale {name!r}: unknown. Allowed: 'elo', 'log-odds'")
        return cls(name, elo, ELO_PER_LOG_ODDS)

    def place(self, rating: Float64Array) -> Float64Array:
        """Ratings on the scale, from log-odds; any shape."""
        placed: Float64Array = self.origin + self.unit * rating
        return placed


@dataclass(frozen=True)
class RankedModel:
    """A rating with its 95 % interval, as `rank` returns it; `votes` is 0 for a model that was only enrolled.

    Attributes:
        component: group of models that chains of votes connect, from 0; ratings of different groups cannot be compared.
            None for a model that was only enrolled, where there are several groups.
        group: number from 1, the best first; no two models of a group can be told apart.
        beyond: 1 where the model has no votes and its responses look better than those of every known model, -1 where
            they look worse, 0 otherwise. Its interval is wider, since nothing is known of what lies there.
    """

    model: str
    rating: float
    low: float
    high: float
    votes: int
    component: int | None = 0
    group: int | None = None
    beyond: int = 0


@dataclass(frozen=True, eq=False)
class Agreement:
    """Agreement of some models' responses with those of peers: each response gives weights over the peers' ratings.

    Attributes:
        peers: names of the models whose ratings are weighted, [n_peers].
        owner: model of each response, as a row of the `ModelTable`, int64, [n_responses].
        weights: weights of the peers by each view of a response, CSR, float32, [n_responses, n_peers]; a row is empty
            where no peer has answered the prompt.
        means: equal weights of the peers that have answered the prompt, with sum 1, likewise.
        keys: key of the prompt of each response, [n_responses]; None where it is not known.
    """

    peers: tuple[str, ...]
    owner: Int64Array
    weights: tuple[sparse.csr_matrix, ...]
    means: sparse.csr_matrix
    keys: UInt64Array | None = None

    @property
    def is_shared(self) -> BoolArray:
        """True for each response with peers, [n_responses]."""
        shared: BoolArray = sum(np.diff(each.indptr) for each in self.weights) > 0
        return shared

    def ratings(self, rating: Float64Array) -> Float64Array:
        """Weighted rating of the peers of each response, less their mean, by view, from ratings [n_peers].

        Returns:
            [n_responses, n_views].
        """
        return np.stack([each @ rating for each in self.weights], axis=1)

    def of_responses(self, rows: Int64Array) -> Agreement:
        """The agreement of these responses alone, in this order."""
        keys = None if self.keys is None else self.keys[rows]
        weights = tuple(each[rows] for each in self.weights)
        return Agreement(self.peers, self.owner[rows], weights, self.means[rows], keys)

    def select(self, rows: Int64Array) -> Agreement:
        """The agreement of these models alone, in this order, each at most once."""
        place = _new_places(self.owner, rows)
        kept = self.of_responses(np.flatnonzero(place[self.owner] >= 0))
        return Agreement(kept.peers, place[kept.owner], kept.weights, kept.means, kept.keys)


@dataclass(frozen=True, eq=False)
class ModelAnswers:
    """Features of some responses of each model.

    Attributes:
        names: names of the features, [n_features].
        owner: model of each response, as a row of the `ModelTable`, int64, [n_responses].
        values: features, float32, [n_responses, n_features].
    """

    names: tuple[str, ...]
    owner: Int64Array
    values: Float32Array

    def of_responses(self, rows: Int64Array) -> ModelAnswers:
        """These responses alone, in this order."""
        return ModelAnswers(self.names, self.owner[rows], self.values[rows])

    def select(self, rows: Int64Array) -> ModelAnswers:
        """The responses of these models alone, the models in this order, each at most once."""
        place = _new_places(self.owner, rows)
        kept = self.of_responses(np.flatnonzero(place[self.owner] >= 0))
        return ModelAnswers(kept.names, place[kept.owner], kept.values)


@dataclass(frozen=True, eq=False)
class ModelTable:
    """Frozen embeddings of models, one row each.

    Attributes:
        names: model names, [n_models].
        embedding: one row per model, float32, [n_models, dim].
        count: responses behind each row, [n_models]: an embedding of few responses is a noisy one.
        spread: root mean square distance of a model's responses from its row, float32, [n_models].
        agreement: agreement of their responses with those of models with votes; None where it is not known.
        answers: features of their responses; None where they are not known.
    """

    names: tuple[str, ...]
    embedding: Float32Array
    count: Int64Array
    spread: Float32Array
    agreement: Agreement | None = None
    answers: ModelAnswers | None = None

    def select(self, rows: Int64Array) -> ModelTable:
        """These rows alone, in this order."""
        return ModelTable(
            tuple(self.names[row] for row in rows),
            self.embedding[rows],
            self.count[rows],
            self.spread[rows],
            None if self.agreement is None else self.agreement.select(rows),
            None if self.answers is None else self.answers.select(rows),
        )


@dataclass(frozen=True)
class ScoringEpochLog:
    """Figures of one epoch of stage 2.

    Attributes:
        epoch: number of the epoch; 0 is before the first step, when the network gives what its offset gives.
        train_loss: mean loss per training vote over the epoch's steps, penalties left out; NaN before the first.
        validation_loss: log loss over the four outcomes per held-out vote.
        accuracy: share of decided held-out votes whose winner is likelier; NaN where there are none.
        seconds: wall time; 0 where it is not known.
    """

    epoch: int
    train_loss: float
    validation_loss: float
    accuracy: float
    seconds: float

    def to_json(self) -> dict[str, Any]:
        """JSON values; null for NaN, which JSON does not have."""
        return {name: None if value != value else value for name, value in asdict(self).items()}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> ScoringEpochLog:
        """The inverse of `to_json`."""
        known: dict[str, Any] = {name: math.nan if value is None else value for name, value in values.items()}
        return cls(**known)


def _new_places(owner: Int64Array, rows: Int64Array) -> Int64Array:
    """The place that each model gets when these are selected, -1 for the others."""
    place = np.full(max(int(owner.max(initial=-1)), int(rows.max(initial=-1))) + 1, -1, dtype=np.int64)
    place[rows] = np.arange(len(rows))
    return place
