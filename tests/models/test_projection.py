from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from scipy import sparse
from torch.nn import functional

from model_behavior.arrays import Float32Array
from model_behavior.errors import DataError
from model_behavior.models.behavior.projection import (
    DenseInput,
    ProjectionConfig,
    ProjectionHead,
    SparseInput,
    fit_projection,
    projection_from_state,
)
from model_behavior.preprocessing.feature_cache import Features

Dense = Float32Array

CONFIG = ProjectionConfig(dim=5, hidden=8, max_columns=6, min_pairs=2)


def dense_features(n: int = 40, columns: int = 3, seed: int = 0) -> Dense:
    scale = np.arange(1, columns + 1)
    return (np.random.default_rng(seed).normal(size=(n, columns)) * scale + 4 * scale).astype(np.float32)


def counts_of(rows: Sequence[Sequence[int]]) -> sparse.csr_matrix:
    return sparse.csr_matrix(np.array(rows, dtype=np.float32))


def random_counts(n: int = 40, columns: int = 12, seed: int = 0) -> sparse.csr_matrix:
    rng = np.random.default_rng(seed)
    return counts_of((rng.integers(1, 5, (n, columns)) * (rng.random((n, columns)) < 0.4)).tolist())


class TestDenseInput:
    def test_it_standardises_by_the_training_pairs(self) -> None:
        train, other = dense_features(), dense_features(n=7, seed=1)
        layer = DenseInput(3, CONFIG)
        layer.fit(train)
        prepared = layer.prepare(other)
        assert prepared.dtype == np.float32
        for column in range(3):
            values: list[float] = train[:, column].tolist()
            mean = sum(values) / len(values)
            deviation = math.sqrt(sum((value - mean) ** 2 for value in values) / len(values))
            expected = [min(max((value - mean) / deviation, -5), 5) for value in other[:, column].tolist()]
            np.testing.assert_allclose(prepared[:, column], np.array(expected), atol=1e-4)

    def test_long_tails_are_clipped(self) -> None:
        layer = DenseInput(1, CONFIG)
        layer.fit(np.array([[-1], [1]], dtype=np.float32))
        rows = np.array([[-9], [-5], [0.5], [5], [1e9]], dtype=np.float32)
        assert layer.prepare(rows).ravel().tolist() == [-5, -5, 0.5, 5, 5]

    @pytest.mark.parametrize("value", [0.0, 0.1, 1.7, 5.3, -1e4])
    @pytest.mark.parametrize("n", [1, 7, 1000])
    def test_a_constant_column_is_only_centred(self, value: float, n: int) -> None:
        layer = DenseInput(1, CONFIG)
        layer.fit(np.full((n, 1), value, dtype=np.float32))
        rows = np.array([[value], [value + 2]], dtype=np.float32)
        np.testing.assert_allclose(layer.prepare(rows).ravel(), np.array([0.0, 2.0]), atol=1e-2)

    def test_forward_is_one_linear_layer_behind_dropout(self) -> None:
        torch.manual_seed(0)
        layer = DenseInput(3, CONFIG)
        assert not torch.equal(layer(dense_features(n=4)), layer(dense_features(n=4)))
        layer.eval()
        rows = dense_features(n=4)
        weight, bias = layer.linear.weight.detach().numpy(), layer.linear.bias.detach().numpy()
        expected = [[sum(weight[h] * row) + bias[h] for h in range(8)] for row in rows]
        np.testing.assert_allclose(layer(rows).detach().numpy(), np.array(expected), rtol=1e-4)


class TestSparseInput:
    def test_the_most_frequent_columns_are_kept(self) -> None:
        # Found in 4, 1, 3, 2, 3 and 0 rows; how often they are found in one row does not matter.
        rows = [[1, 9, 1, 1, 1, 0], [1, 0, 1, 1, 1, 0], [1, 0, 5, 0, 1, 0], [1, 0, 0, 0, 0, 0]]
        counts = counts_of([*rows, *[[0, 0, 0, 0, 0, 0]] * 996])

        def select(max_columns: int, min_pairs: int) -> list[int]:
            config = ProjectionConfig(max_columns=max_columns, min_pairs=min_pairs)
            columns: list[int] = SparseInput.select(counts, config).tolist()
            return columns

        assert select(99, 1) == [0, 1, 2, 3, 4]
        assert select(99, 2) == [0, 2, 3, 4]
        assert select(3, 1) == [0, 2, 4]
        assert select(2, 1) == [0, 2]
        assert select(99, 5) == []

    def test_few_pairs_lower_the_threshold_to_one_in_a_hundred(self) -> None:
        rows = [[1, 1], [1, 0], [1, 0]]
        config = ProjectionConfig(min_pairs=10)
        assert SparseInput.select(counts_of(rows), config).tolist() == [0, 1]
        assert SparseInput.select(counts_of(rows + [[0, 0]] * 198), config).tolist() == [0]

    def test_rows_are_those_of_loops(self) -> None:
        train, other = random_counts(), random_counts(n=9, seed=1)
        columns = [0, 3, 4, 11]
        layer = SparseInput(len(columns), CONFIG)
        layer.fit(train, np.array(columns))
        expected = np.zeros((9, len(columns)))
        for row, counts in enumerate(other.toarray().tolist()):
            for place, column in enumerate(columns):
                found = sum(1 for value in train.toarray()[:, column] if value > 0)
                idf = math.log((1 + 40) / (1 + found))
                expected[row, place] = (1 + math.log(counts[column])) * idf if counts[column] else 0
            expected[row] /= math.sqrt(sum(value**2 for value in expected[row])) or 1
        prepared = layer.prepare(other)
        np.testing.assert_allclose(prepared.toarray(), expected, atol=1e-6)
        assert prepared.dtype == np.float32

    def test_rows_are_those_of_scikit_learn(self) -> None:
        from sklearn.feature_extraction.text import TfidfTransformer

        train, other = random_counts(), random_counts(n=9, seed=1)
        layer = SparseInput(12, CONFIG)
        layer.fit(train, np.arange(12))
        # scikit-learn adds 1 to the inverse document frequency.
        reference = TfidfTransformer(sublinear_tf=True, norm=None).fit(train)
        reference.idf_ = reference.idf_ - 1
        rows = reference.transform(other).toarray()
        expected = rows / np.linalg.norm(rows, axis=1, keepdims=True)
        np.testing.assert_allclose(layer.prepare(other).toarray(), expected, atol=1e-6)

    def test_rows_have_length_one_or_are_empty(self) -> None:
        layer = SparseInput(2, CONFIG)
        layer.fit(counts_of([[1, 1, 0], [1, 0, 1], [1, 0, 0]]), np.array([0, 1]))
        # No kept column; one in every training pair, which says nothing; a telling one; both.
        prepared = layer.prepare(counts_of([[0, 0, 7], [3, 0, 0], [0, 9, 0], [2, 2, 2], [0, 0, 0]]))
        assert np.linalg.norm(prepared.toarray(), axis=1).tolist() == pytest.approx([0, 0, 1, 1, 0])

    def test_preparing_leaves_the_counts_alone(self) -> None:
        counts = random_counts()
        before = counts.toarray().copy()
        layer = SparseInput(12, CONFIG)
        layer.fit(counts, np.arange(12))
        layer.prepare(counts)
        assert (counts.toarray() == before).all()

    def test_forward_is_the_matrix_product(self) -> None:
        layer = SparseInput(12, CONFIG).eval()
        layer.fit(random_counts(), np.arange(12))
        rows = layer.prepare(
            counts_of([[0] * 12, *random_counts(n=4, seed=2).toarray().astype(int).tolist(), [0] * 12])
        )
        expected = rows.toarray() @ layer.weight.detach().numpy()
        np.testing.assert_allclose(layer(rows).detach().numpy(), expected, atol=1e-5)

    def test_the_gradient_is_that_of_the_matrix_product(self) -> None:
        layer = SparseInput(12, CONFIG).eval()
        layer.fit(random_counts(), np.arange(12))
        rows = layer.prepare(random_counts(n=5, seed=2))
        slope = torch.randn(5, CONFIG.hidden, generator=torch.Generator().manual_seed(0))
        (layer(rows) * slope).sum().backward()
        assert layer.weight.grad is not None
        np.testing.assert_allclose(layer.weight.grad.numpy(), rows.toarray().T @ slope.numpy(), atol=1e-6)

    def test_ngrams_are_dropped_in_training_only(self) -> None:
        torch.manual_seed(0)
        layer = SparseInput(12, CONFIG)
        layer.fit(random_counts(), np.arange(12))
        rows = layer.prepare(random_counts(seed=1))
        assert not torch.equal(layer(rows), layer(rows))
        layer.eval()
        assert torch.equal(layer(rows), layer(rows))


def fitted_head(features: Sequence[Features]) -> ProjectionHead:
    torch.manual_seed(0)
    return fit_projection(features, CONFIG)


BLOCKS: dict[str, list[Features]] = {
    "dense": [dense_features()],
    "sparse": [random_counts()],
    "both": [dense_features(), random_counts()],
    "two of each": [dense_features(), random_counts(), dense_features(columns=1, seed=3), random_counts(seed=4)],
}


@pytest.fixture(params=BLOCKS)
def features(request: pytest.FixtureRequest) -> list[Features]:
    return BLOCKS[request.param]


class TestHead:
    def test_embeddings_are_unit_vectors(self, features: list[Features]) -> None:
        head = fitted_head(features)
        vectors = head.embed(head.prepare(features), batch_size=7)
        assert vectors.shape == (40, 5)
        assert vectors.dtype == np.float32
        np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), np.ones(40), rtol=1e-5)

    @pytest.mark.parametrize("batch_size", [1, 3, 40, 1000])
    def test_batch_size_does_not_matter(self, features: list[Features], batch_size: int) -> None:
        head = fitted_head(features)
        prepared = head.prepare(features)
        expected = head.embed(prepared, batch_size=11)
        np.testing.assert_allclose(head.embed(prepared, batch_size), expected, atol=1e-6)
        rows = np.array([3, 0, 17, 29, 30, 31], dtype=np.int64)
        np.testing.assert_allclose(head.embed(prepared, batch_size, rows), expected[rows], atol=1e-6)

    @pytest.mark.parametrize("training", [True, False])
    def test_dropout_is_off_in_embed_and_comes_back(self, features: list[Features], training: bool) -> None:
        head = fitted_head(features).train(training)
        prepared = head.prepare(features)
        state = torch.get_rng_state()
        np.testing.assert_array_equal(head.embed(prepared, batch_size=40), head.embed(prepared, batch_size=40))
        assert torch.equal(torch.get_rng_state(), state)
        assert all(module.training == training for module in head.modules())
        assert torch.equal(head(prepared), head(prepared)) != training

    def test_the_head_is_the_sum_of_its_inputs_norm_gelu_and_a_layer(self) -> None:
        head = fitted_head(BLOCKS["both"]).eval()
        prepared = head.prepare(BLOCKS["both"])
        parts = [layer(rows) for layer, rows in zip(head.inputs, prepared, strict=True)]
        hidden = (parts[0] + parts[1]).double()
        centred = hidden - hidden.mean(dim=1, keepdim=True)
        standard = centred / (centred.square().mean(dim=1, keepdim=True) + 1e-5).sqrt()
        active = standard * (1 + torch.erf(standard / math.sqrt(2))) / 2
        expected = active @ head.output.weight.double().T + head.output.bias
        torch.testing.assert_close(head(prepared).double(), expected, rtol=0, atol=1e-5)
        np.testing.assert_allclose(
            head.embed(prepared, batch_size=9), functional.normalize(expected, dim=1).detach().numpy(), atol=1e-5
        )

    def test_no_rows(self, features: list[Features]) -> None:
        head = fitted_head(features)
        assert head.embed(head.prepare([block[:0] for block in features]), batch_size=4).shape == (0, 5)

    def test_no_column_is_frequent_enough(self) -> None:
        torch.manual_seed(0)
        with pytest.raises(DataError, match="the 7 training pairs have no n-gram"):
            fit_projection([counts_of([[0, 0]] * 7)], ProjectionConfig(dim=5, hidden=8))

    def test_the_state_gives_the_same_head_bit_by_bit(self, features: list[Features]) -> None:
        head = fitted_head(features)
        state = {name: value.numpy().copy() for name, value in head.state_dict().items()}
        again = projection_from_state(state, CONFIG)
        assert list(again.state_dict()) == list(state)
        assert [type(layer) for layer in again.inputs] == [type(layer) for layer in head.inputs]
        assert all(torch.equal(again.state_dict()[name], torch.from_numpy(value)) for name, value in state.items())
        np.testing.assert_array_equal(
            again.embed(again.prepare(features), batch_size=7), head.embed(head.prepare(features), batch_size=7)
        )

    def test_the_seed_decides_the_weights(self) -> None:
        one, again = fitted_head(BLOCKS["both"]), fitted_head(BLOCKS["both"])
        torch.manual_seed(1)
        other = fit_projection(BLOCKS["both"], CONFIG)
        assert torch.equal(one.output.weight, again.output.weight)
        assert not torch.equal(one.output.weight, other.output.weight)
