"""Which votes are fit to learn from: not those on empty texts, and not those of rarely seen models."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from model_behavior.data.self_naming import mask_self_naming
from model_behavior.data_models.reports import FilterReport
from model_behavior.data_models.votes import PairTable, TrainingData
from model_behavior.errors import DataError

BoolArray = npt.NDArray[np.bool_]


_MASKED_AT_ONCE = 4096


@dataclass(frozen=True)
class FilterConfig:
    """What to filter.

    Attributes:
        min_comparisons: models with fewer votes than this are dropped, with their votes.
        mask_self_naming: mask the names by which a response names its model or its maker.
    """

    min_comparisons: int = 20
    mask_self_naming: bool = True


def filter_votes(
    data: TrainingData, config: FilterConfig, progress: Callable[[int, int], None] | None = None
) -> tuple[TrainingData, FilterReport]:
    """Remove votes on empty texts, then rare models until none is left, then mask self-naming.

    Args:
        data: votes.
        config: which rules, and the threshold.
        progress: told the responses looked at for self-naming, and how many there are.

    Raises:
        DataError: no vote is left; gives the counts.
    """
    empty_prompt = _is_blank(data.pairs.prompts)[data.pairs.prompt_index[data.pair_a]]
    blank = _is_blank(data.pairs.responses)
    empty_response = (blank[data.pair_a] | blank[data.pair_b]) & ~empty_prompt
    full = ~(empty_prompt | empty_response)
    kept, is_rare = _drop_rare_models(data, full, config.min_comparisons)
    removed = {
        "empty prompt": int(empty_prompt.sum()),
        "empty response": int(empty_response.sum()),
        "rare model": int((full & ~kept).sum()),
    }
    removed = {reason: count for reason, count in removed.items() if count}
    if not kept.any():
        counts = ", ".join(f"{reason}: {count:,}" for reason, count in removed.items()) or "there were none"
        raise DataError(
            f"no vote is left of {len(data):,} after filtering (removed: {counts}). "
            f"Fix: lower the threshold of {config.min_comparisons} votes per model "
            "(--min-comparisons), or give more votes."
        )
    chosen = select_votes(data, np.flatnonzero(kept))
    masked = 0
    if config.mask_self_naming:
        chosen, masked = _mask(chosen, progress)
    rare_models = tuple(data.pairs.models[index] for index in np.flatnonzero(is_rare))
    return chosen, FilterReport(len(data), len(chosen), removed, rare_models, masked)


def _mask(data: TrainingData, progress: Callable[[int, int], None] | None) -> tuple[TrainingData, int]:
    """The votes with self-naming masked, and the number of responses that changed."""
    texts: list[str] = []
    n_masked, n_responses = 0, len(data.pairs)
    for start in range(0, n_responses, _MASKED_AT_ONCE):
        part, n_changed = mask_self_naming(data.pairs.responses[start : start + _MASKED_AT_ONCE].to_pylist())
        texts += part
        n_masked += n_changed
        if progress is not None:
            progress(len(texts), n_responses)
    if not n_masked:
        return data, 0
    return replace(data, pairs=replace(data.pairs, responses=pa.array(texts, pa.large_string()))), n_masked


def select_votes(data: TrainingData, vote_indices: npt.NDArray[np.integer]) -> TrainingData:
    """The chosen votes in the order given, with only the pairs, prompts and models that they use.

    Args:
        data: the votes to choose from.
        vote_indices: [n_chosen].
    """
    n_chosen = len(vote_indices)
    both = np.concatenate([data.pair_a[vote_indices], data.pair_b[vote_indices]])
    used, inverse = np.unique(both, return_inverse=True)
    pair = inverse.astype(np.int32)
    return TrainingData(
        pairs=select_pairs(data.pairs, used),
        pair_a=pair[:n_chosen],
        pair_b=pair[n_chosen:],
        outcome=data.outcome[vote_indices],
    )


def select_pairs(pairs: PairTable, used: npt.NDArray[np.integer]) -> PairTable:
    """The chosen pairs in the order given, with only the prompts and models that they use.

    Args:
        pairs: to choose from.
        used: indices, [n_chosen].
    """
    prompts, prompt_index = np.unique(pairs.prompt_index[used], return_inverse=True)
    models, model_index = np.unique(pairs.model_index[used], return_inverse=True)
    rows = pa.array(used)
    return PairTable(
        prompts=pairs.prompts.take(pa.array(prompts)),
        models=tuple(pairs.models[index] for index in models),
        responses=pairs.responses.take(rows),
        histories=pairs.histories.take(rows),
        prompt_index=prompt_index.astype(np.int32),
        model_index=model_index.astype(np.int32),
    )


def _is_blank(texts: pa.LargeStringArray) -> BoolArray:
    trimmed = pc.utf8_trim_whitespace(texts)
    blank: BoolArray = pc.equal(pc.binary_length(trimmed), 0).to_numpy(zero_copy_only=False)
    return blank


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
