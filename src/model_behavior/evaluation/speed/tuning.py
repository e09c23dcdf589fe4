"""A step of training on the same triplets: sentence-transformers' trainer, our fine-tuning, and the head alone."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch

from model_behavior.data_models.split import ValidationSplit
from model_behavior.data_models.votes import TrainingData
from model_behavior.errors import MissingExtraError
from model_behavior.evaluation.speed.clock import Timing, take_turns
from model_behavior.models.behavior.fine_tuning.config import FineTuningConfig
from model_behavior.models.behavior.fine_tuning.tuner import FineTuner
from model_behavior.models.behavior.fine_tuning.votes import EncoderVotes
from model_behavior.models.behavior.pair_transformer import (
    BUNDLED_MODEL,
    PairTransformer,
    ReadingConfig,
    locate_model,
    silenced_loading,
)
from model_behavior.preprocessing.behavior_embedding_preprocessor import BehaviorEmbeddingPreprocessor
from model_behavior.preprocessing.cache import ContentCache

LIBRARY_TRAINER = "sentence-transformers' trainer, TripletLoss"
OUR_TUNING = "fine-tuning"
_NEEDED = ("sentence_transformers", "datasets", "accelerate")
_STEPS = 2
_TRIPLETS = 16
_TOKENS = 256
_VALIDATION_PAIRS = 48


def check_trainer() -> None:
    """Says before any work whether the trainer of sentence-transformers can run.

    Raises:
        MissingExtraError: it cannot.
    """
    missing = [name for name in _NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise MissingExtraError(f"the trainer of sentence-transformers ({', '.join(missing)})", "benchmark")


def measure_tuning(votes: TrainingData, turns: int, cache: ContentCache) -> dict[str, Timing]:
    """Triplets a second of both, f32 where the processor has no bf16."""
    preprocessor = BehaviorEmbeddingPreprocessor(cache)
    prepared = preprocessor.preprocess(votes, ValidationSplit())
    chosen = EncoderVotes(prepared, preprocessor.sampler(prepared), seed=0)
    config = FineTuningConfig(
        steps=_STEPS,
        rounds=1,
        batch_size=_TRIPLETS,
        micro_batch=3 * _TRIPLETS,
        validation_pairs=_VALIDATION_PAIRS,
    )

    def tune(turn: int) -> None:
        FineTuner(PairTransformer(ReadingConfig()), chosen, config).run(lambda done, total: None, lambda log: None)

    ways = {LIBRARY_TRAINER: _library_trainer(chosen), OUR_TUNING: tune}
    return take_turns(ways, turns, _STEPS * _TRIPLETS)


def _library_trainer(votes: EncoderVotes) -> Callable[[int], object]:
    from datasets import Dataset
    from sentence_transformers import SentenceTransformer, SentenceTransformerTrainer
    from sentence_transformers.sentence_transformer.losses import TripletLoss
    from sentence_transformers.sentence_transformer.training_args import SentenceTransformerTrainingArguments

    rng = np.random.default_rng(0)
    triplets = votes.sampler.sample(rng)
    rows = rng.permutation(len(triplets))[: _STEPS * _TRIPLETS]
    columns: dict[str, list[str]] = {}
    for name in ("anchor", "positive", "negative"):
        prompts, responses = votes.texts(getattr(triplets, name)[rows])
        columns[name] = [f"{prompt} {response}" for prompt, response in zip(prompts, responses, strict=True)]

    def train(turn: int) -> None:
        device = "cuda" if torch.cuda.is_available() else "cpu"
        with silenced_loading():
            model: Any = SentenceTransformer(locate_model(BUNDLED_MODEL), device=device)
        model.max_seq_length = _TOKENS
        with TemporaryDirectory() as folder:
            arguments = SentenceTransformerTrainingArguments(
                output_dir=folder,
                max_steps=_STEPS,
                per_device_train_batch_size=_TRIPLETS,
                save_strategy="no",
                logging_strategy="no",
                report_to="none",
                disable_tqdm=True,
                use_cpu=device == "cpu",
            )
            trainer = SentenceTransformerTrainer(
                model, arguments, train_dataset=Dataset.from_dict(columns), loss=TripletLoss(model)
            )
            with redirect_stdout(StringIO()), redirect_stderr(StringIO()):  # it prints figures and progress of its own
                trainer.train()

    return train
