"""Loads, filters and splits a file of votes, draws an epoch's triplets, and prints the cost of each stage.

Run as a program, in a process of its own, since a process's highest memory never falls again:
`python -m model_behavior.benchmarks.scale_probe FILE CACHE_FOLDER` prints a JSON list of stages.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np

from model_behavior.data.loading import load_votes
from model_behavior.data_models.votes import ValidationSplit
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


def peak_memory() -> int:
    """Highest resident memory of this process so far, bytes."""
    if _STATUS.exists():  # getrusage would count what the parent process had before this one took its place
        fields = dict(line.split(":", 1) for line in _STATUS.read_text("utf-8").splitlines())
        return int(fields["VmHWM"].split()[0]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


if __name__ == "__main__":
    print(json.dumps([asdict(cost) for cost in probe(Path(sys.argv[1]), Path(sys.argv[2]))]))
