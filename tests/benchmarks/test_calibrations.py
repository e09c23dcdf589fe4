from __future__ import annotations

import numpy as np
import pytest

from model_behavior.benchmarks.stage2 import calibrate_isotonic, compare_calibrations, simulate_floor
from model_behavior.models.scoring.dense_network_config import DenseNetworkConfig
from model_behavior.models.scoring.dense_network_model import DenseNetworkModel
from model_behavior.models.scoring.dense_network_training import HeldOutVotes, ScoringSchedule
from tests.models.scoring.scoring_votes import draw_votes

ID = DenseNetworkConfig(model_source="id", schedule=ScoringSchedule(epochs=2, folds=3))


def test_isotonic_regression_finds_the_frequencies() -> None:
    rng = np.random.default_rng(0)
    truth = rng.dirichlet([1, 1, 1, 1], 20_000)
    outcome = (truth.cumsum(axis=1) > rng.random((len(truth), 1))).argmax(axis=1)
    too_sure = truth**2 / (truth**2).sum(axis=1, keepdims=True)
    held_out = HeldOutVotes(too_sure.astype(np.float32), outcome, np.arange(len(truth)), (), 0)
    found = calibrate_isotonic(held_out, too_sure)
    np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-6)
    assert np.abs(found - truth).mean() < np.abs(too_sure - truth).mean() / 2


def test_chance_alone_gives_a_calibration_error() -> None:
    one_bin = np.tile([0.55, 0.25, 0.1, 0.1], (400, 1))
    # The share right has this standard deviation, and the mean absolute value of a normal is sqrt(2 / pi) of it.
    expected = np.sqrt(0.55 * 0.45 / 400) * np.sqrt(2 / np.pi)
    assert simulate_floor(one_bin, np.random.default_rng(0)) == pytest.approx(expected, rel=0.2)
    assert simulate_floor(np.eye(4), np.random.default_rng(0)) == 0


def test_calibrations_are_of_the_same_predictions() -> None:
    model = DenseNetworkModel(config=ID)
    model.fit(draw_votes(1500))
    temperature = model.temperature
    new = draw_votes(500, seed=9)
    compared = compare_calibrations(model, new, seed=0)
    assert compared is not None and model.temperature == temperature
    assert list(compared.figures) == ["none", "temperature", "isotonic"]
    accuracies = [compared.figures[name].accuracy.value for name in ("none", "temperature")]
    assert accuracies[0] == accuracies[1]
    assert compared.figures["none"].log_loss.value != compared.figures["temperature"].log_loss.value
    assert compare_calibrations(DenseNetworkModel.load_state_dict(model.get_state_dict()), new, seed=0) is None
