"""Filters votes for training: removes empty texts and rare models, makes texts canonical, and masks self-naming."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa

from model_behavior.arrays import BoolArray, Int32Array, IntArray
from model_behavior.data.canonical_text import Changes, canonical_prompt, canonicalise_responses
from model_behavior.data.self_naming import mask_self_naming
from model_behavior.data.text_columns import LazyTexts, TextColumnBuilder, is_blank, parts_of, take_texts
from model_behavior.data_models.votes import FilterReport, KeptByThreshold, PairTable, TrainingData
from model_behavior.errors import DataError

_MOST_COMPARISONS = 20
_THRESHOLDS = (1, 2, 5, 10, 20)


@dataclass(frozen=True)
class FilterConfig:
    """Settings of the filters.

    Attributes:
        min_comparisons: least number of votes of a model; models with fewer are dropped, with their votes. None for a
            quarter of the mean over models, but at most 20: at least half of the votes are then kept (decision 0019).
        mask_self_naming: True to mask the names by which a response names its model or its maker.
    """

    min_comparisons: int | None = None
    mask_self_naming: bool = True


def filter_votes(
    data: TrainingData, config: FilterConfig, progress: Callable[[int, int], None] | None = None
) -> tuple[TrainingData, FilterReport]:
    """Removes votes on empty texts, then rare models until none is left; makes texts canonical, masks self-naming.

    Args:
        data: votes.
        config: settings of the filters.
        progress: callback, called with (responses made canonical, responses in all).

    Raises:
        DataError: no vote is left; the message gives the counts.
    """
    empty_prompt = is_blank(data.pairs.prompts)[data.pairs.prompt_index[data.pair_a]]
    blank = is_blank(data.pairs.responses)
    empty_response = (blank[data.pair_a] | blank[data.pair_b]) & ~empty_prompt
    full = ~(empty_prompt | empty_response)
    minimum = config.min_comparisons
    minimum = choose_min_comparisons(data, full) if minimum is None else minimum
    kept, is_rare = _drop_rare_models(data, full, minimum)
    thresholds = compare_thresholds(data, full, minimum) if is_rare.any() else ()
    removed = {
        "empty prompt": int(empty_prompt.sum()),
        "empty response": int(empty_response.sum()),
        "rare model": int((full & ~kept).sum()),
    }
    removed = {reason: count for reason, count in removed.items() if count}
    if not kept.any():
        counts = ", ".join(f"{reason}: {count:,}" for reason, count in removed.items()) or "there were none"
        table = "; ".join(
            f"{each.votes_per_model}: {each.models:,} models, {each.votes:,} votes" for each in thresholds
        )
        hint = f" Kept by --min-comparisons: {table}." if table else ""
        lower = f"lower the threshold of {minimum} votes per model (--min-comparisons), or " if full.any() else ""
        raise DataError(
            f"no vote is left of {len(data):,} after filtering (removed: {counts}). Fix: {lower}give more votes.{hint}"
        )
    used, pair_a, pair_b = _renumber(data, np.flatnonzero(kept))
    responses, masked, changes = _clean(data.pairs.responses, used, config.mask_self_naming, progress)
    pairs = _select_pairs(data.pairs, used, responses)
    prompts = pa.array(map(canonical_prompt, LazyTexts(pairs.prompts)), pa.large_string())
    drawn = None if data.drawn is None else data.drawn[kept]
    chosen = TrainingData(replace(pairs, prompts=prompts), pair_a, pair_b, data.outcome[kept], drawn)
    rare_models = tuple(data.pairs.models[index] for index in np.flatnonzero(is_rare))
    return chosen, FilterReport(len(data), len(chosen), removed, rare_models, masked, thresholds, changes)


def choose_min_comparisons(data: TrainingData, kept: BoolArray) -> int:
    """A quarter of the votes that a model has on average, at most 20.

    Of a graph of mean degree d, taking out nodes of degree below d / 4 until none is left takes out less than half of
    the edges, so that no file loses more than half of its votes by this.

    Args:
        data: votes.
        kept: whether each vote counts, [n_votes].
    """
    models = data.pairs.model_index[np.concatenate([data.pair_a[kept], data.pair_b[kept]])]
    n_models = len(np.unique(models))
    return min(_MOST_COMPARISONS, len(models) // (4 * n_models)) if n_models else 0


def compare_thresholds(data: TrainingData, kept: BoolArray, chosen: int) -> tuple[KeptByThreshold, ...]:
    """What some thresholds would keep, and the chosen one keeps, ascending."""
    found = []
    for minimum in sorted({*_THRESHOLDS, chosen}):
        remaining, _ = _drop_rare_models(data, kept, minimum)
        pairs = np.concatenate([data.pair_a[remaining], data.pair_b[remaining]])
        n_models = len(np.unique(data.pairs.model_index[pairs]))
        found.append(KeptByThreshold(minimum, n_models, int(remaining.sum())))
    return tuple(found)


def _clean(
    responses: pa.LargeStringArray, used: IntArray, mask: bool, progress: Callable[[int, int], None] | None
) -> tuple[pa.LargeStringArray, int, Changes]:
    """The responses at `used` as they are encoded, how many had self-naming masked, and what was made canonical."""
    cleaned = TextColumnBuilder()
    n_masked, changes = 0, Counter[str]()
    for part in parts_of(len(used)):
        texts, changed = canonicalise_responses(responses.take(pa.array(used[part])).to_pylist())
        changes.update(changed)
        if mask:
            texts, n_changed = mask_self_naming(texts)
            n_masked += n_changed
        for text in texts:
            cleaned.append(text.encode())
        if progress is not None:
            progress(len(cleaned), len(used))
    return cleaned.finish(), n_masked, dict(changes)


def select_votes(data: TrainingData, vote_indices: IntArray) -> TrainingData:
    """The chosen votes in the order given, with only the pairs, prompts and models that they use.

    Args:
        data: votes to choose from.
        vote_indices: indices of the chosen votes, [n_chosen].
    """
    used, pair_a, pair_b = _renumber(data, vote_indices)
    drawn = None if data.drawn is None else data.drawn[vote_indices]
    return TrainingData(select_pairs(data.pairs, used), pair_a, pair_b, data.outcome[vote_indices], drawn)


def select_pairs(pairs: PairTable, used: IntArray) -> PairTable:
    """The chosen pairs in the order given, with only the prompts and models that they use.

    Args:
        pairs: pairs to choose from.
        used: indices of the chosen pairs, [n_chosen].
    """
    return _select_pairs(pairs, used, take_texts(pairs.responses, used))


def _renumber(data: TrainingData, vote_indices: IntArray) -> tuple[IntArray, Int32Array, Int32Array]:
    """The pairs that the votes use, ascending, and the place of each vote's two pairs among them, [n_chosen] each."""
    both = np.concatenate([data.pair_a[vote_indices], data.pair_b[vote_indices]])
    used, inverse = np.unique(both, return_inverse=True)
    pair_a, pair_b = np.split(inverse.astype(np.int32), 2)
    return used, pair_a, pair_b


def _select_pairs(pairs: PairTable, used: IntArray, responses: pa.LargeStringArray) -> PairTable:
    """The pairs at `used`, with `responses` for theirs."""
    prompts, prompt_index = np.unique(pairs.prompt_index[used], return_inverse=True)
    models, model_index = np.unique(pairs.model_index[used], return_inverse=True)
    return PairTable(
        prompts=take_texts(pairs.prompts, prompts),
        models=tuple(pairs.models[index] for index in models),
        responses=responses,
        histories=take_texts(pairs.histories, used),
        prompt_index=prompt_index.astype(np.int32),
        model_index=model_index.astype(np.int32),
    )


def _drop_rare_models(data: TrainingData, kept: BoolArray, minimum: int) -> tuple[BoolArray, BoolArray]:
    """Votes kept [n_votes] and models found rare [n_models]: dropping one can make another rare."""
    model_a = data.pairs.model_index[data.pair_a]
    model_b = data.pairs.model_index[data.pair_b]
    n_models = len(data.pairs.models)
    while True:
        counts = np.bincount(model_a[kept], minlength=n_models)
        counts += np.bincount(model_b[kept], minlength=n_models)
        is_rare = counts < minimum
        remaining = kept & ~is_rare[model_a] & ~is_rare[model_b]
        if remaining.sum() == kept.sum():
            return remaining, is_rare
        kept = remaining
