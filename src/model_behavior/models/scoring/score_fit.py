"""Maximum a posteriori fit of scores that are linear in their parameters, with covariances.

Bradley-Terry, its nearest-neighbour form and style control differ in their design matrices only.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy import optimize, sparse

from model_behavior.arrays import Float64Array, IntArray
from model_behavior.models.scoring.outcomes import PSEUDO_COUNT, OutcomeConstants, log_softmax, outcome_logits, softmax

_MAX_STEPS = 50
_TOLERANCE = 1e-8
_SLOPE_PRECISION = 10.0
_LEVEL_PRECISION = 1e-3  # of tie and both_bad; keeps steps finite where votes are separable
_LONGEST_STEP = 5.0
_SCALE_PRECISION = 0.01
_SLOPE_BOUNDS = ((0.0, 1.5), (-0.5, 1.5))


@dataclass(frozen=True, eq=False)
class Design:
    """Votes as rows of a linear model: score_a = side_a @ theta, score_b = side_b @ theta.

    Attributes:
        side_a: design of the left side, CSR, or dense where that is small and quicker, [n_rows, n_parameters].
        side_b: design of the right side, likewise.
        weight: votes of each row with each outcome, [n_rows, 4].
        penalty: precision of each parameter's normal prior around 0, [n_parameters].
    """

    side_a: sparse.csr_matrix | Float64Array
    side_b: sparse.csr_matrix | Float64Array
    weight: Float64Array
    penalty: Float64Array


@dataclass(frozen=True, eq=False)
class ScoreFit:
    """What was fitted.

    Attributes:
        theta: [n_parameters].
        constants: constants of the likelihood.
        information: Hessian of the penalised negative log-likelihood in (theta, tie, both_bad),
            [n_parameters + 2, n_parameters + 2].
    """

    theta: Float64Array
    constants: OutcomeConstants
    information: Float64Array


def fit_scores(design: Design, start: ScoreFit | None = None, learn_slopes: bool = True) -> ScoreFit:
    """Minimises the penalised negative log-likelihood.

    For given slopes the problem is convex and Newton's method solves it; the slopes are searched on the outside with
    the derivative of the profile, under a weak normal prior around Davidson's (1/2, 0).

    Args:
        design: rows and prior.
        start: fit to begin from; its slopes stay where `learn_slopes` is off.
        learn_slopes: True to search the slopes.
    """
    n_parameters = len(design.penalty)
    if start is None:
        start = ScoreFit(np.zeros(n_parameters), OutcomeConstants(), np.eye(n_parameters + 2))
    current = _newton(design, start)
    if not learn_slopes:
        return current

    def profile(slopes: Float64Array) -> tuple[float, Float64Array]:
        nonlocal current
        constants = replace(current.constants, tie_slope=float(slopes[0]), bad_slope=float(slopes[1]))
        current = _newton(design, replace(current, constants=constants))
        offset = slopes - [0.5, 0.0]
        value = _objective(design, current.theta, current.constants) + _SLOPE_PRECISION * float(offset @ offset) / 2
        return value, _slope_gradient(design, current) + _SLOPE_PRECISION * offset

    first = np.array([current.constants.tie_slope, current.constants.bad_slope])
    found = optimize.minimize(
        profile, first, jac=True, method="L-BFGS-B", bounds=_SLOPE_BOUNDS, options={"maxiter": 30}
    )
    profile(found.x)
    return current


def probabilities_of(design: Design, theta: Float64Array, constants: OutcomeConstants) -> Float64Array:
    """Probabilities of the outcomes of each row, [n_rows, 4]."""
    return softmax(outcome_logits(design.side_a @ theta, design.side_b @ theta, constants))


def clustered_covariance(design: Design, fit: ScoreFit, cluster: IntArray, contrast: Float64Array) -> Float64Array:
    """Sandwich covariance of contrasts of theta, for votes that depend on each other within clusters.

    H^-1 (sum over clusters of g g') H^-1 with g the sum of a cluster's score vectors (Liang and Zeger 1986), scaled by
    C / (C - 1), and no variance below that of H^-1: with few clusters the sandwich alone is too narrow.

    Args:
        design: design with one vote per row.
        fit: fit of this design.
        cluster: cluster of each row, here its prompt, [n_rows].
        contrast: [n_contrasts, n_parameters].

    Returns:
        [n_contrasts, n_contrasts].
    """
    return covariance_of_scores(fit, *clustered_scores(design, fit, cluster), contrast)


def clustered_scores(design: Design, fit: ScoreFit, cluster: IntArray) -> tuple[Float64Array, int]:
    """Sum over clusters of g g', [n_parameters + 2, n_parameters + 2], and their number; parts of votes that share no
    cluster add up. Arguments as in `clustered_covariance`, but that a row may stand for several votes of one outcome.
    """
    sums = _cluster_scores(design, fit, cluster)
    return (sums.T @ sums).toarray(), int(sums.shape[0])


def covariance_of_scores(fit: ScoreFit, scores: Float64Array, n_clusters: int, contrast: Float64Array) -> Float64Array:
    """The covariance of `clustered_covariance` from what `clustered_scores` has summed."""
    bread = np.linalg.inv(fit.information)[: len(fit.theta)]
    naive = contrast @ bread[:, : len(fit.theta)] @ contrast.T
    half = contrast @ bread
    sandwich: Float64Array = half @ scores @ half.T * n_clusters / max(n_clusters - 1, 1)
    variance = np.maximum(np.diag(sandwich), 1e-300)
    lift = np.sqrt(np.maximum(np.diag(naive) / variance, 1))
    lifted: Float64Array = sandwich * np.outer(lift, lift)
    return lifted


def _cluster_scores(design: Design, fit: ScoreFit, cluster: IntArray) -> sparse.csr_matrix:
    """Derivatives of the negative log-likelihood, summed within clusters, [n_clusters, n_parameters + 2]."""
    error = probabilities_of(design, fit.theta, fit.constants) * design.weight.sum(axis=1, keepdims=True)
    local = (error - design.weight) @ _slope_matrix(fit.constants)
    scores = sparse.diags(local[:, 0]) @ design.side_a + sparse.diags(local[:, 1]) @ design.side_b
    rows = sparse.hstack([scores, sparse.csr_matrix(local[:, 2:])], format="csr")
    _, member = np.unique(cluster, return_inverse=True)
    shape = (int(member.max()) + 1, len(member))
    membership = sparse.csr_matrix((np.ones(len(member)), (member, np.arange(len(member)))), shape)
    sums: sparse.csr_matrix = membership @ rows
    return sums


def _newton(design: Design, start: ScoreFit) -> ScoreFit:
    constants = start.constants
    point = np.concatenate([start.theta, [constants.tie, constants.both_bad]])
    value = _value_at(design, point, constants)
    information = start.information
    for _ in range(_MAX_STEPS):
        gradient, information = _derivatives(design, point, constants)
        step = np.linalg.solve(information, gradient)
        decrement = float(gradient @ step)
        if decrement < _TOLERANCE:
            break
        length = min(1.0, _LONGEST_STEP / float(np.abs(step).max()))
        while (new := _value_at(design, point - length * step, constants)) > value - 1e-4 * length * decrement:
            length /= 2
            if length < 1e-6:
                break
        point, value = point - length * step, new
    theta, (tie, both_bad) = point[:-2], point[-2:]
    return ScoreFit(theta, replace(constants, tie=float(tie), both_bad=float(both_bad)), information)


def _value_at(design: Design, point: Float64Array, constants: OutcomeConstants) -> float:
    return _objective(design, point[:-2], replace(constants, tie=point[-2], both_bad=point[-1]))


def _objective(design: Design, theta: Float64Array, constants: OutcomeConstants) -> float:
    logarithms = log_softmax(outcome_logits(design.side_a @ theta, design.side_b @ theta, constants))
    # The pseudo votes are cast between two models of score 0.
    pseudo = PSEUDO_COUNT * float(log_softmax(np.array([0.0, 0.0, constants.tie, constants.both_bad])).sum())
    prior = design.penalty @ np.square(theta) + _LEVEL_PRECISION * (constants.tie**2 + constants.both_bad**2)
    return float(prior) / 2 - float((design.weight * logarithms).sum()) - pseudo


def _derivatives(design: Design, point: Float64Array, constants: OutcomeConstants) -> tuple[Float64Array, Float64Array]:
    constants = replace(constants, tie=point[-2], both_bad=point[-1])
    slopes = _slope_matrix(constants)
    probabilities = probabilities_of(design, point[:-2], constants)
    n_votes = design.weight.sum(axis=1)
    local = (probabilities * n_votes[:, None] - design.weight) @ slopes
    spread = probabilities[:, :, None] * (np.eye(4) - probabilities[:, None, :]) * n_votes[:, None, None]
    curvature = np.einsum("oi,nop,pj->nij", slopes, spread, slopes, optimize=True)
    level = softmax(np.array([0.0, 0.0, constants.tie, constants.both_bad]))
    level_error = (4 * PSEUDO_COUNT * level - PSEUDO_COUNT)[2:] + _LEVEL_PRECISION * point[-2:]
    level_curvature = (
        4 * PSEUDO_COUNT * (np.diag(level) - np.outer(level, level))[2:, 2:] + np.eye(2) * _LEVEL_PRECISION
    )
    a, b = design.side_a, design.side_b
    gradient = np.concatenate(
        [a.T @ local[:, 0] + b.T @ local[:, 1] + design.penalty * point[:-2], local[:, 2:].sum(axis=0) + level_error]
    )
    cross = _weighted_product(a, curvature[:, 0, 1], b)
    scores = _weighted_product(a, curvature[:, 0, 0], a) + _weighted_product(b, curvature[:, 1, 1], b)
    scores = scores + cross + cross.T + np.diag(design.penalty)
    border = a.T @ curvature[:, 0, 2:] + b.T @ curvature[:, 1, 2:]
    corner = curvature[:, 2:, 2:].sum(axis=0) + level_curvature
    return gradient, np.block([[scores, border], [border.T, corner]])


def _weighted_product(
    a: sparse.csr_matrix | Float64Array, weight: Float64Array, b: sparse.csr_matrix | Float64Array
) -> Float64Array:
    """a' diag(weight) b, dense."""
    if isinstance(a, np.ndarray) and isinstance(b, np.ndarray):
        dense: Float64Array = a.T @ (weight[:, None] * b)
        return dense
    product: Float64Array = (a.T @ sparse.diags(weight) @ b).toarray()
    return product


def _slope_matrix(constants: OutcomeConstants) -> Float64Array:
    """Derivative of the logits by (score_a, score_b, tie, both_bad), [4, 4]."""
    tie, bad = constants.tie_slope, -constants.bad_slope
    return np.array([[1, 0, 0, 0], [0, 1, 0, 0], [tie, tie, 1, 0], [bad, bad, 0, 1]], dtype=np.float64)


def _slope_gradient(design: Design, fit: ScoreFit) -> Float64Array:
    probabilities = probabilities_of(design, fit.theta, fit.constants)
    error = probabilities * design.weight.sum(axis=1, keepdims=True) - design.weight
    total = design.side_a @ fit.theta + design.side_b @ fit.theta
    return np.array([error[:, 2] @ total, -(error[:, 3] @ total)])


def fit_fixed_scores(score_a: Float64Array, score_b: Float64Array, outcome: IntArray) -> tuple[float, OutcomeConstants]:
    """The scale and the constants under which given scores explain votes best.

    Args:
        score_a: [n].
        score_b: [n].
        outcome: [n].

    Returns:
        The factor to log-odds, at least 0, and the constants.
    """
    columns = [sparse.csr_matrix(side.reshape(-1, 1)) for side in (score_a, score_b)]
    design = Design(columns[0], columns[1], np.eye(4)[outcome], np.array([_SCALE_PRECISION]))
    fit = fit_scores(design)
    if fit.theta[0] >= 0:
        return float(fit.theta[0]), fit.constants
    level = replace(design, side_a=columns[0] * 0, side_b=columns[1] * 0)
    return 0.0, fit_scores(level).constants
