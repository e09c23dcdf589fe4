"""Fitted views of one text encoder's features: dense ones expanded and freed of the topic, counts as rates."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, final

import numpy as np
import numpy.typing as npt
from scipy import sparse

from model_behavior.models.behavior.encoder_base import FloatArray
from model_behavior.models.behavior.topic_removal import PromptFeatures, TopicRemoval, moments
from model_behavior.preprocessing.entry_file import Arrays, inside

_CLIP = 5.0  # standard deviations; a longer tail says no more and would dominate a mean
_RARE = 0.01  # a feature that fewer pairs have, or lack, says nothing by its presence
_PER_TOKENS = 300.0


@final
@dataclass(frozen=True, eq=False)
class DenseView:
    """Dense features x as [x, whether x is above its minimum, |x|], standardised, less what the prompt predicts.

    Most style features are rates that are 0 in most responses: that a response has a table at all, and that it is
    far from the average on either side, say more about its author than the rate does.

    Attributes:
        scaling: `minimum`, `mean`, `scale` of the features, [n_features]; `present`, the columns whose presence is
            used; `wide_mean` and `wide_scale` of the expanded ones, [n_expanded].
        topic: removes the topic; None to leave it in.
    """

    scaling: Mapping[str, npt.NDArray[Any]]
    topic: TopicRemoval | None

    @classmethod
    def fit(cls, features: FloatArray, prompts: PromptFeatures | None) -> tuple[DenseView, FloatArray]:
        """Fits on training pairs.

        Args:
            features: [n_pairs, n_features].
            prompts: their prompts; None to leave the topic in.

        Returns:
            The view, and what it gives for the training pairs, [n_pairs, n_expanded] (see `TopicRemoval.fit`).
        """
        mean, scale = moments(features)
        minimum = features.min(axis=0)
        share = (features > minimum).mean(axis=0)
        present = np.flatnonzero((share > _RARE) & (share < 1 - _RARE))
        scaling = {"minimum": minimum, "mean": mean, "scale": scale, "present": present}
        wide = _expand(features, scaling)
        wide_mean, wide_scale = moments(wide)
        view = cls({**scaling, "wide_mean": wide_mean, "wide_scale": wide_scale}, None)
        standard = view._standardise(wide)
        if prompts is None:
            return view, standard
        topic, residual = TopicRemoval.fit(standard, prompts)
        return cls(view.scaling, topic), residual

    def apply(self, features: FloatArray, prompts: PromptFeatures) -> FloatArray:
        """[n_pairs, n_expanded]."""
        standard = self._standardise(_expand(features, self.scaling))
        return standard if self.topic is None else self.topic.apply(standard, prompts)

    def _standardise(self, wide: FloatArray) -> FloatArray:
        standard: FloatArray = (wide - self.scaling["wide_mean"]) / self.scaling["wide_scale"]
        return np.clip(standard, -_CLIP, _CLIP, out=standard)

    def to_arrays(self) -> Arrays:
        """For saving."""
        arrays: Arrays = {f"scaling.{name}": np.asarray(value) for name, value in self.scaling.items()}
        if self.topic is not None:
            arrays |= {f"topic.{name}": value for name, value in self.topic.to_arrays().items()}
        return arrays

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, npt.NDArray[Any]]) -> DenseView:
        """The inverse of `to_arrays`."""
        topic = inside(arrays, "topic.")
        return cls(inside(arrays, "scaling."), TopicRemoval.from_arrays(topic) if topic else None)


@final
@dataclass(frozen=True, eq=False)
class RateView:
    """The most frequent columns of a count matrix as log(1 + count per 300 tokens), standardised.

    Attributes:
        columns: [n_kept].
        mean: [n_kept].
        scale: [n_kept].
    """

    columns: npt.NDArray[np.int64]
    mean: FloatArray
    scale: FloatArray

    @classmethod
    def fit(cls, counts: sparse.csr_matrix, n_columns: int) -> RateView:
        """Chooses, over training pairs, the columns that the most of them have."""
        found = counts.getnnz(axis=0)
        frequent = np.argsort(-found, kind="stable")[:n_columns]
        columns = np.sort(frequent[found[frequent] > 0]).astype(np.int64)
        mean, scale = moments(_rates(counts, columns))
        return cls(columns, mean, scale)

    def apply(self, counts: sparse.csr_matrix) -> FloatArray:
        """[n_pairs, n_kept]."""
        standard = _rates(counts, self.columns)
        standard -= self.mean
        standard /= self.scale
        clipped: FloatArray = np.clip(standard, -_CLIP, _CLIP, out=standard)
        return clipped

    def to_arrays(self) -> Arrays:
        """For saving."""
        return {"columns": self.columns, "mean": self.mean, "scale": self.scale}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, npt.NDArray[Any]]) -> RateView:
        """The inverse of `to_arrays`."""
        mean, scale = (np.asarray(arrays[name], dtype=np.float32) for name in ("mean", "scale"))
        return cls(np.asarray(arrays["columns"], dtype=np.int64), mean, scale)


def _expand(features: FloatArray, scaling: Mapping[str, npt.NDArray[Any]]) -> FloatArray:
    standard = np.clip((features - scaling["mean"]) / scaling["scale"], -_CLIP, _CLIP)
    present = scaling["present"]
    found = features[:, present] > scaling["minimum"][present]
    return np.concatenate([standard, found, np.abs(standard)], axis=1, dtype=np.float32)


def _rates(counts: sparse.csr_matrix, columns: npt.NDArray[np.int64]) -> FloatArray:
    total = np.maximum(np.asarray(counts.sum(axis=1)), 1)
    shares = _PER_TOKENS * counts[:, columns].toarray() / total
    rates: FloatArray = np.log1p(shares, out=shares).astype(np.float32, copy=False)
    return rates
