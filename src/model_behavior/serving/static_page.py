"""The page as one HTML file that needs no server: the map alone, or all views that need no encoder.

Modules, styles and answers are those of the served page, so both show the same. The file holds only the answers that
its views ask for.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from model_behavior.catalog.places import Method, project
from model_behavior.catalog.style_drivers import STYLE_LABELS
from model_behavior.files import written_aside
from model_behavior.models.behavior.text.style import StyleEncoder
from model_behavior.serving.answers import compare_models, describe_models, draw_map, list_models, list_near
from model_behavior.serving.page_files import fill_static_page
from model_behavior.serving.snapshot import Snapshot
from model_behavior.serving.views import ModelDetails

_MAP_VIEWS = ("map",)
_FULL_VIEWS = ("map", "leaderboard", "compare")
_DRIVERS = 6  # differences kept of each pair; 300 models make 44,850 pairs
_FEATURES = {name: index for index, name in enumerate(STYLE_LABELS)}


@dataclass(frozen=True)
class MapLook:
    """Appearance of the map.

    Attributes:
        method: method of projection to two dimensions; only principal axes have regions of uncertainty.
        seed: seed of t-SNE and UMAP.
        marked: names of models to draw as stars.
        title: heading of the map; the number of models by default.
        note: sentence below the heading.
    """

    method: Method = "pca"
    seed: int = 0
    marked: tuple[str, ...] = ()
    title: str | None = None
    note: str | None = None


def write_map_page(path: Path, snapshot: Snapshot, look: MapLook | None = None) -> None:
    """Writes the map alone, with a card of each model, without texts of prompts and responses.

    An older file stays until the new one is complete.

    Raises:
        UsageError: a marked name is unknown, there are fewer than three models, or as for `project`.
        MissingExtraError: UMAP is requested but not installed.
    """
    _write(path, collect_map(snapshot, look or MapLook()))


def write_full_page(
    path: Path, snapshot: Snapshot, look: MapLook | None = None, progress: Callable[[int, int], None] | None = None
) -> None:
    """Writes the page with the views that need no encoder: map, leaderboard, comparisons.

    Args:
        path: HTML file to write; an older one stays until the new one is complete.
        snapshot: models to show.
        look: appearance of the map.
        progress: callback, called with (models compared with all later ones, models in all).

    Raises:
        UsageError, MissingExtraError: as for `write_map_page`.
    """
    _write(path, collect_all(snapshot, look or MapLook(), progress))


def collect_map(snapshot: Snapshot, look: MapLook) -> dict[str, Any]:
    """Answers that the map and its cards ask a server for, as JSON values; raises as `write_map_page`."""
    for name in look.marked:
        snapshot.row_of(name)
    listed = list_models(snapshot, ())
    return {
        "views": _MAP_VIEWS,
        "title": look.title,
        "note": look.note,
        "fresh": list(look.marked),
        "catalog": {
            "version": listed.version,
            "models": [asdict(row) for row in listed.models],
            "map": _lay_out(snapshot, look),
        },
        "details": {told.id: _describe(snapshot, told) for told in describe_models(snapshot, sorted(snapshot.rows))},
    }


def collect_all(
    snapshot: Snapshot, look: MapLook, progress: Callable[[int, int], None] | None = None
) -> dict[str, Any]:
    """Answers that all views without an encoder ask a server for, as JSON values.

    Each pair of models is kept once, with the subject first by name. A difference has the index of its feature, its
    effect and its sentence; the values of both models are in the table of styles.
    """
    told = collect_map(snapshot, look)
    names = sorted(snapshot.rows)
    pairs: dict[str, dict[str, Any]] = {}
    for place, name in enumerate(names):
        pairs[name] = {other: _compare(snapshot, name, other) for other in names[place + 1 :]}
        if progress is not None:
            progress(place + 1, len(names))
    return {
        **told,
        "views": _FULL_VIEWS,
        "details": {name: {**details, **_quote(snapshot, name)} for name, details in told["details"].items()},
        "features": [{"name": name, "unit": STYLE_LABELS[name].unit} for name in _FEATURES],
        "style": _show_styles(snapshot),
        "pairs": pairs,
    }


def _write(path: Path, answers: dict[str, Any]) -> None:
    page = fill_static_page(answers)
    with written_aside(path) as aside:
        aside.write_text(page, "utf-8")


def _lay_out(snapshot: Snapshot, look: MapLook) -> dict[str, Any]:
    """The map as a server answers it; other methods than principal axes give coordinates alone."""
    drawn = asdict(draw_map(snapshot))
    if look.method == "pca":
        return drawn
    places = project(snapshot.artifact.models.mean.astype("float64"), look.method, look.seed).tolist()
    for point in drawn["models"]:
        x, y = places[snapshot.index_of(point["name"])]
        point.update(x=x, y=y, ellipse=None)
    return {**drawn, "method": look.method, "axes": None}


def _describe(snapshot: Snapshot, told: ModelDetails) -> dict[str, Any]:
    return {
        "drivers": [asdict(driver) for driver in told.drivers],
        "rating_drivers": told.rating_drivers and asdict(told.rating_drivers),
        "neighbours": [asdict(near) for near in list_near(snapshot, told.id)],
    }


def _quote(snapshot: Snapshot, name: str) -> dict[str, Any]:
    """Texts of a model. Answers have their prompts' keys, by which the page finds prompts that two models share."""
    index, samples = snapshot.index_of(name), snapshot.artifact.catalog.samples
    return {
        "exemplars": [asdict(exemplar) for exemplar in samples.exemplars[index]],
        "answers": [{"key": f"{key:016x}", **asdict(answer)} for key, answer in samples.answers[index].items()],
    }


def _compare(snapshot: Snapshot, name: str, other: str) -> dict[str, Any]:
    told = compare_models(snapshot, name, other)
    return {
        "distance": round(told.distance, 4),
        "prediction": None
        if told.prediction is None
        else {key: round(value, 4) for key, value in asdict(told.prediction).items()},
        "drivers": [[_FEATURES[each.feature], round(each.effect, 3), each.text] for each in told.drivers[:_DRIVERS]],
    }


def _show_styles(snapshot: Snapshot) -> dict[str, list[float]]:
    """Mean of every style feature that has a label, of each model, in the unit that the page shows."""
    samples = snapshot.artifact.catalog.samples
    columns = [(StyleEncoder.feature_names.index(name), STYLE_LABELS[name]) for name in _FEATURES]
    return {
        name: [float(f"{label.shown(row[column]):.4g}") for column, label in columns]
        for name, row in zip(samples.names, samples.style_mean.tolist(), strict=True)
    }
