"""What kind of prompt suits a model: how far its rating in a category lies off the line of all models.

Ratings in a category are nearly linear in the overall ones (`published_ratings`). What is left,

    e_i = category rating of i - level - slope * rating of i,

is read for a model without published ratings as its rating is read from agreement (`PeerRating`), from its answers to
prompts of that category alone: whose answers there do they resemble, models that the category suits or others? The
reading is taken as far as it tells the known models apart, each without its family, and no further:

    e = share * reading,    share = sum e_i reading_i / sum reading_i^2, in [0, 1]

so that nothing is claimed where answers tell nothing. Prompts without a category get the likeliest one by a logistic
regression on the prompts' features, where it is sure.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from model_behavior.arrays import Float32Array, Float64Array, Int64Array, UInt64Array
from model_behavior.data_models.scoring_types import Agreement
from model_behavior.models.scoring.few_families import widening
from model_behavior.models.scoring.peer_rating import PeerRating, PeerRatingConfig
from model_behavior.names import family_of
from model_behavior.preprocessing.entry_file import inside

_LEAST_PROMPTS = 5  # of a category, to tell other prompts by
_SURE = 0.7
_LEAST_SHARE = 0.05
_ENDLESS = np.array([10**9])


@dataclass(frozen=True, eq=False)
class PromptKinds:
    """Prompts whose category is known.

    Attributes:
        keys: keys of the prompts, ascending, uint64, [n_prompts].
        category: category of each, [n_prompts].
    """

    keys: UInt64Array
    category: tuple[str, ...]

    @classmethod
    def of(cls, prompts: Mapping[int, str]) -> PromptKinds:
        """From categories by key."""
        keys = sorted(prompts)
        return cls(np.array(keys, dtype=np.uint64), tuple(prompts[key] for key in keys))

    def rows_of(self, keys: UInt64Array, category: str) -> Int64Array:
        """Which of these prompts are of a category."""
        chosen = self.keys[np.array([each == category for each in self.category], dtype=bool)]
        rows: Int64Array = np.flatnonzero(np.isin(keys, chosen))
        return rows

    def completed(self, keys: UInt64Array, features: Float32Array) -> PromptKinds:
        """With the category of other prompts, where their features leave little doubt.

        Args:
            keys: keys of prompts, with a category or without, [n].
            features: their features, [n, dim].
        """
        known = dict(zip(self.keys.tolist(), self.category, strict=True))
        label = np.array([known.get(key, "") for key in keys.tolist()], dtype=object)
        names, count = np.unique(label[label != ""], return_counts=True)
        frequent = names[count >= _LEAST_PROMPTS]
        taught, free = np.isin(label, frequent), np.flatnonzero(label == "")
        if len(frequent) < 2 or not len(free):
            return self
        from sklearn.linear_model import LogisticRegression  # slow to load, and few artifacts have categories

        model = LogisticRegression(max_iter=300, C=10.0).fit(features[taught], label[taught].astype(str))
        chance = model.predict_proba(features[free])
        sure = chance.max(axis=1) >= _SURE
        told = model.classes_[chance.argmax(axis=1)]
        return PromptKinds.of({**known, **dict(zip(keys[free[sure]].tolist(), map(str, told[sure]), strict=True))})


@dataclass(frozen=True, eq=False)
class CategoryReading:
    """How far off its line a model is in one category: mean and variance, log-odds."""

    mean: float
    variance: float


@dataclass(frozen=True, eq=False)
class CategoryRating:
    """The reading of one category.

    Attributes:
        peers: reading of e from answers to prompts of the category.
        share: part of it that is taken.
        lasting: variance that stays with endlessly many answers.
        unread: variance of e where nothing is read.
    """

    peers: PeerRating
    share: float
    lasting: float
    unread: float

    @classmethod
    def fit(cls, agreement: Agreement, off: Float64Array, told: Int64Array, unread: float) -> CategoryRating | None:
        """Fits to known models; None where answers tell nothing of what suits whom.

        Args:
            agreement: agreement of the known models with one another on the category's prompts.
            off: e of each known model, 0 where the category has no rating of it, [n_models].
            told: rows of the models with a rating in the category.
            unread: variance of ratings around the line.
        """
        peers = PeerRating(PeerRatingConfig())
        peers.fit(agreement, off, np.zeros(len(off)))
        if not peers.is_fitted:
            return None
        used = told[np.isfinite(peers.left_out[told])]
        read, true = peers.left_out[used], off[used]
        square = float(np.square(read).sum())
        share = float(np.clip((true * read).sum() / square, 0, 1)) if square > 0 else 0.0
        missed = float(np.square(true - share * read).mean()) if len(used) else np.inf
        families = len({family_of(agreement.peers[row]) for row in used.tolist()})
        if missed > (1 - _LEAST_SHARE) * float(np.square(true).mean()):
            return None
        return cls(peers, share, min(missed * widening(families), unread), unread)

    def read(self, agreement: Agreement, n_models: int) -> list[CategoryReading]:
        """Readings of models, from their agreement with the known ones on the category's prompts."""
        found = self.peers.predict(agreement, n_models)
        falls = self.share**2 * (found.variance - self.peers.variance(_ENDLESS)[0])
        return [
            CategoryReading(self.share * float(mean), min(self.lasting + float(sampling), self.unread))
            if shared
            else CategoryReading(0.0, self.unread)
            for mean, sampling, shared in zip(found.mean, falls, found.shared, strict=True)
        ]


def fit_categories(
    agreement: Agreement | None, kinds: PromptKinds | None, off: Mapping[str, tuple[Float64Array, Int64Array, float]]
) -> dict[str, CategoryRating]:
    """The reading of every category that answers tell something of.

    Args:
        agreement: agreement of the known models with one another; None where it is not known.
        kinds: categories of prompts; None where they are not known.
        off: e of the known models, rows of those with a rating in the category, and the variance around its line.
    """
    if agreement is None or agreement.keys is None or kinds is None:
        return {}
    found = {}
    for name, values in off.items():
        rows = kinds.rows_of(agreement.keys, name)
        fitted = CategoryRating.fit(agreement.of_responses(rows), *values) if len(rows) else None
        if fitted is not None:
            found[name] = fitted
    return found


def read_categories_of(
    readers: Mapping[str, CategoryRating], kinds: PromptKinds | None, agreement: Agreement | None, n_models: int
) -> list[dict[str, CategoryReading]]:
    """What each category's reader says of models, from their answers to its prompts."""
    found: list[dict[str, CategoryReading]] = [{} for _ in range(n_models)]
    if agreement is None or agreement.keys is None or kinds is None:
        return found
    for name, reader in readers.items():
        answered = agreement.of_responses(kinds.rows_of(agreement.keys, name))
        for told, reading in zip(found, reader.read(answered, n_models), strict=True):
            told[name] = reading
    return found


def categories_to_state(readers: Mapping[str, CategoryRating], kinds: PromptKinds | None) -> dict[str, Any]:
    """JSON values, and arrays under "tensors"."""
    names: Sequence[str] = sorted(readers)
    states = [readers[name].peers.get_state_dict() for name in names]
    tensors = {f"{row}.{key}": value for row, each in enumerate(states) for key, value in each.pop("tensors").items()}
    if kinds is not None:
        tensors["keys"] = kinds.keys
    constants = [
        {"name": name, "share": readers[name].share, "lasting": readers[name].lasting, "unread": readers[name].unread}
        for name in names
    ]
    return {"readers": constants, "peers": states, "kinds": kinds and list(kinds.category), "tensors": tensors}


def categories_from_state(state: Mapping[str, Any]) -> tuple[dict[str, CategoryRating], PromptKinds | None]:
    """The inverse of `categories_to_state`."""
    tensors, readers = state["tensors"], {}
    for row, (constants, peers) in enumerate(zip(state["readers"], state["peers"], strict=True)):
        values = {key: value for key, value in constants.items() if key != "name"}
        loaded = PeerRating.load_state_dict({**peers, "tensors": inside(tensors, f"{row}.")}, PeerRatingConfig())
        readers[constants["name"]] = CategoryRating(loaded, **values)
    kinds = None if state["kinds"] is None else PromptKinds(np.array(tensors["keys"]), tuple(state["kinds"]))
    return readers, kinds
