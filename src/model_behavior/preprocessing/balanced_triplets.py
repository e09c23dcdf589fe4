"""Triplets in which topic helps neither side: positive and negative answer one prompt, the anchor answers another.

For either response of a vote, whatever the outcome: the positive P is that response, the negative N the other one of
the vote, and the anchor A any other response of P's model, to another prompt. A vector that knows nothing but prompts
gets one half of them right, so that the share says how much of the *model* it knows, also where hardly two votes share
a prompt, as in a real arena.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from model_behavior.arrays import Int64Array, IntArray
from model_behavior.data_models.votes import TrainingData

MOST_BALANCED = 20_000  # a share of as many has a standard error of 0.0035 at most


@dataclass(frozen=True, eq=False)
class BalancedTriplets:
    """Triplets as indices of pairs, all arrays [n_triplets]."""

    anchor: Int64Array
    positive: Int64Array
    negative: Int64Array

    def __len__(self) -> int:
        return len(self.anchor)


def draw_balanced(
    model: IntArray,
    prompt: IntArray,
    votes: tuple[IntArray, IntArray],
    seed: int,
    most: int = MOST_BALANCED,
) -> BalancedTriplets:
    """All balanced triplets of some votes, or some of them, drawn uniformly, where there are too many.

    Args:
        model: model of each pair, [n_pairs].
        prompt: normalised prompt of each pair, [n_pairs].
        votes: pairs of either side of the votes, [n_votes] each. Their pairs alone are anchors.
        seed: seed of the draw.
        most: largest number of triplets, at least 1.
    """
    positive = np.concatenate(votes).astype(np.int64)
    negative = np.concatenate(votes[::-1]).astype(np.int64)
    pool = np.unique(positive)
    pool = pool[np.lexsort((prompt[pool], model[pool]))]
    # Responses of a model lie side by side, and among those the ones to one prompt: the anchors of a positive are those
    # of its model, before and after the block of its prompt.
    places = np.argsort(pool)[np.searchsorted(np.sort(pool), positive)]
    of_model = _blocks(model[pool])
    of_prompt = _blocks(of_model[0] * (int(prompt.max(initial=0)) + 1) + prompt[pool])
    (start, end), (own_start, own_end) = ((left[places], right[places]) for left, right in (of_model, of_prompt))
    n_anchors = (end - start) - (own_end - own_start)
    ends = np.cumsum(n_anchors)
    total = int(ends[-1]) if len(ends) else 0
    drawn = np.random.default_rng(seed).choice(total, most, replace=False) if total > most else np.arange(total)
    number = np.sort(drawn)
    side = np.searchsorted(ends, number, side="right")
    anchor = start[side] + number - (ends - n_anchors)[side]
    anchor += np.where(anchor >= own_start[side], (own_end - own_start)[side], 0)
    return BalancedTriplets(pool[anchor], positive[side], negative[side])


def balanced_of_votes(
    data: TrainingData, prompt: IntArray, votes: Int64Array, seed: int, most: int = MOST_BALANCED
) -> BalancedTriplets:
    """`draw_balanced` of some votes of a file.

    Args:
        data: votes over a table of pairs.
        prompt: normalised prompt of each pair, [n_pairs].
        votes: indices of the votes.
        seed: seed of the draw.
        most: largest number of triplets.
    """
    return draw_balanced(data.pairs.model_index, prompt, (data.pair_a[votes], data.pair_b[votes]), seed, most)


def _blocks(label: IntArray) -> tuple[Int64Array, Int64Array]:
    """Start and end of the run of equal labels around each row of ascending labels, [n] each."""
    return np.searchsorted(label, label), np.searchsorted(label, label, side="right")
