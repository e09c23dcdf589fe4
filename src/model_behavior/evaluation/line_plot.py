"""Line plots as SVG text, so that reports have pictures without a drawing library."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

_WIDTH, _HEIGHT, _LEFT, _RIGHT, _TOP, _BOTTOM = 640, 360, 60, 190, 30, 45
_COLOURS = ("#1f5fa8", "#c2410c", "#15803d", "#7e22ce", "#a16207", "#be185d", "#0e7490", "#4b5563")


@dataclass(frozen=True)
class PlotTexts:
    """Title and axes; `log_x` spaces x by its logarithm."""

    title: str
    x: str
    y: str
    log_x: bool = False


def draw_lines(series: Mapping[str, Sequence[tuple[float, float]]], texts: PlotTexts) -> str:
    """One line per series of (x, y) points, as a whole SVG document. Points that are not finite are left out.

    Raises:
        ValueError: not one finite point.
    """
    lines = {name: [p for p in points if all(map(math.isfinite, p))] for name, points in series.items()}
    points = [point for line in lines.values() for point in line]
    if not points:
        raise ValueError("no finite point to draw")
    xs, ys = sorted({x for x, _ in points}), [y for _, y in points]
    low, high = min(ys), max(ys)
    pad = 0.05 * (high - low) or 0.05
    low, high = low - pad, high + pad

    def place(x: float, y: float) -> tuple[float, float]:
        first, last, at = (math.log(v) if texts.log_x else v for v in (xs[0], xs[-1], x))
        share = (at - first) / (last - first) if last > first else 0.5
        return (
            _LEFT + share * (_WIDTH - _LEFT - _RIGHT),
            _TOP + (high - y) / (high - low) * (_HEIGHT - _TOP - _BOTTOM),
        )

    parts = _draw_frame(texts)
    parts += [_text(place(x, low)[0], _HEIGHT - _BOTTOM + 16, f"{x:g}", "middle") for x in xs]
    for step in range(5):
        y = low + (high - low) * step / 4
        parts.append(_text(_LEFT - 6, place(xs[0], y)[1] + 4, f"{y:.3g}", "end"))
    for index, (name, line) in enumerate(lines.items()):
        parts += _draw_series(name, [place(*point) for point in sorted(line)], index)
    return "\n".join([*parts, "</svg>"]) + "\n"


def _draw_frame(texts: PlotTexts) -> list[str]:
    width, height = _WIDTH - _LEFT - _RIGHT, _HEIGHT - _TOP - _BOTTOM
    return [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{_HEIGHT}" '
        f'viewBox="0 0 {_WIDTH} {_HEIGHT}" font-family="sans-serif" font-size="12">',
        f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="white"/>',
        f'<rect x="{_LEFT}" y="{_TOP}" width="{width}" height="{height}" fill="none" stroke="#999"/>',
        _text(_LEFT + width / 2, 18, texts.title, "middle"),
        _text(_LEFT + width / 2, _HEIGHT - 8, texts.x, "middle"),
        f'<text x="14" y="{_TOP + height / 2}" text-anchor="middle" '
        f'transform="rotate(-90 14 {_TOP + height / 2})">{escape(texts.y)}</text>',
    ]


def _draw_series(name: str, points: Sequence[tuple[float, float]], index: int) -> list[str]:
    colour = _COLOURS[index % len(_COLOURS)]
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    dots = [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>' for x, y in points]
    key_y = _TOP + 14 + 18 * index
    key = f'<rect x="{_WIDTH - _RIGHT + 10}" y="{key_y - 9}" width="10" height="10" fill="{colour}"/>'
    line = f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>'
    return [line, *dots, key, _text(_WIDTH - _RIGHT + 26, key_y, name, "start")]


def _text(x: float, y: float, text: str, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'
