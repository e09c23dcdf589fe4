"""Horizontal bars as SVG text.

Line plots as SVG text, so that reports have pictures without a drawing library.

Points in a plane, coloured by group, as SVG text.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

_BARS_WIDTH, _BARS_LEFT, _BARS_RIGHT, _BARS_TOP, _ROW = 640, 250, 70, 40, 26
_COLOUR = "#1f5fa8"


def draw_bars(bars: Mapping[str, float], title: str) -> str:
    """One bar per name, from 0 to the greatest, with its value, as a whole SVG document.

    Raises:
        ValueError: no bar, or a value that is negative.
    """
    if not bars or min(bars.values()) < 0:
        raise ValueError("at least one bar is needed, and values of 0 or more")
    height = _BARS_TOP + _ROW * len(bars) + 10
    scale = (_BARS_WIDTH - _BARS_LEFT - _BARS_RIGHT) / (max(bars.values()) or 1)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_BARS_WIDTH}" height="{height}" '
        f'viewBox="0 0 {_BARS_WIDTH} {height}" font-family="sans-serif" font-size="12">',
        f'<rect width="{_BARS_WIDTH}" height="{height}" fill="white"/>',
        f'<text x="{_BARS_WIDTH / 2:g}" y="20" text-anchor="middle" font-size="14">{escape(title)}</text>',
    ]
    for row, (name, value) in enumerate(bars.items()):
        y = _BARS_TOP + _ROW * row
        length = value * scale
        parts += [
            f'<text x="{_BARS_LEFT - 8}" y="{y + 14}" text-anchor="end">{escape(name)}</text>',
            f'<rect x="{_BARS_LEFT}" y="{y + 2}" width="{length:.1f}" height="{_ROW - 8}" fill="{_COLOUR}"/>',
            f'<text x="{_BARS_LEFT + length + 6:.1f}" y="{y + 14}">{value:.3g}</text>',
        ]
    return "\n".join([*parts, "</svg>"]) + "\n"


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


_POINTS_WIDTH, _POINTS_HEIGHT, _MARGIN, _KEY = 860, 560, 30, 170
_SHAPES = 4
_FONT, _LINE = 10, 15


@dataclass(frozen=True)
class Point:
    """A labelled point."""

    label: str
    group: str
    x: float
    y: float


def draw_points(points: Sequence[Point], title: str) -> str:
    """One mark per point with its label, one colour and shape per group, a key of the groups with two or more points.

    Raises:
        ValueError: no points.
    """
    if not points:
        raise ValueError("no points to draw")
    xs, ys = [point.x for point in points], [point.y for point in points]
    groups = sorted({point.group for point in points})
    shared = [name for name in groups if sum(point.group == name for point in points) > 1]
    style = {name: index for index, name in enumerate(shared)}
    height = max(_POINTS_HEIGHT, 2 * _MARGIN + _LINE * len(shared))
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_POINTS_WIDTH}" height="{height}" '
        f'viewBox="0 0 {_POINTS_WIDTH} {height}" font-family="sans-serif" font-size="{_FONT}">',
        f'<rect width="{_POINTS_WIDTH}" height="{height}" fill="white"/>',
        f'<text x="{_MARGIN}" y="18" font-size="12">{escape(title)}</text>',
    ]
    for point in points:
        x = _MARGIN + _share(point.x, xs) * (_POINTS_WIDTH - _KEY - 4 * _MARGIN)
        y = height - _MARGIN - _share(point.y, ys) * (height - 3 * _MARGIN)
        parts.append(_mark(x, y, style.get(point.group)))
        parts.append(f'<text x="{x + 7:.1f}" y="{y + 3:.1f}" fill="#333">{escape(point.label)}</text>')
    for name, index in style.items():
        y = _MARGIN + _LINE * index
        parts.append(_mark(_POINTS_WIDTH - _KEY, y, index))
        parts.append(f'<text x="{_POINTS_WIDTH - _KEY + 10}" y="{y + 3}">{escape(name)}</text>')
    return "\n".join([*parts, "</svg>"]) + "\n"


def _share(value: float, values: Sequence[float]) -> float:
    low, high = min(values), max(values)
    return (value - low) / (high - low) if high > low else 0.5


def _mark(x: float, y: float, style: int | None) -> str:
    """A grey dot for a group of one; else one of 32 combinations of colour and shape."""
    if style is None:
        return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="#9ca3af"/>'
    colour = _COLOURS[style % len(_COLOURS)]
    shape = style // len(_COLOURS) % _SHAPES
    if shape == 0:
        return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4.5" fill="{colour}"/>'
    if shape == 1:
        return f'<rect x="{x - 4:.1f}" y="{y - 4:.1f}" width="8" height="8" fill="{colour}"/>'
    if shape == 2:
        return (
            f'<polygon points="{x:.1f},{y - 5:.1f} {x + 5:.1f},{y + 4:.1f} {x - 5:.1f},{y + 4:.1f}" fill="{colour}"/>'
        )
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="white" stroke="{colour}" stroke-width="2"/>'
