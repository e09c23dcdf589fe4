"""Responses that a limit on their length has cut, such as another `max_tokens` than at enrolment.

A cut response differs from a whole one, but says nothing about the model. Where the longest responses of one sample
stop without a closing mark, and those as long in the other do not, there is a limit. All responses that are as long as
what it cuts are then set aside in both samples: those that are left are alike, if the model is the same.
"""

from __future__ import annotations

import numpy as np

from model_behavior.arrays import BoolArray, Float64Array
from model_behavior.catalog.samples import ModelSamples
from model_behavior.models.behavior.text.style import StyleEncoder

_LONGEST, _LEAST_LONGEST = 0.05, 4  # of a sample's responses
_CUT, _WHOLE = 0.75, 0.5  # share of unfinished ones, at least and at most
_SHORTEST = 0.05  # quantile of the lengths of what is cut
_LENGTH = StyleEncoder.feature_names.index("log_characters")
_UNFINISHED = StyleEncoder.feature_names.index("ends_in_mid_sentence")


def read_endings(samples: ModelSamples, row: int) -> tuple[Float64Array, BoolArray]:
    """Length of each embedded response of a model, and whether it stops without a closing mark, [n], [n].

    Lengths are log(1 + characters); one of which no style was sampled has the length 0.
    """
    styles, embedded = samples.styles, samples.embedded
    part = styles.rows_of(row)
    by_prompt: dict[int, list[int]] = {}
    for place, key in enumerate(styles.prompt_keys[part].tolist()):
        by_prompt.setdefault(key, []).append(place)
    # Several responses to one prompt are in the same order in both, so that the first meets the first.
    keys = embedded.prompt_keys[embedded.rows_of(row)].tolist()
    places = np.array([left.pop(0) if (left := by_prompt.get(key)) else -1 for key in keys], dtype=np.int64)
    found = np.zeros((len(places), 2))
    found[places >= 0] = styles.vectors[part][places[places >= 0]][:, [_LENGTH, _UNFINISHED]]
    return found[:, 0], found[:, 1] > 0.5


def find_limit(lengths: Float64Array, unfinished: BoolArray, is_new: BoolArray) -> float:
    """Length from which on responses of one sample are cut, and those of the other are not; infinity without a limit.

    Args:
        lengths: lengths of the responses of both samples, in any unit, [n].
        unfinished: True for responses that stop without a closing mark, [n].
        is_new: True for responses of the new sample, [n].
    """
    limits = [_limit(lengths, unfinished, side) for side in (is_new, ~is_new)]
    return min(limits)


def _limit(lengths: Float64Array, unfinished: BoolArray, side: BoolArray) -> float:
    n_longest = max(_LEAST_LONGEST, round(_LONGEST * int(side.sum())))
    own = np.flatnonzero(side)
    longest = own[np.argsort(-lengths[own], kind="stable")[:n_longest]]
    as_long = ~side & (lengths >= lengths[longest].min())
    if len(longest) < n_longest or unfinished[longest].mean() < _CUT:
        return np.inf
    if not as_long.any() or unfinished[as_long].mean() > _WHOLE:
        return np.inf
    cut = lengths[side & unfinished & (lengths > lengths[longest].max() - np.log(2))]
    return float(np.quantile(cut, _SHORTEST))
