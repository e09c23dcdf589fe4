"""The votes behind the ratings, without their texts: enough to refit the ratings, and to count no vote twice."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from model_behavior.arrays import AnyArray, Arrays, BoolArray, Int8Array, Int32Array, UInt64Array
from model_behavior.data_models.scoring_types import ScoringVotes


@dataclass(frozen=True, eq=False)
class VoteLedger:
    """Votes by hashes of their prompts, ordered by `vote`, so that the order says nothing of who voted when.

    Attributes:
        models: names, sorted, [n_models].
        vote: hash of each vote; equal for a vote that is given twice, [n_votes].
        prompt: hash of its normalised prompt, by which intervals are clustered, [n_votes].
        model_a: index into `models` of the left side, [n_votes].
        model_b: index into `models` of the right side, [n_votes].
        outcome: `Outcome`, [n_votes].
    """

    models: tuple[str, ...]
    vote: UInt64Array
    prompt: UInt64Array
    model_a: Int32Array
    model_b: Int32Array
    outcome: Int8Array

    def __len__(self) -> int:
        return len(self.vote)

    def joined(self, other: VoteLedger) -> VoteLedger:
        """The votes of both, each once."""
        names = tuple(sorted({*self.models, *other.models}))
        columns: list[AnyArray] = [
            np.concatenate(pair)
            for pair in (
                (self.vote, other.vote),
                (self.prompt, other.prompt),
                (_places(self.models, names)[self.model_a], _places(other.models, names)[other.model_a]),
                (_places(self.models, names)[self.model_b], _places(other.models, names)[other.model_b]),
                (self.outcome, other.outcome),
            )
        ]
        _, first = np.unique(columns[0], return_index=True)
        return VoteLedger(names, *(column[first] for column in columns))

    def without(self, known: VoteLedger) -> VoteLedger:
        """The votes that the other ledger does not have."""
        return self._select(~np.isin(self.vote, known.vote))

    def between(self, names: Sequence[str]) -> VoteLedger:
        """The votes between these models."""
        here = np.isin(np.array(self.models, dtype=object), np.array(list(names), dtype=object))
        return self._select(here[self.model_a] & here[self.model_b])

    def _select(self, chosen: BoolArray) -> VoteLedger:
        rows = np.flatnonzero(chosen)
        return replace(
            self, **{name: getattr(self, name)[rows] for name in ("vote", "prompt", "model_a", "model_b", "outcome")}
        )

    def to_scoring_votes(self) -> ScoringVotes:
        """The votes for a fit of ratings, with hashes in the place of prompts, and the models that they are between."""
        used, sides = np.unique(np.concatenate([self.model_a, self.model_b]), return_inverse=True)
        prompts, prompt_index = np.unique(self.prompt, return_inverse=True)
        a, b = sides.reshape(2, -1).astype(np.int32)
        return ScoringVotes(
            prompts=tuple(f"{key:016x}" for key in prompts.tolist()),
            models=tuple(self.models[index] for index in used.tolist()),
            prompt_index=prompt_index.astype(np.int32),
            model_a=a,
            model_b=b,
            outcome=self.outcome,
        )

    def to_arrays(self) -> Arrays:
        """Arrays by name; names are UTF-8 bytes, with a zero byte between them."""
        names = np.frombuffer("\0".join(self.models).encode(), np.uint8)
        return {"models": names, **{name: value for name, value in vars(self).items() if name != "models"}}

    @classmethod
    def from_arrays(cls, arrays: Arrays) -> VoteLedger:
        """The inverse of `to_arrays`."""
        text = arrays["models"].tobytes().decode()
        return cls(tuple(text.split("\0")) if text else (), **{k: v for k, v in arrays.items() if k != "models"})


def _places(names: tuple[str, ...], among: tuple[str, ...]) -> Int32Array:
    place = {name: index for index, name in enumerate(among)}
    return np.array([place[name] for name in names], dtype=np.int32)
