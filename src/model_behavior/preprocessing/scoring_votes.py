"""Converts votes from the form of stage 1 to that of stage 2."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from model_behavior.arrays import Float32Array, Int32Array, IntArray
from model_behavior.data.split import hash_prompts, hash_text
from model_behavior.data.text_columns import LazyTexts
from model_behavior.data_models.scoring_types import ScoringVotes, VotedAnswers
from model_behavior.data_models.vote_ledger import VoteLedger
from model_behavior.data_models.votes import PairTable, TrainingData

# The columns after "length" of `STYLE_COLUMNS`, as arena-rank's style control counts them; RE2.
_MARKDOWN = (r"(?m)^#{1,6}\s", r"(?m)^\s*(?:[-*+]|\d+\.)\s", r"\*\*[^*\n]+\*\*|__[^_\n]+__")


AnswerTable: TypeAlias = tuple[tuple[str, ...], Float32Array]
"""Names of features [n_features], and their values for all pairs, [n_pairs, n_features]."""


def to_scoring_votes(
    data: TrainingData, votes: IntArray | None = None, with_style: bool = False, answers: AnswerTable | None = None
) -> ScoringVotes:
    """The chosen votes, in the order given, with only the prompts and models that they use.

    Args:
        data: votes.
        votes: indices of the votes to take, all by default.
        with_style: measure length and Markdown of the responses, for the baselines that look at them.
        answers: features of all pairs, for the reading of ratings from what votes say about responses.
    """
    chosen = np.arange(len(data)) if votes is None else votes
    pair_a, pair_b = data.pair_a[chosen], data.pair_b[chosen]
    pairs = data.pairs
    style = measure_style(pairs) if with_style else None
    whole = ScoringVotes(
        prompts=tuple(pairs.prompts.to_pylist()),
        models=pairs.models,
        prompt_index=pairs.prompt_index[pair_a],
        model_a=pairs.model_index[pair_a],
        model_b=pairs.model_index[pair_b],
        outcome=data.outcome[chosen],
        style_a=None if style is None else style[pair_a],
        style_b=None if style is None else style[pair_b],
        drawn=None if data.drawn is None else data.drawn[chosen],
        answers=None if answers is None else VotedAnswers(*answers, pair_a.astype(np.int64), pair_b.astype(np.int64)),
    )
    return select_scoring_votes(whole, np.arange(len(whole)))


def select_scoring_votes(votes: ScoringVotes, chosen: IntArray) -> ScoringVotes:
    """Some votes, in the order given, with only the prompts and models that they use."""
    used_prompts, prompt_index = np.unique(votes.prompt_index[chosen], return_inverse=True)
    sides = np.stack([votes.model_a[chosen], votes.model_b[chosen]])
    used_models, model_index = np.unique(sides, return_inverse=True)
    model_a, model_b = model_index.reshape(sides.shape).astype(np.int32)
    return replace(
        votes,
        prompts=tuple(votes.prompts[index] for index in used_prompts),
        models=tuple(votes.models[index] for index in used_models),
        prompt_index=_narrow(prompt_index),
        model_a=model_a,
        model_b=model_b,
        outcome=votes.outcome[chosen],
        style_a=None if votes.style_a is None else votes.style_a[chosen],
        style_b=None if votes.style_b is None else votes.style_b[chosen],
        drawn=None if votes.drawn is None else votes.drawn[chosen],
        answers=None if votes.answers is None else votes.answers.of_votes(chosen),
    )


def with_models(votes: ScoringVotes, names: Sequence[str]) -> ScoringVotes:
    """The votes, beside which these models stand, too, though no vote may be on them."""
    models = tuple(sorted({*votes.models, *names}))
    place = np.array([models.index(name) for name in votes.models], dtype=np.int32)
    return replace(votes, models=models, model_a=place[votes.model_a], model_b=place[votes.model_b])


def texts_of(votes: ScoringVotes) -> tuple[list[str], list[str], list[str]]:
    """Prompt, left and right model of every vote, as the scoring models' `predict` takes them, [n_votes] each."""
    return (
        [votes.prompts[index] for index in votes.prompt_index],
        [votes.models[index] for index in votes.model_a],
        [votes.models[index] for index in votes.model_b],
    )


def measure_style(pairs: PairTable) -> Float32Array:
    """`STYLE_COLUMNS` of every response, float32, [n_pairs, 4]."""
    responses = pairs.responses
    columns = [pc.utf8_length(responses), *(pc.count_substring_regex(responses, pattern) for pattern in _MARKDOWN)]
    return np.column_stack([column.cast(pa.float32()).to_numpy(zero_copy_only=False) for column in columns])


def _narrow(values: IntArray) -> Int32Array:
    return values.astype(np.int32)


def to_ledger(data: TrainingData, votes: IntArray | None = None) -> VoteLedger:
    """The chosen votes without their texts; a vote that the data have several times is in it as often.

    Args:
        data: votes.
        votes: indices of the votes to take, all by default.
    """
    chosen = np.arange(len(data)) if votes is None else votes
    pairs = data.pairs
    used = np.unique(np.concatenate([data.pair_a[chosen], data.pair_b[chosen]]))
    prompts, names = pairs.prompts, pairs.models
    texts = zip(LazyTexts(prompts, pairs.prompt_index[used]), LazyTexts(pairs.responses, used), strict=True)
    digest = {
        index: hash_text(f"{prompt}\0{names[pairs.model_index[index]]}\0{response}")
        for index, (prompt, response) in zip(used.tolist(), texts, strict=True)
    }
    seen: Counter[tuple[int, int, int]] = Counter()
    vote = np.zeros(len(chosen), np.uint64)
    columns = (column[chosen].tolist() for column in (data.pair_a, data.pair_b, data.outcome))
    for row, (a, b, outcome) in enumerate(zip(*columns, strict=True)):
        key = (digest[a], digest[b], outcome)
        vote[row] = hash_text(f"vote {key} {seen[key]}")
        seen[key] += 1
    asked, index = np.unique(pairs.prompt_index[data.pair_a[chosen]], return_inverse=True)
    ledger = VoteLedger(
        names,
        vote,
        hash_prompts(prompts.take(pa.array(asked)).to_pylist())[index] if len(chosen) else np.zeros(0, np.uint64),
        _narrow(pairs.model_index[data.pair_a[chosen]]),
        _narrow(pairs.model_index[data.pair_b[chosen]]),
        data.outcome[chosen],
    )
    return ledger.joined(ledger)
