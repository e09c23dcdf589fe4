"""Smaller batches and more dropout for few votes; nothing changes for many."""

from __future__ import annotations

from dataclasses import replace

import pytest

from model_behavior.errors import UsageError
from model_behavior.models.behavior.configuration import EncoderConfig
from model_behavior.models.behavior.projection import ProjectionConfig
from model_behavior.models.behavior.training import OptimisationConfig

MANY = OptimisationConfig().many_votes


def dropouts(config: EncoderConfig) -> tuple[float, float, float]:
    projection = config.projection
    return projection.dropout, projection.sparse_dropout, projection.dense_dropout


@pytest.mark.parametrize("n_votes", [MANY, MANY + 1, 600_000])
def test_many_votes_are_trained_on_as_configured(n_votes: int) -> None:
    config = EncoderConfig(seed=3)
    assert config.for_size(n_votes, 128) == (config, 128)


def test_steps_stay_as_many_and_dropout_rises_as_votes_become_fewer() -> None:
    found = [EncoderConfig().for_size(n, 128) for n in (300, 600, 1200, MANY - 1)]
    assert [batch for _, batch in found] == [16, 31, 61, 128]
    values = [dropouts(config) for config, _ in found]
    assert values == sorted(values, reverse=True)
    assert values[0] == pytest.approx((0.476, 0.676, 0.288))
    assert values[-1] == pytest.approx(dropouts(EncoderConfig()), abs=1e-3)


def test_what_is_off_stays_off_and_what_is_small_stays_small() -> None:
    config = EncoderConfig(projection=ProjectionConfig(dropout=0, sparse_dropout=0.85, dense_dropout=0.95))
    small, batch = config.for_size(10, 4)
    assert dropouts(small) == (0, 0.9, 0.95) and batch == 4
    as_ever = replace(config, optimisation=OptimisationConfig(many_votes=1))
    assert as_ever.for_size(10, 128) == (as_ever, 128)
    with pytest.raises(UsageError, match="many_votes=0: at least 1"):
        OptimisationConfig(many_votes=0)
