"""Evaluates one saved artifact on one vote file, by the protocol of the benchmarks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import numpy as np

from model_behavior.data_models.votes import TrainingData
from model_behavior.evaluation.baselines import BASELINES, SEMANTIC_BASELINES
from model_behavior.evaluation.evaluated_encoder import EncoderFigures, measure_encoder
from model_behavior.evaluation.evaluated_scorer import CellFigures, measure_scorer
from model_behavior.evaluation.figures import Figure
from model_behavior.evaluation.measured_votes import MeasuredVotes, Trained, prepare_baselines, select_measured
from model_behavior.evaluation.stage1 import Stage1Protocol
from model_behavior.models.behavior.monitor import Runtime
from model_behavior.preprocessing.behavior_embedding_preprocessor import BehaviorEmbeddingPreprocessor


@dataclass(frozen=True)
class EvaluationConfig:
    """How an artifact is evaluated.

    Attributes:
        seed: seed of triplets, draws and bootstrap replicates.
        batch_size: number of pairs encoded at once.
        semantic: True to measure the baseline that needs a transformer, too.
    """

    seed: int = 0
    batch_size: int = 512
    semantic: bool = False


@dataclass(frozen=True)
class VoteCounts:
    """Numbers of votes and prompts in an evaluation.

    Attributes:
        read: votes given.
        used: votes left after filtering.
        new_prompt_votes: votes on prompts that the artifact was not trained on; stage 1 is measured on these alone.
        new_prompts: prompts that the artifact was not trained on.
        seen_prompts: prompts that it was trained on.
        unknown_models: names of models without an embedding in the artifact, sorted.
    """

    read: int
    used: int
    new_prompt_votes: int
    new_prompts: int
    seen_prompts: int
    unknown_models: tuple[str, ...]


@dataclass(frozen=True)
class BaselineFigures:
    """Figures of an untrained embedding; `prepare_baselines` says on which votes they are measured."""

    triplet: Mapping[str, Figure]
    balanced: Figure
    identification: Mapping[int, Figure]


@dataclass(frozen=True)
class Evaluation:
    """Results of an evaluation.

    Attributes:
        votes: numbers of votes and prompts.
        stage1: figures of the encoder.
        baselines: figures of untrained embeddings, by name.
        stage2: figures of the scoring model, by label of the cell; None where the artifact has none.
    """

    votes: VoteCounts
    stage1: EncoderFigures
    baselines: Mapping[str, BaselineFigures]
    stage2: Mapping[str, CellFigures] | None

    def to_json(self) -> dict[str, Any]:
        """Nested dictionaries; a figure is {value, low, high, n}."""
        return asdict(self)


def evaluate(artifact: Trained, votes: TrainingData, config: EvaluationConfig | None = None) -> Evaluation:
    """Measures an artifact on votes, on prompts that it was not trained on.

    Args:
        artifact: trained artifact; its encoder's runtime has the cache and the progress callback.
        votes: unfiltered votes. They may be those that it was trained on: then its validation side is measured.
        config: seed and sizes.

    Raises:
        UsageError: the artifact does not record which prompts it was trained on.
        DataError: no vote is left after filtering, or none is on a new prompt.
    """
    config = config if config is not None else EvaluationConfig()
    runtime, scorer = artifact.encoder.runtime, artifact.measured_scorer
    measured = select_measured(artifact, votes, config.seed, partial(runtime.monitor.on_progress, "filters"))
    encoder = measure_encoder(artifact, measured, config.batch_size, config.seed, runtime.monitor.on_progress)
    return Evaluation(
        votes=_count(artifact, votes, measured),
        stage1=encoder,
        baselines=_measure_baselines(measured, config, runtime),
        stage2=None if scorer is None else measure_scorer(scorer, measured, config.seed),
    )


def _count(artifact: Trained, votes: TrainingData, measured: MeasuredVotes) -> VoteCounts:
    new_prompts = len(np.unique(measured.prompt))
    data = measured.data
    return VoteCounts(
        read=len(votes),
        used=len(data),
        new_prompt_votes=len(measured.new),
        new_prompts=new_prompts,
        seen_prompts=len(np.unique(data.pairs.prompt_index[data.pair_a[measured.seen]])),
        unknown_models=tuple(sorted(set(data.pairs.models) - set(artifact.models.names))),
    )


def _measure_baselines(
    measured: MeasuredVotes, config: EvaluationConfig, runtime: Runtime
) -> dict[str, BaselineFigures]:
    prepared = prepare_baselines(measured, config.seed)
    preprocessor = BehaviorEmbeddingPreprocessor(runtime.cache)
    protocol = Stage1Protocol(prepared, config.seed)
    figures = {}
    for name, embed in (BASELINES | SEMANTIC_BASELINES if config.semantic else BASELINES).items():
        embeddings = embed(prepared, preprocessor, partial(runtime.monitor.on_progress, name))
        own = protocol.measure(embeddings)
        figures[name] = BaselineFigures(own.triplet, own.balanced, own.identification)
    return figures
