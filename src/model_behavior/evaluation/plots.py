"""Bar, line and scatter plots as SVG text, without a drawing library."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Final

_COLOURS: Final = ("#1f5fa8", "#c2410c", "#15803d", "#7e22ce", "#a16207", "#be185d", "#0e7490", "#4b5563")
_STAR: Final = "0,-9 2.1,-2.9 8.6,-2.8 3.4,1.1 5.3,7.3 0,3.6 -5.3,7.3 -3.4,1.1 -8.6,-2.8 -2.1,-2.9"
_N_SHAPES = 4


@dataclass(frozen=True)
class _Frame:
    """Width of a picture, and the room around what is drawn in it, in pixels."""

    width: int
    left: int
    right: int
    top: int
    bottom: int

    @property
    def inner_width(self) -> int:
        return self.width - self.left - self.right

    def inner_height(self, height: int) -> int:
        return height - self.top - self.bottom


_BARS: Final = _Frame(width=640, left=250, right=70, top=40, bottom=10)
_BAR_ROW = 26
_LINES: Final = _Frame(width=640, left=60, right=190, top=30, bottom=45)
_LINES_HEIGHT, _LINES_KEY_ROW, _Y_TICKS = 360, 18, 5
_POINTS: Final = _Frame(width=860, left=30, right=260, top=60, bottom=30)
_POINTS_HEIGHT, _POINTS_KEY_WIDTH, _POINTS_KEY_TOP, _POINTS_KEY_ROW = 560, 170, 30, 15


@dataclass(frozen=True)
class PlotTexts:
    """Title and axes of a line plot.

    Attributes:
        title: title above the plot.
        x: label of the x axis.
        y: label of the y axis.
        log_x: True for a logarithmic x axis.
        x_ticks: number of evenly spaced ticks, at least 2; one tick at the x of every point by default.
    """

    title: str
    x: str
    y: str
    log_x: bool = False
    x_ticks: int | None = None


@dataclass(frozen=True)
class Star:
    """One point marked by a star: its name in the key, its place, and its hover text."""

    label: str
    x: float
    y: float
    hover: str = ""


@dataclass(frozen=True)
class Estimate:
    """A true value, its estimate, the ends of the estimate's interval, and the text shown on hovering."""

    hover: str
    truth: float
    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Point:
    """A labelled point."""

    label: str
    group: str
    x: float
    y: float


def draw_bars(bars: Mapping[str, float], title: str) -> str:
    """Draws one bar per name, with its value, as a whole SVG document.

    Raises:
        ValueError: no bars, or a negative value.
    """
    if not bars or min(bars.values()) < 0:
        raise ValueError("at least one bar is needed, and values of 0 or more")
    height = _BARS.top + _BAR_ROW * len(bars) + _BARS.bottom
    scale = _BARS.inner_width / (max(bars.values()) or 1)
    parts = [
        *_open_picture(_BARS.width, height),
        f'<text x="{_BARS.width / 2:g}" y="20" text-anchor="middle" font-size="14">{escape(title)}</text>',
    ]
    for row, (name, value) in enumerate(bars.items()):
        y = _BARS.top + _BAR_ROW * row
        length = value * scale
        parts += [
            f'<text x="{_BARS.left - 8}" y="{y + 14}" text-anchor="end">{escape(name)}</text>',
            f'<rect x="{_BARS.left}" y="{y + 2}" width="{length:.1f}" height="{_BAR_ROW - 8}" fill="{_COLOURS[0]}"/>',
            f'<text x="{_BARS.left + length + 6:.1f}" y="{y + 14}">{value:.3g}</text>',
        ]
    return "\n".join([*parts, "</svg>"]) + "\n"


def draw_lines(
    series: Mapping[str, Sequence[tuple[float, float]]],
    texts: PlotTexts,
    hovers: Mapping[str, Sequence[str]] | None = None,
    star: Star | None = None,
) -> str:
    """Draws one line per series of (x, y) points, as a whole SVG document. Points that are not finite are left out.

    Args:
        series: points of each line, by its name in the key.
        texts: title and axes.
        hovers: hover texts of the points of a line, by its name; one text per point.
        star: extra point to mark by a star.

    Raises:
        ValueError: no finite point, or the numbers of hover texts and points differ.
    """
    lines = {name: _label_points(points, (hovers or {}).get(name)) for name, points in series.items()}
    places = [(x, y) for line in lines.values() for x, y, _ in line]
    if not places:
        raise ValueError("no finite point to draw")
    axes = _Axes.around([*places, *([] if star is None else [(star.x, star.y)])], texts.log_x)
    parts = _draw_frame(texts)
    ticks = sorted({x for x, _ in places}) if texts.x_ticks is None else axes.spread_x(texts.x_ticks)
    digits = "" if texts.x_ticks is None else ".3"
    parts += [
        _text(axes.place(x, axes.low)[0], _LINES_HEIGHT - _LINES.bottom + 16, f"{x:{digits}g}", "middle") for x in ticks
    ]
    for step in range(_Y_TICKS):
        y = axes.low + (axes.high - axes.low) * step / (_Y_TICKS - 1)
        parts.append(_text(_LINES.left - 6, axes.place(axes.first, y)[1] + 4, f"{y:.3g}", "end"))
    for index, (name, line) in enumerate(lines.items()):
        parts += _draw_series(name, [(*axes.place(x, y), hover) for x, y, hover in sorted(line)], index)
    if star is not None:
        parts += _draw_star(star, axes.place(star.x, star.y), len(lines))
    return "\n".join([*parts, "</svg>"]) + "\n"


def draw_estimates(estimates: Sequence[Estimate], texts: PlotTexts, key: tuple[str, str]) -> str:
    """Draws estimates with their intervals over the true values, and the line on which both are equal.

    Args:
        estimates: what to draw.
        texts: title and axes.
        key: names of the estimates and of the line.

    Raises:
        ValueError: no estimates.
    """
    if not estimates:
        raise ValueError("no estimate to draw")
    truths = [each.truth for each in estimates]
    axes = _Axes.around([(x, y) for x in (min(truths), max(truths)) for y in _ends(estimates)], log_x=False)
    parts = _draw_frame(texts)
    for x in _round_ticks(axes.first, axes.last):
        parts.append(_text(axes.place(x, axes.low)[0], _LINES_HEIGHT - _LINES.bottom + 16, f"{x:g}", "middle"))
    for y in _round_ticks(axes.low, axes.high):
        parts.append(_text(_LINES.left - 6, axes.place(axes.first, y)[1] + 4, f"{y:g}", "end"))
    parts.append(_line(axes.place(axes.first, axes.first), axes.place(axes.last, axes.last), "#999", 1.0))
    for each in estimates:
        parts.append(_line(axes.place(each.truth, each.low), axes.place(each.truth, each.high), _COLOURS[0], 0.5))
    for each in estimates:
        x, y = axes.place(each.truth, each.value)
        parts.append(_hovered("circle", f'cx="{x:.1f}" cy="{y:.1f}" r="3.5" fill="{_COLOURS[0]}"', each.hover))
    at = _LINES.width - _LINES.right + 10
    first, second = _place_in_key(0) - 4, _place_in_key(1) - 4
    parts += [
        _line((at + 5, first - 7), (at + 5, first + 7), _COLOURS[0], 0.5),
        f'<circle cx="{at + 5}" cy="{first}" r="3.5" fill="{_COLOURS[0]}"/>',
        _text(at + 16, first + 4, key[0], "start"),
        _line((at, second), (at + 10, second), "#999", 1.0),
        _text(at + 16, second + 4, key[1], "start"),
    ]
    return "\n".join([*parts, "</svg>"]) + "\n"


def draw_points(points: Sequence[Point], title: str) -> str:
    """Draws one labelled mark per point, one colour and shape per group, and a key of groups of two or more points.

    Raises:
        ValueError: no points.
    """
    if not points:
        raise ValueError("no points to draw")
    xs, ys = [point.x for point in points], [point.y for point in points]
    groups = sorted({point.group for point in points})
    shared = [name for name in groups if sum(point.group == name for point in points) > 1]
    style = {name: index for index, name in enumerate(shared)}
    height = max(_POINTS_HEIGHT, 2 * _POINTS_KEY_TOP + _POINTS_KEY_ROW * len(shared))
    parts = [
        *_open_picture(_POINTS.width, height, font_size=10),
        f'<text x="{_POINTS.left}" y="18" font-size="12">{escape(title)}</text>',
    ]
    for point in points:
        x = _POINTS.left + _share(point.x, xs) * _POINTS.inner_width
        y = height - _POINTS.bottom - _share(point.y, ys) * _POINTS.inner_height(height)
        parts.append(_mark(x, y, style.get(point.group)))
        parts.append(f'<text x="{x + 7:.1f}" y="{y + 3:.1f}" fill="#333">{escape(point.label)}</text>')
    key_x = _POINTS.width - _POINTS_KEY_WIDTH
    for name, index in style.items():
        y = _POINTS_KEY_TOP + _POINTS_KEY_ROW * index
        parts.append(_mark(key_x, y, index))
        parts.append(f'<text x="{key_x + 10}" y="{y + 3}">{escape(name)}</text>')
    return "\n".join([*parts, "</svg>"]) + "\n"


@dataclass(frozen=True)
class _Axes:
    """Maps values to pixels of a line plot."""

    first: float
    last: float
    low: float
    high: float
    log_x: bool

    @classmethod
    def around(cls, points: Sequence[tuple[float, float]], log_x: bool) -> _Axes:
        xs, ys = [x for x, _ in points], [y for _, y in points]
        low, high = min(ys), max(ys)
        pad = 0.05 * (high - low) or 0.05
        return cls(min(xs), max(xs), low - pad, high + pad, log_x)

    def place(self, x: float, y: float) -> tuple[float, float]:
        first, last, at = (math.log(v) if self.log_x else v for v in (self.first, self.last, x))
        share = (at - first) / (last - first) if last > first else 0.5
        down = (self.high - y) / (self.high - self.low)
        return _LINES.left + share * _LINES.inner_width, _LINES.top + down * _LINES.inner_height(_LINES_HEIGHT)

    def spread_x(self, n: int) -> list[float]:
        if self.first == self.last:
            return [self.first]
        first, last = (math.log(v) if self.log_x else v for v in (self.first, self.last))
        spread = [first + (last - first) * step / (n - 1) for step in range(n)]
        return [math.exp(v) for v in spread] if self.log_x else spread


def _label_points(
    points: Sequence[tuple[float, float]], hovers: Sequence[str] | None
) -> list[tuple[float, float, str]]:
    shown = hovers if hovers is not None else [""] * len(points)
    return [(x, y, hover) for (x, y), hover in zip(points, shown, strict=True) if math.isfinite(x) and math.isfinite(y)]


def _open_picture(width: int, height: int, font_size: int = 12) -> list[str]:
    return [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
        f'viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="{font_size}">',
        f'<rect width="{width}" height="{height}" fill="white"/>',
    ]


def _draw_frame(texts: PlotTexts) -> list[str]:
    width, height = _LINES.inner_width, _LINES.inner_height(_LINES_HEIGHT)
    centre_x, centre_y = _LINES.left + width / 2, _LINES.top + height / 2
    return [
        *_open_picture(_LINES.width, _LINES_HEIGHT),
        f'<rect x="{_LINES.left}" y="{_LINES.top}" width="{width}" height="{height}" fill="none" stroke="#999"/>',
        _text(centre_x, 18, texts.title, "middle"),
        _text(centre_x, _LINES_HEIGHT - 8, texts.x, "middle"),
        f'<text x="14" y="{centre_y}" text-anchor="middle" '
        f'transform="rotate(-90 14 {centre_y})">{escape(texts.y)}</text>',
    ]


def _draw_series(name: str, points: Sequence[tuple[float, float, str]], index: int) -> list[str]:
    colour = _COLOURS[index % len(_COLOURS)]
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y, _ in points)
    dots = [_hovered("circle", f'cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"', hover) for x, y, hover in points]
    key_x, key_y = _LINES.width - _LINES.right, _place_in_key(index)
    key = f'<rect x="{key_x + 10}" y="{key_y - 9}" width="10" height="10" fill="{colour}"/>'
    line = f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>'
    return [line, *dots, key, _text(key_x + 26, key_y, name, "start")]


def _draw_star(star: Star, place: tuple[float, float], index: int) -> list[str]:
    key_x, key_y = _LINES.width - _LINES.right, _place_in_key(index)

    def shape(x: float, y: float, hover: str) -> str:
        form = f'points="{_STAR}" transform="translate({x:.1f} {y:.1f})" fill="{_COLOURS[0]}" stroke="white"'
        return _hovered("polygon", form, hover)

    return [shape(*place, star.hover), shape(key_x + 15, key_y - 4, ""), _text(key_x + 26, key_y, star.label, "start")]


def _round_ticks(low: float, high: float) -> list[float]:
    """Multiples of a round step between two values, about five."""
    step = 10.0 ** math.floor(math.log10((high - low) / 4))
    step *= next(factor for factor in (1, 2, 5, 10) if (high - low) / (factor * step) <= 6)
    return [step * count for count in range(math.ceil(low / step), math.floor(high / step) + 1)]


def _ends(estimates: Sequence[Estimate]) -> tuple[float, float]:
    """The lowest and the highest value of either axis."""
    values = [value for each in estimates for value in (each.truth, each.low, each.high)]
    return min(values), max(values)


def _line(start: tuple[float, float], end: tuple[float, float], colour: str, opacity: float) -> str:
    places = f'x1="{start[0]:.1f}" y1="{start[1]:.1f}" x2="{end[0]:.1f}" y2="{end[1]:.1f}"'
    return f'<line {places} stroke="{colour}" stroke-opacity="{opacity:g}"/>'


def _place_in_key(index: int) -> int:
    return _LINES.top + 14 + _LINES_KEY_ROW * index


def _hovered(tag: str, attributes: str, hover: str) -> str:
    return f"<{tag} {attributes}><title>{escape(hover)}</title></{tag}>" if hover else f"<{tag} {attributes}/>"


def _text(x: float, y: float, text: str, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'


def _share(value: float, values: Sequence[float]) -> float:
    low, high = min(values), max(values)
    return (value - low) / (high - low) if high > low else 0.5


def _mark(x: float, y: float, style: int | None) -> str:
    """A grey dot for a group of one; else one of 32 combinations of colour and shape."""
    if style is None:
        return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="#9ca3af"/>'
    colour = _COLOURS[style % len(_COLOURS)]
    shape = style // len(_COLOURS) % _N_SHAPES
    if shape == 0:
        return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4.5" fill="{colour}"/>'
    if shape == 1:
        return f'<rect x="{x - 4:.1f}" y="{y - 4:.1f}" width="8" height="8" fill="{colour}"/>'
    if shape == 2:
        return (
            f'<polygon points="{x:.1f},{y - 5:.1f} {x + 5:.1f},{y + 4:.1f} {x - 5:.1f},{y + 4:.1f}" fill="{colour}"/>'
        )
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="white" stroke="{colour}" stroke-width="2"/>'
