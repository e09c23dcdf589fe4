"""How sure, and whether rightly so, as Markdown."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from model_behavior.catalog.placement import LEVELS
from model_behavior.evaluation.certainty import CertaintyFigures, RegionFigures, UnknownFigures


def write_certainty(seeds: Sequence[CertaintyFigures]) -> list[str]:
    """Both tables, means and standard deviations over the seeds; nothing where no seed has figures."""
    return [*_write_regions(seeds), *_write_unknown(seeds)]


def _write_regions(seeds: Sequence[CertaintyFigures]) -> list[str]:
    by_size: dict[int, list[RegionFigures]] = {}
    for seed in seeds:
        for k, figures in seed.regions.items():
            by_size.setdefault(k, []).append(figures)
    if not by_size:
        return []
    levels = " | ".join(f"holds, of {level:.0%}" for level in LEVELS)
    lines = [
        f"| regions of new LLMs | {levels} | radius | error, shrunk / plain | error / independent | n |",
        "|---" * (5 + len(LEVELS)) + "|",
    ]
    for k, found in sorted(by_size.items()):
        cells = [_spread([each.coverage[level] for each in found]) for level in LEVELS]
        cells.append(_spread([each.radius for each in found]))
        cells.append(_spread([each.shrunk_error / each.plain_error for each in found]))
        cells.append(_spread([each.variance_ratio for each in found]))
        lines.append(f"| {k} | " + " | ".join(cells) + f" | {found[0].n} |")
    topics = [seed.topic_correlation for seed in seeds if np.isfinite(seed.topic_correlation)]
    note = f"Correlation of responses to one topic: {_spread(topics)}." if topics else ""
    return [*lines, "", *([note, ""] if note else [])]


def _write_unknown(seeds: Sequence[CertaintyFigures]) -> list[str]:
    rows: list[str] = []
    for label, column in (
        ("style and embedding", [seed.unknown for seed in seeds]),
        ("style alone", [seed.unknown_by_style for seed in seeds]),
    ):
        sizes = sorted({k for seed in column for k in seed})
        rows += [_write_row(f"{label}, {k}", [seed[k] for seed in column if k in seed]) for k in sizes]
    if not rows:
        return []
    head = "| none of them | recognised | log loss | Brier | ECE | false known | false unknown | n known, new |"
    return [head, "|---" * 8 + "|", *rows, ""]


def _write_row(label: str, figures: Sequence[UnknownFigures]) -> str:
    columns = (
        [each.recognised for each in figures],
        [each.log_loss for each in figures],
        [each.brier for each in figures],
        [each.calibration_error for each in figures],
        [each.false_known for each in figures],
        [each.false_unknown for each in figures],
    )
    known, new = figures[0].n
    return f"| {label} | " + " | ".join(map(_spread, columns)) + f" | {known}, {new} |"


def _spread(values: Sequence[float]) -> str:
    spread = f" ± {np.std(values, ddof=1):.3f}" if len(values) > 1 else ""
    return f"{np.mean(values):.3f}{spread}"
