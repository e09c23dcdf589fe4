"""Samples as a folder of format version 2 has them, in one file of arrays and one of texts."""

from __future__ import annotations

from typing import Any

import numpy as np

from model_behavior.arrays import AnyArray
from model_behavior.catalog.samples import ModelSamples
from model_behavior.models.behavior.text.style import StyleEncoder


def samples_to_arrays(samples: ModelSamples) -> dict[str, AnyArray]:
    """All arrays, by the name of their attribute, such as "style_mean" and "embedded.vectors"."""
    arrays = {name: getattr(samples, name) for name in ("style_mean", "style_deviation", "style_count")}
    for kind in ("embedded", "styles", "words"):
        for part in ("vectors", "prompt_keys", "offsets"):
            arrays[f"{kind}.{part}"] = getattr(getattr(samples, kind), part)
    return {name: np.ascontiguousarray(array) for name, array in arrays.items()}


def samples_to_json(samples: ModelSamples) -> dict[str, Any]:
    """Exemplars and answers in row order, and the names of the style features in column order."""
    return {
        "style_features": list(StyleEncoder.feature_names),
        "exemplars": [[vars(exemplar) for exemplar in each] for each in samples.exemplars],
        "answers": [{f"{key:016x}": vars(answer) for key, answer in each.items()} for each in samples.answers],
    }
