"""Samples to named arrays and JSON values, and back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from model_behavior.catalog.samples import Exemplar, ModelSamples, VectorSample, empty_samples
from model_behavior.models.behavior.style_encoder import StyleEncoder

_MOMENTS = ("style_mean", "style_deviation", "style_count")
_SAMPLES = ("embedded", "styles", "words")
_PARTS = ("vectors", "prompt_keys", "offsets")


def samples_to_arrays(samples: ModelSamples) -> dict[str, npt.NDArray[Any]]:
    """All arrays, by the name of their attribute, such as "style_mean" and "embedded.vectors"."""
    arrays = {name: getattr(samples, name) for name in _MOMENTS}
    arrays |= {f"{sample}.{part}": getattr(getattr(samples, sample), part) for sample in _SAMPLES for part in _PARTS}
    return {name: np.ascontiguousarray(array) for name, array in arrays.items()}


def samples_to_json(samples: ModelSamples) -> dict[str, Any]:
    """Exemplars and answers in row order, and the names of the style features in column order."""
    return {
        "style_features": list(StyleEncoder.feature_names),
        "exemplars": [[asdict(exemplar) for exemplar in each] for each in samples.exemplars],
        "answers": [{f"{key:016x}": asdict(answer) for key, answer in each.items()} for each in samples.answers],
    }


def samples_from_stored(
    names: tuple[str, ...], arrays: Mapping[str, npt.NDArray[Any]], value: Mapping[str, Any]
) -> ModelSamples:
    """The inverse. What was measured with other style features than this release has is left out.

    Answers and words are empty where a release wrote them that kept none.

    Raises:
        KeyError, TypeError, ValueError: something is missing or does not fit.
    """
    nothing = empty_samples(names, arrays["embedded.vectors"].shape[1])
    embedded, styles, words = (
        VectorSample(*(arrays[f"{sample}.{part}"] for part in _PARTS))
        if f"{sample}.vectors" in arrays
        else getattr(nothing, sample)
        for sample in _SAMPLES
    )
    exemplars = tuple(tuple(Exemplar(**exemplar) for exemplar in each) for each in value["exemplars"])
    answers = tuple(
        {int(key, 16): Exemplar(**answer) for key, answer in each.items()}
        for each in value.get("answers", [{}] * len(names))
    )
    if not len(names) == len(exemplars) == len(answers) == len(embedded.offsets) - 1 == len(styles.offsets) - 1:
        raise ValueError(f"samples of {len(exemplars)} models beside {len(names)} names")
    if tuple(value["style_features"]) != StyleEncoder.feature_names:
        return replace(nothing, embedded=embedded, words=words, exemplars=exemplars, answers=answers)
    mean, deviation, count = (arrays[name] for name in _MOMENTS)
    return ModelSamples(names, mean, deviation, count, embedded, styles, words, exemplars, answers)
