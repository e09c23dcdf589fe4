"""Collapse figures with intervals."""

from __future__ import annotations

import numpy as np
import pytest

from model_behavior.evaluation.stage1 import measure_collapse
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


def test_an_interval_is_as_wide_as_figures_of_new_prompts_scatter() -> None:
    rng = np.random.default_rng(1)
    prompt, model = np.repeat(np.arange(40), 6), np.tile(np.arange(6), 40)
    direction = rng.normal(size=(6, 8))

    def draw() -> np.ndarray:
        return (rng.normal(size=(40, 8))[prompt] + direction[model] + rng.normal(size=(240, 8))).astype("f4")

    figures = [measure_collapse(draw(), model, prompt, 0)["prompt_share"] for _ in range(30)]
    scatter = 3.92 * np.std([figure.value for figure in figures], ddof=1)
    assert np.mean([figure.high - figure.low for figure in figures]) == pytest.approx(scatter, rel=0.4)


def test_too_few_prompts_give_no_interval() -> None:
    rows = np.random.default_rng(2).normal(size=(12, 3)).astype("f4")
    figures = measure_collapse(rows, np.arange(12) % 4, np.arange(12) // 4, 0)
    assert all(np.isfinite(figure.value) and np.isnan(figure.low) for figure in figures.values())
