from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from model_behavior.models.behavior.text.transformer import POOLING_MODES, Pooling, PoolingMode


def pooled_by_loops(tokens: list[list[float]], mode: PoolingMode) -> list[float]:
    """One text's real tokens, without any padding."""
    columns = [[token[column] for token in tokens] for column in range(len(tokens[0]))]
    if mode == "cls":
        return tokens[0]
    return [max(column) if mode == "max" else sum(column) / len(column) for column in columns]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(1, 6), min_size=1, max_size=5), st.integers(1, 4), st.integers(0, 9), st.integers(0, 2))
def test_pooling_is_that_of_loops(lengths: list[int], dim: int, seed: int, extra: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.randn(len(lengths), max(lengths) + extra, dim, generator=generator)
    mask = torch.zeros(tokens.shape[:2], dtype=torch.long)
    for row, length in enumerate(lengths):
        mask[row, :length] = 1
    for mode in POOLING_MODES:
        pooled = Pooling(mode)(tokens, mask)
        expected = [pooled_by_loops(tokens[row, :length].tolist(), mode) for row, length in enumerate(lengths)]
        torch.testing.assert_close(pooled, torch.tensor(expected), rtol=0, atol=1e-6)


@pytest.mark.parametrize("mode", POOLING_MODES)
@pytest.mark.parametrize("padding", [0.0, 1e6, -1e6])
def test_padding_never_counts(mode: PoolingMode, padding: float) -> None:
    tokens = torch.tensor([[[1.0, -2.0], [3.0, -4.0], [padding, padding]], [[-1.0, -1.0], [-5.0, -3.0], [-3.0, -8.0]]])
    mask = torch.tensor([[1, 1, 0], [1, 1, 1]])
    expected = {"mean": [[2, -3], [-3, -4]], "cls": [[1, -2], [-1, -1]], "max": [[3, -2], [-1, -1]]}[mode]
    assert Pooling(mode)(tokens, mask).tolist() == expected


@pytest.mark.parametrize("mode", POOLING_MODES)
def test_padding_gets_no_gradient(mode: PoolingMode) -> None:
    tokens = torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(0)).requires_grad_()
    Pooling(mode)(tokens, torch.tensor([[1, 1, 0], [1, 0, 0]])).sum().backward()
    assert tokens.grad is not None
    assert tokens.grad[0, 2].abs().sum() == tokens.grad[1, 1:].abs().sum() == 0
    assert tokens.grad[1, 0].tolist() == [1, 1, 1, 1]


def test_the_mean_is_the_default() -> None:
    assert Pooling().mode == "mean"


def test_an_unknown_mode_is_refused() -> None:
    with pytest.raises(ValueError, match=r"'sum' is not one of mean, cls, max"):
        Pooling("sum")  # type: ignore[arg-type]
