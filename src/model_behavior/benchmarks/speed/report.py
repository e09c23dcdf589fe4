"""The speed benchmark of one vote file, and its report as Markdown with SVG plots."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch

from model_behavior.benchmarks.speed.clock import Timing, faster
from model_behavior.benchmarks.speed.encoding import LIBRARY, ONE_BY_ONE, EncodingSpeed, measure_encoding
from model_behavior.benchmarks.speed.stages import (
    LIBRARY_TRAINER,
    OUR_TUNING,
    ManyModels,
    StageSpeed,
    check_trainer,
    first_votes,
    measure_many_models,
    measure_parts,
    measure_tuning,
    run_whole_stage,
)
from model_behavior.data.loading import load_votes
from model_behavior.evaluation.plots import draw_bars
from model_behavior.models.behavior.monitor import Runtime
from model_behavior.models.behavior.text.registry import DEFAULT_ENCODERS

_SENDINGS = 3  # how often the forerunner encodes every text
_MIB = 2**20
_INTRODUCTION = """\
# Speed

Written by `{command}`. Ways to do the same take turns, {turns} of them, so that what else the machine does hits all
alike; a ratio is the median over the turns [least, greatest] and above 1 where ours is faster. Rates are medians of
elapsed time. Memory is the peak of the whole process, with what was loaded before.

- *Floor*: counted operations over what this machine does in a second: for the transformer the multiplications and
  additions of its matrix products (4 h^2 + 2 h f + 2 t h a token and layer, twice) over the measured rate of one such
  product; for texts their bytes over the rate of a copy, or of one regular expression that hardly ever matches.
- *The forerunner's way*: every text encoded three times, one at a time, by sentence-transformers in f32.
- bf16 is taken where processor and library have it. A processor without it (AVX2 alone) runs f32 everywhere, near the
  rate of its products already, so that little is left to gain there.
"""


@dataclass(frozen=True)
class SpeedPlan:
    """Settings of the benchmark.

    Attributes:
        texts: responses that the transformer encodes.
        rows: votes that stage 1 is run on, the first of the file.
        turns: repetitions of every way, which take turns.
        epochs: epochs of the head.
        models: number of models in the enlarged catalog.
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
        timing: timing by votes, with the peak of memory.
        epoch_seconds: time of each epoch of the head.
        triplets: number of triplets of an epoch.
        forerunner: CPU time of encoding every text three times, one at a time, over that of stage 1.
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
        name: name of the file.
        n_texts: different responses of the first rows.
        threads: number of threads of torch, which every library here was given.
        encoding: speed of the transformer.
        tuning: timing of a step of fine-tuning, by way.
        parts: parts of stage 1.
        whole: stage 1 as a whole, by choice of text encoders.
        many: speed with very many models.
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


def write_speed_report(results: Sequence[SpeedResult], plan: SpeedPlan, command: str) -> tuple[str, Mapping[str, str]]:
    """The Markdown, and the SVG text of each picture by the file name that the Markdown refers to."""
    parts = [_INTRODUCTION.format(command=command, turns=plan.turns)]
    pictures: dict[str, str] = {}
    for result in results:
        drawn = _draw(result)
        pictures |= drawn
        parts += [f"## {result.name}", ""]
        parts += [*_write_encoding(result), *_write_whole(result), *_write_parts(result.parts)]
        parts += [*_write_tuning(result), *_write_many(result.many)]
        parts += [f"![{name}]({name})\n" for name in drawn]
    return "\n".join(parts), pictures


def _write_encoding(result: SpeedResult) -> list[str]:
    speed = result.encoding
    n = sum(1 for _ in speed.timings[LIBRARY].seconds) * speed.timings[LIBRARY].items
    machine = ", ".join(f"{each} {rate / 1e9:.0f} GFLOP/s" for each, rate in speed.machine.flops.items())
    lines = [
        f"### The transformer: {n:,} responses cut at 256 tokens, {speed.tokens:.0f} on average",
        "",
        f"{result.threads} threads, {speed.machine.device}; products {machine}; the processor has "
        f"{'' if speed.native else 'no '}bf16. Chosen by itself: {speed.chosen}.",
        "",
        "| way | texts a second | times sentence-transformers | by CPU time | times one at a time | of the floor "
        "| least cosine |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, timing in speed.timings.items():
        cells = [
            f"{timing.rate:.1f}",
            str(faster(timing, speed.timings[LIBRARY])),
            str(faster(timing, speed.timings[LIBRARY], by_cpu=True)),
            str(faster(timing, speed.timings[ONE_BY_ONE])),
            f"{_floor_of(speed, name) / float(np.median(timing.seconds)):.0%}",
            f"{speed.cosine[name]:.5f}",
        ]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return [*lines, ""]


def _floor_of(speed: EncodingSpeed, name: str) -> float:
    return speed.floor["bf16"] if " bf16 " in name else speed.floor["f32"]


def _write_whole(result: SpeedResult) -> list[str]:
    votes = result.whole[0].timing.items
    lines = [
        f"### Stage 1 as a whole: the first {votes:,} votes, {result.n_texts:,} responses, nothing cached",
        "",
        "| text encoders | seconds | CPU seconds | peak memory, MiB | an epoch of the head, s "
        "| the forerunner's way takes |",
        "|---|---|---|---|---|---|",
    ]
    return [*lines, *(_whole_row(each) for each in result.whole), ""]


def _whole_row(stage: WholeStageSpeed) -> str:
    cells = [
        " + ".join(stage.encoders),
        f"{stage.timing.seconds[0]:.1f}",
        f"{stage.timing.cpu_seconds[0]:.1f}",
        _memory(stage.timing),
        f"{np.median(stage.epoch_seconds):.2f}, {stage.triplets:,} triplets",
        f"{stage.forerunner:.1f} times the CPU time, for encoding alone",
    ]
    return f"| {' | '.join(cells)} |"


def _write_parts(parts: Sequence[StageSpeed]) -> list[str]:
    lines = [
        "### Its parts",
        "",
        "| part | a second | seconds | peak memory, MiB | times the floor | floor |",
        "|---|---|---|---|---|---|",
    ]
    for part in parts:
        seconds = float(np.median(part.timing.seconds))
        floor = ("", "") if part.floor is None else (f"{seconds / part.floor[0]:.1f}", part.floor[1])
        rate = f"{part.timing.rate:,.0f} {part.unit}"
        lines.append(f"| {part.name} | {rate} | {seconds:.3f} | {_memory(part.timing)} | {' | '.join(floor)} |")
    return [*lines, ""]


def _write_tuning(result: SpeedResult) -> list[str]:
    library, ours = result.tuning[LIBRARY_TRAINER], result.tuning[OUR_TUNING]
    stage = result.whole[0]
    head = stage.triplets / float(np.median(stage.epoch_seconds))
    return [
        "### Training",
        "",
        "| way | triplets a second | times sentence-transformers' trainer |",
        "|---|---|---|",
        f"| {LIBRARY_TRAINER} | {library.rate:.2f} | 1 |",
        f"| {OUR_TUNING} | {ours.rate:.2f} | {faster(ours, library)} |",
        f"| the head on cached features | {head:,.0f} | {head / library.rate:,.0f} |",
        "",
    ]


def _write_many(many: ManyModels) -> list[str]:
    typical, slow = np.quantile(many.neighbour_seconds, [0.5, 0.95]) * 1000
    rows = {
        "nearest models of one, style differences included": f"{typical:.1f} ms, 95 % within {slow:.1f} ms "
        f"(n = {len(many.neighbour_seconds)}; the first one {many.first_question * 1000:.0f} ms)",
        "adding one model to the catalog": f"{many.added.seconds[0] / many.added.items * 1000:.1f} ms",
        "rating all of them from their embeddings": f"{many.enrolled.seconds[0]:.2f} s",
        "all ratings with intervals": f"{many.rated.seconds[0] * 1000:.0f} ms",
        "all scores on a prompt": f"{many.rated_on_prompt.seconds[0] * 1000:.0f} ms",
    }
    lines = [
        f"### {many.n_models:,} models",
        "",
        "Real embeddings and style profiles, moved at random.",
        "",
        "| what | time |",
        "|---|---|",
    ]
    return [*lines, *(f"| {name} | {value} |" for name, value in rows.items()), ""]


def _draw(result: SpeedResult) -> dict[str, str]:
    timings = result.encoding.timings
    parts = {f"{each.name}, {each.unit}": each.timing.rate for each in result.parts}
    return {
        f"speed-{result.name}-encoding.svg": draw_bars(
            {name: timing.rate for name, timing in timings.items()}, f"{result.name}: texts encoded a second"
        ),
        f"speed-{result.name}-parts.svg": draw_bars(parts, f"{result.name}: a second, by part of stage 1"),
    }


def _memory(timing: Timing) -> str:
    return "" if timing.peak_bytes is None else f"{timing.peak_bytes / _MIB:,.0f}"
