"""Metrics of stage 1, computed from vectors alone; used in training and in evaluation."""

from __future__ import annotations

import numpy as np
from scipy import sparse

from model_behavior.arrays import BoolArray, Float32Array, Float64Array, Int64Array, IntArray
from model_behavior.data_models.behavior_encoder_types import Triplets
from model_behavior.preprocessing.balanced_triplets import BalancedTriplets

_RANK_ROWS = 1000


def triplet_hits(embeddings: Float32Array, triplets: Triplets) -> BoolArray:
    """Whether d(anchor, positive) < d(anchor, negative), cosine distance; a draw is a miss. [n_triplets].

    Args:
        embeddings: embeddings of pairs, [n_pairs, dim], of any length but 0; for unit vectors Euclidean distance gives
            the same order.
        triplets: indices into `embeddings`.
    """
    unit = normalise(embeddings)
    anchor = unit[triplets.anchor]
    near = np.einsum("ij,ij->i", anchor, unit[triplets.positive])
    far = np.einsum("ij,ij->i", anchor, unit[triplets.negative])
    hits: BoolArray = near > far
    return hits


def balanced_scores(embeddings: Float32Array, triplets: BalancedTriplets) -> Float64Array:
    """1 where d(anchor, positive) < d(anchor, negative), cosine distance, 1/2 for a draw, else 0. [n_triplets].

    Args:
        embeddings: embeddings of pairs, [n_pairs, dim], of any length but 0.
        triplets: indices into `embeddings`.
    """
    unit = normalise(embeddings)
    anchor = unit[triplets.anchor]
    near = np.einsum("ij,ij->i", anchor, unit[triplets.positive])
    far = np.einsum("ij,ij->i", anchor, unit[triplets.negative])
    scores: Float64Array = (np.sign(near.astype(np.float64) - far) + 1) / 2
    return scores


def normalise(vectors: Float32Array) -> Float32Array:
    """Rows at length 1; a row of zeros stays."""
    length = np.linalg.norm(vectors, axis=-1, keepdims=True)
    unit: Float32Array = vectors / np.maximum(length, 1e-12)
    return unit


def centroids(embeddings: Float32Array, model: IntArray, n_models: int) -> Float32Array:
    """Mean embedding of each model, [n_models, dim]; NaN for a model without rows."""
    n_rows = len(model)
    member = sparse.csr_matrix((np.ones(n_rows), (model, np.arange(n_rows))), shape=(n_models, n_rows))
    sums: Float64Array = member @ embeddings
    counts = np.bincount(model, minlength=n_models)[:, None]
    with np.errstate(invalid="ignore"):
        return (sums / counts).astype(np.float32)


def identification_hits(means: Float32Array, truth: IntArray, known: Float32Array) -> BoolArray:
    """Whether the nearest known model, by cosine, is the true one. [n].

    Args:
        means: mean embedding of k responses of one model, [n, dim].
        truth: index into `known`, [n].
        known: embeddings of the known models, [n_models, dim]; rows of NaN are never chosen.
    """
    similarity = normalise(means) @ np.nan_to_num(normalise(known)).T
    similarity[:, np.isnan(known).any(axis=1)] = -np.inf
    hits: BoolArray = similarity.argmax(axis=1) == truth
    return hits


def draw_groups(
    member: IntArray,
    k: int,
    draws: int,
    rng: np.random.Generator,
    weight: IntArray | None = None,
) -> tuple[Int64Array, Int64Array]:
    """Draws `k` rows of each group without replacement, `draws` times.

    Args:
        member: group of each row, [n_rows]. Groups with fewer than `k` rows are left out.
        weight: relative probability of each row within its group, [n_rows]; equal by default.

    Returns:
        Rows, [n_draws, k], and the group of each draw, [n_draws].
    """
    rows: list[Int64Array] = []
    groups: list[int] = []
    for group in np.unique(member):
        own = np.flatnonzero(member == group)
        if len(own) >= k:
            chance = None if weight is None else weight[own] / weight[own].sum()
            rows += [rng.choice(own, k, replace=False, p=chance) for _ in range(draws)]
            groups += [int(group)] * draws
    return np.array(rows, dtype=np.int64).reshape(len(rows), k), np.array(groups, dtype=np.int64)


def mean_pairwise_distance(embeddings: Float32Array) -> float:
    """Mean cosine distance over all pairs of rows, in [0, 2]; near 0 is collapse."""
    n_rows = len(embeddings)
    if n_rows < 2:
        return 0.0
    total = normalise(embeddings).sum(axis=0, dtype=np.float64)
    # Of all n^2 products the n with themselves are 1.
    return float(1 - (total @ total - n_rows) / (n_rows * (n_rows - 1)))


def effective_rank(embeddings: Float32Array) -> float:
    """exp of the entropy of the covariance's normalised eigenvalues (Roy and Vetterli 2007), in [1, dim].

    Of at most 1,000 rows, drawn with a fixed seed, since the cost grows with the cube of the smaller side.
    """
    some = embeddings.astype(np.float64)
    if len(some) > _RANK_ROWS:
        some = some[np.random.default_rng(0).choice(len(some), _RANK_ROWS, replace=False)]
    values = np.square(np.linalg.svd(some - some.mean(axis=0), compute_uv=False))
    share = values / max(values.sum(), 1e-12)
    share = share[share > 0]
    return float(np.exp(-(share * np.log(share)).sum()))


def variance_explained(embeddings: Float32Array, group: IntArray) -> float:
    """Share of variance between groups, adjusted for their number (epsilon squared, Kelley 1935), at most 1.

    NaN where it is not defined: no group has two rows, or all rows are equal.
    """
    _, member = np.unique(group, return_inverse=True)
    n_rows, n_groups = len(member), int(member.max()) + 1
    if n_rows <= n_groups or (embeddings == embeddings[0]).all():
        return float("nan")
    centred = embeddings - embeddings.mean(axis=0)
    total = float(np.square(centred, dtype=np.float64).sum())
    within = float(np.square(centred - centroids(centred, member, n_groups)[member], dtype=np.float64).sum())
    return 1 - (within / (n_rows - n_groups)) / (total / (n_rows - 1))
