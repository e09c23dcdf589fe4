"""Bradley-Terry ratings fitted for each prompt, from votes on similar prompts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, ClassVar, Self, final

import numpy as np

from model_behavior.arrays import Float32Array, Float64Array, FloatArray
from model_behavior.data_models.scoring_types import Ratings, ScoringVotes
from model_behavior.errors import ArtifactError
from model_behavior.models.scoring.bradley_terry import aggregated_design, count_votes
from model_behavior.models.scoring.model_base import (
    ModelBase,
    check_state,
    check_votes,
    empty_predictions,
    locate_models,
    locate_sides,
    pack_state,
    rate_without_interval,
)
from model_behavior.models.scoring.outcomes import OutcomeConstants, outcome_logits, softmax
from model_behavior.models.scoring.prompt_features import PromptFeatures, PromptFeaturesConfig
from model_behavior.models.scoring.score_fit import ScoreFit, fit_scores
from model_behavior.preprocessing.cache import ContentCache
from model_behavior.preprocessing.entry_file import inside

_VOTE_COLUMNS = ("prompt_index", "model_a", "model_b", "outcome")


@dataclass(frozen=True)
class NearestPromptsConfig:
    """Settings of the similarity weights.

    Attributes:
        base: weight of the most similar training prompt, relative to an orthogonal one.
        penalty: penalty of the ratings, as in `BradleyTerryConfig`.
        prompts: encoding of prompts as vectors.
    """

    base: float = 10.0
    penalty: float = 0.1
    prompts: PromptFeaturesConfig = field(default_factory=PromptFeaturesConfig)


@final
class NearestPrompts(ModelBase):
    """Similarity-weighted ranking: a vote on prompt q' counts base^(cos(q, q') / max cos(q, .)) for prompt q.

    Ong et al. 2024, "RouteLLM", section 4.2; weights are scaled to a mean of 1, since the ratings have a prior here.

    Args:
        config: settings of the similarity weights.
        cache: cache of prompt features.
    """

    name: ClassVar[str] = "nearest-prompts"

    def __init__(self, config: NearestPromptsConfig | None = None, cache: ContentCache | None = None) -> None:
        self.config = config if config is not None else NearestPromptsConfig()
        self._features = PromptFeatures(self.config.prompts, cache)
        self._votes: ScoringVotes | None = None
        self._directions: Float32Array = np.zeros((0, 0), np.float32)
        self._overall: ScoreFit | None = None

    @property
    def models(self) -> tuple[str, ...]:
        """Names, sorted."""
        return self._votes.models if self._votes is not None else ()

    def fit(self, votes: ScoringVotes, progress: Callable[[int, int], None] | None = None) -> None:
        """Keeps the votes, and fits ratings over all to begin from."""
        check_votes(votes)
        self._features.fit(votes.prompts)
        self._directions = _unit(self._features.transform(votes.prompts))
        self._votes = votes
        self._overall = fit_scores(aggregated_design(votes, self.config.penalty))

    def predict(self, prompts: Sequence[str], models_a: Sequence[str], models_b: Sequence[str]) -> Float32Array:
        """One fit per different prompt."""
        a, b = locate_sides(prompts, models_a, models_b, self.models)
        if not len(prompts):
            return empty_predictions()
        distinct = {prompt: index for index, prompt in enumerate(dict.fromkeys(prompts))}
        row = np.array([distinct[prompt] for prompt in prompts])
        probabilities = np.empty((len(a), 4), dtype=np.float32)
        for index, direction in enumerate(_unit(self._features.transform(list(distinct)))):
            fit, chosen = self._fit_near(direction), np.flatnonzero(row == index)
            logits = outcome_logits(fit.theta[a[chosen]], fit.theta[b[chosen]], fit.constants)
            probabilities[chosen] = softmax(logits)
        return probabilities

    def rate(self, models: Sequence[str] | None = None, prompt: str | None = None) -> Ratings:
        """Ratings without intervals, over all prompts where none is given."""
        names = tuple(self.models if models is None else models)
        rows = locate_models(names, self.models)
        assert self._votes is not None and self._overall is not None
        fit = self._overall if prompt is None else self._fit_near(_unit(self._features.transform([prompt]))[0])
        rating = fit.theta - fit.theta.mean()
        return rate_without_interval(rating[rows], count_votes(self._votes)[rows], names)

    def get_state_dict(self) -> dict[str, Any]:
        """See the base. Prompts are kept as vectors, not as text."""
        locate_models((), self.models)
        assert self._votes is not None and self._overall is not None
        features = self._features.get_state_dict()
        tensors = {f"votes.{name}": getattr(self._votes, name) for name in _VOTE_COLUMNS}
        tensors |= {f"features.{name}": value for name, value in features["tensors"].items()}
        tensors |= {"theta": self._overall.theta, "directions": self._directions}
        state = pack_state(self.name, asdict(self.config), self.models, self._overall.constants, tensors)
        return state | {"encoders": features["encoders"]}

    @classmethod
    def load_state_dict(cls, state_dict: Mapping[str, Any], cache: ContentCache | None = None) -> Self:
        """See the base."""
        check_state(state_dict, cls.name)
        try:
            values, tensors = dict(state_dict["config"]), state_dict["tensors"]
            prompts = PromptFeaturesConfig(**values["prompts"] | {"encoders": tuple(values["prompts"]["encoders"])})
            model = cls(NearestPromptsConfig(**values | {"prompts": prompts}), cache)
            features = {"encoders": state_dict["encoders"], "tensors": inside(tensors, "features.")}
            model._features = PromptFeatures.load_state_dict(features, prompts, cache)
            columns = {name: tensors[f"votes.{name}"] for name in _VOTE_COLUMNS}
            model._directions = tensors["directions"]
            nameless = ("",) * len(model._directions)
            model._votes = ScoringVotes(nameless, tuple(state_dict["models"]), **columns)
            theta, constants = tensors["theta"], OutcomeConstants(**state_dict["constants"])
            model._overall = ScoreFit(theta, constants, np.eye(len(theta) + 2))
        except (KeyError, TypeError) as error:
            raise ArtifactError(f"incomplete or unknown state of {cls.name!r}: {error}") from error
        return model

    def _fit_near(self, direction: Float32Array) -> ScoreFit:
        assert self._votes is not None and self._overall is not None
        weight = similarity_weights(self._directions @ direction, self.config.base)[self._votes.prompt_index]
        design = aggregated_design(self._votes, self.config.penalty, weight / weight.mean())
        return fit_scores(design, self._overall, learn_slopes=False)


def similarity_weights(similarity: FloatArray, base: float) -> Float64Array:
    """base^(similarity / largest similarity), [n]; all 1 where nothing is similar at all."""
    largest = float(similarity.max())
    if largest <= 0:
        return np.ones(len(similarity))
    weights: Float64Array = np.power(base, similarity.astype(np.float64) / largest)
    return weights


def _unit(vectors: Float32Array) -> Float32Array:
    unit: Float32Array = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)
    return unit
