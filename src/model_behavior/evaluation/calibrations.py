"""Ways to calibrate the dense network, side by side, and what calibration error chance alone gives."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from sklearn.isotonic import IsotonicRegression

from model_behavior.data_models.scoring_types import FloatArray, ScoringVotes
from model_behavior.evaluation.stage2 import Stage2Figures, expected_calibration_error, measure_stage2, predict_votes
from model_behavior.models.scoring.calibration import Temperature
from model_behavior.models.scoring.dense_network_model import DenseNetworkModel
from model_behavior.models.scoring.dense_network_training import HeldOutVotes

_LEAST = 1e-4
_SIMULATIONS = 100


@dataclass(frozen=True)
class Calibrations:
    """The dense network on the same votes.

    Attributes:
        figures: by the calibration: none, temperature, isotonic.
        floor: calibration error that a perfect model with the same confidences has on as many independent votes.
    """

    figures: Mapping[str, Stage2Figures]
    floor: float


def compare_calibrations(network: DenseNetworkModel, votes: ScoringVotes, seed: int) -> Calibrations | None:
    """Applies each calibration to the same predictions; None where nothing was held out to fit one to."""
    held_out = network.held_out
    if held_out is None or not len(held_out.outcome):
        return None
    fitted = network.temperature
    network.temperature = Temperature()
    try:
        raw = predict_votes(network, votes)
    finally:
        network.temperature = fitted
    predicted = {"none": raw, "temperature": fitted.apply(raw), "isotonic": calibrate_isotonic(held_out, raw)}
    measured = {name: measure_stage2(probabilities, votes, seed) for name, probabilities in predicted.items()}
    figures = {name: value for name, value in measured.items() if value is not None}
    return Calibrations(figures, simulate_floor(predicted["temperature"], np.random.default_rng(seed)))


def calibrate_isotonic(held_out: HeldOutVotes, probabilities: npt.NDArray[np.floating]) -> FloatArray:
    """Isotonic regression of each outcome on its probability, normalised (Zadrozny and Elkan 2002), [n, 4].

    Args:
        held_out: to fit to.
        probabilities: to calibrate, [n, 4].
    """
    columns = []
    for outcome in range(held_out.probabilities.shape[1]):
        curve = IsotonicRegression(y_min=_LEAST, y_max=1 - _LEAST, out_of_bounds="clip")
        curve.fit(held_out.probabilities[:, outcome], (held_out.outcome == outcome).astype(np.float64))
        columns.append(curve.predict(probabilities[:, outcome]))
    values = np.stack(columns, axis=1)
    normalised: FloatArray = (values / values.sum(axis=1, keepdims=True)).astype(np.float32)
    return normalised


def simulate_floor(probabilities: npt.NDArray[np.floating], rng: np.random.Generator) -> float:
    """Mean expected calibration error where outcomes are drawn from the probabilities themselves.

    Args:
        probabilities: [n, 4].
        rng: of the draws.
    """
    confidence = probabilities.max(axis=1).astype(np.float64)
    errors = [
        expected_calibration_error(confidence, (rng.random(len(confidence)) < confidence).astype(np.float64))
        for _ in range(_SIMULATIONS)
    ]
    return float(np.mean(errors))
