"""Votes and responses in columns, splits of votes, and reports of loading and filtering.

Every prompt is stored once, and so is every response of a model to a prompt.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Literal

import pyarrow as pa

from model_behavior.arrays import BoolArray, Int8Array, Int32Array, Int64Array, UInt64Array


class Outcome(IntEnum):
    """The judge's verdict. The canonical labels are the lower-case names."""

    MODEL_A = 0
    MODEL_B = 1
    TIE = 2
    BOTH_BAD = 3

    @property
    def label(self) -> str:
        """The canonical string: model_a, model_b, tie or both_bad."""
        return self.name.lower()


@dataclass(frozen=True, eq=False)
class PairTable:
    """Unique (prompt, model, response) pairs.

    Attributes:
        prompts: unique prompt texts, [n_prompts].
        models: unique model names, sorted, [n_models].
        responses: response text of each pair, [n_pairs].
        histories: earlier turns of each pair as a JSON list of {role, content}, "" where there are none, [n_pairs].
        prompt_index: index into `prompts`, [n_pairs].
        model_index: index into `models`, [n_pairs].
    """

    prompts: pa.LargeStringArray
    models: tuple[str, ...]
    responses: pa.LargeStringArray
    histories: pa.LargeStringArray
    prompt_index: Int32Array
    model_index: Int32Array

    def __len__(self) -> int:
        return len(self.prompt_index)


@dataclass(frozen=True, eq=False)
class TrainingData:
    """Pairwise votes over a table of pairs.

    Attributes:
        pairs: answers that were compared.
        pair_a: index into `pairs` of the left answer, [n_votes].
        pair_b: index into `pairs` of the right answer, [n_votes]. Same prompt as `pair_a`, another model.
        outcome: `Outcome` of each vote, [n_votes], int8.
        drawn: True for each vote that nobody cast but that was drawn from published ratings, [n_votes]; None where
            there is none.
    """

    pairs: PairTable
    pair_a: Int32Array
    pair_b: Int32Array
    outcome: Int8Array
    drawn: BoolArray | None = None

    def __len__(self) -> int:
        return len(self.outcome)


@dataclass(frozen=True)
class ValidationSplit:
    """How to divide votes before anything is fitted.

    Attributes:
        fraction: share of prompts (or of votes, with by="random") kept for validation, in (0, 1).
        seed: seed of the draw.
        by: unit of the split: "prompt" keeps all votes on one normalised prompt together, "random" draws votes.
        held_out_models: names of models whose votes are on neither side.
    """

    fraction: float = 0.1
    seed: int = 0
    by: Literal["prompt", "random"] = "prompt"
    held_out_models: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class SplitVotes:
    """Indices of the votes on each side, ascending; together they are all votes, and none is on two sides.

    Attributes:
        train: votes to fit on.
        validation: votes to choose the best epoch by.
        held_out: votes in which a held-out model takes part.
    """

    train: Int64Array
    validation: Int64Array
    held_out: Int64Array


@dataclass(frozen=True, eq=False)
class TrainingRecord:
    """Record of what an encoder was trained on.

    Attributes:
        split: split of its votes.
        prompts: keys of the training prompts (`data.split`), ascending, uint64.
    """

    split: ValidationSplit
    prompts: UInt64Array


@dataclass(frozen=True)
class SourceReport:
    """Counts of what was read from one source; `rows` == `used` + the sum of `skipped`.

    Attributes:
        source: path or address as given, or a description such as "list of 12 rows".
        format: name of its format.
        rows: number of rows.
        used: number of rows that became a vote or a response; a row of several answers becomes several.
        skipped: number of rows left out, by reason.
        warnings: cautions about such data, for the user.
        notes: columns that were not read, or were taken for others, and files of the source that were not read.
    """

    source: str
    format: str
    rows: int
    used: int
    skipped: Mapping[str, int]
    warnings: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class LoadReport:
    """What was read in one load.

    Attributes:
        sources: reports of the sources, in the order given.
        similar_names: groups of model names that differ in case or width alone, each read as models of their own.
    """

    sources: tuple[SourceReport, ...]
    similar_names: tuple[tuple[str, ...], ...] = ()


@dataclass(frozen=True)
class KeptByThreshold:
    """What is kept where models with fewer votes than a threshold are dropped."""

    votes_per_model: int
    models: int
    votes: int


@dataclass(frozen=True)
class FilterReport:
    """Counts of what filtering removed; `votes_before` == `votes_after` + the sum of `removed`.

    Attributes:
        votes_before: number of votes given.
        votes_after: number of votes kept.
        removed: votes removed, by reason.
        rare_models: models dropped because they had too few comparisons, sorted.
        masked_responses: responses in which the model named itself or its maker, now masked.
        thresholds: models and votes that other thresholds would have kept; empty where no model was rare.
        canonicalised: responses that were brought to their canonical form, by kind of what was changed.
    """

    votes_before: int
    votes_after: int
    removed: Mapping[str, int]
    rare_models: tuple[str, ...]
    masked_responses: int
    thresholds: tuple[KeptByThreshold, ...] = ()
    canonicalised: Mapping[str, int] = field(default_factory=dict)
