"""Matrix factorisation of models and prompts, as in RouteLLM."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, ClassVar, Self, final

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from model_behavior.arrays import AnyArray, Float32Array, Int64Array, IntArray
from model_behavior.data_models.scoring_types import Ratings, ScoringEpochLog, ScoringVotes
from model_behavior.errors import ArtifactError
from model_behavior.models.scoring.bradley_terry import count_votes
from model_behavior.models.scoring.dense_network import VoteBatch, VoteNetwork, batch_of
from model_behavior.models.scoring.dense_network_training import ScoringSchedule, cross_validate, train_network
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
from model_behavior.models.scoring.outcomes import N_OUTCOMES, PSEUDO_COUNT, OutcomeConstants
from model_behavior.models.scoring.prompt_features import PromptFeatures, PromptFeaturesConfig
from model_behavior.preprocessing.cache import ContentCache


@dataclass(frozen=True)
class MatrixFactorisationConfig:
    """Size and training.

    Attributes:
        dim: dimension of the space in which models and prompts meet.
        penalty: precision of the normal priors, per vote on the average prompt.
        prompts: encoding of prompts as vectors.
        schedule: schedule of training.
    """

    dim: int = 32
    penalty: float = 0.02
    prompts: PromptFeaturesConfig = field(default_factory=PromptFeaturesConfig)
    schedule: ScoringSchedule = field(default_factory=ScoringSchedule)


@final
class FactorNetwork(VoteNetwork):
    """score(p, m) = w . (v_m * (A x_p + c)), Ong et al. 2024, "RouteLLM", equation 6, with its unit vectors v_m.

    Args:
        prompt_dim: size of x.
        n_models: number of vectors v.
        config: size and prior.
    """

    def __init__(self, prompt_dim: int, n_models: int, config: MatrixFactorisationConfig) -> None:
        super().__init__()
        self.precision = config.penalty
        self.models = nn.Embedding(n_models, config.dim)
        self.prompts = nn.Linear(prompt_dim, config.dim)
        self.weight = nn.Parameter(torch.randn(config.dim) / config.dim**0.5)
        self.slopes = nn.Parameter(torch.tensor([0.5, 0.0]))
        self.levels = nn.Parameter(torch.zeros(2))

    def start_at(self, counts: IntArray) -> None:
        """Sets the levels of tie and both_bad to what they would be among equal models, from votes by outcome, [4]."""
        smooth = counts + PSEUDO_COUNT
        levels = np.log(smooth[2:] / (smooth[:2].sum() / 2))
        self.levels.data = torch.tensor(levels, dtype=torch.float32)

    def score(self, prompt: Tensor, model: Tensor) -> Tensor:
        """[n], from features [n, prompt_dim] and model indices [n]."""
        scores: Tensor = (functional.normalize(self.models(model), dim=-1) * self.prompts(prompt)) @ self.weight
        return scores

    def forward(self, batch: VoteBatch) -> tuple[Tensor, Tensor]:
        """Logits of the outcomes, [n, 4], and the lead of the left side, [n]."""
        a, b = self.score(batch.prompt, batch.model_a), self.score(batch.prompt, batch.model_b)
        tie, bad = self.slopes[0] * (a + b) + self.levels[0], -self.slopes[1] * (a + b) + self.levels[1]
        return torch.stack([a, b, tie, bad], dim=1), a - b

    def penalty(self) -> Tensor:
        """Normal priors of the weights."""
        return self.precision * (self.prompts.weight.square().sum() + self.weight.square().sum()) / 2


@final
class MatrixFactorisation(ModelBase):
    """A learned vector per model meets the projected prompt.

    Args:
        config: size and training.
        cache: cache of prompt features.

    Attributes:
        history: one log per epoch.
        votes: number of votes of each model, [n_models].
    """

    name: ClassVar[str] = "matrix-factorisation"

    def __init__(self, config: MatrixFactorisationConfig | None = None, cache: ContentCache | None = None) -> None:
        self.config = config if config is not None else MatrixFactorisationConfig()
        self.history: list[ScoringEpochLog] = []
        self.votes: Int64Array = np.zeros(0, np.int64)
        self._features = PromptFeatures(self.config.prompts, cache)
        self._network: FactorNetwork | None = None
        self._models: tuple[str, ...] = ()

    @property
    def models(self) -> tuple[str, ...]:
        """Names, sorted."""
        return self._models

    def fit(self, votes: ScoringVotes, progress: Callable[[int, int], None] | None = None) -> None:
        """Trains by Adam for as many epochs as cross-validation over prompts finds best."""
        check_votes(votes)
        self._features.fit(votes.prompts)
        batch = batch_of(votes, self._features)
        held = cross_validate(self._build, votes, batch, self.config.schedule, progress)
        network = self._build(votes)
        train_network(network, batch, self.config.schedule, held.best)
        self.history = list(held.history)
        self._network, self._models, self.votes = network, votes.models, count_votes(votes)

    def _build(self, votes: ScoringVotes) -> FactorNetwork:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.config.schedule.seed)
            network = FactorNetwork(self._features.dim, len(votes.models), self.config)
        network.start_at(np.bincount(votes.outcome, minlength=N_OUTCOMES))
        return network

    @torch.no_grad()
    def predict(self, prompts: Sequence[str], models_a: Sequence[str], models_b: Sequence[str]) -> Float32Array:
        """See the base."""
        a, b = locate_sides(prompts, models_a, models_b, self._models)
        if not len(prompts):
            return empty_predictions()
        assert self._network is not None
        features = torch.from_numpy(self._features.transform(prompts))
        sides = [torch.from_numpy(side) for side in (a, b)]
        unknown = torch.zeros(len(a), dtype=torch.int64)
        logits, _ = self._network(VoteBatch(features, sides[0], sides[1], unknown, torch.arange(len(features)), 1))
        probabilities: Float32Array = torch.softmax(logits, dim=1).numpy()
        return probabilities

    @torch.no_grad()
    def rate(self, models: Sequence[str] | None = None, prompt: str | None = None) -> Ratings:
        """Scores without intervals, on the mean training prompt where none is given."""
        names = tuple(self._models if models is None else models)
        rows = locate_models(names, self._models)
        assert self._network is not None
        features = (
            np.zeros((1, self._features.dim), np.float32) if prompt is None else self._features.transform([prompt])
        )
        every = torch.arange(len(self._models))
        score = self._network.score(torch.from_numpy(features), every).numpy().astype(np.float64)
        return rate_without_interval((score - score.mean())[rows], self.votes[rows], names)

    def get_state_dict(self) -> dict[str, Any]:
        """See the base."""
        locate_models((), self._models)
        assert self._network is not None
        features = self._features.get_state_dict()
        tensors = {f"network.{name}": value.numpy() for name, value in self._network.state_dict().items()}
        tensors |= {f"features.{name}": value for name, value in features["tensors"].items()} | {"votes": self.votes}
        state = pack_state(self.name, asdict(self.config), self._models, OutcomeConstants(), tensors)
        return state | {"encoders": features["encoders"], "history": [log.to_json() for log in self.history]}

    @classmethod
    def load_state_dict(cls, state_dict: Mapping[str, Any], cache: ContentCache | None = None) -> Self:
        """See the base."""
        check_state(state_dict, cls.name)
        try:
            values = dict(state_dict["config"])
            prompts = PromptFeaturesConfig(**values["prompts"] | {"encoders": tuple(values["prompts"]["encoders"])})
            values |= {"prompts": prompts, "schedule": ScoringSchedule(**values["schedule"])}
            model = cls(MatrixFactorisationConfig(**values), cache)
            parts = _split(state_dict["tensors"])
            features = {"encoders": state_dict["encoders"], "tensors": parts["features"]}
            model._features = PromptFeatures.load_state_dict(features, prompts, cache)
            model._models, model.votes = tuple(state_dict["models"]), state_dict["tensors"]["votes"]
            model._network = FactorNetwork(model._features.dim, len(model._models), model.config)
            model._network.load_state_dict({name: torch.tensor(value) for name, value in parts["network"].items()})
            model.history = [ScoringEpochLog.from_json(log) for log in state_dict["history"]]
        except (KeyError, TypeError, RuntimeError) as error:
            raise ArtifactError(f"incomplete or unknown state of {cls.name!r}: {error}") from error
        return model


def _split(tensors: Mapping[str, AnyArray]) -> dict[str, dict[str, AnyArray]]:
    parts: dict[str, dict[str, AnyArray]] = {"features": {}, "network": {}}
    for key, value in tensors.items():
        part, _, name = key.partition(".")
        if part in parts:
            parts[part][name] = value
    return parts
