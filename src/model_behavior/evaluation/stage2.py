"""Stage 2: accuracy, log loss and calibration of predicted votes, and accuracy controlled for response length.

Votes are divided into four cells, by whether training has seen the prompt and both LLMs. Length control divides decided
votes by which response is longer, to show what an accuracy owes to length alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np

from model_behavior.arrays import BoolArray, Float32Array, Float64Array, FloatArray, Int64Array, IntArray
from model_behavior.data.split import normalise_prompt
from model_behavior.data_models.scoring_types import STYLE_COLUMNS, ScoringVotes
from model_behavior.data_models.votes import Outcome
from model_behavior.evaluation.figures import Figure, bootstrap_prompts
from model_behavior.models.scoring.model_base import ModelBase
from model_behavior.models.scoring.outcomes import decided_hits, log_loss
from model_behavior.preprocessing.scoring_votes import select_scoring_votes, texts_of

ECE_BINS = 10
MATCHED_RATIO = 1.1
"""Largest ratio of the lengths of two matched responses, in characters."""

_LENGTH = STYLE_COLUMNS.index("length")
_REPLICATES = 200


@dataclass(frozen=True)
class Stage2Figures:
    """Figures of one model on some votes.

    Attributes:
        accuracy: share of decided votes whose winner has the larger probability of the two; a draw is half right.
        log_loss: log loss over the four outcomes, in nats per vote.
        calibration_error: expected calibration error of the likeliest outcome, see `expected_calibration_error`.
    """

    accuracy: Figure
    log_loss: Figure
    calibration_error: Figure


@dataclass(frozen=True)
class ReliabilityBin:
    """Votes of similar confidence: mean confidence, share right, and number of votes."""

    confidence: float
    share_right: float
    n: int


@dataclass(frozen=True)
class LengthControl:
    """Accuracy on decided votes, by the lengths of the two responses.

    Attributes:
        matched: accuracy where the lengths differ by at most 10 %, so that length says next to nothing.
        longer_won: accuracy where the longer response won.
        shorter_won: accuracy where the shorter response won.
        balanced: mean of `longer_won` and `shorter_won`; 0.5 for a method that goes by length alone.
    """

    matched: Figure
    longer_won: Figure
    shorter_won: Figure
    balanced: Figure


@dataclass(frozen=True)
class Cell:
    """A group of votes, by whether training has seen their prompt and their LLMs.

    Attributes:
        seen_prompt: True where the training votes have the prompt.
        seen_models: True where both LLMs have training votes; False where one of them has some and the other none.
    """

    seen_prompt: bool
    seen_models: bool

    @property
    def label(self) -> str:
        """Name of the cell in tables."""
        return f"{'seen' if self.seen_prompt else 'new'} prompt, {'known' if self.seen_models else 'new'} LLM"


CELLS = tuple(Cell(prompt, models) for models in (True, False) for prompt in (True, False))


def divide_into_cells(votes: ScoringVotes, train: ScoringVotes) -> dict[Cell, Int64Array]:
    """Indices of the votes of each cell. Votes between two new LLMs are in none.

    Args:
        votes: votes to divide, [n_votes].
        train: votes that the model was fitted to.
    """
    seen_prompts = {normalise_prompt(prompt) for prompt in train.prompts}
    prompt_is_seen = np.array([normalise_prompt(prompt) in seen_prompts for prompt in votes.prompts], dtype=bool)
    model_is_seen = np.array([name in set(train.models) for name in votes.models], dtype=bool)
    seen = prompt_is_seen[votes.prompt_index]
    a, b = model_is_seen[votes.model_a], model_is_seen[votes.model_b]
    return {
        cell: np.flatnonzero((seen == cell.seen_prompt) & ((a & b) if cell.seen_models else (a != b))) for cell in CELLS
    }


def predict_votes(model: ModelBase, votes: ScoringVotes) -> Float32Array:
    """The model's probabilities of the votes' outcomes, [n_votes, 4]."""
    return model.predict(*texts_of(votes))


def measure_stage2(probabilities: Float32Array, votes: ScoringVotes, seed: int = 0) -> Stage2Figures | None:
    """Accuracy, log loss and calibration of predictions; None where there are no votes.

    Args:
        probabilities: [n_votes, 4].
        votes: votes with their outcomes.
        seed: seed of the bootstrap, which resamples whole prompts.
    """
    if not len(votes):
        return None
    hits, decided = decided_hits(probabilities, votes.outcome)
    losses = log_loss(probabilities, votes.outcome)
    top = probabilities.argmax(axis=1)
    confidence, right = probabilities.max(axis=1).astype(np.float64), (top == votes.outcome).astype(np.float64)

    def figure(values: Float64Array, rows: Int64Array) -> Figure:
        return mean_figure(values[rows], votes.prompt_index[rows], seed)

    def calibration(rows: Int64Array) -> float:
        return expected_calibration_error(confidence[rows], right[rows])

    low, high = bootstrap_prompts(votes.prompt_index, calibration, _REPLICATES, np.random.default_rng(seed))
    everything = np.arange(len(votes))
    return Stage2Figures(
        accuracy=figure(hits, decided),
        log_loss=figure(losses, everything),
        calibration_error=Figure(calibration(everything), low, high, len(votes)),
    )


def measure_cells(model: ModelBase, votes: Mapping[Cell, ScoringVotes], seed: int = 0) -> dict[Cell, Stage2Figures]:
    """Figures of every cell all of whose LLMs the model knows."""
    figures = {}
    for cell, chosen in votes.items():
        if len(chosen) and set(chosen.models) <= set(model.models):
            measured = measure_stage2(predict_votes(model, chosen), chosen, seed)
            if measured is not None:
                figures[cell] = measured
    return figures


def votes_of_cells(votes: ScoringVotes, train: ScoringVotes) -> dict[Cell, ScoringVotes]:
    """Votes of each cell that has any."""
    cells = divide_into_cells(votes, train)
    return {cell: select_scoring_votes(votes, rows) for cell, rows in cells.items() if len(rows)}


def expected_calibration_error(
    confidence: Float64Array, right: Float64Array, bins: int = ECE_BINS, weight: Float64Array | None = None
) -> float:
    """Expected calibration error: mean over votes of |share right - mean confidence| in the vote's bin, in [0, 1].

    Bins have equal width over [0, 1] (Naeini et al. 2015). With n votes a perfect model has about sqrt(bins / n) / 2,
    not 0.

    Args:
        confidence: probability of the likeliest outcome, [n].
        right: 1 where it happened, else 0, [n].
        bins: number of bins.
        weight: weight of each vote, [n]; equal by default.
    """
    weight = np.ones(len(confidence)) if weight is None else weight
    place = np.minimum((confidence * bins).astype(np.int64), bins - 1)
    gap = np.bincount(place, weight * (right - confidence), bins)
    return float(np.abs(gap).sum() / weight.sum())


def reliability(probabilities: Float32Array, outcome: IntArray, bins: int = ECE_BINS) -> list[ReliabilityBin]:
    """The bins that `expected_calibration_error` sums over, without the empty ones."""
    confidence = probabilities.max(axis=1).astype(np.float64)
    right = probabilities.argmax(axis=1) == outcome
    place = np.minimum((confidence * bins).astype(np.int64), bins - 1)
    rows = [np.flatnonzero(place == index) for index in range(bins)]
    return [
        ReliabilityBin(float(confidence[row].mean()), float(right[row].mean()), len(row)) for row in rows if len(row)
    ]


def coverage(low: Float64Array, high: Float64Array, later: Float64Array) -> float:
    """Share of later ratings inside their intervals."""
    return float(((low <= later) & (later <= high)).mean())


def mean_figure(values: Float64Array, prompt: IntArray, seed: int) -> Figure:
    """The mean of values, with an interval from resampled prompts; NaN where there are none."""
    if not len(values):
        return Figure(float("nan"), float("nan"), float("nan"), 0)
    mean = partial(_mean_of, values)
    low, high = bootstrap_prompts(prompt, mean, _REPLICATES, np.random.default_rng(seed))
    return Figure(float(values.mean()), low, high, len(values))


def control_length(
    hits: FloatArray,
    winner_length: FloatArray,
    loser_length: FloatArray,
    prompt: IntArray,
    seed: int = 0,
) -> LengthControl:
    """Accuracy on decided votes, divided by length.

    Args:
        hits: 1 where the vote is predicted correctly, 0 where not, 1/2 for a draw, [n_votes].
        winner_length: characters of the winning response, [n_votes].
        loser_length: characters of the losing response, [n_votes].
        prompt: prompt of each vote, by which the bootstrap clusters, [n_votes].
        seed: seed of the bootstrap.
    """
    longer, shorter = winner_length > loser_length, winner_length < loser_length
    ratio = np.abs(np.log1p(winner_length) - np.log1p(loser_length))

    def balanced(rows: Int64Array) -> float:
        return (_mean(hits[rows[longer[rows]]]) + _mean(hits[rows[shorter[rows]]])) / 2

    unequal = np.flatnonzero(longer | shorter)
    low, high = _interval(prompt, unequal, balanced, seed)
    return LengthControl(
        matched=_share(hits, ratio <= np.log(MATCHED_RATIO), prompt, seed),
        longer_won=_share(hits, longer, prompt, seed),
        shorter_won=_share(hits, shorter, prompt, seed),
        balanced=Figure(balanced(unequal), low, high, len(unequal)),
    )


def control_predictions(probabilities: Float32Array, votes: ScoringVotes, seed: int = 0) -> LengthControl:
    """Length control of predictions; only decided votes count.

    Args:
        probabilities: [n_votes, 4].
        votes: votes with the style of their responses.
        seed: seed of the bootstrap.
    """
    assert votes.style_a is not None and votes.style_b is not None
    hits, decided = decided_hits(probabilities, votes.outcome)
    left_won = votes.outcome[decided] == Outcome.MODEL_A
    left, right = (style[decided, _LENGTH].astype(np.float64) for style in (votes.style_a, votes.style_b))
    winner, loser = np.where(left_won, left, right), np.where(left_won, right, left)
    return control_length(hits[decided], winner, loser, votes.prompt_index[decided], seed)


def _mean_of(values: Float64Array, rows: Int64Array) -> float:
    return float(values[rows].mean())


def _share(hits: FloatArray, chosen: BoolArray, prompt: IntArray, seed: int) -> Figure:
    rows = np.flatnonzero(chosen)
    low, high = _interval(prompt, rows, lambda drawn: _mean(hits[drawn]), seed)
    return Figure(_mean(hits[rows]), low, high, len(rows))


def _interval(
    prompt: IntArray,
    rows: Int64Array,
    measure: Callable[[Int64Array], float],
    seed: int,
) -> tuple[float, float]:
    if not len(rows) or not np.isfinite(measure(rows)):
        return float("nan"), float("nan")
    return bootstrap_prompts(prompt[rows], lambda drawn: measure(rows[drawn]), _REPLICATES, np.random.default_rng(seed))


def _mean(values: FloatArray) -> float:
    return float(values.mean()) if len(values) else float("nan")
