"""Forms triplets from votes: pairs that are pulled together and pairs that are pushed apart.

For a decided vote the anchor is the winner's pair and the negative the loser's pair. The positive is, by the shares
of `TripletConfig`, another response of the anchor's model to another prompt (identity), or a winning pair of another
model on another prompt (performance). A tied vote gives two triplets whose anchor and positive are its two sides. A
both_bad vote gives negatives only. Equal texts are never a positive or a negative of each other.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from model_behavior.arrays import BoolArray, Int32Array, Int64Array
from model_behavior.data.split import normalised_prompt_ids
from model_behavior.data.text_columns import text_ids
from model_behavior.data_models.behavior_encoder_types import (
    BehaviorEncoderTrainingTriplet,
    TripletKind,
    Triplets,
)
from model_behavior.data_models.votes import Outcome, PairTable, TrainingData
from model_behavior.errors import UsageError

_DRAWS_BEFORE_EXHAUSTIVE_SEARCH = 12

_Allowed: TypeAlias = Callable[[Int64Array, Int64Array], BoolArray]
"""(position in the request, candidate pair) -> may this candidate be drawn there? Both [n]."""


@dataclass(frozen=True)
class TripletConfig:
    """Weights of the two kinds of positives.

    Attributes:
        identity: weight of identity positives.
        performance: weight of performance positives. The two weights need not add up to 1.
    """

    identity: float = 0.8
    performance: float = 0.2

    def __post_init__(self) -> None:
        if min(self.identity, self.performance) < 0 or self.identity + self.performance <= 0:
            raise UsageError(
                f"identity={self.identity} and performance={self.performance}: both must be 0 or more, one above 0"
            )


@dataclass(frozen=True, eq=False)
class _Pool:
    """Candidates in groups: group g is `pairs[start[g]:end[g]]`."""

    pairs: Int64Array
    start: Int64Array
    end: Int64Array

    @classmethod
    def grouped(cls, pairs: Int64Array, group_of_pair: Int64Array, n_groups: int) -> _Pool:
        groups = group_of_pair[pairs]
        order = np.argsort(groups, kind="stable")
        bounds = np.searchsorted(groups[order], np.arange(n_groups + 1))
        return cls(pairs[order], bounds[:-1], bounds[1:])

    @classmethod
    def whole(cls, pairs: Int64Array) -> _Pool:
        return cls(pairs, np.array([0]), np.array([len(pairs)]))


class TripletSampler:
    """Draws triplets from one side of a split. The same generator state gives the same triplets.

    Args:
        data: filtered votes.
        votes: indices of the votes of this side; only their pairs are ever drawn.
        config: shares of the kinds of positive.

    Attributes:
        config: shares of the kinds of positive.
        model: index of each pair's model, [n_pairs], int64.
        prompt: id of each pair's normalised prompt, [n_pairs], int64.
        text: id of each pair's response, equal for equal texts, [n_pairs], int64.
    """

    def __init__(self, data: TrainingData, votes: Int64Array, config: TripletConfig) -> None:
        pairs = data.pairs
        self.config = config
        self.model: Int64Array = pairs.model_index.astype(np.int64)
        self.prompt: Int64Array = normalised_prompt_ids(pairs.prompts)[pairs.prompt_index].astype(np.int64)
        self.text: Int64Array = text_ids(pairs.responses)
        self._votes = votes
        self._a, self._b = data.pair_a[votes].astype(np.int64), data.pair_b[votes].astype(np.int64)
        self._outcome = data.outcome[votes]
        self._set_pools()

    def _set_pools(self) -> None:
        bad = self._outcome == Outcome.BOTH_BAD
        a_wins = self._outcome == Outcome.MODEL_A
        decided = a_wins | (self._outcome == Outcome.MODEL_B)
        self._winner = np.where(a_wins, self._a, self._b)
        self._loser = np.where(a_wins, self._b, self._a)
        self._is_bad = np.zeros(len(self.model), dtype=bool)
        self._is_bad[self._a[bad]] = self._is_bad[self._b[bad]] = True
        self._decided = np.flatnonzero(decided)
        in_side = np.unique(np.concatenate([self._a, self._b]))
        good = in_side[~self._is_bad[in_side]]
        winners = np.unique(self._winner[decided])
        losers = np.unique(np.concatenate([self._loser[decided], np.flatnonzero(self._is_bad)]))
        n_prompts = int(self.prompt.max(initial=-1)) + 1
        self._by_model = _Pool.grouped(good, self.model, int(self.model.max(initial=-1)) + 1)
        self._winning = _Pool.whole(winners[~self._is_bad[winners]])
        self._winning_by_prompt = _Pool.grouped(self._winning.pairs, self.prompt, n_prompts)
        self._losing = _Pool.whole(losers)
        self._all = _Pool.whole(in_side)
        self._losing_by_prompt = _Pool.grouped(losers, self.prompt, n_prompts)

    def sample(self, rng: np.random.Generator) -> Triplets:
        """Draws the triplets of one epoch, at most one per decided vote and two per other vote, in vote order."""
        skipped: Counter[str] = Counter()
        parts = [
            self._from_decided(rng, skipped),
            self._from_ties(rng, skipped),
            self._from_both_bad(rng, skipped),
        ]
        anchor, positive, negative, vote, kind = (np.concatenate(column) for column in zip(*parts, strict=True))
        order = np.argsort(vote, kind="stable")
        return Triplets(
            anchor[order].astype(np.int32),
            positive[order].astype(np.int32),
            negative[order].astype(np.int32),
            self._votes[vote[order]].astype(np.int32),
            kind[order].astype(np.int8),
            {reason: count for reason, count in sorted(skipped.items()) if count},
        )

    def _from_decided(self, rng: np.random.Generator, skipped: Counter[str]) -> tuple[Int64Array, ...]:
        vote = self._keep(self._decided, self._winner, self._loser, skipped)
        anchor, negative = self._winner[vote], self._loser[vote]
        positive, kind = self._draw_positives(rng, anchor, negative)
        return self._formed(skipped, anchor, positive, negative, vote, kind)

    def _from_ties(self, rng: np.random.Generator, skipped: Counter[str]) -> tuple[Int64Array, ...]:
        ties = np.flatnonzero(self._outcome == Outcome.TIE)
        kept = self._keep(ties, self._a, self._b, skipped)
        vote = np.repeat(kept, 2)
        anchor = np.column_stack([self._a[kept], self._b[kept]]).ravel()
        positive = np.column_stack([self._b[kept], self._a[kept]]).ravel()

        def allowed(at: Int64Array, pair: Int64Array) -> BoolArray:
            return self._unlike(anchor[at], pair) & self._unlike(positive[at], pair)

        # A negative on another prompt would teach the encoder topics, so one on the same prompt comes first.
        negative = self._draw(rng, self._losing_by_prompt, self.prompt[anchor], allowed)
        negative = self._fill(rng, negative, self._losing, allowed)
        negative = self._fill(rng, negative, self._all, allowed)
        return self._formed(skipped, anchor, positive, negative, vote, np.full(len(vote), TripletKind.TIE))

    def _from_both_bad(self, rng: np.random.Generator, skipped: Counter[str]) -> tuple[Int64Array, ...]:
        bad = np.flatnonzero(self._outcome == Outcome.BOTH_BAD)
        vote = np.repeat(bad, 2)
        negative = np.column_stack([self._a[bad], self._b[bad]]).ravel()

        def allowed(at: Int64Array, pair: Int64Array) -> BoolArray:
            return self._unlike(negative[at], pair)

        anchor = self._draw(rng, self._winning_by_prompt, self.prompt[negative], allowed)
        anchor = self._fill(rng, anchor, self._winning, allowed)
        found = anchor >= 0
        skipped["no winning pair for a both_bad vote"] += int((~found).sum())
        vote, negative, anchor = vote[found], negative[found], anchor[found]
        positive, _ = self._draw_positives(rng, anchor, negative)
        return self._formed(skipped, anchor, positive, negative, vote, np.full(len(vote), TripletKind.BOTH_BAD))

    def _keep(self, vote: Int64Array, left: Int64Array, right: Int64Array, skipped: Counter[str]) -> Int64Array:
        """Votes whose two texts differ and whose pulled pairs no both_bad vote condemned."""
        equal = self.text[left[vote]] == self.text[right[vote]]
        tied = self._outcome[vote] == Outcome.TIE
        condemned = ~equal & (self._is_bad[left[vote]] | (tied & self._is_bad[right[vote]]))
        lost = np.where(tied, 2, 1)  # triplets
        skipped["both responses are equal"] += int(lost[equal].sum())
        skipped["the anchor is in a both_bad vote too"] += int(lost[condemned].sum())
        kept: Int64Array = vote[~equal & ~condemned]
        return kept

    def _draw_positives(
        self, rng: np.random.Generator, anchor: Int64Array, negative: Int64Array
    ) -> tuple[Int64Array, Int64Array]:
        config = self.config
        share = config.performance / (config.identity + config.performance)
        kind = np.where(rng.random(len(anchor)) < share, TripletKind.PERFORMANCE, TripletKind.IDENTITY)
        positive = np.full(len(anchor), -1)
        identity = np.flatnonzero(kind == TripletKind.IDENTITY)
        performance = np.flatnonzero(kind == TripletKind.PERFORMANCE)

        def differs(at: Int64Array, pair: Int64Array) -> BoolArray:
            other_prompt: BoolArray = self.prompt[pair] != self.prompt[anchor[at]]
            text = self.text[pair]
            other_text: BoolArray = (text != self.text[anchor[at]]) & (text != self.text[negative[at]])
            return other_prompt & other_text

        positive[identity] = self._draw(
            rng, self._by_model, self.model[anchor[identity]], lambda at, pair: differs(identity[at], pair)
        )
        positive[performance] = self._draw(
            rng,
            self._winning,
            np.zeros(len(performance), dtype=np.int64),
            lambda at, pair: differs(performance[at], pair) & (self.model[pair] != self.model[anchor[performance[at]]]),
        )
        return positive, kind

    def _unlike(self, pair: Int64Array, other: Int64Array) -> BoolArray:
        other_model: BoolArray = self.model[pair] != self.model[other]
        other_text: BoolArray = self.text[pair] != self.text[other]
        return other_model & other_text

    def _fill(self, rng: np.random.Generator, drawn: Int64Array, pool: _Pool, allowed: _Allowed) -> Int64Array:
        """Draws from the whole `pool` where nothing was found before."""
        missing = np.flatnonzero(drawn < 0)
        drawn[missing] = self._draw(
            rng, pool, np.zeros(len(missing), dtype=np.int64), lambda at, pair: allowed(missing[at], pair)
        )
        return drawn

    @staticmethod
    def _draw(rng: np.random.Generator, pool: _Pool, group: Int64Array, allowed: _Allowed) -> Int64Array:
        """One allowed candidate from each requested group, uniformly, or -1 where there is none."""
        drawn = np.full(len(group), -1)
        start, size = pool.start[group], (pool.end - pool.start)[group]
        open_ = np.flatnonzero(size > 0)
        for _ in range(_DRAWS_BEFORE_EXHAUSTIVE_SEARCH):
            if not len(open_):
                return drawn
            pick = pool.pairs[start[open_] + rng.integers(0, size[open_])]
            ok = allowed(open_, pick)
            drawn[open_[ok]] = pick[ok]
            open_ = open_[~ok]
        for position in open_:
            candidates = pool.pairs[start[position] : start[position] + size[position]]
            candidates = candidates[allowed(np.full(len(candidates), position), candidates)]
            if len(candidates):
                drawn[position] = rng.choice(candidates)
        return drawn

    @staticmethod
    def _formed(
        skipped: Counter[str],
        anchor: Int64Array,
        positive: Int64Array,
        negative: Int64Array,
        vote: Int64Array,
        kind: Int64Array,
    ) -> tuple[Int64Array, ...]:
        """Drops, and counts by reason, the triplets for which nothing could be drawn."""
        for each in TripletKind:
            of_kind = kind == each
            skipped[f"no positive ({each.name.lower()})"] += int(((positive < 0) & of_kind).sum())
            skipped[f"no negative ({each.name.lower()})"] += int(((negative < 0) & of_kind).sum())
        whole = (positive >= 0) & (negative >= 0)
        return anchor[whole], positive[whole], negative[whole], vote[whole], kind[whole]


def describe_triplet(pairs: PairTable, triplets: Triplets, index: int) -> BehaviorEncoderTrainingTriplet:
    """The texts of one triplet, for a person to read."""

    def side(indices: Int32Array) -> tuple[str, str, str]:
        pair = int(indices[index])
        prompt = pairs.prompts[int(pairs.prompt_index[pair])].as_py()
        return pairs.models[int(pairs.model_index[pair])], prompt, pairs.responses[pair].as_py()

    return BehaviorEncoderTrainingTriplet(
        side(triplets.anchor), side(triplets.positive), side(triplets.negative), TripletKind(int(triplets.kind[index]))
    )
