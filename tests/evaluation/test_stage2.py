from __future__ import annotations

import math

import numpy as np
import pytest

from model_behavior.data_models.scoring_types import ScoringVotes
from model_behavior.evaluation.plots import PlotTexts, draw_lines
from model_behavior.evaluation.stage2 import (
    CELLS,
    coverage,
    divide_into_cells,
    expected_calibration_error,
    measure_stage2,
    reliability,
)
from model_behavior.models.scoring.outcomes import decided_hits
from model_behavior.preprocessing.scoring_votes import select_scoring_votes


def votes(prompts: tuple[str, ...], sides: list[tuple[str, str]], outcome: list[int]) -> ScoringVotes:
    models = tuple(sorted({name for side in sides for name in side}))
    a, b = ([models.index(name) for name in column] for column in zip(*sides, strict=True))
    index = np.arange(len(sides), dtype=np.int32) % len(prompts)
    return ScoringVotes(
        prompts, models, index, np.array(a, np.int32), np.array(b, np.int32), np.array(outcome, np.int8)
    )


def test_every_vote_is_in_the_cell_where_it_belongs() -> None:
    train = votes(("Old  one",), [("p", "q")], [0])
    measured = votes(
        ("old ONE", "fresh"), [("p", "q"), ("p", "q"), ("p", "new"), ("new", "q"), ("new", "also")], [0] * 5
    )
    cells = divide_into_cells(measured, train)
    assert {cell.label: rows.tolist() for cell, rows in cells.items()} == {
        "seen prompt, known LLM": [0],
        "new prompt, known LLM": [1],
        "seen prompt, new LLM": [2],
        "new prompt, new LLM": [3],
    }
    assert len(CELLS) == 4


def test_figures_by_hand() -> None:
    happened = votes(("x", "y"), [("p", "q")] * 4, [0, 1, 2, 0])
    probabilities = np.array(
        [[0.6, 0.2, 0.1, 0.1], [0.5, 0.3, 0.1, 0.1], [0.1, 0.1, 0.7, 0.1], [0.4, 0.4, 0.1, 0.1]], np.float32
    )
    figures = measure_stage2(probabilities, happened)
    assert figures is not None
    assert figures.accuracy.value == pytest.approx((1 + 0 + 0.5) / 3) and figures.accuracy.n == 3
    by_hand = -(math.log(0.6) + math.log(0.3) + math.log(0.7) + math.log(0.4)) / 4
    assert figures.log_loss.value == pytest.approx(by_hand, rel=1e-6) and figures.log_loss.n == 4
    assert figures.log_loss.low <= figures.log_loss.value <= figures.log_loss.high
    assert measure_stage2(probabilities[:0], select_scoring_votes(happened, np.zeros(0, np.int64))) is None


def test_draws_are_half_right() -> None:
    hits, decided = decided_hits(np.array([[0.4, 0.4, 0.1, 0.1], [0.1, 0.7, 0.1, 0.1]], np.float32), np.array([0, 1]))
    assert hits.tolist() == [0.5, 1.0] and decided.tolist() == [0, 1]


def test_calibration_error_by_hand() -> None:
    confidence, right = np.array([0.55, 0.57, 0.95, 1.0]), np.array([1.0, 0.0, 1.0, 1.0])
    by_hand = (2 * abs(0.5 - 0.56) + 2 * abs(1 - 0.975)) / 4
    assert expected_calibration_error(confidence, right) == pytest.approx(by_hand)


def test_reliability_holds_what_the_calibration_error_sums() -> None:
    rng = np.random.default_rng(0)
    probabilities = rng.dirichlet([1, 1, 1, 1], size=500).astype(np.float32)
    outcome = rng.integers(0, 4, 500)
    bins = reliability(probabilities, outcome)
    assert sum(each.n for each in bins) == 500
    total = sum(each.n * abs(each.confidence - each.share_right) for each in bins) / 500
    right = (probabilities.argmax(axis=1) == outcome).astype(float)
    assert total == pytest.approx(expected_calibration_error(probabilities.max(axis=1).astype(float), right), abs=1e-6)


def test_coverage_by_hand() -> None:
    assert coverage(np.array([0.0, 0.0]), np.array([1.0, 1.0]), np.array([0.5, 2.0])) == 0.5


def test_lines_are_drawn_where_their_points_are() -> None:
    picture = draw_lines({"a & b": [(1, 0.0), (10, 1.0), (100, math.nan)]}, PlotTexts("t", "x", "y", log_x=True))
    assert picture.startswith("<svg") and picture.rstrip().endswith("</svg>")
    assert picture.count("<circle") == 2 and "a &amp; b" in picture
    with pytest.raises(ValueError, match="no finite point"):
        draw_lines({"a": [(1, math.nan)]}, PlotTexts("t", "x", "y"))
