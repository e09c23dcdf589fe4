"""Where a model lies and how sure that is, from k of its responses.

    x_ij = mean + y_i + e_ij,   y_i ~ N(0, t_i B),   e_ij ~ N(0, s_i W)

the two-covariance model (see there) with a scale t_i for models that lie far out, and a scale s_i since some models
vary more than others. A model's place is the posterior mean of y_i, averaged over a grid of t_i: the mean of its
responses, shrunk towards the population as far as the noise in it is the larger of the two (Efron and Morris 1973; t_i
keeps outliers from being shrunk, as a heavy-tailed prior does, Dawid 1973). s_i is the pooled variance of its responses
and of `freedom` responses' worth of the population (inverse-gamma prior, Gelman et al. 2013, 5.4 and 2.6).

Few models say little of how a model of another family will lie, so the expected error of the model is not taken at its
word: the radius of a region is that error times a quantile of how far off left-out families were in relation to theirs
(split conformal prediction, Vovk, Gammerman and Shafer 2005; Lei et al. 2018, https://doi.org/10.1080/01621459.2017.1307116).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import softmax

from model_behavior.catalog.two_covariance import FloatArray, TwoCovariance
from model_behavior.errors import UsageError

LEVELS = (0.5, 0.8, 0.95)
_LOG_SCALES = np.linspace(-3, 5, 33)
_LOG_SCALE_DEVIATION = 0.5


@dataclass(frozen=True, eq=False)
class Placement:
    """A model's place.

    Attributes:
        embedding: shrunk, [dim].
        responses: that it rests on, in number of independent ones.
        error: root of the expected square distance of `embedding` from the mean of endlessly many responses, if the
            population were as it is modelled.
        radius: of the region around `embedding` that holds that mean, by probability: 0.5, 0.8, 0.95.
        spread: root mean square distance of one response from its model's mean, partly the population's.
    """

    embedding: FloatArray
    responses: float
    error: float
    radius: Mapping[float, float]
    spread: float


@dataclass(frozen=True, eq=False)
class Population:
    """How models lie and how their responses vary; see the module's equations.

    Attributes:
        scatter: mean, W and B.
        freedom: of the prior of s_i, in squared distances.
        sizes: numbers of responses that regions are calibrated at, ascending, [n_sizes].
        factors: radius over expected error at those, by level, [n_sizes, 3].
    """

    scatter: TwoCovariance
    freedom: float
    sizes: FloatArray
    factors: FloatArray

    def place(self, vectors: npt.NDArray[np.floating], effective: float | None = None) -> Placement:
        """Places a model.

        Args:
            vectors: embeddings of k of its responses, [k, dim].
            effective: how many independent responses they are worth, see `effective_responses`; k by default.

        Raises:
            UsageError: no responses, or embeddings of another size.
        """
        dim = len(self.scatter.mean)
        if vectors.ndim != 2 or not len(vectors) or vectors.shape[1] != dim:
            raise UsageError(f"embeddings of shape {vectors.shape}: at least one response is needed, [k, {dim}]")
        k = float(len(vectors)) if effective is None else effective
        embedding, variance, scale = posterior(self.scatter, self.freedom, vectors.astype(np.float64), k)
        error = float(np.sqrt(variance))
        return Placement(
            embedding=embedding,
            responses=k,
            error=error,
            radius={level: error * factor for level, factor in zip(LEVELS, self._factors_at(k), strict=True)},
            spread=float(np.sqrt(scale * self.scatter.within_trace)),
        )

    def radius_after(self, placement: Placement, responses: int, level: float = 0.95) -> float:
        """The radius to expect of a model as scattered as a placed one, from a number of responses.

        Args:
            placement: gives the scatter.
            responses: at least 1, altogether.
            level: 0.5, 0.8 or 0.95.
        """
        scale = placement.spread**2 / self.scatter.within_trace
        between = self.scatter.between
        error = np.sqrt((between * scale / (responses * between + scale)) @ self.scatter.lengths)
        return float(error * self._factors_at(float(responses))[LEVELS.index(level)])

    def _factors_at(self, k: float) -> list[float]:
        log = np.log(self.sizes)
        return [float(np.interp(np.log(k), log, column)) for column in self.factors.T]


def posterior(scatter: TwoCovariance, freedom: float, vectors: FloatArray, k: float) -> tuple[FloatArray, float, float]:
    """Posterior mean [dim], expected square error, and s_i of a model with these responses [n, dim], worth k."""
    scale = scale_of(scatter, freedom, vectors)
    z = scatter.project(vectors.mean(axis=0, keepdims=True))[0]
    noise = scale / k
    places = np.exp(_LOG_SCALES)[:, None] * scatter.between
    evidence = -0.5 * (np.log(places + noise) + np.square(z) / (places + noise)).sum(axis=1)
    weight = softmax(evidence - 0.5 * np.square(_LOG_SCALES / _LOG_SCALE_DEVIATION))
    gains = places / (places + noise)
    gain = weight @ gains
    # The variance given t_i, and that of the mean over t_i.
    moved = np.square(scatter.restore(gains * z) - scatter.restore(gain * z)).sum(axis=1)
    return scatter.restore(gain * z), float(gain * noise @ scatter.lengths + weight @ moved), scale


def scale_of(scatter: TwoCovariance, freedom: float, vectors: FloatArray) -> float:
    """s_i: how much more than the average model this one varies; 1 for a single response."""
    trace = scatter.within_trace
    own = np.square(vectors - vectors.mean(axis=0)).sum() / trace * scatter.within_freedom
    return float((freedom + own) / (freedom + (len(vectors) - 1) * scatter.within_freedom))
