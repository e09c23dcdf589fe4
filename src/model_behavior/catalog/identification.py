"""Which known model wrote these responses, or none of them.

Open-set identification as of speakers: every model is scored by the log-likelihood ratio of the two-covariance model,
and "none of them" is the hypothesis of a new model. What the ratios leave out (responses to the same prompts vary
together, embeddings are not normal) is made up for by a calibration fitted on trials with held-out responses of known
models and with models that are taken out of the catalog in turn.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from model_behavior.catalog.calibration import Calibration, Trials, fit_calibration
from model_behavior.catalog.enrolment import Catalog
from model_behavior.catalog.two_covariance import FloatArray, TwoCovariance, fit_two_covariance
from model_behavior.errors import DataError, UsageError

_TRIAL_SIZES = (1, 2, 4, 8, 16, 32, 64)
_TRIALS_PER_MODEL = 4
_FOLDS = 5
_MODELS_PER_FOLD = 12
_LEAST_MODELS = 4


@dataclass(frozen=True)
class Candidate:
    """A known model and how likely it wrote the responses; log-likelihood ratio against a new model, uncalibrated."""

    model: str
    probability: float
    log_likelihood_ratio: float


@dataclass(frozen=True)
class Identification:
    """Who wrote the responses.

    Attributes:
        n_responses: how many were judged together.
        none: probability that it is a model that the catalog does not know.
        candidates: all known models, the likeliest first; with `none`, their probabilities sum to 1.
    """

    n_responses: int
    none: float
    candidates: tuple[Candidate, ...]

    @property
    def likeliest(self) -> str | None:
        """The likeliest known model, or None where "none of them" is likelier."""
        best = self.candidates[0]
        return best.model if best.probability >= self.none else None


@dataclass(frozen=True, eq=False)
class Identifier:
    """A catalog's models in the coordinates of the two-covariance model, with the calibration of the ratios.

    Attributes:
        names: [n_models].
        scatter: the two-covariance model.
        centroids: embeddings in its coordinates, [n_models, dim].
        counts: responses behind each, [n_models].
        calibration: from ratios to log-odds.
    """

    names: tuple[str, ...]
    scatter: TwoCovariance
    centroids: FloatArray
    counts: FloatArray
    calibration: Calibration

    def identify(self, vectors: npt.NDArray[np.floating], prior_none: float = 0.5) -> Identification:
        """Judges responses of one unknown model together.

        Args:
            vectors: encoded responses, [k, dim].
            prior_none: probability of a model that the catalog does not know, before seeing the responses; the known
                models share the rest equally. Above 0 and below 1.

        Raises:
            UsageError: no responses, or a prior out of range.
        """
        if not 0 < prior_none < 1:
            raise UsageError(f"prior_none={prior_none}: must be above 0 and below 1, such as 0.5")
        if vectors.ndim != 2 or not len(vectors):
            raise UsageError(f"vectors of shape {vectors.shape}: at least one response is needed, [k, dim]")
        probe = self.scatter.project(vectors).mean(axis=0, keepdims=True)
        ratios = self.scatter.score(probe, len(vectors), self.centroids, self.counts)
        k = np.array([float(len(vectors))])
        probabilities = self.calibration.probabilities(ratios, k, prior_none)[0]
        order = np.argsort(-probabilities[:-1], kind="stable")
        return Identification(
            len(vectors),
            float(probabilities[-1]),
            tuple(Candidate(self.names[i], float(probabilities[i]), float(ratios[0, i])) for i in order),
        )


def fit_identifier(catalog: Catalog, seed: int = 0) -> Identifier:
    """Fits the two-covariance model and its calibration to a catalog.

    Args:
        catalog: at least four models with five sampled responses each.
        seed: of the draw of the trials.

    Raises:
        DataError: fewer models than that.
    """
    samples, models = catalog.samples, catalog.models
    sampled = np.flatnonzero(np.diff(samples.offsets) >= 5)
    if len(sampled) < _LEAST_MODELS:
        raise DataError(
            f"the catalog has {len(sampled)} models with at least 5 sampled responses: {_LEAST_MODELS} are needed to "
            "tell what models and responses vary by. Fix: enrol more models from their responses"
        )
    scatter = _fit_scatter(catalog, sampled)
    trials = _draw_trials(catalog, sampled, np.random.default_rng(seed))
    counts = models.count.astype(np.float64)
    return Identifier(models.names, scatter, scatter.project(models.mean), counts, fit_calibration(trials))


def _draw_trials(catalog: Catalog, sampled: npt.NDArray[np.int64], rng: np.random.Generator) -> Trials:
    """Trials of held-out responses, each once with its model known and once with its model taken out.

    A model that is taken out is out of the two-covariance model, too; this is done for a fifth of the models at a time.
    The trials' prompts are out of it as well, half of all prompts at a time: models answer the same prompts alike, so
    that the scatter of responses would fit known prompts much better than new ones.
    """
    fold = rng.permutation(len(sampled)) % _FOLDS
    half = (catalog.samples.prompt_keys >> np.uint64(7)) % np.uint64(2)
    trials = []
    for index in range(min(_FOLDS, len(sampled))):
        probed = half == index % 2
        with_all = _fit_scatter(catalog, sampled, ~probed)
        without = _fit_scatter(catalog, sampled[fold != index], ~probed)
        members = rng.permutation(sampled[fold == index])[:_MODELS_PER_FOLD]
        for k in _TRIAL_SIZES:
            probes, answers = _draw_probes(catalog, members, probed, k, rng)
            if len(answers):
                trials.append(_score_known(catalog, with_all, probes, k, answers))
                trials.append(_score_unknown(catalog, without, probes, k, answers))
    return Trials(
        np.concatenate([part.ratios for part in trials]),
        np.concatenate([part.k for part in trials]),
        np.concatenate([part.answer for part in trials]),
    )


def _draw_probes(
    catalog: Catalog, members: npt.NDArray[np.int64], probed: npt.NDArray[np.bool_], k: int, rng: np.random.Generator
) -> tuple[FloatArray, npt.NDArray[np.int64]]:
    """Means of k of the probed responses of one model [n_trials, dim], and the model of each [n_trials]."""
    probes, answers = [np.zeros((0, catalog.models.mean.shape[1]))], []
    for model in members.tolist():
        rows = catalog.samples.rows_of(model)
        own = catalog.samples.vectors[rows][probed[rows]].astype(np.float64)
        # An embedding that is made of the responses must keep half of them when the trial's are taken out.
        if k <= len(own) and (catalog.samples.apart[model] or 2 * k <= catalog.models.count[model]):
            probes += [own[rng.permutation(len(own))[:k]].mean(axis=0)[None] for _ in range(_TRIALS_PER_MODEL)]
            answers += [model] * _TRIALS_PER_MODEL
    return np.concatenate(probes), np.array(answers, dtype=np.int64)


def _fit_scatter(
    catalog: Catalog, sampled: npt.NDArray[np.int64], used: npt.NDArray[np.bool_] | None = None
) -> TwoCovariance:
    """The two-covariance model of some models, by their sampled responses that are in `used`."""
    models, owner = catalog.models, catalog.samples.owner
    rows = np.isin(owner, sampled) if used is None else np.isin(owner, sampled) & used
    return fit_two_covariance(catalog.samples.vectors[rows], owner[rows], models.mean[sampled], models.count[sampled])


def _score_known(
    catalog: Catalog, scatter: TwoCovariance, probes: FloatArray, k: int, answers: npt.NDArray[np.int64]
) -> Trials:
    """Ratios of each probe, a mean of k responses, with all models."""
    means, counts = catalog.models.mean.astype(np.float64), catalog.models.count.astype(np.float64)
    projected = scatter.project(probes)
    ratios = scatter.score(projected, k, scatter.project(means), counts)
    for row, model in enumerate(answers.tolist()):
        if not catalog.samples.apart[model]:  # an embedding must not contain the responses that it is tested with
            left = counts[model] - k
            centroid = scatter.project((counts[model] * means[model] - k * probes[row])[None] / left)
            ratios[row, model] = scatter.score(projected[row : row + 1], k, centroid, np.array([left]))[0, 0]
    return Trials(ratios, np.full(len(probes), float(k)), answers)


def _score_unknown(
    catalog: Catalog, scatter: TwoCovariance, probes: FloatArray, k: int, answers: npt.NDArray[np.int64]
) -> Trials:
    """Ratios of each probe with all models but its own."""
    centroids, counts = scatter.project(catalog.models.mean), catalog.models.count.astype(np.float64)
    ratios = scatter.score(scatter.project(probes), k, centroids, counts)
    ratios[np.arange(len(probes)), answers] = -np.inf
    return Trials(ratios, np.full(len(probes), float(k)), np.full(len(probes), -1))
