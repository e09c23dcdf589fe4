"""Bradley-Terry ratings with ties and both_bad, and the base of all models that are one rating per model.

The likelihood of an outcome is in `outcomes`, its maximum in `score_fit`. The ratings are fitted to votes summed by
pair of models, their covariance, which is clustered by prompt, to votes one by one.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, ClassVar, Self, final

import numpy as np
from scipy import sparse
from scipy.sparse import csgraph

from model_behavior.arrays import Float32Array, Float64Array, Int64Array, IntArray
from model_behavior.data_models.scoring_types import Ratings, ScoringVotes
from model_behavior.data_models.vote_counts import VoteCounts
from model_behavior.data_models.votes import Outcome
from model_behavior.errors import ArtifactError, DataError
from model_behavior.models.scoring.model_base import (
    ModelBase,
    check_state,
    check_votes,
    locate_models,
    locate_sides,
    pack_state,
    predict_from_ratings,
    rate_with_interval,
    rate_without_interval,
)
from model_behavior.models.scoring.outcomes import N_OUTCOMES, OutcomeConstants
from model_behavior.models.scoring.score_fit import (
    Design,
    ScoreFit,
    clustered_covariance,
    clustered_scores,
    covariance_of_scores,
    fit_scores,
)

_CELLS_AT_ONCE = 1 << 19
_DENSE_ENTRIES = 500_000  # of a design summed by pair, up to which it is a dense matrix


class RatingsBase(ModelBase):
    """One rating per model, whatever the prompt. A subclass fits; prediction, ratings and saving are here.

    Attributes:
        constants: constants of the outcome likelihood.
        rating: ratings, log-odds, centred, [n_models].
        votes: number of votes of each model, [n_models].
    """

    tensors: ClassVar[tuple[str, ...]] = ("rating", "votes")
    """Attributes that are arrays and are saved."""

    def __init__(self) -> None:
        self.constants = OutcomeConstants()
        self.rating: Float64Array = np.zeros(0)
        self.votes: Int64Array = np.zeros(0, np.int64)
        self._models: tuple[str, ...] = ()

    @property
    def models(self) -> tuple[str, ...]:
        """Names, sorted."""
        return self._models

    def predict(self, prompts: Sequence[str], models_a: Sequence[str], models_b: Sequence[str]) -> Float32Array:
        """The same for every prompt, and as if all responses had the same style."""
        a, b = locate_sides(prompts, models_a, models_b, self._models)
        return predict_from_ratings(self.rating, self.constants, a, b)

    def rate(self, models: Sequence[str] | None = None, prompt: str | None = None) -> Ratings:
        """Ratings around a mean of 0 over the fitted models, whatever the prompt."""
        names = tuple(self._models if models is None else models)
        rows = locate_models(names, self._models)
        deviation = self._deviation()
        if deviation is None:
            return rate_without_interval(self.rating[rows], self.votes[rows], names)
        return rate_with_interval(self.rating[rows], deviation[rows], self.votes[rows], names)

    def get_state_dict(self) -> dict[str, Any]:
        """See the base."""
        tensors = {name: getattr(self, name) for name in self.tensors}
        return pack_state(self.name, self._config_values(), self._models, self.constants, tensors)

    @classmethod
    def load_state_dict(cls, state_dict: Mapping[str, Any]) -> Self:
        """See the base."""
        check_state(state_dict, cls.name)
        try:
            model = cls._from_config(state_dict["config"])
            model._models, model.constants = tuple(state_dict["models"]), OutcomeConstants(**state_dict["constants"])
            for name in cls.tensors:
                setattr(model, name, state_dict["tensors"][name])
        except (KeyError, TypeError) as error:
            raise ArtifactError(f"incomplete or unknown state of {cls.name!r}: {error}") from error
        return model

    def _deviation(self) -> Float64Array | None:
        """Standard deviations of the ratings, [n_models]; None where they are not known."""
        return None

    @abstractmethod
    def _config_values(self) -> dict[str, Any]:
        """JSON values from which `_from_config` makes the model again."""

    @classmethod
    @abstractmethod
    def _from_config(cls, values: Mapping[str, Any]) -> Self:
        """A model that is not fitted."""


@dataclass(frozen=True)
class BradleyTerryConfig:
    """How ratings are fitted.

    Attributes:
        penalty: precision of the normal prior of each rating around their mean; keeps undefeated models finite.
        learn_slopes: True to learn how ties and both_bad depend on the pair's strength; Davidson's (1/2, 0) if not.
    """

    penalty: float = 0.1
    learn_slopes: bool = True


@final
class BradleyTerry(RatingsBase):
    """Ratings with the greatest posterior probability, and their covariance.

    Args:
        config: prior, and slopes of the outcome likelihood.

    Attributes:
        covariance: covariance of the ratings, clustered by prompt, [n_models, n_models].
        component: group of each model that a chain of votes connects, see `find_components`, [n_models].
    """

    name: ClassVar[str] = "bradley-terry"
    tensors: ClassVar[tuple[str, ...]] = ("rating", "covariance", "votes", "component")

    def __init__(self, config: BradleyTerryConfig | None = None) -> None:
        super().__init__()
        self.config = config if config is not None else BradleyTerryConfig()
        self.covariance: Float64Array = np.zeros((0, 0))
        self.component: Int64Array = np.zeros(0, np.int64)

    @classmethod
    def of_ratings(
        cls,
        models: tuple[str, ...],
        rating: Float64Array,
        covariance: Float64Array,
        votes: Int64Array,
        constants: OutcomeConstants,
    ) -> Self:
        """Ratings that are known already, on one scale.

        Args:
            models: names, sorted, [n_models].
            rating: ratings, log-odds, centred, [n_models].
            covariance: [n_models, n_models].
            votes: votes behind each, 0 where none is known, [n_models].
            constants: constants of the outcome likelihood.
        """
        model = cls()
        model._models, model.rating, model.covariance, model.votes = models, rating, covariance, votes
        model.constants, model.component = constants, np.zeros(len(models), np.int64)
        return model

    @property
    def level(self) -> Float64Array:
        """Mean of the ratings of each component, [n_components]; 0 where there is one component.

        Nothing is known of how one component's level compares with another's, so `rate` leaves it out.
        """
        n_models = np.bincount(self.component)
        level: Float64Array = np.bincount(self.component, self.rating) / n_models
        return level if len(level) > 1 else np.zeros(1)

    @property
    def level_variance(self) -> float:
        """Variance of a component's level: two levels differ as the prior lets a rating differ from the mean."""
        return 0.5 / self.config.penalty

    @property
    def mixed_level_variance(self) -> float:
        """Mean variance of the difference of a rated model's level from the mean level of all; 0 of one component.

        A model of the component with the share w differs from the mean by level_variance ((1 - w)² + the sum of the
        other squared shares), which is level_variance (1 - the sum of all squared shares) on average over models.
        """
        shares = np.bincount(self.component) / max(len(self.component), 1)
        return self.level_variance * float(1 - np.square(shares).sum())

    def fit(self, votes: ScoringVotes, progress: Callable[[int, int], None] | None = None) -> None:
        """Fits ratings."""
        check_votes(votes)
        n_models = len(votes.models)
        design = aggregated_design(votes, self.config.penalty)
        fit = fit_scores(design, learn_slopes=self.config.learn_slopes)
        component = find_components(votes)
        together = component[:, None] == component
        centring = np.eye(n_models) - together / together.sum(axis=1)
        one_by_one = vote_design(votes, self.config.penalty)
        self._models, self.constants = votes.models, fit.constants
        self.rating = fit.theta - fit.theta.mean()
        self.constants = centred_constants(fit.constants, float(fit.theta.mean()))
        self.covariance = clustered_covariance(one_by_one, fit, votes.prompt_index, centring)
        self.votes, self.component = count_votes(votes), component

    def fit_counts(self, counts: VoteCounts) -> None:
        """Fits ratings to votes that are summed already: the same as `fit`, in memory that the prompts alone take.

        Raises:
            DataError: no votes.
        """
        if not len(counts.cell):
            raise DataError("there are no votes to rate models by. Fix: give at least one")
        n_models = len(counts.models)
        cells = np.bincount(counts.cell, counts.count, minlength=n_models**2 * N_OUTCOMES).reshape(-1, N_OUTCOMES)
        pairs = np.flatnonzero(cells.any(axis=1))
        low, high = np.divmod(pairs, n_models)
        design = Design(
            _one_hot(low, n_models, dense=True),
            _one_hot(high, n_models, dense=True),
            cells[pairs].astype(np.float64),
            np.full(n_models, self.config.penalty),
        )
        fit = fit_scores(design, learn_slopes=self.config.learn_slopes)
        component = _label_components(low, high, n_models)
        together = component[:, None] == component
        centring = np.eye(n_models) - together / together.sum(axis=1)
        self._models = counts.models
        self.rating = fit.theta - fit.theta.mean()
        self.constants = centred_constants(fit.constants, float(fit.theta.mean()))
        self.covariance = covariance_of_scores(fit, *_scores_of_counts(counts, fit, self.config.penalty), centring)
        per_pair = cells[pairs].sum(axis=1)
        self.votes = (np.bincount(low, per_pair, n_models) + np.bincount(high, per_pair, n_models)).astype(np.int64)
        self.component = component

    def rate(self, models: Sequence[str] | None = None, prompt: str | None = None) -> Ratings:
        """Ratings around a mean of 0 over the models of the same component, whatever the prompt."""
        rated = super().rate(models, prompt)
        component = self.component[locate_models(rated.models, self._models)]
        level = self.level[component]
        return replace(
            rated, rating=rated.rating - level, low=rated.low - level, high=rated.high - level, component=component
        )

    @classmethod
    def load_state_dict(cls, state_dict: Mapping[str, Any]) -> Self:
        """See the base; version 2 does not tell components apart."""
        if state_dict.get("state_version") == 2 and "models" in state_dict:
            one = np.zeros(len(state_dict["models"]), np.int64)
            state_dict = {**state_dict, "tensors": {**state_dict["tensors"], "component": one}}
        return super().load_state_dict(state_dict)

    def _deviation(self) -> Float64Array:
        deviation: Float64Array = np.sqrt(np.diag(self.covariance))
        return deviation

    def _config_values(self) -> dict[str, Any]:
        return asdict(self.config)

    @classmethod
    def _from_config(cls, values: Mapping[str, Any]) -> Self:
        return cls(BradleyTerryConfig(**values))


def find_components(votes: ScoringVotes) -> Int64Array:
    """Groups of models that chains of votes connect, whatever their outcomes, [n_models].

    Numbered from 0, the group with the most models first; of equally large ones the one with the first name.
    """
    return _label_components(votes.model_a, votes.model_b, len(votes.models))


def _label_components(a: IntArray, b: IntArray, n_models: int) -> Int64Array:
    edges = sparse.csr_matrix((np.ones(len(a)), (a, b)), (n_models, n_models))
    _, label = csgraph.connected_components(edges, directed=False)
    first = np.unique(label, return_index=True)[1]
    order = np.lexsort((first, -np.bincount(label)))
    component: Int64Array = np.argsort(order)[label]
    return component


def _scores_of_counts(counts: VoteCounts, fit: ScoreFit, penalty: float) -> tuple[Float64Array, int]:
    """`clustered_scores` of all cells, some prompts at a time."""
    n_models, n_cells = len(counts.models), len(counts.cell)
    total, n_clusters, start = np.zeros((n_models + 2, n_models + 2)), 0, 0
    first = np.flatnonzero(np.append(True, counts.prompt[1:] != counts.prompt[:-1]))
    while start < n_cells:
        later = np.searchsorted(first, start + _CELLS_AT_ONCE)
        stop = int(first[later]) if later < len(first) else n_cells
        part = VoteCounts(counts.models, counts.prompt[start:stop], counts.cell[start:stop], counts.count[start:stop])
        low, high, outcome = part.sides
        design = Design(
            _one_hot(low, n_models),
            _one_hot(high, n_models),
            np.eye(N_OUTCOMES)[outcome] * part.count[:, None].astype(np.float64),
            np.full(n_models, penalty),
        )
        scores, n = clustered_scores(design, fit, np.cumsum(np.append(True, part.prompt[1:] != part.prompt[:-1])) - 1)
        total, n_clusters, start = total + scores, n_clusters + n, stop
    return total, n_clusters


def vote_design(votes: ScoringVotes, penalty: float) -> Design:
    """One row per vote, one parameter per model."""
    n_models = len(votes.models)
    return Design(
        _one_hot(votes.model_a, n_models),
        _one_hot(votes.model_b, n_models),
        np.eye(N_OUTCOMES)[votes.outcome],
        np.full(n_models, penalty),
    )


def aggregated_design(votes: ScoringVotes, penalty: float, weight: Float64Array | None = None) -> Design:
    """One row per pair of models, with the votes (or their weights) of each outcome.

    Args:
        votes: votes on any prompts.
        penalty: penalty, as in `BradleyTerryConfig`.
        weight: weight of each vote, 1 by default, [n_votes].
    """
    n_models = len(votes.models)
    swapped = votes.model_a > votes.model_b
    low, high = np.minimum(votes.model_a, votes.model_b), np.maximum(votes.model_a, votes.model_b)
    outcome = np.where(swapped & (votes.outcome <= Outcome.MODEL_B), 1 - votes.outcome, votes.outcome)
    pairs, row = np.unique(low.astype(np.int64) * n_models + high, return_inverse=True)
    sums = np.bincount(row * N_OUTCOMES + outcome, weights=weight, minlength=len(pairs) * N_OUTCOMES)
    return Design(
        _one_hot(pairs // n_models, n_models, dense=True),
        _one_hot(pairs % n_models, n_models, dense=True),
        sums.reshape(-1, N_OUTCOMES).astype(np.float64),
        np.full(n_models, penalty),
    )


def count_votes(votes: ScoringVotes) -> Int64Array:
    """Votes that each model took part in, [n_models]."""
    sides = np.concatenate([votes.model_a, votes.model_b])
    return np.bincount(sides, minlength=len(votes.models)).astype(np.int64)


def centred_constants(constants: OutcomeConstants, shift: float) -> OutcomeConstants:
    """The constants that give the same probabilities once `shift` is taken from every score."""
    return OutcomeConstants(
        constants.tie_slope,
        constants.bad_slope,
        constants.tie + (2 * constants.tie_slope - 1) * shift,
        constants.both_bad - (2 * constants.bad_slope + 1) * shift,
    )


def refit_with_weights(votes: ScoringVotes, weight: Float64Array, start: ScoreFit, penalty: float) -> ScoreFit:
    """Ratings from weighted votes, with the slopes of an earlier fit."""
    return fit_scores(aggregated_design(votes, penalty, weight), start, learn_slopes=False)


def _one_hot(column: IntArray, n_columns: int, dense: bool = False) -> Any:
    n_rows = len(column)
    if dense and n_rows * n_columns <= _DENSE_ENTRIES:
        return np.eye(n_columns)[column]
    return sparse.csr_matrix((np.ones(n_rows), (np.arange(n_rows), column)), (n_rows, n_columns))
