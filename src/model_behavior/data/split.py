"""Splits votes by prompt, so that no prompt is on both sides, and identifies prompts by normalised text.

Two prompts are the same if they are equal once normalised. The hash of a normalised prompt is its key: an artifact
keeps the keys of its training prompts, not their texts.
"""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from model_behavior.arrays import BoolArray, Int32Array, Int64Array, UInt64Array
from model_behavior.data.canonical_text import canonical_prompt
from model_behavior.data.text_columns import LazyTexts
from model_behavior.data_models.votes import SplitVotes, TrainingData, ValidationSplit
from model_behavior.errors import DataError, UsageError
from model_behavior.names import nearest_models

_SPECIAL = r"[^ -~\n]|[&<\[#*:`]|--"

PromptKeys = UInt64Array
"""Keys of prompts from `hash_prompts`, [n_prompts]."""


def normalise_prompt(text: str) -> str:
    """The canonical prompt in NFKC, case folded, white space collapsed and stripped. Idempotent."""
    text = canonical_prompt(text)
    if text.isascii():
        return " ".join(text.lower().split())
    folded = text
    # Case folding can undo NFKC and the other way round; Unicode needs at most a few rounds to settle.
    for _ in range(4):
        settled = unicodedata.normalize("NFKC", folded).casefold()
        if settled == folded:
            break
        folded = settled
    return " ".join(folded.split())


def normalised_prompt_ids(prompts: pa.LargeStringArray) -> Int32Array:
    """One id per prompt, equal for prompts that are equal once normalised, [n_prompts]; ids follow the sorted texts."""
    normalised = [normalise_prompt(text) for text in LazyTexts(prompts)]
    rank = {text: index for index, text in enumerate(sorted(set(normalised)))}
    return np.array([rank[text] for text in normalised], dtype=np.int32)


def hash_prompts(prompts: Sequence[str]) -> PromptKeys:
    """The 8-byte BLAKE2b digest of each normalised prompt, [n_prompts]; equal for prompts equal once normalised.

    Among a million prompts the chance that any two share a key is below 1 in 10 million.
    """
    return np.fromiter((hash_text(normalise_prompt(prompt)) for prompt in prompts), np.uint64, len(prompts))


def hash_prompt_column(prompts: pa.Array) -> PromptKeys:
    """`hash_prompts` of a column without nulls, several times as fast where most prompts are plain.

    A prompt of printable ASCII without a character that a template, a role, an entity or a dash is made of differs from
    its canonical form in white space alone.
    """
    special = pc.match_substring_regex(prompts, _SPECIAL)
    plain = pc.ascii_lower(prompts.filter(pc.invert(special)))
    plain = pc.utf8_trim(pc.replace_substring_regex(plain, "[ \\n]+", " "), " ")
    keys = np.empty(len(prompts), np.uint64)
    is_special = special.to_numpy(zero_copy_only=False)
    keys[is_special] = hash_prompts(prompts.filter(special).to_pylist())
    keys[~is_special] = np.fromiter(map(hash_text, plain.to_pylist()), np.uint64, len(plain))
    return keys


def hash_text(text: str) -> int:
    """The 8-byte BLAKE2b digest of a text as it stands, as an unsigned integer."""
    return int.from_bytes(hashlib.blake2b(text.encode("utf-8", "replace"), digest_size=8).digest(), "little")


def pairs_of(data: TrainingData, votes: Int64Array) -> Int64Array:
    """Indices of the pairs that take part in the votes, ascending."""
    return np.unique(np.concatenate([data.pair_a[votes], data.pair_b[votes]])).astype(np.int64)


def split_votes(data: TrainingData, split: ValidationSplit) -> SplitVotes:
    """Divides the votes. With `split.by="prompt"` the order of the votes does not matter.

    Raises:
        UsageError: the fraction is outside (0, 1), `by` is unknown, or no vote has a held-out model.
        DataError: there are fewer than two prompts (or votes) to divide.
    """
    if not 0 < split.fraction < 1:
        raise UsageError(f"validation fraction {split.fraction}: must be above 0 and below 1, such as 0.1.")
    if split.by not in ("prompt", "random"):
        raise UsageError(f"split by {split.by!r}: unknown. Allowed: 'prompt', 'random'.")
    is_held = _held_out(data, split.held_out_models)
    free = np.flatnonzero(~is_held)
    if split.by == "prompt":
        # Numbered among the free votes alone: held-out models must not shift the draw of the others.
        ids = normalised_prompt_ids(data.pairs.prompts)[data.pairs.prompt_index[data.pair_a[free]]]
        _, group = np.unique(ids, return_inverse=True)
    else:
        group = np.arange(len(free))
    n_groups = int(group.max()) + 1 if len(free) else 0
    if n_groups < 2:
        unit = ("prompt" if split.by == "prompt" else "vote") + "s" * (n_groups != 1)
        raise DataError(
            f"{n_groups} different {unit} among {len(free):,} votes ({int(is_held.sum()):,} held out): too few to "
            "divide into training and validation. Fix: give votes on at least 2 prompts, better on dozens, from which "
            "behaviour can be learned; or hold out fewer models. For ratings alone, see load_battles."
        )
    chosen = np.zeros(n_groups, dtype=np.bool_)
    n_validation = min(max(1, round(split.fraction * n_groups)), n_groups - 1)
    chosen[np.random.default_rng(split.seed).permutation(n_groups)[:n_validation]] = True
    return SplitVotes(
        train=free[~chosen[group]],
        validation=free[chosen[group]],
        held_out=np.flatnonzero(is_held),
    )


def _held_out(data: TrainingData, names: tuple[str, ...]) -> BoolArray:
    """True for each vote with a held-out model, [n_votes]."""
    models = data.pairs.models
    is_held = np.isin(np.array(models, dtype=object), np.array(names, dtype=object))
    unknown = sorted(set(names) - set(models))
    if unknown:
        near = ", ".join(nearest_models(models, unknown[0]))
        raise UsageError(f"held-out model {unknown[0]!r}: no vote has it. Nearest names: {near}.")
    held: BoolArray = is_held[data.pairs.model_index]
    return held[data.pair_a] | held[data.pair_b]
