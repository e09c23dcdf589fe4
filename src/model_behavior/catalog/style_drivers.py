"""What sets a model apart in style, in words: its style profile beside another one's.

Features are compared by their standardised difference (Cohen 1988) with its large-sample standard error:

    d = (m_1 - m_2) / s,   s^2 = (s_1^2 + s_2^2) / 2,   se(d)^2 = (s_1^2 / n_1 + s_2^2 / n_2) / s^2

with Student's t of n_1 + n_2 - 2 degrees of freedom for the threshold. The deviation of a yes/no feature is not taken
below that of the share (n m + 1) / (n + 2), so that "2 of 2" is no certainty (Agresti and Coull 1998). Responses to the
same prompts are treated as independent, which makes the standard error too large rather than too small.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats

from model_behavior.catalog.samples import ModelSamples, style_sums_of
from model_behavior.catalog.style_labels import STYLE_LABELS, StyleLabel
from model_behavior.errors import DataError
from model_behavior.models.behavior.style_encoder import StyleEncoder

_FAMILY_WISE_ERROR = 0.05
_LEAST_DEVIATION = 0.02  # below this are features that hardly ever occur
_IS_YES_OR_NO = np.array([STYLE_LABELS[name].kind == "responses" for name in StyleEncoder.feature_names])
_NONE_OF_IT = {"rate": 0.005, "lines": 0.05}  # a shown value below this reads as 0
_MANY = 20.0


@dataclass(frozen=True, eq=False)
class StyleProfile:
    """Style features of the responses of one model, or of several taken together.

    Attributes:
        mean: [n_features], as in `StyleEncoder.feature_names`.
        deviation: standard deviation over responses, [n_features].
        count: number of responses; 2 at least can be compared.
    """

    mean: npt.NDArray[np.float64]
    deviation: npt.NDArray[np.float64]
    count: int


@dataclass(frozen=True)
class StyleDriver:
    """One difference of style.

    Attributes:
        feature: name, as in `StyleEncoder.feature_names`.
        effect: standardised difference d; positive where the first model has more.
        standard_error: of the effect.
        value: what is typical of the first model, in `unit`.
        reference: what is typical of the other.
        unit: such as "per 100 words" or "% of responses".
        text: the difference as a sentence about the first model.
    """

    feature: str
    effect: float
    standard_error: float
    value: float
    reference: float
    unit: str
    text: str


def profile_of(samples: ModelSamples, model: int) -> StyleProfile:
    """The style profile of one row."""
    return StyleProfile(
        samples.style_mean[model].astype(np.float64),
        samples.style_deviation[model].astype(np.float64),
        int(samples.style_count[model]),
    )


def average_profile(samples: ModelSamples, without: int | None = None) -> StyleProfile:
    """The profile of a model drawn at random from the others, each of them with the same weight.

    Args:
        samples: of all models.
        without: row that is left out.

    Raises:
        DataError: there is no other model with a profile.
    """
    sums = samples.style_sums
    if without is not None and samples.style_count[without] > 1:
        sums = sums - style_sums_of(samples, np.array([without]), sums.centre)
    if not sums.n_models:
        raise DataError("there is no other model to compare styles with. Fix: enrol one from its responses")
    offset = sums.offset / sums.n_models
    variance = np.maximum((sums.square + sums.within) / sums.n_models - np.square(offset), 0)
    return StyleProfile(sums.centre + offset, np.sqrt(variance), sums.n_responses)


def find_drivers(profile: StyleProfile, reference: StyleProfile, n: int = 5) -> tuple[StyleDriver, ...]:
    """The strongest differences, at most `n`, one per topic, the strongest first.

    A difference that could be chance is left out: all features together have a chance of 5 % to show one where there is
    none (Bonferroni).

    Raises:
        DataError: a profile of fewer than two responses.
    """
    for each in (profile, reference):
        if each.count < 2:
            raise DataError(f"a style profile of {each.count} responses cannot be compared: 2 at least are needed")
    names = StyleEncoder.feature_names
    variances = [_least(each) ** 2 for each in (profile, reference)]
    scale = np.sqrt(sum(variances) / 2)
    effect = (profile.mean - reference.mean) / scale
    error = np.sqrt(variances[0] / profile.count + variances[1] / reference.count) / scale
    threshold = stats.t.isf(_FAMILY_WISE_ERROR / 2 / len(names), profile.count + reference.count - 2)
    drivers: dict[str, StyleDriver] = {}
    for index in np.argsort(-np.abs(effect), kind="stable").tolist():
        label = STYLE_LABELS[names[index]]
        if abs(effect[index]) <= threshold * error[index] or label.topic in drivers or len(drivers) == n:
            continue
        value, other = label.shown(float(profile.mean[index])), label.shown(float(reference.mean[index]))
        drivers[label.topic] = StyleDriver(
            names[index], float(effect[index]), float(error[index]), value, other, label.unit, say(label, value, other)
        )
    return tuple(drivers.values())


def say(label: StyleLabel, value: float, other: float) -> str:
    """A difference as a sentence without a subject, such as "uses 3.2x as many commas (1.6 vs 0.5 per 100 words)"."""
    more = value > other
    if label.kind == "responses":
        return f"{label.label} in {value:.0f} % vs {other:.0f} % of responses"
    if label.kind == "share":
        return f"{'more' if more else 'fewer'} {label.label} ({value:.0f} % vs {other:.0f} %)"
    if label.kind == "ratio":
        return f"{'longer' if more else 'shorter'}: {value:.1f} vs {other:.1f} {label.unit}"
    if label.kind == "size":
        subject = "" if label.label == "long" else f" {label.label}"
        digits = 0 if max(value, other) >= 20 else 1
        return f"{'longer' if more else 'shorter'}{subject}: {value:.{digits}f} vs {other:.{digits}f} {label.unit}"
    figures = f"({_figure(value)} vs {_figure(other)} {label.unit})"
    if label.kind == "lines":
        figures = f"({value:.1f} % vs {other:.1f} % of lines)"
        return f"{'more' if more else 'fewer'} lines with {label.label} {figures}"
    if value < _NONE_OF_IT[label.kind]:
        return f"uses next to no {label.label} {figures}"
    if not more:
        return f"uses fewer {label.label} {figures}"
    if other < _NONE_OF_IT[label.kind] or value / other > _MANY:
        return f"uses many more {label.label} {figures}"
    return f"uses {value / other:.1f}x as many {label.label} {figures}"


def _least(profile: StyleProfile) -> npt.NDArray[np.float64]:
    """Standard deviations, not below what the number of responses can tell."""
    share = (profile.count * np.clip(profile.mean, 0, 1) + 1) / (profile.count + 2)
    least = np.where(_IS_YES_OR_NO, np.sqrt(share * (1 - share)), _LEAST_DEVIATION)
    deviation: npt.NDArray[np.float64] = np.maximum(profile.deviation, least)
    return deviation


def _figure(value: float) -> str:
    return f"{value:.2f}" if value < 10 else f"{value:.0f}"
