"""Stage 1 and its baselines on vote files, over several seeds, and the report of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np

from model_behavior.data_models.behavior_encoder_types import PreprocessedBehaviorEncoderData
from model_behavior.data_models.split import ValidationSplit
from model_behavior.data_models.votes import TrainingData
from model_behavior.evaluation.baselines import BASELINES, SEMANTIC_BASELINES, SEMANTIC_SETTINGS
from model_behavior.evaluation.figures import Figure
from model_behavior.evaluation.stage1 import IDENTIFICATION_SIZES, Stage1Figures, measure_stage1
from model_behavior.models.behavior.configuration import EncoderConfig
from model_behavior.models.behavior.model_behavior_encoder import ModelBehaviorEncoder
from model_behavior.models.behavior.monitor import Runtime
from model_behavior.models.behavior.objectives import ObjectiveConfig
from model_behavior.models.behavior.registry import DEFAULT_ENCODERS, make_text_encoders
from model_behavior.preprocessing.behavior_embedding_preprocessor import BehaviorEmbeddingPreprocessor


@dataclass(frozen=True)
class Variant:
    """One way to train: the text encoders and the objectives, the default ones unless said otherwise."""

    encoders: tuple[str, ...] = DEFAULT_ENCODERS
    objectives: ObjectiveConfig = field(default_factory=ObjectiveConfig)


VARIANTS: Mapping[str, Variant] = {
    "trained, default (style + lexical)": Variant(),
    "trained, style alone": Variant(("style",)),
    "trained, lexical alone": Variant(("lexical",)),
    "trained, semantic alone": Variant(("semantic",)),
    "trained, style + lexical + semantic": Variant((*DEFAULT_ENCODERS, "semantic")),
    "default without the proxy term": Variant(objectives=ObjectiveConfig(proxy=0)),
    "default without the vote term": Variant(objectives=ObjectiveConfig(vote=0)),
    "default, triplets alone": Variant(objectives=ObjectiveConfig(proxy=0, vote=0)),
    "default with compactness 0.1": Variant(objectives=ObjectiveConfig(compactness=0.1)),
    "default with KL 0.01": Variant(objectives=ObjectiveConfig(kl=0.01)),
    "default, cosine, margin 0.3": Variant(objectives=ObjectiveConfig(distance="cosine", margin=0.3)),
    "default, semi-hard mining": Variant(objectives=ObjectiveConfig(mining="semi-hard")),
    "default, batch-hard mining": Variant(objectives=ObjectiveConfig(mining="batch-hard")),
    "default with supervised contrastive 0.2": Variant(objectives=ObjectiveConfig(contrastive=0.2)),
    "supervised contrastive 0.2 for the proxies": Variant(objectives=ObjectiveConfig(proxy=0, contrastive=0.2)),
    "default, proxies with ArcFace margin 0.2": Variant(objectives=ObjectiveConfig(proxy_margin=0.2)),
    "default, ties in the vote term": Variant(objectives=ObjectiveConfig(vote_ties=True)),
}

_INTRODUCTION = """\
# Stage 1 on real votes

Written by `{command}`. Prompts are split before anything is fitted; {share}
of them are measured on, with {seeds} seeds, each its own split and training. A cell is the mean over the seeds,
[the 95 % bootstrap interval of the first seed, clustered by prompt] and ± the standard deviation over seeds.

- *Triplet accuracy*: share of triplets of decided votes with d(anchor, positive) < d(anchor, negative), and by kind of
  positive. Chance is 0.5.
- *Identification @k*: nearest model centroid (training responses) for the mean of k validation responses.
- *Distance* and *effective rank*: mean cosine distance and spread over dimensions of validation embeddings.
- *Prompt share*, *model share*: how much of their variance the prompt, or the model, explains.
- *Seconds*: of training with cached features.

The epoch is chosen by triplet accuracy on the same validation prompts, which flatters the trained rows a little (one
choice among {epochs} epochs of one run).
"""


@dataclass(frozen=True)
class BenchmarkPlan:
    """How the benchmark is run.

    Attributes:
        validation_fraction: share of prompts to measure on.
        seeds: one split, training and measurement for each.
        epochs: of every training.
        batch_size: of every training.
        semantic: whether to run what needs a transformer, which takes most of the time.
    """

    validation_fraction: float = 0.2
    seeds: int = 3
    epochs: int = 10
    batch_size: int = 128
    semantic: bool = True


@dataclass(frozen=True)
class MethodResult:
    """One method on one vote file: figures of every seed, and the training seconds with warm features."""

    method: str
    figures: tuple[Stage1Figures, ...]
    seconds: float | None


@dataclass(frozen=True)
class DatasetResult:
    """All methods on one vote file."""

    name: str
    n_votes: int
    n_models: int
    n_prompts: int
    methods: tuple[MethodResult, ...]


def run_benchmark(name: str, votes: TrainingData, plan: BenchmarkPlan, runtime: Runtime) -> DatasetResult:
    """Measures every baseline and every trained composition on the same splits."""
    preprocessor = BehaviorEmbeddingPreprocessor(runtime.cache)
    splits = [ValidationSplit(plan.validation_fraction, seed) for seed in range(plan.seeds)]
    prepared = [preprocessor.preprocess(votes, split) for split in splits]
    methods: list[MethodResult] = []
    for method, embed in (BASELINES | SEMANTIC_BASELINES if plan.semantic else BASELINES).items():
        progress = partial(runtime.monitor.on_progress, f"{name}, {method}")
        measured = (measure_stage1(embed(each, preprocessor, progress), each, n) for n, each in enumerate(prepared))
        methods.append(MethodResult(method, tuple(measured), None))
    for method, variant in VARIANTS.items():
        if plan.semantic or "semantic" not in variant.encoders:
            figures, seconds = _train(variant, votes, splits, prepared, plan, runtime)
            methods.append(MethodResult(method, figures, seconds))
    data = prepared[0].data
    return DatasetResult(name, len(data), len(data.pairs.models), len(data.pairs.prompts), tuple(methods))


def _train(
    variant: Variant,
    votes: TrainingData,
    splits: Sequence[ValidationSplit],
    prepared: Sequence[PreprocessedBehaviorEncoderData],
    plan: BenchmarkPlan,
    runtime: Runtime,
) -> tuple[tuple[Stage1Figures, ...], float]:
    """The figures of every split, and the mean seconds of training."""
    figures, seconds = [], []
    for split, each in zip(splits, prepared, strict=True):
        config = EncoderConfig(objectives=variant.objectives, seed=split.seed)
        text_encoders = make_text_encoders(variant.encoders, {"semantic": SEMANTIC_SETTINGS})
        encoder = ModelBehaviorEncoder(text_encoders, config, runtime)
        encoder.train(votes, split, plan.epochs, plan.batch_size)
        seconds.append(sum(log.seconds for log in encoder.history))
        pairs = each.data.pairs
        prompts = pairs.prompts.take(pairs.prompt_index).to_pylist()
        embeddings = encoder.encode(prompts, pairs.responses.to_pylist(), plan.batch_size)
        figures.append(measure_stage1(embeddings, each, split.seed))
    return tuple(figures), float(np.mean(seconds))


def write_report(results: Iterable[DatasetResult], plan: BenchmarkPlan, command: str) -> str:
    """The report as Markdown."""
    parts = [
        _INTRODUCTION.format(
            command=command, share=f"{plan.validation_fraction:.0%}", seeds=plan.seeds, epochs=plan.epochs
        )
    ]
    for result in results:
        parts += _write_dataset(result)
    return "\n".join(parts)


def _write_dataset(result: DatasetResult) -> list[str]:
    sizes = [k for k in IDENTIFICATION_SIZES if any(k in m.figures[0].identification for m in result.methods)]
    first = result.methods[0].figures[0]
    lines = [
        f"## {result.name}",
        "",
        f"{result.n_votes:,} votes, {result.n_models} models, {result.n_prompts:,} prompts after filtering; "
        f"n = {first.triplet['all'].n:,} triplets of decided votes"
        + "".join(f", {first.identification[k].n:,} draws at k = {k}" for k in sizes)
        + f" (first seed); chance of identification {1 / first.n_models:.3f}.",
        "",
        "| method | triplet acc. | identity | performance | "
        + " | ".join(f"ident. @{k}" for k in sizes)
        + " | distance | eff. rank | prompt share | model share | seconds |",
        "|---" * (9 + len(sizes)) + "|",
    ]
    for method in result.methods:
        cells = [_cell([f.triplet[kind] for f in method.figures]) for kind in ("all", "identity", "performance")]
        cells += [_cell([f.identification[k] for f in method.figures if k in f.identification]) for k in sizes]
        for values in (
            [f.mean_distance for f in method.figures],
            [f.effective_rank for f in method.figures],
            [f.prompt_share for f in method.figures],
            [f.model_share for f in method.figures],
        ):
            cells.append(f"{np.mean(values):.2f}")
        cells.append("" if method.seconds is None else f"{method.seconds:.0f}")
        lines.append(f"| {method.method} | " + " | ".join(cells) + " |")
    return [*lines, ""]


def _cell(figures: Sequence[Figure]) -> str:
    if not figures:
        return "-"
    values = [figure.value for figure in figures]
    spread = f" ± {np.std(values, ddof=1):.3f}" if len(values) > 1 else ""
    return f"{np.mean(values):.3f} [{figures[0].low:.3f}, {figures[0].high:.3f}]{spread}"
