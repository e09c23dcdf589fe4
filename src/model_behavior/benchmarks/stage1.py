"""Benchmark of stage 1 on vote files, over several seeds: baselines, variants, topic share, new families of LLMs.

`VARIANTS` are the variants of training, all measured on the same splits as the baselines. Figures for new LLMs come
from separate splits, which hold out whole families.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np

from model_behavior.arrays import Float32Array
from model_behavior.benchmarks.certainty import CertaintyFigures, measure_certainty
from model_behavior.benchmarks.cold_start import ENROLMENT_SIZES, ColdStartFigures, measure_cold_start, measure_oracle
from model_behavior.benchmarks.robustness import RobustnessFigures, measure_robustness
from model_behavior.benchmarks.stage2 import embed_pairs_for_stage2, train_on_split
from model_behavior.benchmarks.stage2_plan import Stage2Plan
from model_behavior.catalog.places import project
from model_behavior.data.split import normalised_prompt_ids, pairs_of
from model_behavior.data_models.behavior_encoder_types import PreprocessedBehaviorEncoderData
from model_behavior.data_models.votes import PairTable, TrainingData, ValidationSplit
from model_behavior.errors import UsageError
from model_behavior.evaluation.baselines import BASELINES, SEMANTIC_BASELINES
from model_behavior.evaluation.evaluated_encoder import VoteReadout, read_votes
from model_behavior.evaluation.plots import Point
from model_behavior.evaluation.stage1 import Stage1Figures, Stage1Protocol
from model_behavior.evaluation.stage2 import Stage2Figures
from model_behavior.models.behavior import metrics
from model_behavior.models.behavior.behavior_features import DenseView, FeatureConfig
from model_behavior.models.behavior.configuration import EncoderConfig
from model_behavior.models.behavior.model_behavior_encoder import ModelBehaviorEncoder
from model_behavior.models.behavior.monitor import Runtime
from model_behavior.models.behavior.objectives import ObjectiveConfig
from model_behavior.models.behavior.text.registry import DEFAULT_ENCODERS, make_text_encoders
from model_behavior.models.behavior.text.style import StyleEncoder
from model_behavior.models.behavior.topic_removal import PromptFeatures
from model_behavior.models.scoring.dense_network_model import DenseNetworkModel
from model_behavior.names import draw_held_out, family_of, nearest
from model_behavior.preprocessing.behavior_embedding_preprocessor import BehaviorEmbeddingPreprocessor
from model_behavior.preprocessing.cache import ContentCache
from model_behavior.preprocessing.prompt_embedding_preprocessor import PromptEmbeddingPreprocessor

_BATCH = 512


@dataclass(frozen=True)
class Variant:
    """A variant of training: text encoders, objectives and features, with the defaults for the rest.

    Attributes:
        by_name_only: trains it only where the plan names it, because it takes hours or is of no use by default.
    """

    encoders: tuple[str, ...] = DEFAULT_ENCODERS
    objectives: ObjectiveConfig = field(default_factory=ObjectiveConfig)
    features: FeatureConfig = field(default_factory=FeatureConfig)
    by_name_only: bool = False

    @property
    def needs_transformer(self) -> bool:
        """Whether one of the text encoders is a transformer, or its weights come from one."""
        return bool({"static", "semantic", "finetuned", "likelihood"} & set(self.encoders))


DEFAULT = "trained, default (style + lexical)"
VARIANTS: Mapping[str, Variant] = {
    DEFAULT: Variant(),
    "trained, style alone": Variant(("style",)),
    "trained, lexical alone": Variant(("lexical",)),
    "trained, semantic alone": Variant(("semantic",)),
    "trained, style + lexical + semantic": Variant((*DEFAULT_ENCODERS, "semantic")),
    "trained, finetuned alone": Variant(("finetuned",)),
    "trained, style + lexical + finetuned": Variant((*DEFAULT_ENCODERS, "finetuned")),
    "trained, style + lexical + likelihood": Variant((*DEFAULT_ENCODERS, "likelihood"), by_name_only=True),
    "trained, static alone": Variant(("static",), by_name_only=True),
    "trained, style + lexical + static": Variant((*DEFAULT_ENCODERS, "static"), by_name_only=True),
    "default without topic removal": Variant(features=FeatureConfig(remove_topic=False)),
    "default without the identity part": Variant(features=FeatureConfig(identity_weight=0)),
    "default, identity part of weight 1": Variant(features=FeatureConfig(identity_weight=1.0)),
    "default without the proxy term": Variant(objectives=ObjectiveConfig(proxy=0)),
    "default without the vote term": Variant(objectives=ObjectiveConfig(vote=0)),
    "default, triplets alone": Variant(objectives=ObjectiveConfig(proxy=0, vote=0)),
    "default with compactness 0.1": Variant(objectives=ObjectiveConfig(compactness=0.1)),
    "default with KL 0.01": Variant(objectives=ObjectiveConfig(kl=0.01)),
    "default, cosine, margin 0.3": Variant(objectives=ObjectiveConfig(distance="cosine", margin=0.3)),
    "default with supervised contrastive 0.2": Variant(objectives=ObjectiveConfig(contrastive=0.2)),
    "supervised contrastive 0.2 for the proxies": Variant(objectives=ObjectiveConfig(proxy=0, contrastive=0.2)),
}


@dataclass(frozen=True)
class BenchmarkPlan:
    """Settings of the benchmark.

    Attributes:
        validation_fraction: share of prompts to measure on.
        seeds: one split, training and measurement for each.
        epochs: epochs of every training.
        batch_size: triplets per step of every training.
        semantic: run the methods with a transformer, too, which take most of the time; a variant that is named is run
            without it as well.
        held_out_share: share of LLMs held out, in whole families, for the figures of new LLMs.
        draws: enrolments of these per number of responses.
        variant: names of the variants to train; without any all but those of hours.
        robustness: judge changed and mixed responses by the first seed, too.
        languages: measure the synthetic arena in other languages, too.
    """

    validation_fraction: float = 0.2
    seeds: int = 3
    epochs: int = 10
    batch_size: int = 128
    semantic: bool = True
    held_out_share: float = 0.3
    draws: int = 5
    variant: tuple[str, ...] = ()
    robustness: bool = False
    languages: bool = False


@dataclass(frozen=True)
class MethodResult:
    """One method on one vote file.

    Attributes:
        method: name of the method.
        figures: figures of every seed.
        seconds: time of training with warm features, mean over seeds; None for a baseline and a part of an embedding.
        readout: votes called from the responses, of every seed; empty for a baseline and without the vote term.
    """

    method: str
    figures: tuple[Stage1Figures, ...]
    seconds: float | None
    readout: tuple[VoteReadout, ...] = ()


@dataclass(frozen=True)
class TopicShare:
    """Share of the variance of standardised style features that the prompt explains, on validation responses."""

    before: float
    after: float


@dataclass(frozen=True)
class NewModels:
    """One seed: other families held out, both stages trained without them.

    Attributes:
        held_out: names of the LLMs held out.
        by_responses: figures by the number of responses enrolled.
        oracle: Bradley-Terry that has seen their votes on training prompts.
        certainty: figures of how sure their embeddings and "none of them" are.
        robustness: figures of changed responses, by change; only of the first seed, and where they are asked for.
    """

    held_out: tuple[str, ...]
    by_responses: Mapping[int, ColdStartFigures]
    oracle: Stage2Figures | None
    certainty: CertaintyFigures
    robustness: Mapping[str, RobustnessFigures]


@dataclass(frozen=True)
class DatasetResult:
    """Everything on one vote file.

    Attributes:
        methods: baselines, then variants.
        topic: topic share of every seed.
        new_models: figures of new LLMs, of every seed.
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
        near = nearest(VARIANTS, unknown[0], 1)
        raise UsageError(f"unknown variant {unknown[0]!r}. Nearest: {near[0]!r}. Allowed: {'; '.join(VARIANTS)}")
    if plan.variant:
        return {name: variant for name, variant in VARIANTS.items() if name in plan.variant}
    return {
        name: variant
        for name, variant in VARIANTS.items()
        if not variant.by_name_only and (plan.semantic or not variant.needs_transformer)
    }


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
        new_models=measure_new_models(votes, stage2, runtime, plan.robustness),
        model_map=model_map,
    )


def measure_new_models(
    votes: TrainingData, plan: Stage2Plan, runtime: Runtime, robustness: bool = False
) -> tuple[NewModels, ...]:
    """One result per seed; a seed that holds out nobody, or nobody with votes, gives none."""
    results: list[NewModels] = []
    for seed in range(plan.seeds):
        held_out = draw_held_out(votes.pairs.models, plan.held_out_share, np.random.default_rng(seed))
        if not held_out:
            continue
        split = ValidationSplit(plan.validation_fraction, seed, held_out_models=held_out)
        encoder, prepared = train_on_split(votes, split, plan, runtime)
        material = embed_pairs_for_stage2(encoder, prepared, plan.batch_size)
        if not len(material.pool):
            continue
        network = DenseNetworkModel(material.known, cache=runtime.cache)
        network.fit(material.fit)
        by_responses = {k: measure_cold_start(network, material, k, plan.draws, seed) for k in ENROLMENT_SIZES}
        certainty = measure_certainty(encoder, prepared, plan.batch_size, seed)
        changed = measure_robustness(encoder, prepared, plan.batch_size, seed) if robustness and not results else {}
        results.append(NewModels(held_out, by_responses, measure_oracle(material, seed), certainty, changed))
    return tuple(results)


def measure_topic_share(prepared: PreprocessedBehaviorEncoderData, cache: ContentCache) -> TopicShare:
    """Fits the removal on training pairs and measures on validation pairs.

    Args:
        prepared: votes and their split.
        cache: cache of features.
    """
    pairs = prepared.data.pairs
    features = BehaviorEmbeddingPreprocessor(cache).embed(StyleEncoder(), pairs, _BATCH)
    assert isinstance(features, np.ndarray)
    texts = pairs.prompts.to_pylist()
    encoders = make_text_encoders(DEFAULT_ENCODERS)
    blocks = [PromptEmbeddingPreprocessor(encoder, cache).preprocess(texts, _BATCH) for encoder in encoders]
    prompts = PromptFeatures(blocks, pairs.prompt_index)
    train, held = (pairs_of(prepared.data, side) for side in (prepared.split.train, prepared.split.validation))
    group = normalised_prompt_ids(pairs.prompts)[pairs.prompt_index[held]]

    def share(view: DenseView) -> float:
        of_held = replace(prompts, prompt=prompts.prompt[held])
        return metrics.variance_explained(view.apply(features[held], of_held), group)

    plain, _ = DenseView.fit(features[train], None)
    freed, _ = DenseView.fit(features[train], replace(prompts, prompt=prompts.prompt[train]))
    return TopicShare(share(plain), share(freed))


def _train(
    method: str,
    variant: Variant,
    votes: TrainingData,
    sides: tuple[Sequence[ValidationSplit], Sequence[PreprocessedBehaviorEncoderData], Sequence[Stage1Protocol]],
    plan: BenchmarkPlan,
    runtime: Runtime,
) -> tuple[list[MethodResult], Float32Array]:
    """The figures of every split, for the default those of either part too; the first one's embeddings of all pairs."""
    seconds, readout = [], []
    figures: dict[str, list[Stage1Figures]] = {}
    first: Float32Array | None = None
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


def _map_models(embeddings: Float32Array, pairs: PairTable) -> tuple[Point, ...]:
    if len(pairs.models) < 3:
        return ()
    means = metrics.centroids(embeddings, pairs.model_index, len(pairs.models))
    places = project(means).tolist()
    return tuple(Point(name, family_of(name), x, y) for name, (x, y) in zip(pairs.models, places, strict=True))
