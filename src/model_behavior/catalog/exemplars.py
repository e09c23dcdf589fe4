"""Responses for people to read: which of a model are kept, and what two models answered to the same prompts.

The typical responses of a model are nearest to its embedding, and two models are seldom typical on the same prompt.
Therefore responses to the prompts with the smallest hashes are kept besides. Every model ranks prompts alike, so that
two that answered the same prompts keep the same ones, and two with a share J of their prompts in common have one of `n`
in common with a chance of about 1 - (1 - J)^n at least (min-wise sampling: Broder 1997,
https://doi.org/10.1109/SEQUEN.1997.666900).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from model_behavior.catalog.samples import Exemplar, ModelSamples
from model_behavior.data_models.votes import PairTable


@dataclass(frozen=True)
class SharedPrompt:
    """What two models answer to one prompt."""

    prompt: str
    response_a: str
    response_b: str


def first_to_each_prompt(
    pairs: PairTable, keys: npt.NDArray[np.uint64], rows: Iterable[int], n: int, max_characters: int
) -> dict[int, Exemplar]:
    """The first `n` of some pairs that are to different prompts, by prompt key and in order.

    Args:
        pairs: texts.
        keys: of their prompts, [n_pairs].
        rows: pairs to choose from, best first.
        n: at most so many.
        max_characters: longer texts are cut.
    """
    found: dict[int, Exemplar] = {}
    for row in rows:
        if len(found) == n:
            break
        if int(keys[row]) not in found:
            texts = pairs.prompts[int(pairs.prompt_index[row])].as_py(), pairs.responses[row].as_py()
            found[int(keys[row])] = Exemplar(*(_cut(text, max_characters) for text in texts))
    return found


def join_answers(old: Mapping[int, Exemplar], new: Mapping[int, Exemplar], n: int) -> dict[int, Exemplar]:
    """The `n` answers with the smallest keys of both; the old one where both answer a prompt."""
    return dict(sorted({**new, **old}.items())[:n])


def pair_answers(samples: ModelSamples, a: int, b: int) -> tuple[SharedPrompt, ...]:
    """What the models of two rows answered to the same prompts; empty where they share none that was kept."""
    one, other = samples.answers[a], samples.answers[b]
    return tuple(SharedPrompt(one[key].prompt, one[key].response, other[key].response) for key in one if key in other)


def _cut(text: str, length: int) -> str:
    return text if len(text) <= length else text[: length - 1].rstrip() + "…"
