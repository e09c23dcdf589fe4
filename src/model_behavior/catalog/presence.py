"""Whether any known model wrote the responses, where a harness may have shifted them all.

    logit P(known) = w . (1, x, s, d) + log k  v . (1, x, s, d) + log((1 - prior) / prior)
    x = log-odds by the ratios, within -6 and 6;  d = log(1 + how far they are below -6);  s = support of bounded style

The ratios of responses as they are tell new models best, but any line that a harness adds makes them say "none of them"
with certainty, for known models and new ones alike. Bounded evidence of style keeps half of what it knows then, and
ratios far below those of any new model are themselves a sign of a shift. A logistic regression weighs the three, as
scores are fused in speaker recognition (Brümmer and du Preez 2006, https://doi.org/10.1016/j.csl.2005.08.001). It is
fitted on trials of known and new models, a part of which is shifted by chance (decision 0034).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize
from scipy.special import log_expit

from model_behavior.arrays import BoolArray, Float64Array

_CLIP = 6.0  # log-odds beyond which ratios count no further
_SHIFTED_SHARE = 0.2  # of the weight: most responses come as they are
_WIDTH = 3.0  # standard deviation of the prior of each weight
_MOST_FEATURES, _LEAST_STEP, _MOST_STEP = 5, 0.3, 2.0  # shifts of style, in standard deviations of a response
_LEAST_SHARE, _MOST_SHARE = 0.1, 0.7  # shifts of embeddings, of the difference between two responses


@dataclass(frozen=True, eq=False)
class PresenceTrials:
    """Trials whose answer is known, all arrays [n_trials].

    Attributes:
        logit: log-odds of a known model by the ratios.
        support: support of the known models by bounded style.
        k: number of responses.
        known: True where a known model wrote them.
        shifted: True where they were shifted.
    """

    logit: Float64Array
    support: Float64Array
    k: Float64Array
    known: BoolArray
    shifted: BoolArray


@dataclass(frozen=True)
class Presence:
    """The weights of the module's equation, those of log k last; a larger k than `most` counts as `most`."""

    weights: tuple[float, ...]
    most: float = np.inf

    def logit_known(self, logit: Float64Array, support: Float64Array, k: Float64Array) -> Float64Array:
        """Log-odds of a known model at even prior odds, [n]; arguments as in `PresenceTrials`."""
        known: Float64Array = _describe(logit, support, np.minimum(k, self.most)) @ np.array(self.weights)
        return known


def fit_presence(trials: PresenceTrials) -> Presence:
    """Maximum a posteriori; known and new models have half of the weight each, at each kind of responses."""
    rows = _describe(trials.logit, trials.support, trials.k)
    weight = np.zeros(len(rows))
    for shifted, share in ((True, _SHIFTED_SHARE), (False, 1 - _SHIFTED_SHARE)):
        for known in (True, False):
            chosen = (trials.shifted == shifted) & (trials.known == known)
            weight[chosen] = share / max(int(chosen.sum()), 1)
    weight *= len(rows) / 2
    signed = np.where(trials.known, 1.0, -1.0)[:, None] * rows

    def loss(parameters: Float64Array) -> float:
        prior = float(np.square(parameters / _WIDTH).sum()) / 2
        return prior - float((weight * log_expit(signed @ parameters)).sum())

    found = minimize(loss, np.zeros(rows.shape[1]), method="L-BFGS-B").x
    return Presence(tuple(found.tolist()), float(trials.k.max()))


def shift_probes(
    probes: Sequence[Float64Array], embedded: Float64Array, rng: np.random.Generator
) -> list[Float64Array]:
    """Mean vectors as they may be where a harness has changed all responses behind them.

    Up to five features of style move, either way, and the embedding moves by a part of the difference between two
    responses: real differences between texts, in no direction that any harness is known by.

    Args:
        probes: standardised style, [n, n_features], and embedding, [n, dim], if there is one, of the mean responses.
        embedded: embeddings of single responses, [n_responses, dim].
        rng: generator of the shifts.
    """
    style, rest = probes[0].copy(), probes[1:]
    for row in style:
        n = int(rng.integers(1, _MOST_FEATURES + 1))
        features = rng.choice(len(row), min(n, len(row)), replace=False)
        row[features] += rng.choice([-1, 1], len(features)) * rng.uniform(_LEAST_STEP, _MOST_STEP, len(features))
    moved = [style]
    for each in rest:
        one, other = embedded[rng.integers(0, len(embedded), (2, len(each)))]
        moved.append(each + rng.uniform(_LEAST_SHARE, _MOST_SHARE, (len(each), 1)) * (one - other))
    return moved


def _describe(logit: Float64Array, support: Float64Array, k: Float64Array) -> Float64Array:
    """[n, 8]."""
    beyond = np.log1p(np.maximum(0.0, -logit - _CLIP))
    features = np.column_stack([np.ones_like(logit), np.clip(logit, -_CLIP, _CLIP), support, beyond])
    return np.concatenate([features, np.log(k)[:, None] * features], axis=1)
