"""Triplets of (prompt, response) pairs, and the data prepared for the encoder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum

from model_behavior.arrays import Int8Array, Int32Array
from model_behavior.data_models.votes import FilterReport, SplitVotes, TrainingData


class TripletKind(IntEnum):
    """Sources of a triplet's positive and negative."""

    IDENTITY = 0
    """Positive: the anchor's model on another prompt. Negative: the loser of the anchor's vote."""
    PERFORMANCE = 1
    """Positive: a winning pair of another model. Negative: the loser of the anchor's vote."""
    TIE = 2
    """Positive: the other side of a tied vote. Negative: sampled."""
    BOTH_BAD = 3
    """Negative: one side of a both_bad vote. Anchor: a winning pair; positive: as for a decided vote."""


@dataclass(frozen=True)
class BehaviorEncoderTrainingTriplet:
    """One triplet as readable text; each side is (model, prompt, response)."""

    anchor: tuple[str, str, str]
    positive: tuple[str, str, str]
    negative: tuple[str, str, str]
    kind: TripletKind


@dataclass(frozen=True, eq=False)
class Triplets:
    """Triplets as indices into a `PairTable`, all arrays [n_triplets].

    Attributes:
        vote: vote that each triplet comes from.
        kind: `TripletKind` of each triplet, int8.
        skipped: triplets that could not be formed, by reason.
    """

    anchor: Int32Array
    positive: Int32Array
    negative: Int32Array
    vote: Int32Array
    kind: Int8Array
    skipped: Mapping[str, int]

    def __len__(self) -> int:
        return len(self.kind)


@dataclass(frozen=True, eq=False)
class PreprocessedBehaviorEncoderData:
    """Filtered, split votes with the validation triplets, which stay the same in every epoch.

    Training triplets are drawn afresh each epoch from `data` and `split.train`.

    Attributes:
        data: filtered votes.
        split: their division.
        validation_triplets: triplets that epochs are compared on.
        filter_report: report on votes that the filters have removed and changed.
        fingerprint: hash of the votes and all settings.
        votes_key: key of the filtered votes in the cache; "" where they are not kept there.
    """

    data: TrainingData
    split: SplitVotes
    validation_triplets: Triplets
    filter_report: FilterReport
    fingerprint: str
    votes_key: str = ""
