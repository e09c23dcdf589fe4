"""What models have in common that are one rating per model, whatever the prompt."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt

from model_behavior.data_models.scoring_types import FloatArray, Ratings, WideArray
from model_behavior.errors import ArtifactError
from model_behavior.models.scoring.model_base import (
    ModelBase,
    check_state,
    locate_models,
    locate_sides,
    pack_state,
    predict_from_ratings,
    rate_with_interval,
    rate_without_interval,
)
from model_behavior.models.scoring.outcomes import OutcomeConstants


class RatingsBase(ModelBase):
    """A subclass fits; prediction, ratings and saving are here.

    Attributes:
        constants: of the outcome likelihood.
        rating: log-odds, centred, [n_models].
        votes: of each model, [n_models].
    """

    tensors: ClassVar[tuple[str, ...]] = ("rating", "votes")
    """Attributes that are arrays and are saved."""

    def __init__(self) -> None:
        self.constants = OutcomeConstants()
        self.rating: WideArray = np.zeros(0)
        self.votes: npt.NDArray[np.int64] = np.zeros(0, np.int64)
        self._models: tuple[str, ...] = ()

    @property
    def models(self) -> tuple[str, ...]:
        """Names, sorted."""
        return self._models

    def predict(self, prompts: Sequence[str], models_a: Sequence[str], models_b: Sequence[str]) -> FloatArray:
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

    def _deviation(self) -> WideArray | None:
        """Standard deviations of the ratings, [n_models]; None where they are not known."""
        return None

    @abstractmethod
    def _config_values(self) -> dict[str, Any]:
        """JSON values from which `_from_config` makes the model again."""

    @classmethod
    @abstractmethod
    def _from_config(cls, values: Mapping[str, Any]) -> Self:
        """A model that is not fitted."""
