"""What identification rests on: the style features and the embeddings of a catalog's models and of their responses.

Each kind of vectors has a two-covariance model of its own, and a model's score is the mean of both log-likelihood
ratios: two witnesses who have seen the same responses, so that their sum would count them twice. Embeddings tell known
models apart better; style features, which nothing was trained on, also show what only a new model does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from model_behavior.catalog.enrolment import Catalog
from model_behavior.catalog.two_covariance import FloatArray, TwoCovariance, fit_two_covariance
from model_behavior.errors import DataError

IntArray = npt.NDArray[np.integer]

LEAST_MODELS, LEAST_RESPONSES = 4, 5
_TAIL = 2.0


@dataclass(frozen=True, eq=False)
class KnownModels:
    """The known models in one kind of vectors.

    Attributes:
        scatter: how responses and models vary.
        centroids: of the models, projected, [n_models, dim].
        counts: responses behind each, [n_models]; a model without any cannot have written anything.
    """

    scatter: TwoCovariance
    centroids: FloatArray
    counts: FloatArray

    def ratios(self, probes: FloatArray, k: int) -> FloatArray:
        """Log-likelihood ratios against a new model, of means of k responses [n_probes, dim], [n_probes, n_models]."""
        present = self.counts > 0
        found = self.scatter.score(self.scatter.project(probes), k, self.centroids, np.where(present, self.counts, 1.0))
        return np.where(present, found, -np.inf)


@dataclass(frozen=True, eq=False)
class Standardisation:
    """Standard scores of style features, the tails of which are drawn in: a long run of a mark must not decide.

    Attributes:
        centre: mean, [n_features].
        scale: standard deviation, [n_features].
    """

    centre: FloatArray
    scale: FloatArray

    def apply(self, styles: npt.NDArray[np.floating]) -> FloatArray:
        """[n, n_features] to the same shape, within -2 and 2."""
        scores = (styles.astype(np.float64) - self.centre) / np.where(self.scale > 0, self.scale, np.inf)
        drawn_in: FloatArray = _TAIL * np.tanh(scores / _TAIL)
        return drawn_in


@dataclass(frozen=True, eq=False)
class Responses:
    """Sampled responses in one kind of vectors.

    Attributes:
        vectors: [n, dim].
        owner: model of each, index into the catalog, [n].
        prompt: key of the prompt of each, [n].
    """

    vectors: FloatArray
    owner: IntArray
    prompt: npt.NDArray[np.uint64]


@dataclass(frozen=True, eq=False)
class Evidence:
    """A catalog as identification sees it.

    Attributes:
        names: of all models, [n_models].
        standardisation: of style features.
        styles: sampled responses by standardised style.
        embedded: by embedding; empty where too few of those were sampled, and then style decides alone.
        mean: embeddings of the models, [n_models, dim].
        count: responses behind each, [n_models].
        held_back: whether the sampled embeddings of a model are of responses that `mean` was not made of, [n_models].
    """

    names: tuple[str, ...]
    standardisation: Standardisation
    styles: Responses
    embedded: Responses
    mean: FloatArray
    count: FloatArray
    held_back: npt.NDArray[np.bool_]

    def know(self, asked: npt.NDArray[np.uint64]) -> tuple[KnownModels, ...]:
        """The models as known without their responses to some prompts, style first, then embedding where that is used.

        Args:
            asked: keys of those prompts; none to know all that there is.
        """
        n_models = len(self.names)
        others = ~np.isin(self.styles.prompt, asked)
        vectors, owner = self.styles.vectors[others], self.styles.owner[others]
        known = [_describe(vectors, owner, *_sum_rows(vectors, owner, n_models))]
        if len(self.embedded.vectors):
            inside = np.isin(self.embedded.prompt, asked) & ~self.held_back[self.embedded.owner]
            less, fewer = _sum_rows(self.embedded.vectors[inside], self.embedded.owner[inside], n_models)
            sums, counts = self.mean * self.count[:, None] - less, self.count - fewer
            known.append(_describe(self.embedded.vectors, self.embedded.owner, sums, counts))
        return tuple(known)

    def shared(self) -> tuple[IntArray, IntArray]:
        """Rows of `styles` and of `embedded` that are of the same responses; of `styles` twice where that is alone."""
        if not len(self.embedded.vectors):
            rows = np.arange(len(self.styles.vectors))
            return rows, rows
        place: dict[tuple[int, int], list[int]] = {}
        for row, key in enumerate(zip(self.styles.owner.tolist(), self.styles.prompt.tolist(), strict=True)):
            place.setdefault(key, []).append(row)
        keys = zip(self.embedded.owner.tolist(), self.embedded.prompt.tolist(), strict=True)
        # Several responses to one prompt are in the same order in both, so that the first meets the first.
        found = [(left.pop(0), row) for row, key in enumerate(keys) if (left := place.get(key))]
        style, embedded = np.array(found, dtype=np.int64).reshape(-1, 2).T
        return style, embedded


def mean_ratios(known: Sequence[KnownModels], probes: Sequence[FloatArray], k: int) -> FloatArray:
    """The mean over kinds of vectors of `KnownModels.ratios`; a model that one of them lacks has -inf."""
    ratios: FloatArray = np.mean([each.ratios(means, k) for each, means in zip(known, probes, strict=False)], axis=0)
    return ratios


def gather_evidence(catalog: Catalog) -> Evidence:
    """Reads a catalog.

    Raises:
        DataError: fewer than four models with five sampled responses each.
    """
    sample = catalog.samples.styles
    sizes = np.diff(sample.offsets)
    if (sizes >= LEAST_RESPONSES).sum() < LEAST_MODELS:
        raise DataError(
            f"the catalog has {(sizes >= LEAST_RESPONSES).sum()} models with at least {LEAST_RESPONSES} sampled "
            f"responses: {LEAST_MODELS} are needed to tell how models and responses vary. "
            "Fix: enrol more models from their responses"
        )
    raw = sample.vectors.astype(np.float64)
    standardisation = Standardisation(raw.mean(axis=0), raw.std(axis=0))
    encoded = catalog.samples.embedded
    embedded = Responses(encoded.vectors.astype(np.float64), encoded.owner, encoded.prompt_keys)
    if (np.diff(encoded.offsets) >= LEAST_RESPONSES).sum() < LEAST_MODELS:
        embedded = Responses(embedded.vectors[:0], embedded.owner[:0], embedded.prompt[:0])
    return Evidence(
        names=catalog.models.names,
        standardisation=standardisation,
        styles=Responses(standardisation.apply(sample.vectors), sample.owner, sample.prompt_keys),
        embedded=embedded,
        mean=catalog.models.mean.astype(np.float64),
        count=catalog.models.count.astype(np.float64),
        held_back=catalog.samples.style_count > catalog.models.count,
    )


def _describe(vectors: FloatArray, owner: IntArray, sums: FloatArray, counts: FloatArray) -> KnownModels:
    """Scatter of responses and the places of models, given by sums [n_models, dim] and counts [n_models]."""
    present = counts > 0
    means = np.where(present[:, None], sums, 0.0) / np.where(present, counts, 1.0)[:, None]
    scatter = fit_two_covariance(vectors, owner, means[present], counts[present])
    return KnownModels(scatter, scatter.project(means), counts)


def _sum_rows(vectors: FloatArray, owner: IntArray, n_models: int) -> tuple[FloatArray, FloatArray]:
    sums = np.zeros((n_models, vectors.shape[1]))
    np.add.at(sums, owner, vectors)
    return sums, np.bincount(owner, minlength=n_models).astype(np.float64)
