"""Bradley-Terry ratings with the style of the responses held constant."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, ClassVar, Self, final

import numpy as np
import numpy.typing as npt
from scipy import sparse

from model_behavior.data_models.scoring_types import STYLE_COLUMNS, FloatArray, Ratings, ScoringVotes, WideArray
from model_behavior.errors import ArtifactError
from model_behavior.models.scoring.bradley_terry import (
    BradleyTerryConfig,
    centred_constants,
    count_votes,
    vote_design,
)
from model_behavior.models.scoring.model_base import (
    ModelBase,
    check_state,
    check_votes,
    locate_models,
    locate_sides,
    pack_state,
    predict_from_ratings,
    rate_with_interval,
)
from model_behavior.models.scoring.outcomes import OutcomeConstants
from model_behavior.models.scoring.score_fit import Design, clustered_covariance, fit_scores


@dataclass(frozen=True)
class StyleControlConfig:
    """How it is fitted.

    Attributes:
        ratings: of the ratings.
        style_penalty: precision of the normal prior of each style effect.
    """

    ratings: BradleyTerryConfig = field(default_factory=BradleyTerryConfig)
    style_penalty: float = 0.1


@final
class StyleControl(ModelBase):
    """Bradley-Terry with the relative difference of length and Markdown counts as covariates.

    score_a - score_b = rating_a - rating_b + sum over style columns of effect (x_a - x_b) / (x_a + x_b) / scale, as in
    LMArena's style control (Li, Angelopoulos and Chiang 2024; the package arena-rank). Ratings, not predictions, are
    what it is for: `predict` knows no responses and takes them to be of equal style.

    Attributes:
        effects: log-odds per standard deviation of each of `STYLE_COLUMNS`, [4].
        rating: centred, [n_models].
        covariance: of the ratings, clustered by prompt.
        votes: of each model, [n_models].
        constants: of the outcome likelihood.
    """

    name: ClassVar[str] = "style-control"
    needs_style: ClassVar[bool] = True

    def __init__(self, config: StyleControlConfig | None = None) -> None:
        self.config = config if config is not None else StyleControlConfig()
        self.constants = OutcomeConstants()
        self.effects: WideArray = np.zeros(len(STYLE_COLUMNS))
        self.rating: WideArray = np.zeros(0)
        self.covariance: WideArray = np.zeros((0, 0))
        self.votes: npt.NDArray[np.int64] = np.zeros(0, np.int64)
        self._models: tuple[str, ...] = ()

    @property
    def models(self) -> tuple[str, ...]:
        """Names, sorted."""
        return self._models

    def fit(self, votes: ScoringVotes, progress: Callable[[int, int], None] | None = None) -> None:
        """Fits ratings and effects together."""
        check_votes(votes, needs_style=True)
        n_models = len(votes.models)
        base = vote_design(votes, self.config.ratings.penalty)
        half = sparse.csr_matrix(style_differences(votes) / 2)
        design = Design(
            sparse.hstack([base.side_a, half], format="csr"),
            sparse.hstack([base.side_b, -half], format="csr"),
            base.weight,
            np.concatenate([base.penalty, np.full(half.shape[1], self.config.style_penalty)]),
        )
        fit = fit_scores(design, learn_slopes=self.config.ratings.learn_slopes)
        rating, self.effects = fit.theta[:n_models], fit.theta[n_models:]
        contrast = np.hstack([np.eye(n_models) - 1 / n_models, np.zeros((n_models, half.shape[1]))])
        self.covariance = clustered_covariance(design, fit, votes.prompt_index, contrast)
        self.constants = centred_constants(fit.constants, float(rating.mean()))
        self.rating, self.votes, self._models = rating - rating.mean(), count_votes(votes), votes.models

    def predict(self, prompts: Sequence[str], models_a: Sequence[str], models_b: Sequence[str]) -> FloatArray:
        """As if both responses had the same style."""
        a, b = locate_sides(prompts, models_a, models_b, self._models)
        return predict_from_ratings(self.rating, self.constants, a, b)

    def rate(self, models: Sequence[str] | None = None, prompt: str | None = None) -> Ratings:
        """Ratings around a mean of 0, with intervals clustered by prompt."""
        names = tuple(self._models if models is None else models)
        rows = locate_models(names, self._models)
        deviation = np.sqrt(np.diag(self.covariance)[rows])
        return rate_with_interval(self.rating[rows], deviation, self.votes[rows], names)

    def get_state_dict(self) -> dict[str, Any]:
        """See the base."""
        names = ("effects", "rating", "covariance", "votes")
        tensors = {name: getattr(self, name) for name in names}
        return pack_state(self.name, asdict(self.config), self._models, self.constants, tensors)

    @classmethod
    def load_state_dict(cls, state_dict: Mapping[str, Any]) -> Self:
        """See the base."""
        check_state(state_dict, cls.name)
        try:
            config, tensors = state_dict["config"], state_dict["tensors"]
            model = cls(StyleControlConfig(BradleyTerryConfig(**config["ratings"]), config["style_penalty"]))
            model._models, model.constants = tuple(state_dict["models"]), OutcomeConstants(**state_dict["constants"])
            model.effects, model.rating = tensors["effects"], tensors["rating"]
            model.covariance, model.votes = tensors["covariance"], tensors["votes"]
        except (KeyError, TypeError) as error:
            raise ArtifactError(f"incomplete or unknown state of {cls.name!r}: {error}") from error
        return model


def style_differences(votes: ScoringVotes) -> WideArray:
    """(x_a - x_b) / (x_a + x_b) of each style column, 0 where both are 0, scaled to a deviation of 1, [n, 4]."""
    assert votes.style_a is not None and votes.style_b is not None
    a, b = votes.style_a.astype(np.float64), votes.style_b.astype(np.float64)
    relative = (a - b) / np.maximum(a + b, 1e-9)
    deviation = np.sqrt(np.square(relative).mean(axis=0))
    scaled: WideArray = relative / np.where(deviation > 0, deviation, 1)
    return scaled
