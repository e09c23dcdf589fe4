"""Loads, filters and splits a file of votes, draws an epoch's triplets or trains, and prints the cost of each stage.

Run as a program, in a process of its own, since a process's highest memory never falls again:
`python -m model_behavior.benchmarks.scale_probe FILE CACHE_FOLDER SETTINGS` prints a JSON object. SETTINGS is JSON:
whether to train, and in what memory.
"""

from __future__ import annotations

import json
import math
import resource
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TypeVar

import numpy as np

from model_behavior.data.loading import load_votes
from model_behavior.data_models.training_log import EpochLog
from model_behavior.data_models.votes import ValidationSplit
from model_behavior.memory import Memory
from model_behavior.models.behavior.monitor import Runtime, SilentMonitor
from model_behavior.pipeline import TrainingConfig, complete, fit_encoder, gather_material, make_encoder, prepare
from model_behavior.preprocessing.behavior_embedding_preprocessor import BehaviorEmbeddingPreprocessor
from model_behavior.preprocessing.cache import ContentCache

_STATUS = Path("/proc/self/status")
_Result = TypeVar("_Result")


@dataclass(frozen=True)
class StageCost:
    """Cost of one stage.

    Attributes:
        stage: name of the stage.
        seconds: CPU time of all threads and of the system on the process's behalf.
        peak_bytes: highest resident memory of the process until its end, mapped files included.
    """

    stage: str
    seconds: float
    peak_bytes: int


def probe(path: Path, cache: Path) -> list[StageCost]:
    """Runs the stages one after the other.

    Args:
        path: file of votes.
        cache: empty folder, so that nothing is taken from an earlier run.
    """
    costs: list[StageCost] = []

    def timed(stage: str, run: Callable[[], _Result]) -> _Result:
        started = time.process_time()
        result = run()
        costs.append(StageCost(stage, time.process_time() - started, peak_memory()))
        return result

    timed("start", lambda: None)
    data, _ = timed("load", lambda: load_votes(path))
    preprocessor = BehaviorEmbeddingPreprocessor(ContentCache(cache))
    prepared = timed("filter and split", lambda: preprocessor.preprocess(data, ValidationSplit()))
    sampler = timed("triplet sampler", lambda: preprocessor.sampler(prepared))
    timed("triplets of an epoch", lambda: sampler.sample(np.random.default_rng(0)))
    return costs


class StageClock(SilentMonitor):
    """Sums the cost of a training by stage, as its progress tells where it is."""

    def __init__(self) -> None:
        self._seconds: dict[str, float] = {}
        self._peaks: dict[str, int] = {}
        self._since = time.process_time()
        self._stage = ""

    def stop(self, stage: str) -> None:
        """Counts what was done since the last call as work of a stage."""
        now = time.process_time()
        self._seconds[stage] = self._seconds.get(stage, 0.0) + now - self._since
        self._peaks[stage] = peak_memory()
        self._since = now

    def on_progress(self, task: str, done: int, total: int) -> None:
        """Ends the stage before `task`, or goes on with it."""
        # Nothing tells of the transforms, which come before the first step of the training.
        self.stop("transforms" if task == "training" != self._stage else _STAGES.get(task, task))
        self._stage = task

    def on_epoch(self, log: EpochLog) -> None:
        """The validation of an epoch is a part of it."""
        self.stop("epochs")

    def costs(self) -> list[StageCost]:
        """The stages so far, in the order in which they began."""
        return [StageCost(stage, seconds, self._peaks[stage]) for stage, seconds in self._seconds.items()]


_STAGES = {"training": "epochs", "scorer": "stage 2", "filters": "filter and split"}


@dataclass(frozen=True)
class TrainedProbe:
    """A training of both stages.

    Attributes:
        stages: costs in the order in which the stages ran.
        quality: validation figures: triplet accuracy, identification at 8, and log loss of stage 2.
    """

    stages: Sequence[StageCost]
    quality: Mapping[str, float]


def probe_training(path: Path, cache: Path, config: TrainingConfig, memory: Memory) -> TrainedProbe:
    """Trains both stages as `train` does, and writes the artifact.

    Args:
        path: file of votes.
        cache: empty folder.
        config: settings of the training.
        memory: limit on its memory.
    """
    clock = StageClock()
    clock.stop("start")
    runtime = Runtime(ContentCache(cache, memory=memory), clock, cache.with_name("state"))
    encoder = make_encoder(config, runtime)
    material = gather_material(load_votes(path)[0], None, None, config.split.seed)
    clock.stop("load")
    prepared, material = prepare(encoder, material, config)
    clock.stop("filter and split")
    trained = fit_encoder(encoder, prepared, config)
    clock.stop("model embeddings")
    scored = complete(trained, prepared, material, config)
    clock.stop("stage 2")
    scored.save(cache.with_name("artifact"))
    clock.stop("artifact")
    best = max(encoder.history, key=lambda log: log.triplet_accuracy)
    losses = [log.validation_loss for log in scored.trained_scorer.history]
    quality = {"triplet accuracy": best.triplet_accuracy, "log loss": min(losses, default=math.nan)}
    if best.identification is not None:
        quality["identification at 8"] = best.identification
    return TrainedProbe(clock.costs(), quality)


def peak_memory() -> int:
    """Highest resident memory of this process so far, bytes."""
    if _STATUS.exists():  # getrusage would count what the parent process had before this one took its place
        fields = dict(line.split(":", 1) for line in _STATUS.read_text("utf-8").splitlines())
        return int(fields["VmHWM"].split()[0]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


if __name__ == "__main__":
    settings = json.loads(sys.argv[3])
    file, folder = Path(sys.argv[1]), Path(sys.argv[2])
    if settings["train"]:
        default = TrainingConfig()
        optimisation = replace(default.encoder.optimisation, epoch_triplets=settings["epoch_triplets"])
        config = replace(default, encoder=replace(default.encoder, optimisation=optimisation))
        found = probe_training(file, folder, config, Memory(**settings["memory"]))
    else:
        found = TrainedProbe(probe(file, folder), {})
    print(json.dumps(asdict(found)))
