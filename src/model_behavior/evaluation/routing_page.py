"""The trade-off between cost and win rate: a page with a plot and a table, without scripts, and data."""

from __future__ import annotations

import csv
import html
import io
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from model_behavior.errors import UsageError
from model_behavior.evaluation.plots import PlotTexts, Star, draw_lines
from model_behavior.files import written_aside
from model_behavior.routing.traffic import OperatingPoint

_POLICY: Final = "default-src 'none'; style-src 'unsafe-inline'"
_STYLE: Final = """
:root { color-scheme: light dark; --ink: #1b2026; --paper: #fff; --line: #d5d9df; --soft: #59626e }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e8eaed; --paper: #14171b; --line: #343a42; --soft: #a3abb6 } }
body { margin: 0 auto; max-width: 1000px; padding: 1rem; background: var(--paper); color: var(--ink);
  font: 15px/1.45 system-ui, sans-serif }
h1 { font-size: 1.35rem; margin: 0 } p, caption { color: var(--soft); margin: .2rem 0; text-align: left }
.scroll { overflow-x: auto } svg { display: block; width: 100%; min-width: 640px; height: auto; margin: 1rem 0 }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums }
th, td { text-align: left; padding: .3rem .6rem; border-bottom: 1px solid var(--line) }
tbody th { font-weight: normal; white-space: nowrap }
"""


@dataclass(frozen=True)
class TradeOff:
    """The points of a trade-off curve.

    Attributes:
        points: operating points, from the best choices to the cheapest.
        chosen: the calibrated point, drawn as a star.
        reference: model that win rates are measured against.
        measured: win rates on held-out votes at each point's threshold, where there are votes.
    """

    points: tuple[OperatingPoint, ...]
    chosen: OperatingPoint
    reference: str
    measured: tuple[float, ...] | None = None

    def to_rows(self) -> list[dict[str, Any]]:
        """One record per point, as in JSON."""
        rows = [asdict(point) for point in self.points]
        if self.measured is not None:
            rows = [row | {"measured_win_rate": value} for row, value in zip(rows, self.measured, strict=True)]
        return rows


def check_curve_file(path: Path) -> None:
    """Refuses a file with an unknown ending, before any work.

    Raises:
        UsageError: the ending is unknown; the message names the known ones.
    """
    if path.suffix.lower() not in _WRITERS:
        raise UsageError(f"--curve {path}: unknown ending. Allowed: {', '.join(_WRITERS)}")


def write_trade_off(path: Path, data: TradeOff) -> None:
    """Writes the curve as a page, JSON or CSV, by the ending of the file.

    Raises:
        UsageError: the ending is unknown.
        OSError: the file cannot be written.
    """
    check_curve_file(path)
    text = _WRITERS[path.suffix.lower()](data)
    with written_aside(path) as aside:
        aside.write_text(text, encoding="utf-8")


def _write_json(data: TradeOff) -> str:
    value = {"reference": data.reference, "chosen": asdict(data.chosen), "points": data.to_rows()}
    return json.dumps(value, indent=1, ensure_ascii=False) + "\n"


def _write_csv(data: TradeOff) -> str:
    rows = data.to_rows()
    flat = [
        {key: value for key, value in row.items() if key != "shares"}
        | {f"share of {name}": share for name, share in row["shares"].items()}
        for row in rows
    ]
    text = io.StringIO()
    writer = csv.DictWriter(text, list(flat[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(flat)
    return text.getvalue()


def describe_shares(shares: Mapping[str, float]) -> str:
    """Shares of the calls in per cent, the largest first."""
    ranked = sorted(((share, name) for name, share in shares.items() if share > 0), reverse=True)
    return ", ".join(f"{name} {share:.1%}" for share, name in ranked)


def _write_page(data: TradeOff) -> str:
    title = "What quality costs when each prompt goes to one model"
    told = f"Expected win rate against {data.reference}, ties counted half. The star is the chosen threshold."
    columns = _columns(data)
    heads = "".join(f'<th scope="col">{html.escape(head)}</th>' for head in columns)
    rows = "\n".join(_fill_row(*cells) for cells in zip(*columns.values(), strict=True))
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta http-equiv="Content-Security-Policy" content="{_POLICY}">
<meta name="viewport" content="width=device-width, initial-scale=1"><title>{title}</title>
<style>{_STYLE}</style></head>
<body><h1>{title}</h1><p>{html.escape(told)} The table holds the same.</p>
<div class="scroll" aria-hidden="true">{_draw(data)}</div>
<div class="scroll"><table><caption>Thresholds, from the best choices to the cheapest</caption>
<thead><tr>{heads}</tr></thead><tbody>
{rows}
</tbody></table></div></body></html>
"""


def _columns(data: TradeOff) -> dict[str, list[str]]:
    columns = {
        "Threshold": [f"{point.threshold:.4g}" for point in data.points],
        "Mean cost of a request": [f"{point.mean_cost:.4g}" for point in data.points],
        "Expected win rate": [f"{point.win_rate:.4f}" for point in data.points],
        "Without looking at the prompt": [f"{point.blind_win_rate:.4f}" for point in data.points],
    }
    if data.measured is not None:
        columns["Measured on held-out votes"] = [f"{value:.4f}" for value in data.measured]
    return columns | {"Calls": [describe_shares(point.shares) for point in data.points]}


def _fill_row(name: str, *cells: str) -> str:
    values = "".join(f"<td>{html.escape(cell)}</td>" for cell in cells)
    return f'<tr><th scope="row">{html.escape(name)}</th>{values}</tr>'


def _draw(data: TradeOff) -> str:
    lines = {
        "routed by prompt": [(point.mean_cost, point.win_rate) for point in data.points],
        "prompt not looked at": [(point.mean_cost, point.blind_win_rate) for point in data.points],
    }
    hovers = [_hover(point) for point in data.points]
    star = Star("chosen", data.chosen.mean_cost, data.chosen.win_rate, _hover(data.chosen))
    texts = PlotTexts(
        "Cost against win rate",
        "mean cost of a request, in the currency of the cost file",
        f"win rate against {data.reference}",
        x_ticks=5,
    )
    return draw_lines(lines, texts, dict.fromkeys(lines, hovers), star)


def _hover(point: OperatingPoint) -> str:
    return (
        f"threshold {point.threshold:.4g}: cost {point.mean_cost:.4g}, win rate {point.win_rate:.4f}\n"
        f"{describe_shares(point.shares)}"
    )


_WRITERS: Final[Mapping[str, Callable[[TradeOff], str]]] = {
    ".html": _write_page,
    ".json": _write_json,
    ".csv": _write_csv,
}
