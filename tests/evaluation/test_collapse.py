"""Collapse figures with intervals."""

from __future__ import annotations

import numpy as np
import pytest

from model_behavior.evaluation.collapse import measure_collapse
from model_behavior.models.behavior import metrics


def test_values_are_the_metrics_own_and_intervals_hold_them() -> None:
    rng = np.random.default_rng(0)
    prompt, model = np.repeat(np.arange(40), 6), np.tile(np.arange(6), 40)
    rows = (rng.normal(size=(40, 8))[prompt] + rng.normal(size=(6, 8))[model] + rng.normal(size=(240, 8))).astype("f4")
    figures = measure_collapse(rows, model, prompt, 0)
    assert figures["mean_distance"].value == metrics.mean_pairwise_distance(rows)
    assert figures["effective_rank"].value == metrics.effective_rank(rows)
    assert figures["prompt_share"].value == metrics.variance_explained(rows, prompt)
    assert figures["model_share"].value == metrics.variance_explained(rows, model)
    for name in ("mean_distance", "prompt_share", "model_share"):
        assert figures[name].low < figures[name].value < figures[name].high, name
    assert all(figure.n == 240 for figure in figures.values())


def test_what_the_prompt_explains_is_not_inflated_by_copies() -> None:
    """Prompts that explain nothing still explain nothing when some are drawn twice."""
    rng = np.random.default_rng(1)
    prompt = np.repeat(np.arange(50), 8)
    figure = measure_collapse(rng.normal(size=(400, 6)).astype("f4"), np.arange(400) % 8, prompt, 0)["prompt_share"]
    assert figure.low < 0.02 and figure.high < 0.06
    assert figure.value == pytest.approx(0, abs=0.03)
