"""Published ratings and the responses of the models that have them, in place of votes: who is who, and drawn votes.

Nobody voted on these responses. What the encoder can learn from is which of two models that answered the same prompt
people prefer: each response is compared with two others to its prompt, and the vote is drawn with the probability that
the ratings give, so that it says no more and no less than they do. Models whose intervals overlap are not compared:
the ratings do not say which of them is better.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from model_behavior.arrays import Int64Array
from model_behavior.data.filters import select_pairs, select_votes
from model_behavior.data.ratings import RatingTable
from model_behavior.data.split import normalised_prompt_ids
from model_behavior.data.text_columns import LazyTexts, PairBuilder, is_blank
from model_behavior.data_models.votes import Outcome, PairTable, TrainingData
from model_behavior.errors import DataError
from model_behavior.names import nearest_models

_NEAREST = 3
_SHOWN = 10
_LEAST_FOR_SCALE = 4
_NARROW = 12.0  # Elo


def draw_votes(pairs: PairTable, ratings: RatingTable, seed: int) -> TrainingData:
    """Votes between responses of rated models, drawn from the ratings.

    On each prompt the models stand in a random circle, and each is compared with the next one.

    Args:
        pairs: responses, also of models without a rating.
        ratings: ratings on the Elo scale.
        seed: seed of the circles and the votes.

    Raises:
        DataError: no prompt has responses of two models whose ratings differ.
    """
    rng = np.random.default_rng(seed)
    row = np.array([ratings.models.index(name) if name in ratings.models else -1 for name in pairs.models])
    rated = row[pairs.model_index]
    usable = (rated >= 0) & ~is_blank(pairs.responses) & ~is_blank(pairs.prompts)[pairs.prompt_index]
    a, b = _compare(pairs, np.flatnonzero(usable), rng)
    low, high = (np.where(np.isnan(end), ratings.rating, end) for end in (ratings.low, ratings.high))
    one, other = rated[a], rated[b]
    differ = (low[one] > high[other]) | (low[other] > high[one])
    a, b, one, other = a[differ], b[differ], one[differ], other[differ]
    if not len(a):
        raise DataError(
            f"no prompt has responses of two models whose ratings differ ({int(usable.sum()):,} responses of "
            f"{len(set(rated[usable].tolist()))} rated models). Fix: give responses of rated models to the same prompts"
        )
    lead = (ratings.rating[one] - ratings.rating[other]) * math.log(10) / 400
    outcome = np.where(rng.random(len(a)) < 1 / (1 + np.exp(-lead)), Outcome.MODEL_A, Outcome.MODEL_B)
    drawn = np.ones(len(a), dtype=np.bool_)
    data = TrainingData(pairs, a.astype(np.int32), b.astype(np.int32), outcome.astype(np.int8), drawn)
    return select_votes(data, np.arange(len(data)))


def join_votes(cast: TrainingData, drawn: TrainingData) -> TrainingData:
    """Votes that were cast, then such as were drawn."""
    builder, offset = PairBuilder(), []
    for data in (cast, drawn):
        pairs = data.pairs
        columns = (
            LazyTexts(pairs.prompts, pairs.prompt_index),
            pairs.model_index.tolist(),
            LazyTexts(pairs.responses),
            LazyTexts(pairs.histories),
        )
        added = [
            builder.add(prompt, pairs.models[model], response, history)
            for prompt, model, response, history in zip(*columns, strict=True)
        ]
        offset.append(np.array(added, dtype=np.int32))
    kinds = [np.full(len(data), kind, dtype=np.bool_) for data, kind in ((cast, False), (drawn, True))]
    return TrainingData(
        pairs=builder.finish(),
        pair_a=np.concatenate([places[data.pair_a] for places, data in zip(offset, (cast, drawn), strict=True)]),
        pair_b=np.concatenate([places[data.pair_b] for places, data in zip(offset, (cast, drawn), strict=True)]),
        outcome=np.concatenate([cast.outcome, drawn.outcome]),
        drawn=np.concatenate(kinds),
    )


def responses_of(pairs: PairTable, names: Sequence[str]) -> PairTable | None:
    """The responses of some models; None if there is none."""
    chosen = np.isin(np.array(pairs.models, dtype=object), np.array(list(names), dtype=object))
    rows = np.flatnonzero(chosen[pairs.model_index])
    return select_pairs(pairs, rows) if len(rows) else None


def describe_unmatched(rated: Sequence[str], answered: Sequence[str], voted: Sequence[str] = ()) -> tuple[str, ...]:
    """Which names the ratings and the responses do not share, each with the nearest names of the other side."""
    there = {*answered, *voted}
    silent = [name for name in rated if name not in there]
    unrated = [name for name in answered if name not in {*rated, *voted}]
    notes = []
    if silent:
        notes.append(f"rated, but without a response: {_with_nearest(silent, sorted(there - set(rated)))}")
    if unrated:
        others = sorted(set(rated) - there)
        notes.append(f"without a rating, so rated from their responses: {_with_nearest(unrated, others)}")
    return tuple(notes)


def describe_ratings(ratings: RatingTable) -> tuple[str, ...]:
    """What is odd about ratings: a scale that does not look like Elo's, and missing intervals."""
    notes = []
    spread = float(np.ptp(ratings.rating))
    if len(ratings.models) >= _LEAST_FOR_SCALE and 0 < spread < _NARROW:
        notes.append(
            f"the ratings span {spread:.3g} points, which on the Elo scale is next to nothing. If they are log-odds, "
            "multiply them by 173.7"
        )
    elif len(ratings.models) >= _LEAST_FOR_SCALE and ratings.rating.min() >= 0 and ratings.rating.max() <= 100:
        notes.append("all ratings are between 0 and 100: they are read as Elo, and not as percentages")
    bare = int((np.isnan(ratings.low) | np.isnan(ratings.high)).sum())
    if bare:
        notes.append(f"{bare:,} of {len(ratings.models):,} ratings have no interval: these are taken as exact")
    return tuple(notes)


def _with_nearest(names: Sequence[str], others: Sequence[str]) -> str:
    shown = []
    for name in names[:_SHOWN]:
        near = nearest_models(others, name, _NEAREST)
        shown.append(f"{name} (nearest: {', '.join(near)})" if near else name)
    rest = len(names) - _SHOWN
    return ", ".join(shown) + (f" and {rest:,} others" if rest > 0 else "")


def _compare(pairs: PairTable, rows: Int64Array, rng: np.random.Generator) -> tuple[Int64Array, Int64Array]:
    """Two responses of different models to one prompt and history, [n_comparisons] each."""
    prompts = normalised_prompt_ids(pairs.prompts)[pairs.prompt_index[rows]]
    histories = np.unique(pairs.histories.take(rows).to_numpy(zero_copy_only=False), return_inverse=True)[1]
    question = prompts.astype(np.int64) * (int(histories.max(initial=0)) + 1) + histories
    # A model that answered a prompt more than once takes part with one of its responses.
    order = rng.permutation(len(rows))
    key = question * len(pairs.models) + pairs.model_index[rows]
    once = order[np.unique(key[order], return_index=True)[1]]
    once = once[np.lexsort((rng.random(len(once)), question[once]))]
    _, first, size = np.unique(question[once], return_index=True, return_counts=True)
    start, n = np.repeat(first, size), np.repeat(size, size)
    place = np.arange(len(once)) - start
    kept = (n > 2) | ((n == 2) & (place == 0))
    a, b = rows[once][kept], rows[once[start + (place + 1) % n]][kept]
    swap = rng.random(len(a)) < 0.5
    return np.where(swap, b, a), np.where(swap, a, b)
