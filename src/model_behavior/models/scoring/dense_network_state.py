"""What is saved of a dense network model, as JSON values and arrays, and read again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from model_behavior.data_models.scoring_types import ScoringEpochLog
from model_behavior.models.scoring.bradley_terry import BradleyTerry
from model_behavior.models.scoring.calibration import Temperature
from model_behavior.models.scoring.category_rating import (
    CategoryRating,
    CategoryReading,
    PromptKinds,
    categories_from_state,
    categories_to_state,
)
from model_behavior.models.scoring.dense_network_config import DenseNetworkConfig
from model_behavior.models.scoring.prompt_features import PromptFeatures
from model_behavior.models.scoring.published_ratings import Published
from model_behavior.models.scoring.rating_reader import RatingReader, RatingReading
from model_behavior.models.scoring.score_board import ScoreBoard, board_from_state, board_to_state
from model_behavior.preprocessing.cache import ContentCache
from model_behavior.preprocessing.entry_file import inside


@dataclass(frozen=True, eq=False)
class DenseNetworkState:
    """Everything that a fitted model needs but the embeddings that it was fitted on.

    Attributes:
        config: every choice of stage 2.
        board: scores of the trained network.
        ratings: Bradley-Terry ratings of the voted models.
        features: features of prompts.
        reader: reader of ratings from behaviour; None where behaviour is not used.
        enrolled: readings of the models without votes.
        kinds: categories of prompts; None where they are not known.
        suits: reading of each category.
        suited: readings of the models without votes by category.
        temperature: temperature of the probabilities.
        history: one log per epoch of the cross-validation.
        notes: cautions about the votes.
        published: published ratings, and what was learned from them; None without.
    """

    config: DenseNetworkConfig
    board: ScoreBoard
    ratings: BradleyTerry
    features: PromptFeatures
    reader: RatingReader | None
    enrolled: Mapping[str, RatingReading]
    kinds: PromptKinds | None
    suits: Mapping[str, CategoryRating]
    suited: Mapping[str, dict[str, CategoryReading]]
    temperature: Temperature
    history: Sequence[ScoringEpochLog]
    notes: tuple[str, ...]
    published: Published | None

    def to_json(self) -> dict[str, Any]:
        """JSON values, and arrays under "tensors"."""
        parts: dict[str, dict[str, Any]] = {
            "board": board_to_state(self.board),
            "ratings": self.ratings.get_state_dict(),
            "features": self.features.get_state_dict(),
        }
        if self.reader is not None:
            parts["reader"] = self.reader.get_state_dict()
        if self.kinds is not None:
            parts["categories"] = categories_to_state(self.suits, self.kinds)
        tensors = {f"{name}.{key}": value for name, part in parts.items() for key, value in part.pop("tensors").items()}
        return {
            "config": self.config.to_json(),
            "parts": parts,
            "enrolled": {name: reading.to_json() for name, reading in self.enrolled.items()},
            "suited": {
                name: {category: dict(vars(each)) for category, each in found.items()}
                for name, found in self.suited.items()
                if found
            },
            "temperature": self.temperature.value,
            "history": [log.to_json() for log in self.history],
            "notes": list(self.notes),
            "published": None if self.published is None else self.published.to_json(),
            "tensors": tensors,
        }

    @classmethod
    def from_json(cls, state: Mapping[str, Any], cache: ContentCache | None) -> Self:
        """The inverse of `to_json`; `cache` is that of the prompts' features.

        Raises:
            KeyError, TypeError, ValueError, UsageError: the state is incomplete, or of other settings.
        """
        config = DenseNetworkConfig.from_json(state["config"])
        parts = _with_tensors(state)
        suits, kinds = categories_from_state(parts["categories"]) if "categories" in parts else ({}, None)
        published = state.get("published")
        return cls(
            config=config,
            board=board_from_state(parts["board"]),
            ratings=BradleyTerry.load_state_dict(parts["ratings"]),
            features=PromptFeatures.load_state_dict(parts["features"], config.prompts, cache),
            reader=RatingReader.load_state_dict(parts["reader"], config.reader) if "reader" in parts else None,
            enrolled={name: RatingReading.from_json(reading) for name, reading in state["enrolled"].items()},
            kinds=kinds,
            suits=suits,
            suited={
                name: {category: CategoryReading(**each) for category, each in found.items()}
                for name, found in state.get("suited", {}).items()
            },
            temperature=Temperature(state["temperature"]),
            history=[ScoringEpochLog.from_json(log) for log in state["history"]],
            notes=tuple(state.get("notes", ())),
            published=None if published is None else Published.from_json(published),
        )


def _with_tensors(state: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    tensors = state["tensors"]
    return {name: {**part, "tensors": inside(tensors, f"{name}.")} for name, part in state["parts"].items()}
