"""Points in a plane, coloured by group, as SVG text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

_WIDTH, _HEIGHT, _MARGIN, _KEY = 860, 560, 30, 170
_COLOURS = ("#1f5fa8", "#c2410c", "#15803d", "#7e22ce", "#a16207", "#be185d", "#0e7490", "#4b5563")
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
    height = max(_HEIGHT, 2 * _MARGIN + _LINE * len(shared))
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{height}" '
        f'viewBox="0 0 {_WIDTH} {height}" font-family="sans-serif" font-size="{_FONT}">',
        f'<rect width="{_WIDTH}" height="{height}" fill="white"/>',
        f'<text x="{_MARGIN}" y="18" font-size="12">{escape(title)}</text>',
    ]
    for point in points:
        x = _MARGIN + _share(point.x, xs) * (_WIDTH - _KEY - 4 * _MARGIN)
        y = height - _MARGIN - _share(point.y, ys) * (height - 3 * _MARGIN)
        parts.append(_mark(x, y, style.get(point.group)))
        parts.append(f'<text x="{x + 7:.1f}" y="{y + 3:.1f}" fill="#333">{escape(point.label)}</text>')
    for name, index in style.items():
        y = _MARGIN + _LINE * index
        parts.append(_mark(_WIDTH - _KEY, y, index))
        parts.append(f'<text x="{_WIDTH - _KEY + 10}" y="{y + 3}">{escape(name)}</text>')
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
