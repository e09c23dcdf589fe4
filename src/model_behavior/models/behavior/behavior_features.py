"""Transforms features of frozen text encoders into the inputs of the head and the identity part.

Each text encoder has a view of its features, fitted on training pairs: `DenseView` expands dense features and subtracts
what the prompt predicts of them, `RateView` turns counts into rates. The head reads the dense views and the counts. The
identity part is made of both views by discriminants, and `compose` puts it beside the part that the head has trained.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import final

import numpy as np
from scipy import sparse

from model_behavior.arrays import AnyArray, Arrays, Float32Array, Int64Array, IntArray
from model_behavior.errors import UsageError
from model_behavior.models.behavior.discriminant import Discriminant, principal_span
from model_behavior.models.behavior.metrics import normalise
from model_behavior.models.behavior.topic_removal import PromptFeatures, TopicRemoval, moments
from model_behavior.preprocessing.entry_file import inside
from model_behavior.preprocessing.feature_cache import Features

_CLIP = 5.0  # standard deviations; larger values are clipped, since they would dominate a mean
_RARE = 0.01  # the presence of a feature is not used if fewer pairs have it, or lack it
_PER_TOKENS = 300.0


@dataclass(frozen=True)
class FeatureConfig:
    """Settings of the topic removal and of the identity part.

    Attributes:
        remove_topic: subtract from dense features the part that the prompt predicts.
        identity_weight: length of the identity part of an embedding, where the trained part has length 1; 0 leaves it
            out.
        dense_shrinkage: shrinkage of the discriminant of dense features.
        rate_shrinkage: shrinkage of the discriminant of count rates.
        rate_weight: weight of the discriminant of count rates, where that of dense features has weight 1.
        rate_columns: number of n-grams, the most frequent ones, whose rates are used.
        fitted_pairs: largest number of training pairs that transforms are fitted on, and of pairs transformed at once.
    """

    remove_topic: bool = True
    identity_weight: float = 0.5
    dense_shrinkage: float = 0.03
    rate_shrinkage: float = 0.5
    rate_weight: float = 0.6
    rate_columns: int = 1000
    fitted_pairs: int = 65_536

    def __post_init__(self) -> None:
        for name in ("identity_weight", "dense_shrinkage", "rate_shrinkage", "rate_weight"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= 0):
                raise UsageError(f"{name}={value}: a finite number of 0 or more is needed")
        for name in ("rate_columns", "fitted_pairs"):
            if (number := getattr(self, name)) < 1:
                raise UsageError(f"{name}={number}: at least 1 is needed")


@final
@dataclass(frozen=True, eq=False)
class DenseView:
    """Dense features x as [x, whether x is above its minimum, |x|], standardised, less what the prompt predicts.

    Most style features are rates that are 0 in most responses: that a response has a table at all, and that it is
    far from the average on either side, say more about its author than the rate does.

    Attributes:
        scaling: `minimum`, `mean`, `scale` of the features, [n_features]; `present`, the columns whose presence is
            used; `wide_mean` and `wide_scale` of the expanded ones, [n_expanded].
        topic: regression that predicts features from prompts; None leaves the topic in.
    """

    scaling: Mapping[str, AnyArray]
    topic: TopicRemoval | None

    @classmethod
    def fit(cls, features: Float32Array, prompts: PromptFeatures | None) -> tuple[DenseView, Float32Array]:
        """Fits on training pairs.

        Args:
            features: [n_pairs, n_features].
            prompts: prompts of the pairs; None leaves the topic in.

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

    def apply(self, features: Float32Array, prompts: PromptFeatures) -> Float32Array:
        """[n_pairs, n_expanded]."""
        standard = self._standardise(_expand(features, self.scaling))
        return standard if self.topic is None else self.topic.apply(standard, prompts)

    def _standardise(self, wide: Float32Array) -> Float32Array:
        mean: Float32Array = self.scaling["wide_mean"]
        scale: Float32Array = self.scaling["wide_scale"]
        standard = (wide - mean) / scale
        return np.clip(standard, -_CLIP, _CLIP, out=standard)

    def to_arrays(self) -> Arrays:
        """For saving."""
        arrays: Arrays = {f"scaling.{name}": np.asarray(value) for name, value in self.scaling.items()}
        if self.topic is not None:
            arrays |= {f"topic.{name}": value for name, value in self.topic.to_arrays().items()}
        return arrays

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, AnyArray]) -> DenseView:
        """The inverse of `to_arrays`."""
        topic = inside(arrays, "topic.")
        return cls(inside(arrays, "scaling."), TopicRemoval.from_arrays(topic) if topic else None)


@final
@dataclass(frozen=True, eq=False)
class RateView:
    """The most frequent columns of a count matrix as log(1 + count per 300 tokens), standardised.

    Attributes:
        columns: columns that are kept, ascending, [n_kept].
        mean: mean of their rates, [n_kept].
        scale: standard deviation of their rates, [n_kept].
    """

    columns: Int64Array
    mean: Float32Array
    scale: Float32Array

    @classmethod
    def fit(cls, counts: sparse.csr_matrix, n_columns: int) -> RateView:
        """Keeps the `n_columns` columns that are found in the most training pairs."""
        found = counts.getnnz(axis=0)
        frequent = np.argsort(-found, kind="stable")[:n_columns]
        columns = np.sort(frequent[found[frequent] > 0]).astype(np.int64)
        mean, scale = moments(_rates(counts, columns))
        return cls(columns, mean, scale)

    def apply(self, counts: sparse.csr_matrix) -> Float32Array:
        """[n_pairs, n_kept]."""
        standard = _rates(counts, self.columns)
        standard -= self.mean
        standard /= self.scale
        clipped: Float32Array = np.clip(standard, -_CLIP, _CLIP, out=standard)
        return clipped

    def to_arrays(self) -> Arrays:
        """For saving."""
        return {"columns": self.columns, "mean": self.mean, "scale": self.scale}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, AnyArray]) -> RateView:
        """The inverse of `to_arrays`."""
        mean, scale = (np.asarray(arrays[name], dtype=np.float32) for name in ("mean", "scale"))
        return cls(np.asarray(arrays["columns"], dtype=np.int64), mean, scale)


@dataclass(frozen=True, eq=False)
class BehaviorBlocks:
    """Inputs of the head for some pairs, and their identity part.

    Attributes:
        blocks: features of each text encoder, dense or counts, [n_pairs, n_columns] each.
        identity: unit rows, or rows of 0 where nothing tells models apart, [n_pairs, identity_dim].
    """

    blocks: Sequence[Features]
    identity: Float32Array

    def of(self, part: slice) -> BehaviorBlocks:
        """The blocks of some of the pairs."""
        return BehaviorBlocks([block[part] for block in self.blocks], self.identity[part])


@final
@dataclass(frozen=True, eq=False)
class BehaviorFeatures:
    """Transforms fitted on training pairs.

    The identity subspace: each text encoder's features go through a `Discriminant`; the unit rows, weighted and side by
    side, are projected onto the span of the models' means and brought to length 1.

    Attributes:
        views: view of each text encoder's features.
        discriminants: discriminant of each view, and its weight; none without an identity part.
        centre: centre of the span, [n_directions of all discriminants].
        span: directions of the models' means, [n_directions of all discriminants, at most identity_dim].
        identity_dim: number of columns of the identity part; those beyond the span are 0.
    """

    views: Sequence[DenseView | RateView]
    discriminants: Sequence[tuple[Discriminant, float]]
    centre: Float32Array
    span: Float32Array
    identity_dim: int

    @classmethod
    def fit(
        cls,
        features: Sequence[Features],
        prompts: PromptFeatures,
        model: IntArray,
        config: FeatureConfig,
        identity_dim: int,
    ) -> tuple[BehaviorFeatures, BehaviorBlocks]:
        """Fits on training pairs, and returns their blocks for the training.

        Args:
            features: features of each text encoder, [n_pairs, dim] each.
            prompts: prompts of the pairs.
            model: model index of each pair, [n_pairs].
            config: settings.
            identity_dim: number of columns of the identity part, 0 for none.

        Returns:
            The transforms, and the blocks of the training pairs with residuals of `TopicRemoval.fit` in the dense ones.
        """
        views, blocks = _fit_views(features, prompts, config)
        unspanned = cls(views, [], np.zeros(0, np.float32), np.zeros((0, 0), np.float32), identity_dim)
        if not identity_dim:
            return unspanned, BehaviorBlocks(blocks, np.zeros((len(model), 0), np.float32))
        readable = _readable(views, blocks)
        discriminants: list[tuple[Discriminant, float]] = []
        for view, rows in zip(views, readable, strict=True):
            dense = isinstance(view, DenseView)
            shrinkage, weight = (config.dense_shrinkage, 1.0) if dense else (config.rate_shrinkage, config.rate_weight)
            discriminants.append((Discriminant.fit(rows, model, shrinkage, identity_dim), weight))
        joined = _join(discriminants, readable)
        centre, span = principal_span(joined, model, identity_dim)
        fitted = cls(views, discriminants, centre, span, identity_dim)
        return fitted, BehaviorBlocks(blocks, fitted._project(joined))

    def transform(self, features: Sequence[Features], prompts: PromptFeatures) -> BehaviorBlocks:
        """Transforms any pairs into inputs of the head and their identity part.

        Args:
            features: features of each text encoder, [n_pairs, dim] each.
            prompts: prompts of the pairs.
        """
        blocks = [
            view.apply(block, prompts) if isinstance(view, DenseView) and isinstance(block, np.ndarray) else block
            for view, block in zip(self.views, features, strict=True)
        ]
        if not self.identity_dim:
            return BehaviorBlocks(blocks, np.zeros((blocks[0].shape[0], 0), np.float32))
        joined = _join(self.discriminants, _readable(self.views, blocks))
        return BehaviorBlocks(blocks, self._project(joined))

    def complete(
        self,
        known: BehaviorBlocks,
        rows: Int64Array,
        features: Sequence[Features],
        prompts: PromptFeatures,
    ) -> BehaviorBlocks:
        """Transforms pairs as `transform` does, except the pairs at `rows`, which keep their known blocks.

        Args:
            known: blocks of the pairs at `rows`.
            rows: indices of these pairs, ascending, [n_known].
            features: features of each text encoder, [n_pairs, dim] each.
            prompts: prompts of the pairs.
        """
        others = np.setdiff1d(np.arange(len(prompts.prompt)), rows)
        rest = self.transform([block[others] for block in features], replace(prompts, prompt=prompts.prompt[others]))
        order = np.argsort(np.concatenate([rows, others]), kind="stable")
        blocks = [
            np.concatenate([left, right])[order] if isinstance(block, np.ndarray) else block
            for block, left, right in zip(features, known.blocks, rest.blocks, strict=True)
        ]
        return BehaviorBlocks(blocks, np.concatenate([known.identity, rest.identity])[order])

    def to_arrays(self) -> Arrays:
        """For saving."""
        arrays: Arrays = {
            "centre": self.centre,
            "span": self.span,
            "identity_dim": np.array([self.identity_dim]),
            "weights": np.array([weight for _, weight in self.discriminants]),
        }
        for index, view in enumerate(self.views):
            kind = "dense" if isinstance(view, DenseView) else "rates"
            arrays |= {f"{index}.{kind}.{name}": value for name, value in view.to_arrays().items()}
        for index, (discriminant, _) in enumerate(self.discriminants):
            arrays |= {f"{index}.discriminant.{name}": value for name, value in discriminant.to_arrays().items()}
        return arrays

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, AnyArray]) -> BehaviorFeatures:
        """The inverse of `to_arrays`."""
        views: list[DenseView | RateView] = []
        discriminants: list[tuple[Discriminant, float]] = []
        while own := inside(arrays, f"{len(views)}."):
            dense, rates, discriminant = (inside(own, f"{kind}.") for kind in ("dense", "rates", "discriminant"))
            if discriminant:
                weight = float(arrays["weights"][len(views)])
                discriminants.append((Discriminant.from_arrays(discriminant), weight))
            views.append(DenseView.from_arrays(dense) if dense else RateView.from_arrays(rates))
        centre, span = (np.asarray(arrays[name], dtype=np.float32) for name in ("centre", "span"))
        return cls(views, discriminants, centre, span, int(arrays["identity_dim"][0]))

    def _project(self, joined: Float32Array) -> Float32Array:
        identity = np.zeros((len(joined), self.identity_dim), dtype=np.float32)
        identity[:, : self.span.shape[1]] = normalise(((joined - self.centre) @ self.span).astype(np.float32))
        return identity


def compose(quality: Float32Array, identity: Float32Array, weight: float) -> Float32Array:
    """One unit vector per pair, [n_pairs, quality_dim + identity_dim].

    Args:
        quality: unit rows, [n_pairs, quality_dim].
        identity: unit rows or rows of 0, [n_pairs, identity_dim].
        weight: length of the identity part, where the trained part has length 1.
    """
    joined = np.concatenate([quality, weight * identity], axis=1, dtype=np.float32)
    return normalise(joined)


def _expand(features: Float32Array, scaling: Mapping[str, AnyArray]) -> Float32Array:
    standard = np.clip((features - scaling["mean"]) / scaling["scale"], -_CLIP, _CLIP)
    present = scaling["present"]
    found = features[:, present] > scaling["minimum"][present]
    return np.concatenate([standard, found, np.abs(standard)], axis=1, dtype=np.float32)


def _rates(counts: sparse.csr_matrix, columns: Int64Array) -> Float32Array:
    total = np.maximum(np.asarray(counts.sum(axis=1)), 1)
    shares = _PER_TOKENS * counts[:, columns].toarray() / total
    rates: Float32Array = np.log1p(shares, out=shares).astype(np.float32, copy=False)
    return rates


def _fit_views(
    features: Sequence[Features], prompts: PromptFeatures, config: FeatureConfig
) -> tuple[list[DenseView | RateView], list[Features]]:
    """The views, and the blocks of the training pairs: dense ones transformed, counts as they are."""
    views: list[DenseView | RateView] = []
    blocks: list[Features] = []
    for block in features:
        if isinstance(block, np.ndarray):
            dense, residual = DenseView.fit(block, prompts if config.remove_topic else None)
            views.append(dense)
            blocks.append(residual)
        else:
            views.append(RateView.fit(block, config.rate_columns))
            blocks.append(block)
    return views, blocks


def _readable(views: Sequence[DenseView | RateView], blocks: Sequence[Features]) -> list[Float32Array]:
    """What the discriminants read: dense blocks as they are, counts as rates."""
    return [
        view.apply(block) if isinstance(view, RateView) else block for view, block in zip(views, blocks, strict=True)
    ]


def _join(discriminants: Sequence[tuple[Discriminant, float]], readable: Sequence[Float32Array]) -> Float32Array:
    parts = [
        weight * discriminant.apply(rows) for (discriminant, weight), rows in zip(discriminants, readable, strict=True)
    ]
    return np.concatenate(parts, axis=1)
