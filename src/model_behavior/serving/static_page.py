"""The page as one file for people without a server: the same views, with the answers inside."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from model_behavior.catalog.style_drivers import STYLE_LABELS
from model_behavior.files import written_aside
from model_behavior.models.behavior.text.style import StyleEncoder
from model_behavior.serving.page_files import fill_static_page
from model_behavior.serving.service import Service

_DRIVERS = 6  # of each pair: with 300 models there are 44,850 pairs
_FEATURES = {name: index for index, name in enumerate(StyleEncoder.feature_names)}


def write_static_page(
    path: Path, service: Service, marked: Iterable[str] = (), progress: Callable[[int, int], None] | None = None
) -> None:
    """Writes the page with all answers that it needs. An older file stays until the new one is whole.

    Typing a prompt, placing a model and checking for drift need the encoder, so they are not in it.

    Args:
        path: the HTML file.
        service: answers.
        marked: names of models to show as new.
        progress: told (models compared with those after them, models in all).

    Raises:
        UsageError: an unknown name in `marked`, or fewer than three models.
    """
    fresh = list(marked)
    for name in fresh:
        service.snapshot.row_of(name)
    page = fill_static_page({**collect_answers(service, progress), "fresh": fresh})
    with written_aside(path) as aside:
        aside.write_text(page, "utf-8")


def collect_answers(service: Service, progress: Callable[[int, int], None] | None = None) -> dict[str, Any]:
    """Everything that the page asks a server for and that needs no encoder, as JSON values.

    Pairs of models are kept once, the subject first by name; of a difference there are the place of its feature, its
    effect and its sentence, and the values are in the table of styles.
    """
    listed = service.models()
    names = sorted(row.name for row in listed.models)
    pairs: dict[str, dict[str, Any]] = {}
    for place, name in enumerate(names):
        pairs[name] = {other: _compare(service, name, other) for other in names[place + 1 :]}
        if progress is not None:
            progress(place + 1, len(names))
    return {
        "catalog": {
            "version": listed.version,
            "models": [asdict(row) for row in listed.models],
            "map": asdict(service.map()),
        },
        "features": [{"name": name, "unit": STYLE_LABELS[name].unit} for name in _FEATURES],
        "style": _show_styles(service),
        "details": {name: _describe(service, name) for name in names},
        "pairs": pairs,
    }


def _describe(service: Service, name: str) -> dict[str, Any]:
    """Answers have the keys of their prompts, so that the page finds those that two models share."""
    told, snapshot = service.describe(name), service.snapshot
    answers = snapshot.artifact.catalog.samples.answers[snapshot.index_of(name)]
    near = service.neighbours(name).neighbours
    return {
        "drivers": [asdict(driver) for driver in told.drivers],
        "exemplars": [asdict(exemplar) for exemplar in told.exemplars],
        "answers": [{"key": f"{key:016x}", **asdict(answer)} for key, answer in answers.items()],
        "neighbours": [{"model": each.model, "distance": each.distance} for each in near],
    }


def _compare(service: Service, name: str, other: str) -> dict[str, Any]:
    told = service.compare(name, other)
    return {
        "distance": round(told.distance, 4),
        "prediction": None
        if told.prediction is None
        else {key: round(value, 4) for key, value in asdict(told.prediction).items()},
        "drivers": [[_FEATURES[each.feature], round(each.effect, 3), each.text] for each in told.drivers[:_DRIVERS]],
    }


def _show_styles(service: Service) -> dict[str, list[float]]:
    """What is typical of each model in every style feature, in the unit that people see."""
    samples = service.snapshot.artifact.catalog.samples
    labels = [STYLE_LABELS[name] for name in _FEATURES]
    return {
        name: [float(f"{label.shown(mean):.4g}") for label, mean in zip(labels, row, strict=True)]
        for name, row in zip(samples.names, samples.style_mean.tolist(), strict=True)
    }
