"""Embeddings of LLMs from what they answer, learned from pairwise votes.

from model_behavior import ModelBehaviorEncoder, ValidationSplit, load_votes

votes, report = load_votes("votes.parquet")
encoder = ModelBehaviorEncoder()
encoder.train(votes, ValidationSplit(fraction=0.1, seed=0), epochs=10, batch_size=512)
embedding = encoder.compute_model_embedding(prompts, responses, batch_size=512)
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from model_behavior.data.loading import load_responses, load_votes
    from model_behavior.data_models.votes import Outcome, PairTable, TrainingData, ValidationSplit
    from model_behavior.errors import ModelBehaviorError
    from model_behavior.models.behavior.model_behavior_encoder import ModelBehaviorEncoder

__all__ = [
    "ModelBehaviorEncoder",
    "ModelBehaviorError",
    "Outcome",
    "PairTable",
    "TrainingData",
    "ValidationSplit",
    "load_responses",
    "load_votes",
]

# Loaded when first asked for: the command line has settings to make before torch is there (`cli/entry.py`).
_HOMES = {
    "ModelBehaviorEncoder": "models.behavior.model_behavior_encoder",
    "ModelBehaviorError": "errors",
    "Outcome": "data_models.votes",
    "PairTable": "data_models.votes",
    "TrainingData": "data_models.votes",
    "ValidationSplit": "data_models.votes",
    "load_responses": "data.loading",
    "load_votes": "data.loading",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
