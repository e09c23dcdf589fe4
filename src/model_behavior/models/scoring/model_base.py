"""The interface of everything that says who would win."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, ClassVar, Protocol, Self, final

import numpy as np

from model_behavior.arrays import AnyArray, Float32Array, Float64Array, Int64Array
from model_behavior.data_models.scoring_types import RankedModel, Ratings, ScoringVotes
from model_behavior.errors import ArtifactError, DataError, UsageError, check_version
from model_behavior.models.scoring.outcomes import N_OUTCOMES, OutcomeConstants, outcome_logits, softmax
from model_behavior.names import nearest_models

STATE_VERSION = 4
"""Version of what is saved. Read as well: 3, which lacks the reading of ratings from what votes say about responses,
and 2, which lacks the scorer of the training votes beside the one of all votes, too."""

_READ_VERSIONS = (2, 3, STATE_VERSION)
NORMAL_QUANTILE = 1.959964


class ModelBase(ABC):
    """A model of votes that never sees the responses it predicts on."""

    name: ClassVar[str]
    """In saved states, in the registry and on the command line."""

    needs_style: ClassVar[bool] = False
    """Whether `fit` reads `style_a` and `style_b` of the votes."""

    @property
    @abstractmethod
    def models(self) -> tuple[str, ...]:
        """Names that it can predict for, sorted; empty before `fit`."""

    @abstractmethod
    def fit(self, votes: ScoringVotes, progress: Callable[[int, int], None] | None = None) -> None:
        """Fits to votes, from scratch.

        Args:
            votes: votes to learn from.
            progress: callback of models that take a while, called with (steps done, steps in all).

        Raises:
            DataError: no votes, or none that the model can use.
        """

    @abstractmethod
    def predict(self, prompts: Sequence[str], models_a: Sequence[str], models_b: Sequence[str]) -> Float32Array:
        """Probabilities of model_a, model_b, tie and both_bad, float32, [n_votes, 4]; rows sum to 1.

        Exchanging the two sides exchanges the first two columns.

        Args:
            prompts: [n_votes].
            models_a: names, [n_votes].
            models_b: names, [n_votes].

        Raises:
            UsageError: not fitted, lists of different lengths, or an unknown name.
        """

    @abstractmethod
    def rate(self, models: Sequence[str] | None = None, prompt: str | None = None) -> Ratings:
        """Ratings of models, all by default, in the order given.

        Args:
            models: names.
            prompt: rate on this prompt rather than over all; a model that does not look at prompts ignores it.

        Raises:
            UsageError: not fitted, or an unknown name.
        """

    @abstractmethod
    def get_state_dict(self) -> dict[str, Any]:
        """Everything that `load_state_dict` needs: JSON values, and NumPy arrays under "tensors"."""

    @classmethod
    @abstractmethod
    def load_state_dict(cls, state_dict: Mapping[str, Any]) -> Self:
        """The inverse of `get_state_dict`.

        Raises:
            ArtifactError: a state of another model or version, or an incomplete one.
        """


def locate_models(names: Sequence[str], known: Sequence[str]) -> Int64Array:
    """The place of each name among the known ones, [n].

    Raises:
        UsageError: a name that is not known, or nothing is known yet.
    """
    if not known:
        raise UsageError("this scoring model is not fitted. Fix: call fit(), or load_state_dict() of a fitted one")
    place = {name: index for index, name in enumerate(known)}
    try:
        return np.fromiter((place[name] for name in names), np.int64, len(names))
    except KeyError as error:
        near = ", ".join(nearest_models(known, str(error.args[0])))
        raise UsageError(f"unknown model {error.args[0]!r}. Nearest known names: {near}") from None


def locate_sides(
    prompts: Sequence[str], models_a: Sequence[str], models_b: Sequence[str], known: Sequence[str]
) -> tuple[Int64Array, Int64Array]:
    """The places of both sides' names, after a check that the three lists have one length."""
    if any(isinstance(texts, str) for texts in (prompts, models_a, models_b)):
        raise UsageError("prompts, models_a and models_b are lists of texts, not one text")
    if not len(prompts) == len(models_a) == len(models_b):
        raise UsageError(
            f"{len(prompts)} prompts, {len(models_a)} models_a, {len(models_b)} models_b: "
            "one of each per vote is needed"
        )
    return locate_models(models_a, known), locate_models(models_b, known)


def check_votes(votes: ScoringVotes, needs_style: bool = False) -> None:
    """Refuses votes that nothing can be fitted to.

    Raises:
        DataError: no votes, or none with the style that is needed.
    """
    if not len(votes):
        raise DataError("no votes to fit a scoring model to. Fix: give at least one vote")
    if needs_style and (votes.style_a is None or votes.style_b is None):
        raise DataError("these votes lack the style of their responses. Fix: to_scoring_votes(..., with_style=True)")


def check_state(state_dict: Mapping[str, Any], name: str) -> None:
    """Refuses a state of another model or version.

    Raises:
        ArtifactError: says which one it is.
    """
    if state_dict.get("model") != name:
        raise ArtifactError(
            f"scoring state of model {state_dict.get('model')!r}; {name!r} is read here. Fix: load it with the class "
            "that wrote it"
        )
    found = state_dict.get("state_version")
    if found not in _READ_VERSIONS:
        check_version(f"scoring state of {name!r}:", found, STATE_VERSION)


def pack_state(
    name: str,
    config: Mapping[str, Any],
    models: Sequence[str],
    constants: OutcomeConstants,
    tensors: Mapping[str, AnyArray],
) -> dict[str, Any]:
    """The state of a model that is ratings, constants and arrays."""
    locate_models((), models)
    return {
        "state_version": STATE_VERSION,
        "model": name,
        "config": dict(config),
        "models": list(models),
        "constants": asdict(constants),
        "tensors": {key: np.array(value) for key, value in tensors.items()},
    }


def predict_from_ratings(
    rating: Float64Array, constants: OutcomeConstants, a: Int64Array, b: Int64Array
) -> Float32Array:
    """What ratings say about votes between the models at places `a` and `b`, [n_votes, 4]."""
    return softmax(outcome_logits(rating[a], rating[b], constants)).astype(np.float32)


def rank_best_first(ratings: Ratings) -> list[RankedModel]:
    """Ratings as rows, best first within each component; equal ones by name."""
    component = np.zeros(len(ratings.models), np.int64) if ratings.component is None else ratings.component
    beyond = np.zeros(len(ratings.models), np.int64) if ratings.beyond is None else ratings.beyond
    numbers = (ratings.rating, ratings.low, ratings.high, ratings.votes, component, beyond)
    group = [None] * len(ratings.models) if ratings.group is None else ratings.group.tolist()
    rows = [
        RankedModel(model, rating, low, high, votes, part if part >= 0 else None, apart, outside)
        for model, rating, low, high, votes, part, outside, apart in zip(
            ratings.models, *(column.tolist() for column in numbers), group, strict=True
        )
    ]
    last = int(component.max(initial=0)) + 1
    return sorted(rows, key=lambda row: (last if row.component is None else row.component, -row.rating, row.model))


class CovarianceRows(Protocol):
    """What `group_ratings` reads of a covariance: an array [n_models, n_models], or entries computed when asked."""

    def diagonal(self) -> Float64Array:
        """Variances, [n_models]."""

    def __getitem__(self, place: tuple[int, Int64Array]) -> Float64Array:
        """Covariances of one rating with others, [n_others]."""


@final
@dataclass(frozen=True, eq=False)
class SharedCovariance:
    """Covariance of ratings of which some are correlated as in a known covariance, the others with none.

    Entries are computed when they are asked for: those of 10,000 models would be 800 MB.

    Attributes:
        deviation: standard deviations of the ratings, [n_models].
        place: row of each rating in `known`, -1 for one that is not there, [n_models].
        known: covariance that correlations are read from, [n_known, n_known].
    """

    deviation: Float64Array
    place: Int64Array
    known: Float64Array

    @cached_property
    def _spread(self) -> Float64Array:
        spread: Float64Array = np.sqrt(np.maximum(self.known.diagonal(), 1e-12))
        return spread

    def diagonal(self) -> Float64Array:
        """Variances, [n_models]."""
        return self.deviation * self.deviation

    def __getitem__(self, place: tuple[int, Int64Array]) -> Float64Array:
        """Covariances of one rating with others than itself, [n_others]."""
        row, others = place
        scale = self.deviation[row] * self.deviation[others]
        own, theirs = self.place[row], self.place[others]
        if own < 0:
            return np.zeros(len(others))
        correlation = self.known[own, theirs] / (self._spread[own] * self._spread[theirs])
        covariance: Float64Array = np.where(theirs < 0, 0.0, correlation) * scale
        return covariance


def group_ratings(rating: Float64Array, covariance: CovarianceRows, component: Int64Array) -> Int64Array:
    """Groups of models that cannot be told apart, numbered from 1, the best first, [n_models].

    Within each component, from the best model downwards: a model joins the group above it where it differs from none
    of its members by more than the 95 % interval of the difference, and begins the next group where it does. No two
    models of a group can be told apart; two of neighbouring groups may not be, either.

    Args:
        rating: [n_models].
        covariance: covariance of the ratings, [n_models, n_models].
        component: see `Ratings`, [n_models].
    """
    own = covariance.diagonal()
    group = np.zeros(len(rating), dtype=np.int64)
    number, first = 0, 0
    last = int(component.max(initial=0)) + 1
    order = np.lexsort((-rating, np.where(component < 0, last, component)))
    for place, row in enumerate(order.tolist()):
        members = order[first:place]
        variance = np.maximum(own[row] + own[members] - 2 * covariance[row, members], 0)
        apart = np.abs(rating[row] - rating[members]) >= np.maximum(NORMAL_QUANTILE * np.sqrt(variance), 1e-9)
        if not number or apart.any() or (component[row] != component[members]).any():
            number, first = number + 1, place
        group[row] = number
    return group


def rate_with_interval(
    rating: Float64Array, deviation: Float64Array, votes: Int64Array, names: tuple[str, ...]
) -> Ratings:
    """Ratings with 95 % intervals from their standard deviations, [n_models]; a normal approximation."""
    margin = NORMAL_QUANTILE * deviation
    return Ratings(names, rating, rating - margin, rating + margin, votes)


def rate_without_interval(rating: Float64Array, votes: Int64Array, names: tuple[str, ...]) -> Ratings:
    """Ratings of a model that has no measure of its own uncertainty."""
    return Ratings(names, rating, rating.copy(), rating.copy(), votes)


def empty_predictions() -> Float32Array:
    """What `predict` gives for no votes, [0, 4]."""
    return np.empty((0, N_OUTCOMES), dtype=np.float32)
