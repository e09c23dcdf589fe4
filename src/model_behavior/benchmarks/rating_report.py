"""The part of the stage-2 report on ratings of new LLMs, as Markdown, with the picture of the README."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import groupby

from model_behavior.benchmarks.rating_cells import (
    NOTHING,
    POINT_RESPONSES,
    RatedPoint,
    RatedResult,
    RatingCell,
)
from model_behavior.benchmarks.rating_figures import VOTE_COUNTS, RatingFigures
from model_behavior.data_models.scoring_types import ELO_PER_LOG_ODDS
from model_behavior.evaluation.figures import Figure
from model_behavior.evaluation.plots import Estimate, PlotTexts, draw_estimates

EXPLANATION = """\
## How to read the tables on new LLMs' ratings

LLMs without a vote are rated from 4, 8, 32 or 128 of their responses, drawn anew several times with each seed.

- *Shared*: known LLMs answered the same prompts; *unshared*: none did; *chosen prompts*: those that `prompts` chooses.
- The known LLMs are known by all their training votes, by *one vote per prompt* (stage 1 is trained on these alone,
  too), or by *ratings only*: of the training votes, or as published. Known and new LLMs are of different families.
  *Beyond the known field*: the known LLMs are the lower two thirds by rating, the new ones the upper third, of any
  family.
- *Methods*: the joint reading, the mean log length, and each witness alone: the embedding, agreement on shared
  prompts, and the regression of votes on style features of the responses (`answers`).
- *Spearman* and *error* (root mean square) are over draws and seeds, ± their standard deviation over seeds, with the
  95 % interval from resampled families. *Coverage* is that of the 95 % intervals of ratings, *width* theirs.
- *Votes*: the number of votes on a new LLM, each against a random known one, whose rating has the same error. These
  votes are drawn from the later ratings.
"""


def write_rated(result: RatedResult) -> list[str]:
    """The section of one file of published ratings."""
    head = f"{result.n_models} LLMs with a published rating, {result.n_responses:,} responses of them."
    return [f"## {result.name}", "", head, "", *write_rating_cells(result.cells)]


def write_rating_cells(cells: Sequence[RatingCell]) -> list[str]:
    """One table for each cell."""
    lines: list[str] = []
    for cell, rows in groupby(cells, key=lambda each: each.cell):
        lines += _write_cell(cell, list(rows))
    return lines


def draw_rated(result: RatedResult) -> dict[str, str]:
    """The picture of the ratings from chosen prompts, by the name of its file."""
    if not result.points:
        return {}
    texts = PlotTexts(
        f"LLMs of families left out, from {POINT_RESPONSES} answers each: {_inside(result.points)}",
        "rating by people's votes, Elo",
        "rating from its answers, Elo",
    )
    estimates = [
        Estimate(
            f"{point.name}: {point.rating:.0f} ({point.low:.0f} to {point.high:.0f}), people {point.truth:.0f}",
            *(point.truth, point.rating, point.low, point.high),
        )
        for point in result.points
    ]
    name = "-".join(result.name.split(" ")[:2])  # "ratings", or "ratings beside" of those with votes
    return {f"stage2-{name}-chosen.svg": draw_estimates(estimates, texts, ("with its 95 % interval", "both alike"))}


def _inside(points: Sequence[RatedPoint]) -> str:
    inside = sum(point.low <= point.truth <= point.high for point in points)
    return f"{inside} of {len(points)} within their interval"


def _write_cell(cell: str, rows: Sequence[RatingCell]) -> list[str]:
    constant = next((row.figures for row in rows if row.method == NOTHING), None)
    lines = [f"### New LLMs' ratings: {cell}", ""]
    if constant is not None:
        lines += [
            f"Reading the known LLMs' mean errs by {_error(constant)}. n = {constant.error.n} (LLM, draw), "
            f"{constant.seeds} seeds.",
            "",
        ]
    lines += [
        "| responses | method | Spearman | error, log-odds | Elo | coverage | width, Elo | votes |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        if row.method != NOTHING:
            lines.append(f"| {_count(row)} | {row.method} | " + " | ".join(_columns(row.figures)) + " |")
    return [*lines, ""]


def _count(row: RatingCell) -> str:
    there = row.figures.responses
    return f"{row.responses}" if there > row.responses - 0.5 else f"{row.responses} ({there:.0f} there)"


def _columns(figures: RatingFigures) -> tuple[str, ...]:
    error = figures.error
    return (
        _cell(figures.correlation, figures.correlation_spread),
        _cell(error, figures.error_spread),
        f"{ELO_PER_LOG_ODDS * error.value:.0f}",
        f"{figures.coverage.value:.3f} [{figures.coverage.low:.3f}, {figures.coverage.high:.3f}]",
        f"{ELO_PER_LOG_ODDS * figures.width:.0f}",
        f"over {VOTE_COUNTS[-1]:,}" if math.isinf(figures.worth) else f"{figures.worth:.0f}",
    )


def _cell(figure: Figure, spread: float) -> str:
    around = "" if math.isnan(spread) else f" ± {spread:.3f}"
    return f"{figure.value:.3f}{around} [{figure.low:.3f}, {figure.high:.3f}]"


def _error(figures: RatingFigures) -> str:
    return f"{figures.error.value:.2f} log-odds, {ELO_PER_LOG_ODDS * figures.error.value:.0f} Elo"
