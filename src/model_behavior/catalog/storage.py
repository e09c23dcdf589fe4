"""Samples to named arrays and JSON values, and back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
import numpy.typing as npt

from model_behavior.catalog.samples import Exemplar, ModelSamples
from model_behavior.models.behavior.style_encoder import StyleEncoder

_ARRAYS = (
    *("style_mean", "style_deviation", "style_count"),
    *("vectors", "prompt_keys", "offsets", "apart"),
)


def samples_to_arrays(samples: ModelSamples) -> dict[str, npt.NDArray[Any]]:
    """All arrays, by the name of their attribute."""
    return {name: np.ascontiguousarray(getattr(samples, name)) for name in _ARRAYS}


def samples_to_json(samples: ModelSamples) -> dict[str, Any]:
    """Exemplars in row order, and the names of the style features in column order."""
    return {
        "style_features": list(StyleEncoder.feature_names),
        "exemplars": [[asdict(exemplar) for exemplar in each] for each in samples.exemplars],
    }


def samples_from_stored(
    names: tuple[str, ...], arrays: Mapping[str, npt.NDArray[Any]], value: Mapping[str, Any]
) -> ModelSamples:
    """The inverse. Style profiles of other features than this release has are left out.

    Raises:
        KeyError, TypeError, ValueError: something is missing or does not fit.
    """
    found = {name: arrays[name] for name in _ARRAYS}
    exemplars = tuple(tuple(Exemplar(**exemplar) for exemplar in each) for each in value["exemplars"])
    if not len(names) == len(exemplars) == len(found["apart"]) == len(found["offsets"]) - 1:
        raise ValueError(f"samples of {len(exemplars)} models beside {len(names)} names")
    if tuple(value["style_features"]) != StyleEncoder.feature_names:
        shape = (len(names), len(StyleEncoder.feature_names))
        found["style_mean"], found["style_deviation"] = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
        found["style_count"] = np.zeros(len(names), np.int64)
    return ModelSamples(names=names, exemplars=exemplars, **found)
