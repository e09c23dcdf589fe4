"""Embeddings of LLMs from what they answer, learned from pairwise votes.

from model_behavior import ModelBehaviorEncoder, ValidationSplit, load_votes

votes, report = load_votes("votes.parquet")
encoder = ModelBehaviorEncoder()
encoder.train(votes, ValidationSplit(fraction=0.1, seed=0), epochs=10, batch_size=512)
embedding = encoder.compute_model_embedding(prompts, responses, batch_size=512)
"""

from model_behavior.data.loading import load_responses, load_votes
from model_behavior.data_models.split import ValidationSplit
from model_behavior.data_models.votes import Outcome, PairTable, TrainingData
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
