"""The head, the trained part of the encoder: maps features of text encoders to one unit vector."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias, final

import numpy as np
import torch
from scipy import sparse
from torch import nn

from model_behavior.arrays import Float32Array, Int64Array
from model_behavior.errors import DataError
from model_behavior.preprocessing.feature_cache import Features

Prepared: TypeAlias = Features
"""Features after the fitted transform of their input layer: [n_pairs, columns], ready to be indexed by row."""

_STANDARD_DEVIATIONS = 5.0  # a longer tail than this says no more and would dominate a batch


@dataclass(frozen=True)
class ProjectionConfig:
    """Size and regularisation of the head.

    Attributes:
        dim: size of the embedding.
        hidden: width of the hidden layer, to which every text encoder's features are projected and summed.
        dropout: share of hidden units dropped in training.
        dense_dropout: share of standardised features dropped in training.
        sparse_dropout: share of n-grams dropped in training.
        max_columns: largest number of columns kept of a sparse encoder, the most frequent ones.
        min_pairs: fewest training pairs that a column must be found in, or 1 % of them if that is fewer.
    """

    dim: int = 128
    hidden: int = 256
    dropout: float = 0.3
    dense_dropout: float = 0.2
    sparse_dropout: float = 0.5
    max_columns: int = 4096
    min_pairs: int = 10


@final
class DenseInput(nn.Module):
    """Standardised features through one linear layer."""

    def __init__(self, n_features: int, config: ProjectionConfig) -> None:
        super().__init__()
        self.mean: torch.Tensor
        self.scale: torch.Tensor
        self.register_buffer("mean", torch.zeros(n_features))
        self.register_buffer("scale", torch.ones(n_features))
        self.linear = nn.Linear(n_features, config.hidden)
        self.dropout = nn.Dropout(config.dense_dropout)

    def fit(self, features: Float32Array) -> None:
        """Takes mean and standard deviation from training pairs, [n_pairs, n_features]."""
        deviation = features.std(axis=0)
        self.mean.copy_(torch.from_numpy(features.mean(axis=0)))
        # Rounding gives a constant column a deviation too, of about 1e-8, which would blow up any other value.
        varies = (features.max(axis=0) > features.min(axis=0)) & (deviation > 0)
        self.scale.copy_(torch.from_numpy(np.where(varies, deviation, 1).astype(np.float32)))

    def prepare(self, features: Float32Array) -> Float32Array:
        """Standardises and clips."""
        standard = (features - self.mean.numpy()) / self.scale.numpy()
        clipped: Float32Array = np.clip(standard, -_STANDARD_DEVIATIONS, _STANDARD_DEVIATIONS, dtype=np.float32)
        return clipped

    def forward(self, rows: Float32Array) -> torch.Tensor:
        """[n_rows, n_features] to [n_rows, hidden]."""
        hidden: torch.Tensor = self.linear(self.dropout(torch.from_numpy(rows)))
        return hidden


class _SparseProduct(torch.autograd.Function):
    """A CSR matrix [n_rows, n_columns] times a weight [n_columns, hidden].

    The gradient is the same sum over the transposed rows. torch's own sorts the columns of the batch in every step and
    takes five times as long.
    """

    @staticmethod
    def forward(ctx: Any, rows: sparse.csr_matrix, weight: torch.Tensor) -> torch.Tensor:
        """[n_rows, hidden]."""
        ctx.rows = rows
        return _multiply(rows, weight)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[None, torch.Tensor]:
        """Gradient of the weight, [n_columns, hidden]; the rows have none."""
        return None, _multiply(ctx.rows.T.tocsr(), gradients[0])


def _multiply(rows: sparse.csr_matrix, dense: torch.Tensor) -> torch.Tensor:
    return nn.functional.embedding_bag(
        torch.from_numpy(rows.indices.astype(np.int64)),
        dense.contiguous(),
        torch.from_numpy(rows.indptr[:-1].astype(np.int64)),
        mode="sum",
        per_sample_weights=torch.from_numpy(rows.data),
    )


@final
class SparseInput(nn.Module):
    """Counts as unit-length TF-IDF rows (Salton and Buckley 1988) times a learned weight for every n-gram."""

    def __init__(self, n_columns: int, config: ProjectionConfig) -> None:
        super().__init__()
        self.columns: torch.Tensor
        self.idf: torch.Tensor
        self.register_buffer("columns", torch.zeros(n_columns, dtype=torch.int64))
        self.register_buffer("idf", torch.ones(n_columns))
        self.weight = nn.Parameter(torch.randn(n_columns, config.hidden) / 4)
        self.dropout = nn.Dropout(config.sparse_dropout)

    @staticmethod
    def select(features: sparse.csr_matrix, config: ProjectionConfig) -> np.ndarray:
        """Columns worth a weight: the most frequent over training pairs, ascending."""
        found = features.getnnz(axis=0)
        most_frequent = np.argsort(-found, kind="stable")[: config.max_columns]
        enough = min(config.min_pairs, -(-features.shape[0] // 100))
        return np.sort(most_frequent[found[most_frequent] >= enough])

    def fit(self, features: sparse.csr_matrix, columns: np.ndarray) -> None:
        """Takes the inverse document frequency of `columns` from training pairs."""
        found = features.getnnz(axis=0)[columns]
        self.columns.copy_(torch.from_numpy(columns))
        self.idf.copy_(torch.from_numpy(np.log((1 + features.shape[0]) / (1 + found)).astype(np.float32)))

    def prepare(self, features: sparse.csr_matrix) -> sparse.csr_matrix:
        """(1 + log count) x idf of the kept columns, each row of length 1."""
        kept = features[:, self.columns.numpy()].astype(np.float32)
        kept.data = 1 + np.log(kept.data)
        weighted = (kept @ sparse.diags(self.idf.numpy())).tocsr()
        length = np.sqrt(np.asarray(weighted.multiply(weighted).sum(axis=1)).ravel())
        return (sparse.diags(1 / np.maximum(length, 1e-12)) @ weighted).tocsr().astype(np.float32)

    def forward(self, rows: sparse.csr_matrix) -> torch.Tensor:
        """[n_rows, n_columns] to [n_rows, hidden]."""
        values = self.dropout(torch.from_numpy(rows.data)).numpy()
        kept = sparse.csr_matrix((values, rows.indices, rows.indptr), rows.shape)
        hidden: torch.Tensor = _SparseProduct.apply(kept, self.weight)  # type: ignore[no-untyped-call]
        return hidden


@final
class ProjectionHead(nn.Module):
    """Sum of the input layers, then norm, GELU, dropout and one linear layer.

    Args:
        inputs: one layer per text encoder, in order.
        config: sizes.
    """

    def __init__(self, inputs: Sequence[DenseInput | SparseInput], config: ProjectionConfig) -> None:
        super().__init__()
        self.inputs = nn.ModuleList(inputs)
        self.norm = nn.LayerNorm(config.hidden)
        self.dropout = nn.Dropout(config.dropout)
        self.output = nn.Linear(config.hidden, config.dim)

    def prepare(self, features: Sequence[Features]) -> list[Prepared]:
        """The fitted transform of each encoder's features."""
        return [layer.prepare(block) for layer, block in zip(self._layers(), features, strict=True)]

    def forward(self, rows: Sequence[Prepared]) -> torch.Tensor:
        """Prepared rows of each encoder, [n_rows, columns] each, to [n_rows, dim], not normalised."""
        layers = zip(self._layers(), rows, strict=True)
        hidden = torch.stack([layer(block) for layer, block in layers]).sum(dim=0)
        raw: torch.Tensor = self.output(self.dropout(nn.functional.gelu(self.norm(hidden))))
        return raw

    def embed(self, prepared: Sequence[Prepared], batch_size: int, rows: Int64Array | None = None) -> Float32Array:
        """Unit vectors of all rows, or of some, float32, [n_rows, dim], with dropout off."""
        n_rows = prepared[0].shape[0] if rows is None else len(rows)
        vectors = np.empty((n_rows, self.output.out_features), dtype=np.float32)
        was_training = self.training
        self.eval()
        with torch.inference_mode():
            for start in range(0, n_rows, batch_size):
                part = slice(start, start + batch_size)
                raw = self([block[part if rows is None else rows[part]] for block in prepared])
                vectors[start : start + batch_size] = nn.functional.normalize(raw, dim=1).numpy()
        self.train(was_training)
        return vectors

    def _layers(self) -> list[DenseInput | SparseInput]:
        return [layer for layer in self.inputs if isinstance(layer, DenseInput | SparseInput)]


def fit_projection(features: Sequence[Features], config: ProjectionConfig) -> ProjectionHead:
    """A head with fresh weights (from torch's global generator) whose transforms are fitted on training pairs."""
    inputs: list[DenseInput | SparseInput] = []
    for block in features:
        if isinstance(block, np.ndarray):
            dense = DenseInput(block.shape[1], config)
            dense.fit(block)
            inputs.append(dense)
        else:
            columns = SparseInput.select(block, config)
            if not len(columns):
                raise DataError(
                    f"the {block.shape[0]} training pairs have no n-gram, so there is nothing to learn from words. "
                    "Fix: other votes, or the style encoder alone"
                )
            layer = SparseInput(len(columns), config)
            layer.fit(block, columns)
            inputs.append(layer)
    return ProjectionHead(inputs, config)


def projection_from_state(state: Mapping[str, np.ndarray], config: ProjectionConfig) -> ProjectionHead:
    """The head that gave this state dict; its layers follow from the names and shapes in it."""
    inputs: list[DenseInput | SparseInput] = []
    while True:
        prefix = f"inputs.{len(inputs)}."
        if f"{prefix}mean" in state:
            inputs.append(DenseInput(len(state[f"{prefix}mean"]), config))
        elif f"{prefix}columns" in state:
            inputs.append(SparseInput(len(state[f"{prefix}columns"]), config))
        else:
            break
    head = ProjectionHead(inputs, config)
    head.load_state_dict({name: torch.from_numpy(np.array(value)) for name, value in state.items()})
    return head
