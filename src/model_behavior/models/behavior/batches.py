"""Which triplets go into a batch together."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from model_behavior.models.behavior.objectives import Mining

SAME_PROMPT_RUN = 8
"""Triplets of one prompt that stay together when negatives are mined, where a prompt has as many."""

_Indices = npt.NDArray[np.int64]


def draw_batches(prompt: _Indices, batch_size: int, mining: Mining, rng: np.random.Generator) -> list[_Indices]:
    """Divides an epoch's triplets into batches at random.

    Without mining every order is as likely. With mining, whose negatives are on the anchor's prompt, the triplets of a
    prompt go in runs of `SAME_PROMPT_RUN`, since a batch drawn freely from many prompts has hardly two of one. (Hermans
    et al. 2017 draw P classes with K samples each for that reason.) Runs follow one another at random.

    Args:
        prompt: of each triplet's anchor, [n_triplets].
        batch_size: triplets in a batch; the last may have fewer.
        mining: of the triplet term.
        rng: the epoch's generator.

    Returns:
        Indices of triplets, each in one batch.
    """
    order = rng.permutation(len(prompt))
    if mining != "none":
        order = order[np.argsort(prompt[order], kind="stable")]
        _, start, inverse = np.unique(prompt[order], return_index=True, return_inverse=True)
        run = (np.arange(len(order)) - start[inverse]) // SAME_PROMPT_RUN
        is_first = np.r_[True, (np.diff(inverse) != 0) | (np.diff(run) != 0)][: len(order)]
        run_id = np.cumsum(is_first) - 1
        place = rng.permutation(int(is_first.sum()))
        order = order[np.argsort(place[run_id], kind="stable")]
    return [order[i : i + batch_size] for i in range(0, len(order), batch_size)]
