r"""The likelihood of the four outcomes, shared by every scoring model.

With scores s_a and s_b on the log-odds scale, the outcomes have the logits

    model_a:  s_a
    model_b:  s_b
    tie:      tie_slope (s_a + s_b) + tie
    both_bad: -bad_slope (s_a + s_b) + both_bad

and the probabilities are their softmax. Special cases:

- tie_slope = 1/2 is Davidson (1970), "On extending the Bradley-Terry model to accommodate ties": the tie is as
  strong as
  the geometric mean of the two.
- bad_slope = 0 is an outside option of constant strength (Luce 1959, "Individual choice behavior").
- tie_slope = 1, bad_slope = 0, and both constants set by the prompt's difficulty d, tie = -d and both_bad = d: each
  response is right or wrong by itself, with odds exp(s - d); a tie is both right, both_bad both wrong.

Between model_a and model_b alone, all are the model of Bradley and Terry (1952). A constant added to all scores moves
into `tie` and `both_bad`, so ratings are centred, and how hard a prompt is enters through these two.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np

from model_behavior.arrays import Float64Array, FloatArray, Int64Array, IntArray
from model_behavior.data_models.votes import Outcome

N_OUTCOMES = 4
_QUADRATURE_NODES = 7
_VALUES_AT_ONCE = 1 << 12  # few enough for the cache of the processor
PSEUDO_COUNT = 0.5
"""Votes added to every outcome, cast between two models of equal score, so that none has probability 0."""


@dataclass(frozen=True)
class OutcomeConstants:
    """The four constants of the likelihood, see the module."""

    tie_slope: float = 0.5
    bad_slope: float = 0.0
    tie: float = 0.0
    both_bad: float = 0.0


def outcome_logits(
    score_a: Float64Array, score_b: Float64Array, constants: OutcomeConstants, shift: Float64Array | None = None
) -> Float64Array:
    """Logits of the outcomes in the order of `Outcome`, [n, 4].

    Args:
        score_a: score of the left side, [n], or [..., n] for several scores of each vote.
        score_b: score of the right side, of the same shape.
        constants: constants of the likelihood.
        shift: shift added to `tie` and `both_bad`, [n, 2].
    """
    total = score_a + score_b
    tie, bad = constants.tie_slope * total + constants.tie, -constants.bad_slope * total + constants.both_bad
    if shift is not None:
        tie, bad = tie + shift[:, 0], bad + shift[:, 1]
    return np.stack([score_a, score_b, tie, bad], axis=-1)


def softmax(logits: Float64Array) -> Float64Array:
    """Probabilities over the last axis."""
    exponentials = np.exp(logits - logits.max(axis=-1, keepdims=True))
    probabilities: Float64Array = exponentials / exponentials.sum(axis=-1, keepdims=True)
    return probabilities


def log_softmax(logits: Float64Array) -> Float64Array:
    """Logarithms of `softmax`, also where it is too small for a float."""
    centred = logits - logits.max(axis=-1, keepdims=True)
    logarithms: Float64Array = centred - np.log(np.exp(centred).sum(axis=-1, keepdims=True))
    return logarithms


def log_loss(probabilities: FloatArray, outcome: IntArray) -> Float64Array:
    """Minus the logarithm of the probability of what happened, per vote, in nats, [n]."""
    happened = probabilities[np.arange(len(outcome)), outcome].astype(np.float64)
    losses: Float64Array = -np.log(np.maximum(happened, 1e-15))
    return losses


def decided_hits(probabilities: FloatArray, outcome: IntArray) -> tuple[Float64Array, Int64Array]:
    """1, 1/2 or 0 for each vote, [n_votes], and the places of the decided ones, where that means something.

    Args:
        probabilities: [n_votes, 4].
        outcome: outcome of each vote, [n_votes].
    """
    lead = probabilities[:, 0] - probabilities[:, 1]
    sign = np.where(outcome == Outcome.MODEL_A, 1, -1)
    hits: Float64Array = (np.sign(lead) * sign + 1) / 2
    return hits, np.flatnonzero(outcome <= Outcome.MODEL_B)


@dataclass(frozen=True, eq=False)
class UncertainVotes:
    """Scores with what is not known of them, [n_votes].

    Attributes:
        score_a: score of the left side.
        score_b: score of the right side.
        deviation_a: standard deviation of the left side's score, 0 where it is known.
        deviation_b: standard deviation of the right side's score, likewise.
        shift: shift of tie and both_bad, [n_votes, 2].
    """

    score_a: Float64Array
    score_b: Float64Array
    deviation_a: Float64Array
    deviation_b: Float64Array
    shift: Float64Array


def average_probabilities(votes: UncertainVotes, constants: OutcomeConstants) -> Float64Array:
    """Probabilities averaged over normal scores by Gauss-Hermite quadrature, [n_votes, 4]."""
    uncertain = (votes.deviation_a > 0) | (votes.deviation_b > 0)
    probabilities = softmax(outcome_logits(votes.score_a, votes.score_b, constants, votes.shift))
    if not uncertain.any():
        return probabilities
    nodes, weights = _quadrature()
    a, b, shift = votes.score_a[uncertain], votes.score_b[uncertain], votes.shift[uncertain]
    step_a, step_b = votes.deviation_a[uncertain], votes.deviation_b[uncertain]
    scores_a, scores_b = a + nodes[:, None] * step_a, b + nodes[:, None] * step_b
    average = np.zeros((len(a), N_OUTCOMES))
    at_once = max(1, _VALUES_AT_ONCE // scores_b.size)
    for start in range(0, len(nodes), at_once):
        left, right = np.broadcast_arrays(scores_a[start : start + at_once, None], scores_b)
        conditionals = softmax(outcome_logits(left, right, constants, shift))
        for weight, conditional in zip(weights[start : start + at_once], conditionals, strict=True):
            average += weight * (weights @ conditional.reshape(len(weights), -1)).reshape(average.shape)
    probabilities[uncertain] = average
    return probabilities


@cache
def _quadrature() -> tuple[Float64Array, Float64Array]:
    """Nodes, and weights that sum to 1."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(_QUADRATURE_NODES)
    return nodes, weights / weights.sum()
