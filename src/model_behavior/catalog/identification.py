"""Identification: which known model wrote some responses, or none of them.

**Ratios.** This is open-set identification, as of speakers: every model is scored by the log-likelihood ratio of the
two-covariance model (`two_covariance`), and "none of them" is the hypothesis of a new model. Style features and
embeddings have a two-covariance model each, and a model's score is the mean of both ratios: two witnesses who have seen
the same responses, so that their sum would count them twice. Embeddings tell known models apart better; style features,
which nothing was trained on, also show what only a new model does. Decision 0010 has what either is worth alone.

**Shifts.** A harness, a system prompt or a temperature may shift all responses of a known model in the same way. Which
of the known models is likeliest is therefore judged by style alone, with bounded evidence (`bounded_style`): there no
single feature convicts. "None of them" is judged by the ratios above, which tell new models better, and by the bounded
evidence, which holds where all is shifted (`presence`, decision 0034); where they lean towards it without being sure
but one known model is clearly likeliest, `shifted_model` names it with what has shifted.

**Probabilities.** A calibration (`calibration`) corrects for what the ratios ignore: responses to the same prompts vary
together, and features are not normal. It is fitted on trials with a known answer: responses that are held out of
the known models, once with their model among these, once without it or its family.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from scipy.special import expit

from model_behavior.arrays import BoolArray, Float64Array, FloatArray, IntArray, UInt64Array
from model_behavior.catalog.bounded_style import BoundedStyle, fit_bounded_style
from model_behavior.catalog.calibration import Calibration, Trials, fit_calibration
from model_behavior.catalog.enrolment import Catalog
from model_behavior.catalog.presence import Presence, PresenceTrials, fit_presence, shift_probes
from model_behavior.catalog.two_covariance import TwoCovariance, fit_two_covariance
from model_behavior.data.canonical_text import Changes
from model_behavior.errors import DataError, UsageError
from model_behavior.names import number_families

LEAST_MODELS, LEAST_RESPONSES = 4, 5
TRIAL_SIZES = (1, 2, 4, 8, 16, 32, 64, 128)
_DRAWS_PER_MODEL = 4
_DRAWS_PER_SHIFT = 2  # of which each is judged as it is and shifted
_TAIL = 2.0
_TOO_FEW = (
    "the sampled responses answer too few prompts in common to calibrate on. Fix: enrol models from responses to "
    "several prompts each"
)
_UNSURE = 0.75  # "none of them" may be this likely where a known model is named with a shift; surer, it stands alone
_CLEAR = 0.95  # of the known models' probability: from there on one of them is clearly the likeliest


@dataclass(frozen=True)
class Candidate:
    """A known model and how likely it wrote the responses; log-likelihood ratio against a new model, uncalibrated."""

    model: str
    probability: float
    log_likelihood_ratio: float


@dataclass(frozen=True)
class Identification:
    """Probabilities of the models that may have written the responses.

    Attributes:
        n_responses: number of responses judged together.
        none: probability of a model that the catalog does not know.
        candidates: all known models, the likeliest first; with `none`, their probabilities sum to 1.
        share: probability of the likeliest known model, given that it is a known one.
        convinced: style in which the responses are like the likeliest known model and unlike the others, strongest
            first, in words.
        shifted: style in which all responses differ from the likeliest known model in the same way, in words.
        canonicalised: responses that were brought to their canonical form, by kind of what was changed.
    """

    n_responses: int
    none: float
    candidates: tuple[Candidate, ...]
    share: float = 0.0
    convinced: tuple[str, ...] = ()
    shifted: tuple[str, ...] = ()
    canonicalised: Changes = field(default_factory=dict)

    @property
    def likeliest(self) -> str | None:
        """The likeliest known model, or None where "none of them" is likelier."""
        best = self.candidates[0]
        return best.model if best.probability >= self.none else None

    @property
    def shifted_model(self) -> str | None:
        """The known model that may have written the responses if something has shifted them all; None if there is none.

        "None of them" is likelier, but not sure, and of the known models one is far likelier than the others.
        """
        is_clear = self.share >= _CLEAR and self.none < _UNSURE
        return self.candidates[0].model if self.likeliest is None and is_clear and self.shifted else None


@dataclass(frozen=True, eq=False)
class Identifier:
    """A catalog's models in the coordinates of their two-covariance models, with the calibration of the ratios.

    Attributes:
        names: names of the models, [n_models]; one of which no response was sampled is never named.
        standardisation: standard scores of the style features.
        known: the models by style, and by embedding where enough of those were sampled.
        calibration: map from ratios to log-odds of a known model, for responses as they are.
        bounded: the models by style, for bounded evidence.
        naming: map from bounded evidence to the probabilities of the known models.
        presence: map from both kinds of evidence to the probability of "none of them".
        recognition: share of trials with k responses of a known model in which it was the likeliest, by k.
    """

    names: tuple[str, ...]
    standardisation: Standardisation
    known: tuple[KnownModels, ...]
    calibration: Calibration
    bounded: BoundedStyle
    naming: Calibration
    presence: Presence
    recognition: Mapping[int, float]

    def identify(
        self,
        styles: FloatArray,
        embedded: FloatArray,
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
        size = np.array([float(n)])
        style = vectors[0].mean(axis=0)
        evidence = self.bounded.ratios(style[None], n)
        by_ratios, support = self.calibration.logit_known(ratios, size), self.naming.support(evidence, size)
        logit = self.presence.logit_known(by_ratios, support, size) + np.log((1 - prior_none) / prior_none)
        none = float(expit(-logit)[0])
        known = self.naming.among_known(evidence, size)[0]
        probabilities = (1 - none) * known
        order = np.argsort(-known, kind="stable")
        return Identification(
            n,
            none,
            tuple(
                Candidate(self.names[i], float(probabilities[i]), float(ratios[0, i]))
                for i in order
                if np.isfinite(ratios[0, i])
            ),
            float(known.max()),
            *self.bounded.explain(style, int(order[0]), n),
        )


def fit_identifier(catalog: Catalog, seed: int = 0) -> Identifier:
    """Fits the two-covariance models and their calibration to a catalog.

    Args:
        catalog: catalog of at least four models with five sampled responses each.
        seed: seed of the draw of the trials.

    Raises:
        DataError: there are fewer models than that, or too few prompts in common.
    """
    evidence = gather_evidence(catalog)
    everything = np.zeros(0, np.uint64)
    calibration = fit_calibration(draw_trials(evidence, np.random.default_rng(seed)))
    trials = draw_trials(evidence, np.random.default_rng(seed), bounded=True)
    naming = fit_calibration(trials)
    presence = fit_presence(draw_presence(evidence, calibration, naming, np.random.default_rng(seed)))
    return Identifier(
        evidence.names,
        evidence.standardisation,
        evidence.know(everything),
        calibration,
        evidence.know_style(everything),
        naming,
        presence,
        recognition_by_size(trials),
    )


@dataclass(frozen=True, eq=False)
class KnownModels:
    """The known models in one kind of vectors.

    Attributes:
        scatter: scatter of responses and of models.
        centroids: means of the models, projected, [n_models, dim].
        counts: number of responses behind each, [n_models]; a model without any cannot have written anything.
    """

    scatter: TwoCovariance
    centroids: Float64Array
    counts: Float64Array

    def ratios(self, probes: Float64Array, k: int) -> Float64Array:
        """Log-likelihood ratios against a new model, of means of k responses [n_probes, dim], [n_probes, n_models]."""
        present = self.counts > 0
        found = self.scatter.score(self.scatter.project(probes), k, self.centroids, np.where(present, self.counts, 1.0))
        return np.where(present, found, -np.inf)


@dataclass(frozen=True, eq=False)
class Standardisation:
    """Standard scores of style features, the tails of which are drawn in: a long run of a mark must not decide.

    Attributes:
        centre: mean of each feature, [n_features].
        scale: standard deviation of each, [n_features].
    """

    centre: Float64Array
    scale: Float64Array

    def apply(self, styles: FloatArray) -> Float64Array:
        """[n, n_features] to the same shape, within -2 and 2."""
        scores = (styles.astype(np.float64) - self.centre) / np.where(self.scale > 0, self.scale, np.inf)
        drawn_in: Float64Array = _TAIL * np.tanh(scores / _TAIL)
        return drawn_in


@dataclass(frozen=True, eq=False)
class Responses:
    """Sampled responses in one kind of vectors.

    Attributes:
        vectors: vectors of the responses, [n, dim].
        owner: model of each, index into the catalog, [n].
        prompt: key of the prompt of each, [n].
    """

    vectors: Float64Array
    owner: IntArray
    prompt: UInt64Array


@dataclass(frozen=True, eq=False)
class Evidence:
    """A catalog as identification sees it.

    Attributes:
        names: names of all models, [n_models].
        standardisation: standard scores of the style features.
        styles: sampled responses by standardised style.
        embedded: sampled responses by embedding; empty where too few were sampled, and then style decides alone.
        mean: embeddings of the models, [n_models, dim].
        count: number of responses behind each, [n_models].
        held_back: True for models whose sampled embeddings are of responses not included in `mean`, [n_models].
    """

    names: tuple[str, ...]
    standardisation: Standardisation
    styles: Responses
    embedded: Responses
    mean: Float64Array
    count: Float64Array
    held_back: BoolArray

    def know(self, asked: UInt64Array) -> tuple[KnownModels, ...]:
        """The models as known without their responses to some prompts, style first, then embedding where that is used.

        Args:
            asked: keys of those prompts; empty to know all that there is.
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

    def know_style(self, asked: UInt64Array) -> BoundedStyle:
        """The models' style as known without their responses to some prompts; `asked` as for `know`."""
        others = ~np.isin(self.styles.prompt, asked)
        return fit_bounded_style(self.styles.vectors[others], self.styles.owner[others], len(self.names))

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


def mean_ratios(known: Sequence[KnownModels | BoundedStyle], probes: Sequence[Float64Array], k: int) -> Float64Array:
    """The mean over kinds of vectors of `KnownModels.ratios`; a model that one of them lacks has -inf."""
    ratios: Float64Array = np.mean([each.ratios(means, k) for each, means in zip(known, probes, strict=False)], axis=0)
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
    raw = np.asarray(sample.vectors).astype(np.float64)
    standardisation = Standardisation(raw.mean(axis=0), raw.std(axis=0))
    encoded = catalog.samples.embedded
    embedded = Responses(np.asarray(encoded.vectors).astype(np.float64), encoded.owner, np.asarray(encoded.prompt_keys))
    if (np.diff(encoded.offsets) >= LEAST_RESPONSES).sum() < LEAST_MODELS:
        embedded = Responses(embedded.vectors[:0], embedded.owner[:0], embedded.prompt[:0])
    return Evidence(
        names=catalog.models.names,
        standardisation=standardisation,
        styles=Responses(standardisation.apply(raw), sample.owner, np.asarray(sample.prompt_keys)),
        embedded=embedded,
        mean=catalog.models.mean.astype(np.float64),
        count=catalog.models.count.astype(np.float64),
        held_back=catalog.samples.style_count > catalog.models.count,
    )


def draw_trials(evidence: Evidence, rng: np.random.Generator, bounded: bool = False) -> Trials:
    """Means of k responses of one model each: once with the model known, once without it, once without its family.

    A new model may or may not have relatives in the catalog, so that half of the unknown ones have. The responses of a
    trial answer prompts that no model is known by: models answer a prompt alike, and the encoder places responses that
    it was trained on closer together than new ones.

    Raises:
        DataError: too few prompts in common.
    """
    family = number_families(evidence.names)
    parts: list[Trials] = []
    for asked in _asked_prompts(evidence):
        known = (evidence.know_style(asked),) if bounded else evidence.know(asked)
        for model, k, probes in _draw_probes(evidence, asked, rng, _DRAWS_PER_MODEL):
            parts += _with_and_without(mean_ratios(known, probes, k), k, model, family)
    return _join_trials(parts)


def draw_presence(
    evidence: Evidence, calibration: Calibration, naming: Calibration, rng: np.random.Generator
) -> PresenceTrials:
    """Trials as `draw_trials` draws them, as they are and shifted, with what both kinds of evidence say of them.

    Args:
        evidence: the catalog.
        calibration: map from ratios to log-odds of a known model.
        naming: map from bounded evidence to the probabilities of the known models.
        rng: generator of draws and shifts.

    Raises:
        DataError: too few prompts in common.
    """
    family = number_families(evidence.names)
    by_ratios: list[Trials] = []
    by_style: list[Trials] = []
    for asked in _asked_prompts(evidence):
        known, style = evidence.know(asked), evidence.know_style(asked)
        for model, k, probes in _draw_probes(evidence, asked, rng, _DRAWS_PER_SHIFT):
            moved = shift_probes(probes, evidence.embedded.vectors, rng)
            both = [np.concatenate(sides) for sides in zip(probes, moved, strict=True)]  # as they are, then shifted
            ratios = mean_ratios(known, both, k)
            bounded = np.where(np.isfinite(ratios), style.ratios(both[0], k), -np.inf)
            by_ratios += _with_and_without(ratios, k, model, family)
            by_style += _with_and_without(bounded, k, model, family)
    trials, style_trials = _join_trials(by_ratios), _join_trials(by_style)
    shifted = np.tile(np.repeat([False, True], _DRAWS_PER_SHIFT), len(by_ratios))
    logit = calibration.logit_known(trials.ratios, trials.k)
    support = naming.support(style_trials.ratios, style_trials.k)
    return PresenceTrials(logit, support, trials.k, trials.answer >= 0, shifted)


def recognition_by_size(trials: Trials) -> dict[int, float]:
    """Share of the trials of known models in which the right one is likeliest, by number of responses."""
    known = trials.answer >= 0
    right = trials.ratios.argmax(axis=1) == trials.answer
    return {int(k): float(right[known & (trials.k == k)].mean()) for k in np.unique(trials.k[known])}


def _join_trials(parts: Sequence[Trials]) -> Trials:
    """All of them in one; there must be some."""
    if not parts:
        raise DataError(_TOO_FEW)
    return Trials(
        np.concatenate([part.ratios for part in parts]),
        np.concatenate([part.k for part in parts]),
        np.concatenate([part.answer for part in parts]),
    )


def _draw_probes(
    evidence: Evidence, asked: UInt64Array, rng: np.random.Generator, draws: int
) -> Iterator[tuple[int, int, list[Float64Array]]]:
    """A model, k, and `draws` means of k of its responses to the prompts asked, by style and by embedding if used."""
    style_rows, embedded_rows = evidence.shared()
    prompt, owner = evidence.styles.prompt[style_rows], evidence.styles.owner[style_rows]
    rows = np.flatnonzero(np.isin(prompt, asked))
    for model in np.unique(owner[rows]).tolist():
        own = rows[owner[rows] == model]
        for k in TRIAL_SIZES:
            if k > len(own):
                break
            drawn = np.stack([rng.permutation(own)[:k] for _ in range(draws)])
            probes = [evidence.styles.vectors[style_rows[drawn]].mean(axis=1)]
            if len(evidence.embedded.vectors):
                probes.append(evidence.embedded.vectors[embedded_rows[drawn]].mean(axis=1))
            yield model, k, probes


def _describe(vectors: Float64Array, owner: IntArray, sums: Float64Array, counts: Float64Array) -> KnownModels:
    """Scatter of responses and the places of models, given by sums [n_models, dim] and counts [n_models]."""
    present = counts > 0
    means = np.where(present[:, None], sums, 0.0) / np.where(present, counts, 1.0)[:, None]
    scatter = fit_two_covariance(vectors, owner, means[present], counts[present])
    return KnownModels(scatter, scatter.project(means), counts)


def _sum_rows(vectors: Float64Array, owner: IntArray, n_models: int) -> tuple[Float64Array, Float64Array]:
    sums = np.zeros((n_models, vectors.shape[1]))
    np.add.at(sums, owner, vectors)
    return sums, np.bincount(owner, minlength=n_models).astype(np.float64)


def _asked_prompts(evidence: Evidence) -> list[UInt64Array]:
    """Prompts to ask: those held back from a training, else one half and then the other, in the order of the hashes.

    Raises:
        DataError: too few prompts in common.
    """
    back = evidence.held_back[evidence.embedded.owner]
    prompts = np.unique(evidence.styles.prompt)
    groups = [np.unique(evidence.embedded.prompt[back])] if back.any() else [prompts[0::2], prompts[1::2]]
    # Some models must be known by responses to other prompts, and some must have answered these.
    styles = evidence.styles
    usable = [asked for asked in groups if len(np.unique(styles.owner[~np.isin(styles.prompt, asked)])) > 1]
    answered = styles.prompt[evidence.shared()[0]]
    usable = [asked for asked in usable if np.isin(answered, asked).any()]
    if not usable:
        raise DataError(_TOO_FEW)
    return usable


def _with_and_without(ratios: Float64Array, k: int, model: int, family: IntArray) -> list[Trials]:
    """Trials of responses of one model: with it among the known ones, without it, and without its family."""
    sizes, nobody = np.full(len(ratios), float(k)), np.full(len(ratios), -1)
    found = [] if np.isneginf(ratios[:, model]).any() else [Trials(ratios, sizes, np.full(len(ratios), model))]
    for gone in (np.arange(len(family)) == model, family == family[model]):
        without = np.where(gone, -np.inf, ratios)
        if np.isfinite(without).any(axis=1).all():
            found.append(Trials(without, sizes, nobody))
    return found
