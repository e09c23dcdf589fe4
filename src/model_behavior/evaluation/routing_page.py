"""The trade-off between cost and win rate, as a page that needs no network, and as data."""

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
from model_behavior.evaluation.map_page import fill_page
from model_behavior.evaluation.model_map import BACKGROUND, COLOURS, CONFIG, GRID, HOVER, MODEBAR
from model_behavior.files import written_aside
from model_behavior.routing.traffic import OperatingPoint


@dataclass(frozen=True)
class TradeOff:
    """What is drawn.

    Attributes:
        points: from the best choices to the cheapest.
        chosen: the calibrated one, drawn as a star.
        reference: the model that win rates are against.
        measured: measured win rates on held-out votes at each point's threshold, where there are votes.
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
    """Refuses a file whose ending says no known form, before any work.

    Raises:
        UsageError: names the endings.
    """
    if path.suffix.lower() not in _WRITERS:
        raise UsageError(f"--curve {path}: unknown ending. Allowed: {', '.join(_WRITERS)}")


def write_trade_off(path: Path, data: TradeOff) -> None:
    """Writes the curve as a page, JSON or CSV, by the ending of the file.

    Raises:
        UsageError: another ending.
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


def _write_page(data: TradeOff) -> str:
    columns = {
        "Threshold": [f"{point.threshold:.4g}" for point in data.points],
        "Mean cost": [f"{point.mean_cost:.4g}" for point in data.points],
        "Expected win rate": [f"{point.win_rate:.4f}" for point in data.points],
        "Without looking at the prompt": [f"{point.blind_win_rate:.4f}" for point in data.points],
    }
    if data.measured is not None:
        columns["Measured on held-out votes"] = [f"{value:.4f}" for value in data.measured]
    columns["Calls"] = [describe_shares(point.shares) for point in data.points]
    return fill_page(
        title="What quality costs when each prompt goes to one model",
        subtitle=f"Expected win rate against {data.reference}, ties counted half. The star is the chosen threshold.",
        plot=_draw(data),
        columns=columns,
        caption="Thresholds, from the best choices to the cheapest",
    )


def describe_shares(shares: Mapping[str, float]) -> str:
    """Shares of the calls in per cent, the largest first."""
    ranked = sorted(((share, name) for name, share in shares.items() if share > 0), reverse=True)
    return ", ".join(f"{name} {share:.1%}" for share, name in ranked)


def _draw(data: TradeOff) -> str:
    import plotly.graph_objects as go

    cost = [point.mean_cost for point in data.points]
    hover = [f"threshold {p.threshold:.4g}<br>{html.escape(describe_shares(p.shares))}" for p in data.points]
    figure = go.Figure()
    lines = {
        "routed by prompt": [point.win_rate for point in data.points],
        "best mix, prompt not looked at": [point.blind_win_rate for point in data.points],
    }
    for colour, (name, values) in zip(COLOURS, lines.items(), strict=False):
        figure.add_scatter(x=cost, y=values, name=name, mode="lines+markers", marker={"color": colour}, hovertext=hover)
    star = {"symbol": "star", "size": 16, "color": COLOURS[0]}
    chosen = data.chosen
    figure.add_scatter(x=[chosen.mean_cost], y=[chosen.win_rate], name="chosen", mode="markers", marker=star)
    axis: dict[str, Any] = {"gridcolor": GRID, "zeroline": False}
    figure.update_layout(BACKGROUND, dragmode="pan", legend={"orientation": "h"}, modebar=MODEBAR, hoverlabel=HOVER)
    figure.update_layout(
        margin={"t": 30, "l": 70},
        xaxis=axis | {"title": "mean cost of a request"},
        yaxis=axis | {"title": f"expected win rate against {html.escape(data.reference)}"},
    )
    plot: str = figure.to_html(full_html=False, include_plotlyjs=True, config=CONFIG, div_id="curve")
    return plot


_WRITERS: Final[Mapping[str, Callable[[TradeOff], str]]] = {
    ".html": _write_page,
    ".json": _write_json,
    ".csv": _write_csv,
}
