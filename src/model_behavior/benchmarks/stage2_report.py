"""The report of the stage-2 benchmark, as Markdown with SVG plots."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from model_behavior.benchmarks.rating_cells import RatedResult
from model_behavior.benchmarks.rating_report import EXPLANATION, draw_rated, write_rated, write_rating_cells
from model_behavior.benchmarks.stage2 import (
    BRADLEY_TERRY,
    DENSE_NETWORK,
    METHODS,
    VOTE_SHARES,
    SeedResult,
    Stage2Result,
)
from model_behavior.benchmarks.stage2_plan import Stage2Plan
from model_behavior.evaluation.figures import Figure
from model_behavior.evaluation.plots import PlotTexts, draw_lines
from model_behavior.evaluation.stage2 import CELLS, Stage2Figures

_INTRODUCTION = """\
# Stage 2 on real votes

Written by `{command}`. {fraction} of the prompts are measured on and {held_out} of the LLMs are held out
in whole families, with {seeds} seeds, each its own split and training of both stages. A cell is the mean over seeds,
[the 95 % bootstrap interval of the first seed, clustered by prompt] and ± the standard deviation over seeds.

- *Accuracy*: share of decided votes whose winner has the larger probability. No method but the one marked so sees the
  responses that it predicts on.
- *Log loss*: over the four outcomes, in nats. *ECE*: expected calibration error of the likeliest outcome, 10 bins.
- *New LLM*: votes between a held-out LLM, enrolled from 32 responses to training prompts, and a known one. The oracle
  is Bradley-Terry that has seen the held-out LLMs' votes on training prompts.
- *Length controlled for*: accuracy on decided votes whose responses differ by at most 10 % in length; and the mean of
  the accuracies on votes that the longer and that the shorter response won, which is 0.5 for length alone.
- *Coverage*: share of the new LLMs' later Bradley-Terry ratings, from all votes, within the 95 % interval.
"""


def write_stage2_report(
    results: Iterable[Stage2Result], plan: Stage2Plan, command: str, rated: Iterable[RatedResult] = ()
) -> tuple[str, Mapping[str, str]]:
    """The Markdown, and the SVG text of each picture by the file name that the Markdown refers to."""
    parts = [
        _INTRODUCTION.format(
            command=command,
            fraction=f"{plan.validation_fraction:.0%}",
            held_out=f"{plan.held_out_share:.0%}",
            seeds=plan.seeds,
        ),
        EXPLANATION,
    ]
    pictures: dict[str, str] = {}
    sections = [(_write_result(result), _draw(result)) for result in results]
    sections += [(write_rated(result), draw_rated(result)) for result in rated]
    for lines, drawn in sections:
        pictures |= drawn
        parts += [*lines, *(f"![{name}]({name})\n" for name in drawn)]
    return "\n".join(parts), pictures


def _write_result(result: Stage2Result) -> list[str]:
    lines = [
        f"## {result.name}",
        "",
        f"{result.n_votes:,} votes, {result.n_models} LLMs, {result.n_prompts:,} prompts.",
        "",
    ]
    for cell in CELLS:
        rows = [
            (name, [seed.cells[name][cell] for seed in result.seeds if cell in seed.cells[name]]) for name in METHODS
        ]
        seen = [seed.responses_seen[cell] for seed in result.seeds if cell in seed.responses_seen]
        rows.append(("the longer response (sees the responses)", seen))
        if not (cell.seen_prompt or cell.seen_models):
            rows.append(("Bradley-Terry oracle", [seed.oracle for seed in result.seeds if seed.oracle is not None]))
        lines += _write_cell(cell.label, [(name, figures) for name, figures in rows if figures])
    lines += [*_write_lengths(result.seeds), *_write_cold_start(result.seeds), *_write_calibration(result.seeds)]
    return [*lines, *write_rating_cells(result.cells)]


def _write_cell(label: str, rows: Sequence[tuple[str, Sequence[Stage2Figures]]]) -> list[str]:
    if not rows:
        return []
    first = rows[0][1][0]
    lines = [
        f"### {label[0].upper()}{label[1:]}",
        "",
        f"n = {first.log_loss.n:,} votes, {first.accuracy.n:,} of them decided (first seed).",
        "",
        "| method | accuracy | log loss | ECE |",
        "|---|---|---|---|",
    ]
    for name, figures in rows:
        cells = (
            [f.accuracy for f in figures],
            [f.log_loss for f in figures],
            [f.calibration_error for f in figures],
        )
        lines.append(f"| {name} | " + " | ".join(map(_cell, cells)) + " |")
    return [*lines, ""]


def _write_lengths(seeds: Sequence[SeedResult]) -> list[str]:
    methods = [name for name in METHODS if any(name in seed.length_control for seed in seeds)]
    if not methods:
        return []
    lines = ["### New prompt, known LLM, length controlled for", ""]
    lines += ["| method | lengths within 10 % | longer and shorter winners balanced |", "|---|---|---|"]
    for name in methods:
        controls = [seed.length_control[name] for seed in seeds if name in seed.length_control]
        columns = ([each.matched for each in controls], [each.balanced for each in controls])
        lines.append(f"| {name} | " + " | ".join(f"{_cell(column)}, n = {column[0].n:,}" for column in columns) + " |")
    return [*lines, ""]


def _write_cold_start(seeds: Sequence[SeedResult]) -> list[str]:
    sizes = sorted({k for seed in seeds for k in seed.cold_start})
    if not sizes:
        return []
    lines = ["### New LLMs on new prompts, by responses enrolled", ""]
    lines += ["| responses | accuracy | log loss | Spearman of ratings | coverage |", "|---|---|---|---|---|"]
    for k in sizes:
        figures = [seed.cold_start[k] for seed in seeds if k in seed.cold_start]
        columns = (
            [f.accuracy for f in figures],
            [f.log_loss for f in figures],
            [f.correlation for f in figures],
            [f.coverage for f in figures],
        )
        lines.append(f"| {k} | " + " | ".join(map(_spread, columns)) + " |")
    return [*lines, ""]


def _write_calibration(seeds: Sequence[SeedResult]) -> list[str]:
    measured = [seed.calibrations for seed in seeds if seed.calibrations is not None]
    if not measured:
        return []
    lines = [
        "### New prompt, known LLM, by the calibration of DenseNetworkModel",
        "",
        "| calibration | log loss | ECE |",
        "|---|---|---|",
    ]
    for name in measured[0].figures:
        figures = [calibrations.figures[name] for calibrations in measured]
        lines.append(
            f"| {name} | {_cell([f.log_loss for f in figures])} | {_cell([f.calibration_error for f in figures])} |"
        )
    floor = _spread([calibrations.floor for calibrations in measured])
    return [*lines, "", f"A perfect model with these confidences would read an ECE of {floor} on as many votes.", ""]


def _draw(result: Stage2Result) -> dict[str, str]:
    pictures = {}
    curves: dict[str, list[tuple[float, float]]] = {DENSE_NETWORK: [], BRADLEY_TERRY: []}
    for name, curve in curves.items():
        for share in VOTE_SHARES:
            values = [s.learning[share][name].log_loss.value for s in result.seeds if name in s.learning.get(share, {})]
            if values:
                curve.append((share, float(np.mean(values))))
    if any(curves.values()):
        texts = PlotTexts(f"{result.name}: known LLMs, new prompts", "share of the votes", "log loss", log_x=True)
        pictures[f"stage2-{result.name}-votes.svg"] = draw_lines(curves, texts)
    sizes = sorted({k for seed in result.seeds for k in seed.cold_start})
    points = [
        (float(k), float(np.mean([seed.cold_start[k].accuracy for seed in result.seeds if k in seed.cold_start])))
        for k in sizes
    ]
    oracle = [seed.oracle.accuracy.value for seed in result.seeds if seed.oracle is not None]
    if points and np.isfinite([y for _, y in points]).any():
        lines = {DENSE_NETWORK: points}
        if oracle:
            lines["Bradley-Terry oracle"] = [(float(k), float(np.mean(oracle))) for k in sizes]
        texts = PlotTexts(f"{result.name}: new LLMs, new prompts", "responses enrolled", "accuracy", log_x=True)
        pictures[f"stage2-{result.name}-enrolment.svg"] = draw_lines(lines, texts)
    bins = result.seeds[0].reliability if result.seeds else ()
    if bins:
        ends = [bins[0].confidence, bins[-1].confidence]
        shares = {"observed": [(b.confidence, b.share_right) for b in bins], "perfect": [(x, x) for x in ends]}
        rounded = {name: [(round(x, 2), y) for x, y in line] for name, line in shares.items()}
        texts = PlotTexts(f"{result.name}: reliability, first seed", "confidence", "share right")
        pictures[f"stage2-{result.name}-reliability.svg"] = draw_lines(rounded, texts)
    return pictures


def _cell(figures: Sequence[Figure]) -> str:
    first = figures[0]
    return f"{_spread([figure.value for figure in figures])} [{first.low:.3f}, {first.high:.3f}]"


def _spread(values: Sequence[float]) -> str:
    spread = f" ± {np.std(values, ddof=1):.3f}" if len(values) > 1 else ""
    return f"{np.mean(values):.3f}{spread}"
