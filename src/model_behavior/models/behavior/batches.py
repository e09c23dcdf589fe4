"""Batches: the division of an epoch's triplets, and the embedding of a batch's pairs."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch

from model_behavior.arrays import Int64Array
from model_behavior.data_models.behavior_encoder_types import TripletKind, Triplets
from model_behavior.models.behavior.objectives import TripletBatch
from model_behavior.preprocessing.triplets import TripletSampler

SAME_PROMPT_RUN = 8
"""Triplets of one prompt that stay together in `draw_batches_by_prompt`, where a prompt has as many."""


def draw_batches(
    n_triplets: int, batch_size: int, rng: np.random.Generator, most: int | None = None
) -> list[Int64Array]:
    """Divides an epoch's triplets, or some of them, into batches at random; every order is as likely.

    Args:
        n_triplets: triplets of the epoch.
        batch_size: triplets in a batch; the last may have fewer.
        rng: generator of the epoch.
        most: number of triplets to draw, all by default.

    Returns:
        Indices of triplets, each in one batch at most.
    """
    return _cut(rng.permutation(n_triplets)[:most], batch_size)


def draw_batches_by_prompt(prompt: Int64Array, batch_size: int, rng: np.random.Generator) -> list[Int64Array]:
    """Divides triplets into batches in which several models' answers to one prompt meet.

    An encoder that sees them side by side cannot tell models apart by their prompts. A batch drawn freely from many
    prompts has hardly two triplets of one, so the triplets of a prompt go in runs of `SAME_PROMPT_RUN`, which follow
    one another at random. (Hermans et al. 2017 draw P classes with K samples each for that reason.)

    Args:
        prompt: prompt of each triplet's anchor, [n_triplets].
        batch_size: triplets in a batch; the last may have fewer.
        rng: generator of the epoch.

    Returns:
        Indices of triplets, each in one batch.
    """
    order = rng.permutation(len(prompt))
    order = order[np.argsort(prompt[order], kind="stable")]
    _, start, inverse = np.unique(prompt[order], return_index=True, return_inverse=True)
    run = (np.arange(len(order)) - start[inverse]) // SAME_PROMPT_RUN
    is_first = np.r_[True, (np.diff(inverse) != 0) | (np.diff(run) != 0)][: len(order)]
    run_id = np.cumsum(is_first) - 1
    place = rng.permutation(int(is_first.sum()))
    return _cut(order[np.argsort(place[run_id], kind="stable")], batch_size)


def embed_batch(
    triplets: Triplets, rows: Int64Array, sampler: TripletSampler, embed: Callable[[Int64Array], torch.Tensor]
) -> TripletBatch:
    """The batch of the triplets at `rows`, whose distinct pairs are embedded once each.

    Args:
        triplets: triplets of the epoch.
        rows: indices of those in the batch, [n_triplets].
        sampler: source of the triplets, which knows model, prompt and text of every pair.
        embed: function from pairs to raw embeddings, [n] to [n, dim].
    """
    sides = np.stack([triplets.anchor[rows], triplets.positive[rows], triplets.negative[rows]])
    pairs, position = np.unique(sides, return_inverse=True)
    raw, kind = embed(pairs.astype(np.int64)), triplets.kind[rows]
    anchor, positive, negative = torch.from_numpy(position.reshape(sides.shape)).to(raw.device)

    def on_device(values: npt.NDArray[np.generic]) -> torch.Tensor:
        return torch.from_numpy(values).to(raw.device)

    return TripletBatch(
        raw=raw,
        anchor=anchor,
        positive=positive,
        negative=negative,
        decided=on_device(kind <= TripletKind.PERFORMANCE),
        model=on_device(sampler.model[pairs]),
        prompt=on_device(sampler.prompt[pairs]),
        text=on_device(sampler.text[pairs]),
    )


def _cut(order: Int64Array, batch_size: int) -> list[Int64Array]:
    return [order[start : start + batch_size] for start in range(0, len(order), batch_size)]
