"""`benchmark speed`: all that is measured of one vote file."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np
import torch

from model_behavior.data.loading import load_votes
from model_behavior.evaluation.speed.clock import Timing
from model_behavior.evaluation.speed.encoding import ONE_BY_ONE, EncodingSpeed, measure_encoding
from model_behavior.evaluation.speed.many_models import ManyModels, measure_many_models
from model_behavior.evaluation.speed.stages import StageSpeed, first_votes, measure_parts, run_whole_stage
from model_behavior.evaluation.speed.tuning import check_trainer, measure_tuning
from model_behavior.models.behavior.monitor import Runtime
from model_behavior.models.behavior.registry import DEFAULT_ENCODERS

_SENDINGS = 3  # how often the forerunner encodes every text


@dataclass(frozen=True)
class SpeedPlan:
    """What is measured.

    Attributes:
        texts: responses that the transformer encodes.
        rows: votes that stage 1 is run on, the first of the file.
        turns: repetitions of every way, which take turns.
        epochs: of the head.
        models: in the enlarged catalog.
        semantic: run stage 1 with the semantic encoder, too.
    """

    texts: int = 2000
    rows: int = 4000
    turns: int = 5
    epochs: int = 10
    models: int = 10_000
    semantic: bool = True


@dataclass(frozen=True)
class WholeStageSpeed:
    """Stage 1 as a whole.

    Attributes:
        encoders: names of the text encoders.
        timing: by votes, with the peak of memory.
        epoch_seconds: of each epoch of the head.
        triplets: of an epoch.
        forerunner: how many times as much CPU time encoding every text three times, one at a time, takes.
    """

    encoders: tuple[str, ...]
    timing: Timing
    epoch_seconds: tuple[float, ...]
    triplets: int
    forerunner: float


@dataclass(frozen=True)
class SpeedResult:
    """All figures of one vote file.

    Attributes:
        name: of the file.
        n_texts: different responses of the first rows.
        threads: of torch, which every library here was given.
        encoding: the transformer.
        tuning: a step of fine-tuning, by way.
        parts: of stage 1.
        whole: stage 1.
        many: models.
    """

    name: str
    n_texts: int
    threads: int
    encoding: EncodingSpeed
    tuning: dict[str, Timing]
    parts: list[StageSpeed]
    whole: list[WholeStageSpeed]
    many: ManyModels


def run_speed_benchmark(name: str, source: str, plan: SpeedPlan, runtime: Runtime) -> SpeedResult:
    """Measures one vote file.

    Raises:
        MissingExtraError: sentence-transformers, or what its trainer needs, is not installed.
    """
    check_trainer()
    on_progress = runtime.monitor.on_progress
    everything, _ = load_votes(source)
    votes = first_votes(everything, plan.rows)
    responses = everything.pairs.responses
    places = np.unique(np.linspace(0, len(responses) - 1, plan.texts).astype(np.int64))
    texts = responses.take(places[: len(places) // plan.turns * plan.turns]).to_pylist()
    encoding = measure_encoding(texts, plan.turns, runtime.cache, partial(on_progress, "encoding"))
    on_progress("parts of stage 1", 0, 1)
    parts = measure_parts(source, votes, encoding.machine, plan.turns)
    n_texts = len(votes.pairs.responses.unique())
    forerunner = _SENDINGS * n_texts * encoding.timings[ONE_BY_ONE].cpu_per_item
    whole: list[WholeStageSpeed] = []
    stages = []
    for encoders in (DEFAULT_ENCODERS, (*DEFAULT_ENCODERS, "semantic"))[: 1 + plan.semantic]:
        stage = run_whole_stage(votes, plan.epochs, runtime.monitor, encoders)
        stages.append(stage)
        share = forerunner / stage.timing.cpu_seconds[0]
        whole.append(WholeStageSpeed(stage.encoders, stage.timing, stage.epoch_seconds, stage.triplets, share))
    on_progress("many models", 0, 1)
    many = measure_many_models(stages[0], votes, plan.models, runtime.cache)
    on_progress("fine-tuning", 0, 1)
    tuning = measure_tuning(votes, plan.turns, runtime.cache)
    on_progress("fine-tuning", 1, 1)
    return SpeedResult(name, n_texts, torch.get_num_threads(), encoding, tuning, parts, whole, many)
