"""Speed of stage 1 as a whole and in parts, of a very large catalog, and of a step of training.

Very many models are those of a trained stage 1, perturbed. A step of training is measured on the same triplets for
sentence-transformers' trainer and for our fine-tuning.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass, replace
from functools import partial
from io import StringIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch

from model_behavior.benchmarks.speed.clock import Machine, Timing, clock, take_turns
from model_behavior.catalog import Catalog, ModelEmbeddings
from model_behavior.catalog.agreement import model_table
from model_behavior.catalog.enrolment import enrol, merge_catalogs
from model_behavior.catalog.neighbours import find_neighbours
from model_behavior.catalog.samples import empty_samples
from model_behavior.data.filters import FilterConfig, filter_votes, select_votes
from model_behavior.data.loading import load_votes
from model_behavior.data_models.votes import TrainingData, ValidationSplit
from model_behavior.errors import MissingExtraError
from model_behavior.models.behavior.encoder_base import TextEncoderBase
from model_behavior.models.behavior.model_behavior_encoder import ModelBehaviorEncoder
from model_behavior.models.behavior.monitor import Runtime, TrainingMonitor
from model_behavior.models.behavior.text.fine_tuning import FineTuner, FineTuningConfig
from model_behavior.models.behavior.text.lexical import LexicalEncoder
from model_behavior.models.behavior.text.registry import DEFAULT_ENCODERS, make_text_encoders
from model_behavior.models.behavior.text.style import StyleEncoder
from model_behavior.models.behavior.text.transformer import (
    BUNDLED_MODEL,
    PairTransformer,
    ReadingConfig,
    locate_model,
    silenced_loading,
)
from model_behavior.models.behavior.validation import EncoderVotes
from model_behavior.models.scoring.dense_network_model import DenseNetworkModel
from model_behavior.preprocessing.behavior_embedding_preprocessor import BehaviorEmbeddingPreprocessor
from model_behavior.preprocessing.cache import ContentCache
from model_behavior.preprocessing.scoring_votes import to_scoring_votes
from model_behavior.preprocessing.triplets import TripletConfig, TripletSampler

LIBRARY_TRAINER = "sentence-transformers' trainer, TripletLoss"
OUR_TUNING = "fine-tuning"
_NEEDED = ("sentence_transformers", "datasets", "accelerate")
_TEXTS_AT_ONCE = 1024
_TRIPLETS_PER_STEP = 128
_PAIRS_AT_ONCE = 512
_QUESTIONS = 200
_ADDED = 20
_NOISE = 0.5  # of the standard deviation between models
_STEPS = 2
_TRIPLETS = 16
_TOKENS = 256
_VALIDATION_PAIRS = 48


@dataclass(frozen=True)
class StageSpeed:
    """One stage.

    Attributes:
        name: name of the stage.
        unit: name of the things that it handles.
        timing: timing of the stage.
        floor: lower bound in seconds, and its description; None if there is no simple one.
    """

    name: str
    unit: str
    timing: Timing
    floor: tuple[float, str] | None = None


@dataclass(frozen=True, eq=False)
class WholeStage:
    """Stage 1 from votes to embedded models, nothing cached.

    Attributes:
        encoders: names of the text encoders.
        timing: timing of all of it, by votes.
        epoch_seconds: time of each epoch of the head.
        triplets: number of triplets of an epoch.
        encoder: trained encoder.
        catalog: catalog of its models.
    """

    encoders: tuple[str, ...]
    timing: Timing
    epoch_seconds: tuple[float, ...]
    triplets: int
    encoder: ModelBehaviorEncoder
    catalog: Catalog


@dataclass(frozen=True)
class ManyModels:
    """Speed with very many models in the catalog.

    Attributes:
        n_models: number of models in the catalog.
        neighbour_seconds: time of each question for the nearest models, style differences included; the first one,
            which makes what the others use, is apart.
        first_question: time of that one, seconds.
        added: timing of one model added to the catalog, by model.
        enrolled: timing of the scorer's enrolment of all at once.
        rated: timing of the ratings with intervals of all models.
        rated_on_prompt: timing of their scores on one prompt.
    """

    n_models: int
    neighbour_seconds: tuple[float, ...]
    first_question: float
    added: Timing
    enrolled: Timing
    rated: Timing
    rated_on_prompt: Timing


def first_votes(votes: TrainingData, n: int) -> TrainingData:
    """The first `n` votes, or all if there are fewer."""
    return select_votes(votes, np.arange(min(n, len(votes))))


def measure_parts(source: str, votes: TrainingData, machine: Machine, turns: int) -> list[StageSpeed]:
    """Reading the file, filters, features and triplets, one after the other."""
    n_bytes = _bytes_of(votes)
    kept, _ = filter_votes(votes, FilterConfig())
    prompts = kept.pairs.prompts.take(kept.pairs.prompt_index).to_pylist()
    responses = kept.pairs.responses.to_pylist()
    everything, _ = load_votes(source)
    copied = (_bytes_of(everything) / machine.copied, "copying the texts")
    scanned = (n_bytes / machine.scanned, "one regular expression over the texts")
    sampler = TripletSampler(kept, np.arange(len(kept)), TripletConfig())

    def encode(encoder: TextEncoderBase) -> Callable[[int], object]:
        return lambda turn: encoder.encode(prompts, responses, _TEXTS_AT_ONCE)

    def measure(name: str, work: Callable[[int], object], items: int) -> Timing:
        return take_turns({name: work}, turns, items)[name]

    return [
        StageSpeed("reading the file", "votes", measure("read", lambda _: load_votes(source), len(everything)), copied),
        StageSpeed(
            "filters, self-naming masked",
            "votes",
            measure("filter", lambda _: filter_votes(votes, FilterConfig()), len(votes)),
            scanned,
        ),
        StageSpeed("style features", "responses", measure("style", encode(StyleEncoder()), len(responses)), scanned),
        StageSpeed("lexical features", "responses", measure("lex", encode(LexicalEncoder()), len(responses)), scanned),
        StageSpeed(
            "triplets of an epoch",
            "votes",
            measure("triplets", lambda turn: sampler.sample(np.random.default_rng(turn)), len(kept)),
        ),
    ]


def run_whole_stage(
    votes: TrainingData, epochs: int, monitor: TrainingMonitor, encoders: Sequence[str] = DEFAULT_ENCODERS
) -> WholeStage:
    """Trains on the votes with an empty cache and embeds their models."""
    with TemporaryDirectory() as folder:
        runtime = Runtime(ContentCache(Path(folder)), monitor)
        encoder = ModelBehaviorEncoder(make_text_encoders(encoders), runtime=runtime)
        found: list[Catalog] = []

        def work() -> None:
            encoder.train(votes, ValidationSplit(), epochs, _TRIPLETS_PER_STEP)
            found.append(enrol(encoder, votes.pairs, _PAIRS_AT_ONCE))

        timing = clock(work, len(votes))
    seconds = tuple(log.seconds for log in encoder.history)
    return WholeStage(tuple(encoders), timing, seconds, encoder.history[0].n_triplets, encoder, found[0])


def measure_many_models(stage: WholeStage, votes: TrainingData, n_models: int, cache: ContentCache) -> ManyModels:
    """Enlarges the catalog of a trained stage 1 and asks it.

    Args:
        stage: stage 1 as it was trained on `votes`.
        votes: votes that the scorer is fitted to.
        n_models: number of models in the enlarged catalog.
        cache: cache of the prompts' features.
    """
    rng = np.random.default_rng(0)
    catalog = _enlarge(stage.catalog, n_models, rng)
    names = catalog.models.names
    asked = [names[row] for row in rng.integers(0, n_models, _QUESTIONS + 1)]
    questions = [clock(partial(find_neighbours, catalog, name), 1).seconds[0] for name in asked]
    new = Catalog.of_embeddings(catalog.models.select([0]))
    new = Catalog.of_embeddings(replace(new.models, names=("new",)))
    added = clock(lambda: [merge_catalogs(catalog, new) for _ in range(_ADDED)], _ADDED)
    training = to_scoring_votes(votes)
    scorer = DenseNetworkModel(model_table(stage.encoder, stage.catalog, training.models), cache=cache)
    scorer.fit(training)
    table = model_table(stage.encoder, catalog, training.models)
    enrolled = clock(lambda: scorer.enrol(table), n_models)
    prompt = str(votes.pairs.prompts[0].as_py())
    return ManyModels(
        n_models=n_models,
        neighbour_seconds=tuple(questions[1:]),
        first_question=questions[0],
        added=added,
        enrolled=enrolled,
        rated=clock(scorer.rate, n_models),
        rated_on_prompt=clock(lambda: scorer.rate(prompt=prompt), n_models),
    )


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


def _bytes_of(votes: TrainingData) -> int:
    return int(votes.pairs.responses.nbytes + votes.pairs.prompts.nbytes)


def _enlarge(catalog: Catalog, n_models: int, rng: np.random.Generator) -> Catalog:
    """Copies of the models at random, their embeddings and style profiles moved by noise."""
    models, samples = catalog.models, catalog.samples
    rows = rng.integers(0, len(models), n_models)
    order = np.argsort(rows, kind="stable")
    rows = rows[order]
    names = tuple(f"{models.names[row]} {place:06d}" for place, row in enumerate(rows.tolist()))

    def move(values: np.ndarray) -> np.ndarray:
        noise = _NOISE * values.std(axis=0) * rng.standard_normal((n_models, values.shape[1]))
        moved: np.ndarray = (values[rows] + noise).astype(np.float32)
        return moved

    return Catalog(
        ModelEmbeddings(names, move(models.mean), models.count[rows], models.spread[rows]),
        replace(
            empty_samples(names, models.mean.shape[1]),
            style_mean=move(samples.style_mean),
            style_deviation=samples.style_deviation[rows],
            style_count=samples.style_count[rows],
        ),
    )


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
