"""How many more responses a precision takes, against the intervals that so many give."""

from __future__ import annotations

import numpy as np
import pytest

from model_behavior.data_models.scoring_types import ModelTable
from model_behavior.errors import UsageError
from model_behavior.models.scoring.embedding_rating import EmbeddingRating
from model_behavior.models.scoring.rating_precision import RatingPrecision


def falling(count: np.ndarray) -> np.ndarray:
    """4 / n, which is easy to solve by hand."""
    return np.asarray(4 / count, dtype=np.float64)


def test_by_hand() -> None:
    precision = RatingPrecision(0.5, 1.0 + 4 / 8, 8, falling)
    assert precision.half_width == pytest.approx(1.959964 * np.sqrt(1.5))
    assert precision.floor == pytest.approx(1.959964)
    assert precision.half_width_after(32) == pytest.approx(1.959964 * np.sqrt(1 + 4 / 32))
    # (2 / 1.959964)^2 = 1.04127 = 1 + 4 / n for n = 96.9: 97 responses, 89 more.
    assert precision.responses_needed(2.0) == 89
    assert precision.responses_needed(3.0) == 0
    assert precision.responses_needed(1.9) is None and precision.responses_needed(precision.floor) is None
    with pytest.raises(UsageError, match="half_width=0"):
        precision.responses_needed(0)


def test_the_number_is_the_smallest_that_does() -> None:
    precision = RatingPrecision(0.0, 0.6 + 4 / 5, 5, falling)
    asked = np.linspace(1.01 * precision.floor, precision.half_width, 12)
    needed = [precision.responses_needed(width) for width in asked.tolist()]
    for width, more in zip(asked, needed, strict=True):
        assert more is not None
        assert precision.half_width_after(5 + more) <= width
        assert more == 0 or precision.half_width_after(5 + more - 1) > width
    assert [more for more in needed if more is not None] == sorted((more or 0 for more in needed), reverse=True)


def test_the_interval_after_so_many_responses_is_as_wide_as_was_asked_for() -> None:
    rng = np.random.default_rng(0)
    place = 0.15 * rng.normal(size=(60, 5))
    rating = 8 * place[:, 0] - 4 * place[:, 1] + 0.3 * rng.normal(size=60)
    names = tuple(f"{chr(97 + i // 26)}{chr(97 + i % 26)}x-1" for i in range(60))
    spread = np.full(60, 0.4, np.float32)
    model = EmbeddingRating()
    model.fit(ModelTable(names, place.astype(np.float32), np.full(60, 100_000), spread), rating, np.full(60, 1e-4))

    def predict(new: np.ndarray, n: int) -> tuple[float, float]:
        """Rating and half width of a model whose n responses scatter around its place."""
        mean = new + 0.4 / np.sqrt(5 * n) * rng.normal(size=5)
        table = ModelTable(("new-1",), mean[None].astype(np.float32), np.array([n]), spread[:1])
        value, variance = model.predict(table)
        return float(value[0]), float(variance[0])

    widths = []
    for _ in range(40):
        new = 0.15 * rng.normal(size=5)
        precision = RatingPrecision(*predict(new, 8), 8, model.sampling_variance)
        wanted = (precision.half_width + precision.floor) / 2
        more = precision.responses_needed(wanted)
        assert more is not None and more > 0
        widths.append(1.959964 * np.sqrt(predict(new, 8 + more)[1]) / wanted)
    assert np.mean(widths) == pytest.approx(1, abs=0.05)
