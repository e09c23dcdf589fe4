"""Horizontal bars as SVG text."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape

_WIDTH, _LEFT, _RIGHT, _TOP, _ROW = 640, 250, 70, 40, 26
_COLOUR = "#1f5fa8"


def draw_bars(bars: Mapping[str, float], title: str) -> str:
    """One bar per name, from 0 to the greatest, with its value, as a whole SVG document.

    Raises:
        ValueError: no bar, or a value that is negative.
    """
    if not bars or min(bars.values()) < 0:
        raise ValueError("at least one bar is needed, and values of 0 or more")
    height = _TOP + _ROW * len(bars) + 10
    scale = (_WIDTH - _LEFT - _RIGHT) / (max(bars.values()) or 1)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{height}" '
        f'viewBox="0 0 {_WIDTH} {height}" font-family="sans-serif" font-size="12">',
        f'<rect width="{_WIDTH}" height="{height}" fill="white"/>',
        f'<text x="{_WIDTH / 2:g}" y="20" text-anchor="middle" font-size="14">{escape(title)}</text>',
    ]
    for row, (name, value) in enumerate(bars.items()):
        y = _TOP + _ROW * row
        length = value * scale
        parts += [
            f'<text x="{_LEFT - 8}" y="{y + 14}" text-anchor="end">{escape(name)}</text>',
            f'<rect x="{_LEFT}" y="{y + 2}" width="{length:.1f}" height="{_ROW - 8}" fill="{_COLOUR}"/>',
            f'<text x="{_LEFT + length + 6:.1f}" y="{y + 14}">{value:.3g}</text>',
        ]
    return "\n".join([*parts, "</svg>"]) + "\n"
