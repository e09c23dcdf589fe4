"""Stage 1 and its baselines on vote files, over several seeds."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from model_behavior.data.families import family_of
from model_behavior.data_models.behavior_encoder_types import PreprocessedBehaviorEncoderData
from model_behavior.data_models.split import ValidationSplit
from model_behavior.data_models.votes import PairTable, TrainingData
from model_behavior.errors import UsageError
from model_behavior.evaluation.baselines import BASELINES, SEMANTIC_BASELINES
from model_behavior.evaluation.evaluated_encoder import VoteReadout, read_votes
from model_behavior.evaluation.model_map import project
from model_behavior.evaluation.new_models import NewModels, measure_new_models
from model_behavior.evaluation.scatter_plot import Point
from model_behavior.evaluation.stage1 import Stage1Figures, Stage1Protocol
from model_behavior.evaluation.stage1_variants import DEFAULT, VARIANTS, Variant
from model_behavior.evaluation.stage2_benchmark import Stage2Plan
from model_behavior.evaluation.topic_share import TopicShare, measure_topic_share
from model_behavior.models.behavior import metrics
from model_behavior.models.behavior.configuration import EncoderConfig
from model_behavior.models.behavior.encoder_base import FloatArray
from model_behavior.models.behavior.model_behavior_encoder import ModelBehaviorEncoder
from model_behavior.models.behavior.monitor import Runtime
from model_behavior.models.behavior.registry import make_text_encoders
from model_behavior.preprocessing.behavior_embedding_preprocessor import BehaviorEmbeddingPreprocessor


@dataclass(frozen=True)
class BenchmarkPlan:
    """How the benchmark is run.

    Attributes:
        validation_fraction: share of prompts to measure on.
        seeds: one split, training and measurement for each.
        epochs: of every training.
        batch_size: of every training.
        semantic: whether to run what needs a transformer, which takes most of the time.
        held_out_share: share of LLMs held out, in whole families, for the figures of new LLMs.
        draws: enrolments of these per number of responses.
        variant: names of the variants to train; all without any.
    """

    validation_fraction: float = 0.2
    seeds: int = 3
    epochs: int = 10
    batch_size: int = 128
    semantic: bool = True
    held_out_share: float = 0.3
    draws: int = 5
    variant: tuple[str, ...] = ()


@dataclass(frozen=True)
class MethodResult:
    """One method on one vote file.

    Attributes:
        method: its name.
        figures: of every seed.
        seconds: of training with warm features, mean over seeds; None for a baseline and for a part of an embedding.
        readout: votes called from the responses, of every seed; empty for a baseline and without the vote term.
    """

    method: str
    figures: tuple[Stage1Figures, ...]
    seconds: float | None
    readout: tuple[VoteReadout, ...] = ()


@dataclass(frozen=True)
class DatasetResult:
    """Everything on one vote file.

    Attributes:
        methods: baselines, then variants.
        topic: of every seed.
        new_models: of every seed.
        model_map: the models in a plane, by the default variant's first seed; empty with fewer than three.
    """

    name: str
    n_votes: int
    n_models: int
    n_prompts: int
    methods: tuple[MethodResult, ...]
    topic: tuple[TopicShare, ...]
    new_models: tuple[NewModels, ...]
    model_map: tuple[Point, ...]


def choose_variants(plan: BenchmarkPlan) -> dict[str, Variant]:
    """The variants that a plan names, in the order of `VARIANTS`.

    Raises:
        UsageError: an unknown name.
    """
    unknown = [name for name in plan.variant if name not in VARIANTS]
    if unknown:
        near = difflib.get_close_matches(unknown[0], VARIANTS, 1, 0)
        raise UsageError(f"unknown variant {unknown[0]!r}. Nearest: {near[0]!r}. Allowed: {'; '.join(VARIANTS)}")
    return {name: variant for name, variant in VARIANTS.items() if not plan.variant or name in plan.variant}


def run_benchmark(name: str, votes: TrainingData, plan: BenchmarkPlan, runtime: Runtime) -> DatasetResult:
    """Measures every baseline and every trained variant on the same splits, and new LLMs on others."""
    preprocessor = BehaviorEmbeddingPreprocessor(runtime.cache)
    splits = [ValidationSplit(plan.validation_fraction, seed) for seed in range(plan.seeds)]
    prepared = [preprocessor.preprocess(votes, split) for split in splits]
    protocols = [Stage1Protocol(each, split.seed) for each, split in zip(prepared, splits, strict=True)]
    methods: list[MethodResult] = []
    for method, embed in (BASELINES | SEMANTIC_BASELINES if plan.semantic else BASELINES).items():
        progress = partial(runtime.monitor.on_progress, f"{name}, {method}")
        embedded = (embed(each, preprocessor, progress) for each in prepared)
        measured = (protocol.measure(vectors) for protocol, vectors in zip(protocols, embedded, strict=True))
        methods.append(MethodResult(method, tuple(measured), None))
    model_map: tuple[Point, ...] = ()
    for method, variant in choose_variants(plan).items():
        if plan.semantic or not variant.needs_transformer:
            results, embeddings = _train(method, variant, votes, (splits, prepared, protocols), plan, runtime)
            methods += results
            model_map = _map_models(embeddings, prepared[0].data.pairs) if method == DEFAULT else model_map
    stage2 = Stage2Plan(
        plan.validation_fraction, plan.held_out_share, plan.seeds, plan.epochs, plan.batch_size, plan.draws
    )
    data = prepared[0].data
    return DatasetResult(
        name,
        len(data),
        len(data.pairs.models),
        len(data.pairs.prompts),
        tuple(methods),
        topic=tuple(measure_topic_share(each, runtime.cache) for each in prepared),
        new_models=measure_new_models(votes, stage2, runtime),
        model_map=model_map,
    )


def _train(
    method: str,
    variant: Variant,
    votes: TrainingData,
    sides: tuple[Sequence[ValidationSplit], Sequence[PreprocessedBehaviorEncoderData], Sequence[Stage1Protocol]],
    plan: BenchmarkPlan,
    runtime: Runtime,
) -> tuple[list[MethodResult], FloatArray]:
    """The figures of every split, for the default those of either part too; the first one's embeddings of all pairs."""
    seconds, readout = [], []
    figures: dict[str, list[Stage1Figures]] = {}
    first: FloatArray | None = None
    for split, each, protocol in zip(*sides, strict=True):
        config = EncoderConfig(objectives=variant.objectives, features=variant.features, seed=split.seed)
        text_encoders = make_text_encoders(variant.encoders)
        encoder = ModelBehaviorEncoder(text_encoders, config, runtime)
        encoder.train(votes, split, plan.epochs, plan.batch_size)
        seconds.append(sum(log.seconds for log in encoder.history))
        pairs = each.data.pairs
        prompts = pairs.prompts.take(pairs.prompt_index).to_pylist()
        embeddings = encoder.encode(prompts, pairs.responses.to_pylist(), plan.batch_size)
        parts = {method: embeddings}
        if method == DEFAULT:
            parts |= {
                "the default's trained part alone": encoder.quality_of(embeddings),
                "the default's identity part alone": encoder.identity_of(embeddings),
            }
        for name, part in parts.items():
            figures.setdefault(name, []).append(protocol.measure(part))
        if (read := read_votes(encoder, embeddings, each.data, each.split.validation, split.seed)) is not None:
            readout.append(read)
        first = embeddings if first is None else first
    assert first is not None
    whole = MethodResult(method, tuple(figures.pop(method)), float(np.mean(seconds)), tuple(readout))
    return [whole, *(MethodResult(name, tuple(found), None) for name, found in figures.items())], first


def _map_models(embeddings: FloatArray, pairs: PairTable) -> tuple[Point, ...]:
    if len(pairs.models) < 3:
        return ()
    means = metrics.centroids(embeddings, pairs.model_index, len(pairs.models))
    places = project(means).tolist()
    return tuple(Point(name, family_of(name), x, y) for name, (x, y) in zip(pairs.models, places, strict=True))
