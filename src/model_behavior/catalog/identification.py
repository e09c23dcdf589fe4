"""Which known model wrote these responses, or none of them.

Open-set identification as of speakers: every model is scored by the log-likelihood ratio of the two-covariance model,
and "none of them" is the hypothesis of a new model. What the ratios leave out (responses to the same prompts vary
together, features are not normal) is made up for by a calibration, fitted on trials with responses that are held out of
the known models and on the same trials with the model, or its family, taken out of the catalog.

The ratios are the mean of two: of style features and of embeddings. Decision 0010 has what either is worth alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from model_behavior.catalog.calibration import Calibration, fit_calibration
from model_behavior.catalog.enrolment import Catalog
from model_behavior.catalog.evidence import KnownModels, Standardisation, gather_evidence, mean_ratios
from model_behavior.catalog.trials import draw_trials, recognition_by_size
from model_behavior.errors import UsageError


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
    """A catalog's models in the coordinates of their two-covariance models, with the calibration of the ratios.

    Attributes:
        names: of the models, [n_models]; one of which no response was sampled is never named.
        standardisation: of style features.
        known: the models by style, and by embedding where enough of those were sampled.
        calibration: from ratios to probabilities.
        recognition: share of trials with k responses of a known model in which it was the likeliest, by k.
    """

    names: tuple[str, ...]
    standardisation: Standardisation
    known: tuple[KnownModels, ...]
    calibration: Calibration
    recognition: Mapping[int, float]

    def identify(
        self,
        styles: npt.NDArray[np.floating],
        embedded: npt.NDArray[np.floating],
        prior_none: float = 0.5,
    ) -> Identification:
        """Judges responses of one unknown model together.

        Args:
            styles: style features of the responses, [k, n_features].
            embedded: their embeddings, [k, dim].
            prior_none: probability of a model that the catalog does not know, before seeing the responses; the known
                models share the rest equally. Above 0 and below 1.

        Raises:
            UsageError: no responses, different numbers of both kinds of vectors, or a prior out of range.
        """
        if not 0 < prior_none < 1:
            raise UsageError(f"prior_none={prior_none}: must be above 0 and below 1, such as 0.5")
        if styles.ndim != 2 or embedded.ndim != 2 or not len(styles) or len(styles) != len(embedded):
            raise UsageError(
                f"style features of shape {styles.shape} and embeddings of shape {embedded.shape}: "
                "at least one response is needed, [k, n_features] and [k, dim]"
            )
        n = len(styles)
        vectors = (self.standardisation.apply(styles), embedded.astype(np.float64))
        ratios = mean_ratios(self.known, [each.mean(axis=0, keepdims=True) for each in vectors], n)
        probabilities = self.calibration.probabilities(ratios, np.array([float(n)]), prior_none)[0]
        order = np.argsort(-probabilities[:-1], kind="stable")
        return Identification(
            n,
            float(probabilities[-1]),
            tuple(
                Candidate(self.names[i], float(probabilities[i]), float(ratios[0, i]))
                for i in order
                if np.isfinite(ratios[0, i])
            ),
        )


def fit_identifier(catalog: Catalog, seed: int = 0) -> Identifier:
    """Fits the two-covariance models and their calibration to a catalog.

    Args:
        catalog: at least four models with five sampled responses each.
        seed: of the draw of the trials.

    Raises:
        DataError: fewer models than that, or too few prompts in common.
    """
    evidence = gather_evidence(catalog)
    trials = draw_trials(evidence, np.random.default_rng(seed))
    return Identifier(
        evidence.names,
        evidence.standardisation,
        evidence.know(np.zeros(0, np.uint64)),
        fit_calibration(trials),
        recognition_by_size(trials),
    )
