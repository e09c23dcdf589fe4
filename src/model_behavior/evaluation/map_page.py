"""The page around a figure: heading, figure and table. It escapes every text that it is given."""

from __future__ import annotations

import html
from typing import Final

# The page loads nothing, and the policy makes the browser refuse what plotly.js might try to load.
POLICY: Final = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:"
STYLE: Final = """
:root { color-scheme: light dark; --ink: #1b2026; --paper: #fff; --line: #d5d9df; --soft: #59626e }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e8eaed; --paper: #14171b; --line: #343a42; --soft: #a3abb6 } }
body { margin: 0 auto; max-width: 1200px; padding: 1rem; background: var(--paper); color: var(--ink);
  font: 15px/1.45 system-ui, sans-serif }
h1 { font-size: 1.35rem; margin: 0 } p, caption { color: var(--soft); margin: .2rem 0; text-align: left }
.plotly text { fill: var(--ink) !important } .plotly .hovertext text { fill: #fff !important }
.scroll { overflow-x: auto } .figure { min-width: 700px }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums }
th, td { text-align: left; padding: .3rem .6rem; border-bottom: 1px solid var(--line) }
tbody th { font-weight: normal; white-space: nowrap }
"""


def fill_page(title: str, subtitle: str, plot: str, columns: dict[str, list[str]], caption: str) -> str:
    """The page: heading, figure, and the same content as a table for those who cannot use the figure.

    Args:
        title: heading, plain text.
        subtitle: one line below it, plain text.
        plot: the figure as HTML, taken as it is.
        columns: the table by head, plain text, all of one length; the first column names the rows.
        caption: of the table, plain text.
    """
    heads = "".join(f'<th scope="col">{html.escape(head)}</th>' for head in columns)
    rows = "\n".join(_fill_row(*cells) for cells in zip(*columns.values(), strict=True))
    title, subtitle, caption = html.escape(title), html.escape(subtitle), html.escape(caption)
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta http-equiv="Content-Security-Policy" content="{POLICY}">
<meta name="viewport" content="width=device-width, initial-scale=1"><title>{title}</title>
<style>{STYLE}</style></head>
<body><h1>{title}</h1><p>{subtitle}</p>
<noscript><p>The figure needs JavaScript. The table holds the same.</p></noscript>
<div class="scroll"><div class="figure" aria-hidden="true">{plot}</div></div>
<div class="scroll"><table><caption>{caption}</caption>
<thead><tr>{heads}</tr></thead><tbody>
{rows}
</tbody></table></div></body></html>
"""


def _fill_row(name: str, *cells: str) -> str:
    values = "".join(f"<td>{html.escape(cell)}</td>" for cell in cells)
    return f'<tr><th scope="row">{html.escape(name)}</th>{values}</tr>'
