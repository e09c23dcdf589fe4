"""How the cost of votes grows with their number: the same stages at several sizes, each in a process of its own."""

from __future__ import annotations

import json
import math
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from model_behavior.data_models.votes import TrainingData
from model_behavior.errors import ModelBehaviorError
from model_behavior.evaluation import scale_probe
from model_behavior.evaluation.enlarged_votes import write_enlarged_votes
from model_behavior.evaluation.line_plot import PlotTexts, draw_lines
from model_behavior.evaluation.scale_probe import StageCost

_MIB = 1 << 20
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


@dataclass(frozen=True)
class SizeResult:
    """The cost of one size.

    Attributes:
        votes: how many.
        file_bytes: size of their file.
        stages: in the order in which they ran; the first is the start of the program.
    """

    votes: int
    file_bytes: int
    stages: Sequence[StageCost]

    @property
    def seconds(self) -> float:
        """CPU time of all stages."""
        return sum(stage.seconds for stage in self.stages)

    @property
    def peak_bytes(self) -> int:
        """Highest resident memory."""
        return self.stages[-1].peak_bytes


def measure_sizes(
    data: TrainingData, sizes: Sequence[int], seed: int, progress: Callable[[int, int], None]
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
            write_enlarged_votes(data, size, path, seed)
            results.append(SizeResult(size, path.stat().st_size, _probe(path, Path(folder) / "cache")))
    progress(len(sizes), len(sizes))
    return results


def _probe(path: Path, cache: Path) -> list[StageCost]:
    command = [sys.executable, "-m", scale_probe.__name__, str(path), str(cache)]
    finished = subprocess.run(command, capture_output=True, text=True, check=False)
    if finished.returncode:
        tail = finished.stderr.strip().splitlines()[-1:] or ["no message; it may have run out of memory"]
        raise ModelBehaviorError(f"measuring {path} ended with code {finished.returncode}: {tail[0]}")
    return [StageCost(**stage) for stage in json.loads(finished.stdout)]


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
    pictures = {"scale-memory.svg": _draw_memory(results), "scale-cpu.svg": _draw_cpu(results)}
    shown = [f"![{name}]({name})\n" for name in pictures]
    return "\n".join([introduction, *lines, "", *shown]), pictures


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
