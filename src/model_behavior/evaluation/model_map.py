"""The model map: LLM embeddings projected to a plane, as one HTML page that opens anywhere, offline too."""

from __future__ import annotations

import html
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np

from model_behavior.arrays import FloatArray, IntArray
from model_behavior.catalog.places import fit_axes
from model_behavior.errors import MissingExtraError, UsageError
from model_behavior.evaluation.map_page import fill_page
from model_behavior.files import written_aside

if TYPE_CHECKING:
    import plotly.graph_objects as go

Neighbours = list[list[tuple[str, float]]]  # (name, cosine) of the nearest models to each
Method = Literal["pca", "tsne", "umap"]
N_NEIGHBOURS, MAX_PERPLEXITY, MANY_MODELS = 3, 30.0, 30
PLOT_SIZE: Final = (860, 560)  # pixels that the labels are placed for
ROWS, COLUMNS = {"middle": 0, "top": 1, "bottom": -1}, {"right": 1, "left": -1, "center": 0}
SIDES: Final = {f"{r} {c}": (x, y) for r, y in ROWS.items() for c, x in COLUMNS.items() if x or y}
CROWDED: Final = 0.3  # share of a label that may be covered before it is left out
COLOURS: Final = ("#3f7fc4", "#d0633f", "#3f9663", "#9468c0", "#b5851a", "#2f979e", "#c2588d", "#7a8490")
GRID, CLEAR = "rgba(125,133,144,0.22)", "rgba(0,0,0,0)"
BACKGROUND: Final = {
    "template": "none",
    "paper_bgcolor": CLEAR,
    "plot_bgcolor": CLEAR,
    "height": 680,
    "margin": {"t": 30},
}
MODEBAR: Final = {"bgcolor": CLEAR, "color": "#7d8590", "activecolor": "#3f7fc4"}
HOVER: Final = {"bgcolor": "#22272e", "align": "left"}
BUTTONS: Final = ["toImage", "zoom2d", "pan2d", "resetScale2d"]
CONFIG: Final = {"displaylogo": False, "responsive": True, "modeBarButtons": [BUTTONS]}


@dataclass(frozen=True, eq=False)
class MapData:
    """What the map shows.

    Attributes:
        names: names of the LLMs, [n_models].
        embeddings: their embeddings, [n_models, dim].
        counts: responses behind each embedding, [n_models].
        spread: how far the responses of each LLM lie from its embedding, [n_models], 0 or more.
        group: family of each LLM, shown by colour and in the legend, [n_models].
        score: value shown by colour where there is no group, such as a rating, [n_models].
        marked: names of new LLMs, drawn as stars.
        title: heading of the page.
        subtitle: one line below it.
    """

    names: tuple[str, ...]
    embeddings: FloatArray
    counts: IntArray
    spread: FloatArray
    group: tuple[str, ...] | None = None
    score: FloatArray | None = None
    marked: frozenset[str] = frozenset()
    title: str = "Model map"
    subtitle: str = "LLMs that behave alike lie close to each other."


def project(embeddings: FloatArray, method: Method = "pca", seed: int = 0) -> FloatArray:
    """Project embeddings [n_models, dim] to [n_models, 2].

    PCA has no randomness; the largest loading of each axis is positive, so that no map is the mirror image of
    another. t-SNE and UMAP keep neighbours rather than distances; the same seed gives the same map.

    Raises:
        UsageError: fewer than three models, values that are not finite, or an unknown method.
        MissingExtraError: UMAP is asked for and not installed.
    """
    n = len(embeddings)
    if n < 3:
        raise UsageError(f"A map needs at least 3 models, and there are {n}. Fix: add models.")
    if not np.isfinite(embeddings).all():
        raise UsageError("Some embeddings hold NaN or infinity. Fix: embed the models again.")
    if method == "pca":
        return fit_axes(embeddings).place(embeddings)
    if method == "tsne":
        from sklearn.manifold import TSNE  # slow to load, as plotly is, and most commands draw nothing

        init = "pca" if embeddings.shape[1] > 1 else "random"
        tsne = TSNE(perplexity=min(MAX_PERPLEXITY, (n - 1) / 3), init=init, random_state=seed)
        return np.asarray(tsne.fit_transform(embeddings), dtype=np.float64)
    if method == "umap":
        try:
            from umap import UMAP
        except ImportError as error:
            raise MissingExtraError("UMAP", "umap") from error
        # The spectral start fails on a handful of models.
        init = "spectral" if n > 10 else "random"
        umap = UMAP(n_neighbors=min(15, n - 1), init=init, random_state=seed, n_jobs=1)
        return np.asarray(umap.fit_transform(embeddings), dtype=np.float64)
    raise UsageError(f"Unknown projection {method!r}. Allowed: pca, tsne, umap.")


def write_map(path: Path, data: MapData, *, method: Method = "pca", seed: int = 0) -> None:
    """Write the map as one HTML file that loads nothing. An older file stays until the new one is whole.

    Raises:
        UsageError: as `project` does, or columns of different lengths.
        MissingExtraError: as `project` does.
    """
    _check_lengths(data)
    neighbours = _find_neighbours(data)
    points = project(data.embeddings, method, seed)
    figure = _draw(data, points, neighbours)
    if method == "pca":
        total = max(data.embeddings.var(axis=0, dtype=np.float64).sum(), np.finfo(np.float64).tiny)
        first, second = (f"{share:.0%} of the variance" for share in points.var(axis=0) / total)
        figure.update_layout(xaxis_title=f"Axis 1: {first}", yaxis_title=f"Axis 2: {second}")
    plot = figure.to_html(full_html=False, include_plotlyjs=True, config=CONFIG, div_id="model-map")
    with written_aside(path) as aside:
        aside.write_text(_fill_page(data, plot, neighbours), encoding="utf-8")


def _check_lengths(data: MapData) -> None:
    columns = {"embeddings": data.embeddings, "counts": data.counts, "spread": data.spread}
    columns |= {name: column for name in ("group", "score") if (column := getattr(data, name)) is not None}
    for name, column in columns.items():
        if len(column) != len(data.names):
            raise UsageError(f"{len(data.names)} names but {len(column)} rows of {name}. Fix: one row a model.")


def _find_neighbours(data: MapData) -> Neighbours:
    """Name and cosine similarity of the models nearest to each, nearest first."""
    norms = np.linalg.norm(data.embeddings, axis=1, keepdims=True)
    unit = data.embeddings / np.maximum(norms, np.finfo(np.float32).tiny)
    cosine = unit @ unit.T
    np.fill_diagonal(cosine, -np.inf)
    order = np.argsort(-cosine, axis=1, kind="stable")[:, : min(N_NEIGHBOURS, len(unit) - 1)]
    return [[(data.names[j], float(cosine[i, j])) for j in row] for i, row in enumerate(order)]


def _place_labels(points: FloatArray, names: tuple[str, ...], font: float) -> tuple[list[str], list[bool]]:
    """Choose the freest side of its dot for each label, and say whether the label is readable there."""
    pixels = (points - points.min(0)) / np.maximum(np.ptp(points, axis=0), 1e-12) * PLOT_SIZE
    boxes = [(pixels - 6, pixels + 6)]
    sides, readable = [], []
    for pixel, name in zip(pixels, names, strict=True):
        half = np.array([0.27 * font * len(name), 0.6 * font])
        centres = {side: pixel + (half + 7) * shift for side, shift in SIDES.items()}
        taken = {side: _overlap(c - half, c + half, boxes) for side, c in centres.items()}
        side = min(taken, key=lambda s: taken[s])
        sides.append(side)
        readable.append(bool(taken[side] <= CROWDED * 4 * half.prod()))
        if readable[-1]:
            boxes.append((centres[side][None] - half, centres[side][None] + half))
    return sides, readable


def _overlap(low: FloatArray, high: FloatArray, boxes: list[tuple[FloatArray, FloatArray]]) -> float:
    """Area that [low, high] shares with other boxes, and a penalty for leaving the plot, square pixels."""
    lows, highs = (np.concatenate(corners) for corners in zip(*boxes, strict=True))
    sides = np.clip(np.minimum(high, highs) - np.maximum(low, lows), 0, None)
    outside = np.clip(-low - 80, 0, None).sum() + np.clip(high - np.array(PLOT_SIZE) - 80, 0, None).sum()
    return float(sides.prod(1).sum() + 12 * outside)


def _draw(data: MapData, points: FloatArray, neighbours: Neighbours) -> go.Figure:
    """Draw a dot for each model, labelled where there is room, one trace a group."""
    font = 12 if len(data.names) <= MANY_MODELS else 10
    sides, readable = _place_labels(points, data.names, font)
    # plotly reads a little HTML in texts, hence the escapes.
    labels = [html.escape(name) if shown else "" for name, shown in zip(data.names, readable, strict=True)]
    hover = [_write_hover(data, row, near) for row, near in enumerate(neighbours)]
    import plotly.graph_objects as go

    figure = go.Figure()
    for i, group in enumerate(sorted(set(data.group)) if data.group else [""]):
        rows = [row for row in range(len(data.names)) if not data.group or data.group[row] == group]
        rows.sort(key=lambda row: data.names[row] in data.marked)  # the legend shows the first symbol
        trace = {"text": labels, "textposition": sides, "hovertext": hover}
        figure.add_scatter(
            **{key: [values[row] for row in rows] for key, values in trace.items()},
            x=points[rows, 0],
            y=points[rows, 1],
            marker=_style_marker(data, rows, COLOURS[i % len(COLOURS)]),
            name=html.escape(group),
            showlegend=bool(data.group),
        )
    figure.update_traces(mode="markers+text", textfont_size=font, hoverinfo="text", cliponaxis=False)
    axis = {"gridcolor": GRID, "zerolinecolor": GRID, "showticklabels": False}
    figure.update_layout(BACKGROUND, xaxis=axis, yaxis=axis, dragmode="pan", legend={"orientation": "h"})
    return figure.update_layout(modebar=MODEBAR, hoverlabel=HOVER)


def _style_marker(data: MapData, rows: list[int], colour: str) -> dict[str, Any]:
    new = [data.names[row] in data.marked for row in rows]
    marker: dict[str, Any] = {"color": colour, "opacity": 1, "size": [16 if n else 10 for n in new]}
    if data.score is not None and not data.group:
        marker |= {"color": data.score[rows], "colorscale": "Viridis", "colorbar": {"title": "Score"}}
    return marker | {"symbol": ["star" if n else "circle" for n in new]}


def _write_hover(data: MapData, row: int, near: list[tuple[str, float]]) -> str:
    head = f"<b>{html.escape(data.names[row])}</b><br>{data.counts[row]:,} responses, "
    return head + f"spread {data.spread[row]:.3f}<br>Nearest:<br>" + "<br>".join(map(html.escape, _describe(near)))


def _describe(near: list[tuple[str, float]]) -> list[str]:
    return [f"{name} ({cosine:.2f})" for name, cosine in near]


def _fill_page(data: MapData, plot: str, neighbours: Neighbours) -> str:
    columns: dict[str, list[str]] = {"Family": list(data.group or ())}
    columns["Responses"] = [f"{count:,}" for count in data.counts]
    columns["Spread"] = [f"{spread:.3f}" for spread in data.spread]
    columns["Score"] = [] if data.score is None else [f"{score:.2f}" for score in data.score]
    columns["Nearest (cosine)"] = [", ".join(_describe(near)) for near in neighbours]
    names = [name + " ★ new" * (name in data.marked) for name in data.names]
    columns = {"Model": names} | {head: cells for head, cells in columns.items() if cells}
    order = sorted(range(len(data.names)), key=lambda row: data.names[row])
    columns = {head: [cells[i] for i in order] for head, cells in columns.items()}
    subtitle = f"{data.subtitle} Hover over a dot for details; crowded labels show only there."
    return fill_page(data.title, subtitle, plot, columns, "The models and their nearest neighbours")
