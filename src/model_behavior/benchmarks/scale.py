"""Benchmark of scale: cost of the same stages at growing numbers of votes, each size in a process of its own.

Large files are made of real votes, repeated and perturbed (`write_enlarged_votes`); `scale_probe` measures the cost of
each size.
"""

from __future__ import annotations

import json
import math
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from model_behavior.benchmarks import scale_probe
from model_behavior.benchmarks.scale_probe import StageCost, TrainedProbe
from model_behavior.data.text_columns import LazyTexts
from model_behavior.data_models.votes import Outcome, TrainingData
from model_behavior.errors import ModelBehaviorError
from model_behavior.evaluation.plots import PlotTexts, draw_lines
from model_behavior.files import written_aside
from model_behavior.memory import Memory, spare_memory
from model_behavior.models.behavior.training import OptimisationConfig

_MIB = 1 << 20
_SMALLEST_STEP, _LARGEST_STEP = 5, 13
_ROWS_AT_ONCE = 8192
_INTRODUCTION = """\
# From file to triplets at growing sizes

Written by `{command}`. The votes are those of {source} repeated and perturbed: every round of them has prompts and
responses of its own, so that the number of distinct texts grows as the number of votes does. Each size ran in a
process of its own with an empty cache, and nothing was taken from an earlier run.

- *CPU*: seconds of all threads and of the system on the process's behalf. *µs a vote*: their sum over the votes.
- *Growth*: the exponent b of cost ~ votes^b between this size and the one before, all stages together; 1 is linear.
- *Peak memory*: the highest resident memory up to the end of the stage, mapped files and {start:,.0f} MiB of libraries
  included.
"""
_OF_TRAINING = """\
- *Quality*: on validation prompts. In the enlarged votes these are perturbed copies of training prompts, so that the
  figures of sizes above the real number of votes flatter.
"""


@dataclass(frozen=True)
class ScalePlan:
    """What is measured at each size.

    Attributes:
        train: train both stages, beyond loading and triplets.
        memory: limit on the memory of a training.
        epoch_triplets: largest number of triplets of an epoch.
        seed: seed of the enlarged votes.
    """

    train: bool = False
    memory: Memory = field(default_factory=spare_memory)
    epoch_triplets: int = OptimisationConfig().epoch_triplets
    seed: int = 0


@dataclass(frozen=True)
class SizeResult:
    """The cost of one size.

    Attributes:
        votes: number of votes.
        file_bytes: size of their file.
        stages: costs in the order in which the stages ran; the first is the start of the program.
        quality: validation figures of a training, by name.
    """

    votes: int
    file_bytes: int
    stages: Sequence[StageCost]
    quality: Mapping[str, float] = field(default_factory=dict)

    @property
    def seconds(self) -> float:
        """CPU time of all stages."""
        return sum(stage.seconds for stage in self.stages)

    @property
    def peak_bytes(self) -> int:
        """Highest resident memory."""
        return self.stages[-1].peak_bytes


def measure_sizes(
    data: TrainingData, sizes: Sequence[int], plan: ScalePlan, progress: Callable[[int, int], None]
) -> list[SizeResult]:
    """Makes votes of every size, ascending, in a temporary folder, and measures each in a new process.

    Raises:
        ModelBehaviorError: a measurement failed, for want of memory, say.
    """
    results = []
    for done, size in enumerate(sorted(sizes)):
        progress(done, len(sizes))
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "votes.parquet"
            write_enlarged_votes(data, size, path, plan.seed)
            found = _probe(path, Path(folder) / "cache", plan)
            results.append(SizeResult(size, path.stat().st_size, found.stages, found.quality))
    progress(len(sizes), len(sizes))
    return results


def write_enlarged_votes(data: TrainingData, n_votes: int, path: Path, seed: int = 0) -> None:
    """Writes a plain table of votes (Parquet, zstd), one round of the real votes after the other.

    The first round is the votes as they are. In each later one every prompt carries the round's number, and of every
    response words at regular places change places with their neighbours; models and outcomes stay. So the shares of
    prompts, pairs and models among votes, and the lengths of texts, are those of the real votes at every size. Rounds
    are written as they are made: memory holds the real votes and one round.

    Args:
        data: the real votes.
        n_votes: number of votes to write; the last round is cut.
        path: the file.
        seed: seed of the places where words change.
    """
    rng = np.random.default_rng(seed)
    with written_aside(path) as aside:
        writer: pq.ParquetWriter | None = None
        try:
            for number in range(-(-n_votes // len(data))):
                table = _make_round(data, number, rng).slice(0, n_votes - number * len(data))
                writer = writer or pq.ParquetWriter(aside, table.schema, compression="zstd")
                writer.write_table(table, row_group_size=_ROWS_AT_ONCE)
        finally:
            if writer is not None:
                writer.close()


def swap_words(text: str, first: int, step: int) -> str:
    """The text, in which word `first` and every `step`-th after it have changed places with the next; 0 <= first."""
    words = text.split(" ")
    for place in range(first, len(words) - 1, step):
        words[place], words[place + 1] = words[place + 1], words[place]
    return " ".join(words)


def write_scale_report(results: Sequence[SizeResult], source: str, command: str) -> tuple[str, Mapping[str, str]]:
    """The Markdown, and the SVG text of each picture by the file name that the Markdown refers to."""
    start, *stages = (stage.stage for stage in results[0].stages)
    del start
    head = ["votes", "file, MiB", *(f"{name}: CPU s" for name in stages), "µs a vote", "growth", "peak memory, MiB"]
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    for before, result in zip([None, *results[:-1]], results, strict=True):
        growth = "" if before is None else f"{_growth(before, result):.2f}"
        cells = [
            f"{result.votes:,}",
            f"{result.file_bytes / _MIB:,.0f}",
            *(f"{stage.seconds:,.2f}" for stage in result.stages[1:]),
            f"{1e6 * result.seconds / result.votes:,.0f}",
            growth,
            f"{result.peak_bytes / _MIB:,.0f}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    libraries = results[0].stages[0].peak_bytes / _MIB
    introduction = _INTRODUCTION.format(command=command, source=source, start=libraries)
    if results[0].quality:
        lines += ["", *_stage_table(results), "", *_quality_table(results)]
        introduction += _OF_TRAINING
    pictures = {"scale-memory.svg": _draw_memory(results), "scale-cpu.svg": _draw_cpu(results)}
    shown = [f"![{name}]({name})\n" for name in pictures]
    return "\n".join([introduction, *lines, "", *shown]), pictures


def _stage_table(results: Sequence[SizeResult]) -> list[str]:
    """Cost a vote and peak memory of every stage, one row a stage."""
    head = ["stage", *(f"{each.votes:,}: µs a vote, MiB" for each in results)]
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    for place, stage in enumerate(results[0].stages[1:], 1):
        cells = [
            f"{1e6 * each.stages[place].seconds / each.votes:,.0f}, {each.stages[place].peak_bytes / _MIB:,.0f}"
            for each in results
        ]
        lines.append(f"| {stage.stage} | {' | '.join(cells)} |")
    return lines


def _quality_table(results: Sequence[SizeResult]) -> list[str]:
    """Validation figures at every size."""
    names = [name for name in results[0].quality if all(name in each.quality for each in results)]
    lines = [f"| votes | {' | '.join(names)} |", f"|{'---|' * (len(names) + 1)}"]
    lines += [f"| {each.votes:,} | {' | '.join(f'{each.quality[name]:.3f}' for name in names)} |" for each in results]
    return lines


def _make_round(data: TrainingData, number: int, rng: np.random.Generator) -> pa.Table:
    pairs = data.pairs
    step = int(rng.integers(_SMALLEST_STEP, _LARGEST_STEP + 1))
    first = int(rng.integers(step))
    prompts: list[str] = list(LazyTexts(pairs.prompts))
    responses = LazyTexts(pairs.responses)
    if number:
        prompts = [f"{prompt} ({number})" for prompt in prompts]
        perturbed = pa.array((swap_words(text, first, step) for text in responses), pa.large_string())
    else:
        perturbed = pairs.responses
    models = pa.array(pairs.models, pa.string())
    columns = {"prompt": pa.array(prompts, pa.large_string()).take(pa.array(pairs.prompt_index[data.pair_a]))}
    for side, pair in (("a", data.pair_a), ("b", data.pair_b)):
        columns[f"model_{side}"] = models.take(pa.array(pairs.model_index[pair]))
        columns[f"response_{side}"] = perturbed.take(pa.array(pair))
    labels = pa.array([outcome.label for outcome in Outcome], pa.string())
    return pa.table({**columns, "winner": labels.take(pa.array(data.outcome))})


def _probe(path: Path, cache: Path, plan: ScalePlan) -> TrainedProbe:
    settings = json.dumps(asdict(plan))
    command = [sys.executable, "-m", scale_probe.__name__, str(path), str(cache), settings]
    finished = subprocess.run(command, capture_output=True, text=True, check=False)
    if finished.returncode:
        tail = finished.stderr.strip().splitlines()[-1:] or ["no message; it may have run out of memory"]
        raise ModelBehaviorError(f"measuring {path} ended with code {finished.returncode}: {tail[0]}")
    found = json.loads(finished.stdout)
    return TrainedProbe([StageCost(**stage) for stage in found["stages"]], found["quality"])


def _growth(before: SizeResult, after: SizeResult) -> float:
    return math.log(after.seconds / before.seconds) / math.log(after.votes / before.votes)


def _draw_memory(results: Sequence[SizeResult]) -> str:
    points = [(float(result.votes), result.peak_bytes / _MIB) for result in results]
    texts = PlotTexts("Peak memory from file to triplets", "votes", "MiB", log_x=True)
    return draw_lines({"peak memory": points}, texts)


def _draw_cpu(results: Sequence[SizeResult]) -> str:
    names = [stage.stage for stage in results[0].stages[1:]]
    series = {
        name: [(float(each.votes), 1e6 * each.stages[place].seconds / each.votes) for each in results]
        for place, name in enumerate(names, 1)
    }
    return draw_lines(series, PlotTexts("CPU time a vote: level is linear", "votes", "µs a vote", log_x=True))
