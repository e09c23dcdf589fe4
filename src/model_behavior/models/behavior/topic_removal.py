"""Topic removal: subtracts from a response's features the part that the prompt predicts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
from scipy import sparse

from model_behavior.arrays import AnyArray, Arrays, Float32Array, IntArray
from model_behavior.preprocessing.entry_file import inside
from model_behavior.preprocessing.feature_cache import Features

_PENALTY = 1.0  # of the ridge regression; every block of prompt features has a mean squared length of 1
_FOLDS = 5
_MAX_COLUMNS = 2048
_MIN_PROMPTS = 2
_NO_SPREAD = 1e-12  # what rounding leaves of features that do not vary


@dataclass(frozen=True, eq=False)
class PromptFeatures:
    """The prompts behind some pairs.

    Attributes:
        blocks: features of the distinct prompts from each text encoder, [n_prompts, dim] each.
        prompt: index of each pair's prompt, [n_pairs].
    """

    blocks: Sequence[Features]
    prompt: IntArray

    def of(self, part: slice) -> PromptFeatures:
        """Those of some of the pairs, with their prompts alone."""
        used, prompt = np.unique(self.prompt[part], return_inverse=True)
        return PromptFeatures([block[used] for block in self.blocks], prompt)


@final
@dataclass(frozen=True, eq=False)
class PromptBasis:
    """Prompt features of every text encoder, brought to one scale side by side: dense standardised, counts as TF-IDF.

    Attributes:
        arrays: one mapping per text encoder, `mean` and `scale` or `columns` and `idf`.
    """

    arrays: Sequence[Mapping[str, AnyArray]]

    @classmethod
    def fit(cls, blocks: Sequence[Features]) -> PromptBasis:
        """Takes scales and columns from training prompts, [n_prompts, dim] each."""
        return cls([_fit_dense(block) if isinstance(block, np.ndarray) else _fit_sparse(block) for block in blocks])

    def transform(self, blocks: Sequence[Features]) -> Float32Array:
        """[n_prompts, n_columns], float32."""
        parts = []
        for arrays, block in zip(self.arrays, blocks, strict=True):
            if isinstance(block, np.ndarray):
                standard = np.clip((block - arrays["mean"]) / arrays["scale"], -5, 5)
                parts.append(standard / np.sqrt(max(block.shape[1], 1)))
            else:
                kept = block[:, arrays["columns"]].astype(np.float32)
                kept.data = 1 + np.log(kept.data)
                dense = kept.multiply(arrays["idf"]).toarray()
                parts.append(dense / np.maximum(np.linalg.norm(dense, axis=1, keepdims=True), 1e-12))
        return np.concatenate(parts, axis=1, dtype=np.float32)


@final
@dataclass(frozen=True, eq=False)
class TopicRemoval:
    """Ridge regression of pair features on prompt features (Hoerl and Kennard 1970), whose prediction is subtracted.

    With f the features of a pair and g(p) those of its prompt, the residual is f - (W g(p) + b). W is fitted on the
    mean features of each training prompt, since that is all that a prompt can predict. It is nuisance attribute
    projection (Solomonoff et al. 2005), with the nuisance predicted instead of known.

    Attributes:
        basis: scaling of the prompt features.
        weight: coefficients of the regression, W, [n_columns, n_features].
        offset: offset of the regression, b, [n_features].
        explained: share of the variance between training prompts that the regression predicts on held-out prompts
            (five folds); below 0 if the mean predicts better, 0 if nothing varies.
    """

    basis: PromptBasis
    weight: Float32Array
    offset: Float32Array
    explained: float

    @classmethod
    def fit(cls, features: Float32Array, prompts: PromptFeatures) -> tuple[TopicRemoval, Float32Array]:
        """Fits on training pairs.

        Args:
            features: dense features of the pairs, [n_pairs, n_features].
            prompts: their prompts.

        Returns:
            The regression, and the residuals of the training pairs, [n_pairs, n_features]. Each is predicted by a
            regression that has not seen its prompt (five folds, drawn with a fixed seed), so that it is distributed as
            the residual of a new pair is. With one prompt in all there is no such regression, and its mean is removed.
        """
        used, prompt = np.unique(prompts.prompt, return_inverse=True)
        blocks = [block[used] for block in prompts.blocks]
        basis = PromptBasis.fit(blocks)
        known = basis.transform(blocks)
        means = _mean_by(features, prompt, len(used))
        predicted = _predict_unseen(known, means)
        missed, spread = (float(np.square(means - guess).sum()) for guess in (predicted, means.mean(axis=0)))
        explained = 1 - missed / spread if spread > _NO_SPREAD else 0.0
        weight, offset = _weights(known, means)
        return cls(basis, weight, offset, explained), features - predicted[prompt]

    def apply(self, features: Float32Array, prompts: PromptFeatures) -> Float32Array:
        """Features without what the prompt predicts, [n_pairs, n_features]."""
        predicted = self.basis.transform(prompts.blocks) @ self.weight + self.offset
        residual: Float32Array = features - predicted[prompts.prompt]
        return residual

    def to_arrays(self) -> Arrays:
        """For saving."""
        arrays: Arrays = {"weight": self.weight, "offset": self.offset, "explained": np.array([self.explained])}
        for index, block in enumerate(self.basis.arrays):
            arrays |= {f"basis.{index}.{name}": np.asarray(value) for name, value in block.items()}
        return arrays

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, AnyArray]) -> TopicRemoval:
        """The inverse of `to_arrays`."""
        blocks: list[Arrays] = []
        while own := inside(arrays, f"basis.{len(blocks)}."):
            blocks.append(own)
        weight, offset = (np.asarray(arrays[name], dtype=np.float32) for name in ("weight", "offset"))
        return cls(PromptBasis(blocks), weight, offset, float(arrays["explained"][0]))


def moments(rows: Float32Array) -> tuple[Float32Array, Float32Array]:
    """Mean and standard deviation of each column, [n_columns] each; 1 where a column is constant but for rounding."""
    deviation = rows.std(axis=0)
    varies = (rows.max(axis=0) > rows.min(axis=0)) & (deviation > 1e-6)
    return rows.mean(axis=0), np.where(varies, deviation, 1).astype(np.float32)


def _fit_dense(block: Float32Array) -> Mapping[str, AnyArray]:
    mean, scale = moments(block)
    return {"mean": mean, "scale": scale}


def _fit_sparse(block: sparse.csr_matrix) -> Mapping[str, AnyArray]:
    found = block.getnnz(axis=0)
    most_frequent = np.argsort(-found, kind="stable")[:_MAX_COLUMNS]
    columns = np.sort(most_frequent[found[most_frequent] >= _MIN_PROMPTS])
    idf = np.log((1 + block.shape[0]) / (1 + found[columns])).astype(np.float32)
    return {"columns": columns.astype(np.int64), "idf": idf}


def _mean_by(rows: Float32Array, group: IntArray, n_groups: int) -> Float32Array:
    member = sparse.csr_matrix((np.ones(len(group)), (group, np.arange(len(group)))), shape=(n_groups, len(group)))
    sums = np.asarray(member @ rows)
    return (sums / np.bincount(group, minlength=n_groups)[:, None]).astype(np.float32)


def _predict_unseen(known: Float32Array, wanted: Float32Array) -> Float32Array:
    """What regressions that were fitted on other rows predict of each row, [n_rows, n_features]."""
    n_rows = len(known)
    if n_rows == 1:
        return wanted
    fold = np.random.default_rng(0).permutation(n_rows) % min(_FOLDS, n_rows)
    predicted = np.empty_like(wanted)
    for each in range(int(fold.max()) + 1):
        own = fold == each
        weight, offset = _weights(known[~own], wanted[~own])
        predicted[own] = known[own] @ weight + offset
    return predicted


def _weights(known: Float32Array, wanted: Float32Array) -> tuple[Float32Array, Float32Array]:
    """Ridge regression with an unpenalised offset, solved in the space of rows or of columns, whichever is smaller."""
    centre, mean = known.mean(axis=0), wanted.mean(axis=0)
    rows = (known - centre).astype(np.float64)
    n_rows, n_columns = rows.shape
    if n_rows < n_columns:
        weight = rows.T @ np.linalg.solve(rows @ rows.T + _PENALTY * np.eye(n_rows), wanted - mean)
    else:
        weight = np.linalg.solve(rows.T @ rows + _PENALTY * np.eye(n_columns), rows.T @ (wanted - mean))
    return np.ascontiguousarray(weight, dtype=np.float32), (mean - centre @ weight).astype(np.float32)
