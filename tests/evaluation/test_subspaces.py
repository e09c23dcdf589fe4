"""Probes find what is there, and nothing where nothing is."""

from __future__ import annotations

import numpy as np
import pytest

from model_behavior.evaluation.recognition import HeldResponses, draw_recognition, predict_left_out, probe_subspaces

NAMES = tuple(
    f"{family}-{size}" for family in ("amber", "basalt", "cobalt", "dunite", "ebony", "flint") for size in "abcd"
)


def made_up(n_prompts: int = 20) -> tuple[HeldResponses, np.ndarray]:
    """Columns 0 to 2 hold the rating and noise, columns 3 to 26 one direction per model."""
    rng = np.random.default_rng(0)
    n_models = len(NAMES)
    rating = rng.normal(size=n_models)
    quality = np.column_stack([rating, rng.normal(size=(n_models, 2))])
    known = np.column_stack([quality, np.eye(n_models)]).astype(np.float32)
    model = np.tile(np.arange(n_models), n_prompts)
    rows = known[model]
    rows[:, :3] += rng.normal(0, 3, (len(rows), 3))
    return HeldResponses(rows, model, np.repeat(np.arange(n_prompts), n_models), known), rating


def test_each_part_knows_its_own() -> None:
    responses, rating = made_up()
    draws = draw_recognition(responses, 0)
    figures = probe_subspaces(
        {"quality": slice(0, 3), "identity": slice(3, 27), "none": slice(27, 27)},
        responses,
        draws,
        NAMES,
        rating,
    )
    assert sorted(figures) == ["identity", "quality"]
    quality, identity = figures["quality"], figures["identity"]
    assert quality.rating_r2 is not None and identity.rating_r2 is not None
    assert quality.rating_r2.value > 0.95 and quality.rating_r2.n == 24
    assert quality.rating_correlation is not None and quality.rating_correlation.value > 0.95
    assert identity.rating_r2.value < 0.05, "a model's own direction says nothing of other families"
    assert identity.identification[8].value == 1 and quality.identification[1].value < 0.4


def test_too_few_families_give_no_rating() -> None:
    responses, rating = made_up()
    draws = draw_recognition(responses, 0)
    rating[12:] = np.nan
    (figures,) = probe_subspaces({"quality": slice(0, 3)}, responses, draws, NAMES, rating).values()
    assert figures.rating_r2 is None and figures.rating_correlation is None and figures.identification


def test_a_group_is_predicted_without_itself() -> None:
    """Changing what is true of one group changes nothing of what is predicted for it."""
    rng = np.random.default_rng(2)
    known = rng.normal(size=(20, 5)).astype(np.float32)
    group = np.repeat(np.arange(5), 4)
    truth = known @ rng.normal(size=5) + rng.normal(0, 0.3, 20)
    before = predict_left_out(known, truth, group)
    changed = truth.copy()
    changed[group == 2] += 100
    after = predict_left_out(known, changed, group)
    np.testing.assert_array_equal(before[group == 2], after[group == 2])
    assert not np.allclose(before[group == 0], after[group == 0])
    assert np.corrcoef(before, truth)[0, 1] == pytest.approx(1, abs=0.1)
