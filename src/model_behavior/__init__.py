"""Embeddings of LLMs from what they answer, learned from pairwise votes.

from model_behavior import Artifact, train

arena = train("votes.parquet")
arena = arena.onboard("new_model.jsonl", model="new-model")
arena.rank()
arena.save("arena")
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from model_behavior.artifact import Artifact
    from model_behavior.data.loading import load_responses, load_votes
    from model_behavior.data.sources import Source
    from model_behavior.data_models.votes import Outcome, PairTable, TrainingData, ValidationSplit
    from model_behavior.errors import ModelBehaviorError
    from model_behavior.models.behavior.model_behavior_encoder import ModelBehaviorEncoder
    from model_behavior.models.behavior.monitor import Runtime
    from model_behavior.pipeline import TrainingConfig, train, train_encoder, train_scorer

__all__ = [
    "Artifact",
    "ModelBehaviorEncoder",
    "ModelBehaviorError",
    "Outcome",
    "PairTable",
    "Runtime",
    "Source",
    "TrainingConfig",
    "TrainingData",
    "ValidationSplit",
    "load_responses",
    "load_votes",
    "train",
    "train_encoder",
    "train_scorer",
]

# Loaded when first asked for: the command line has settings to make before torch is there (`cli/entry.py`).
_HOMES = {
    "Artifact": "artifact",
    "ModelBehaviorEncoder": "models.behavior.model_behavior_encoder",
    "ModelBehaviorError": "errors",
    "Outcome": "data_models.votes",
    "PairTable": "data_models.votes",
    "Runtime": "models.behavior.monitor",
    "Source": "data.sources",
    "TrainingConfig": "pipeline",
    "TrainingData": "data_models.votes",
    "ValidationSplit": "data_models.votes",
    "load_responses": "data.loading",
    "load_votes": "data.loading",
    "train": "pipeline",
    "train_encoder": "pipeline",
    "train_scorer": "pipeline",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
