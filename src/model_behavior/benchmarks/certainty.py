"""Benchmark of certainty: coverage of the regions of embeddings, and calibration of "none of them".

It is measured on LLMs whose family the encoder has never seen. Half of the validation prompts make the catalog, the
other half the test.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from sklearn.cluster import KMeans
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.preprocessing import normalize

from model_behavior.arrays import BoolArray, Float64Array
from model_behavior.catalog import Catalog, enrol, enrol_encoded
from model_behavior.catalog.embeddings import encode_pairs
from model_behavior.catalog.enrolment import prompt_keys
from model_behavior.catalog.identification import Identification, Identifier, fit_identifier
from model_behavior.catalog.placement import LEVELS, Population, fit_population, intraclass_correlation
from model_behavior.catalog.samples import VectorSample, empty_samples
from model_behavior.data.filters import select_pairs
from model_behavior.data.split import normalised_prompt_ids, pairs_of
from model_behavior.data_models.behavior_encoder_types import PreprocessedBehaviorEncoderData
from model_behavior.data_models.votes import PairTable
from model_behavior.errors import DataError
from model_behavior.evaluation.stage2 import expected_calibration_error
from model_behavior.models.behavior.model_behavior_encoder import ModelBehaviorEncoder

REGION_SIZES, UNKNOWN_SIZES = (1, 8, 32, 128), (1, 8, 32)
_REGION_DRAWS, _UNKNOWN_DRAWS = 10, 10
_TOPICS, _AXES = 20, 50


@dataclass(frozen=True)
class RegionFigures:
    """Embeddings of new LLMs from k responses, against the mean of their responses to the other half of the prompts.

    Attributes:
        coverage: share of regions that contain this mean, by nominal probability.
        radius: mean radius of the regions of 95 %.
        shrunk_error: mean square distance of the shrunk embedding from this mean.
        plain_error: mean square distance of the plain mean from this mean.
        variance_ratio: `plain_error` over what it would be if responses were independent.
        n: number of draws.
    """

    coverage: Mapping[float, float]
    radius: float
    shrunk_error: float
    plain_error: float
    variance_ratio: float
    n: int


@dataclass(frozen=True)
class UnknownFigures:
    """Identification from k responses, half of the weight on known LLMs and half on unknown ones.

    Attributes:
        recognised: share of known LLMs that are likeliest among the known ones.
        log_loss: log loss of "none of them"; 0.693 for saying 0.5 always.
        brier: mean square error of it; 0.25 for saying 0.5 always.
        calibration_error: expected, in bins of a tenth.
        false_known: share of unknown LLMs with a probability of "none of them" below a half.
        false_unknown: share of known LLMs with at least a half.
        n: draws of known and of unknown LLMs.
    """

    recognised: float
    log_loss: float
    brier: float
    calibration_error: float
    false_known: float
    false_unknown: float
    n: tuple[int, int]


@dataclass(frozen=True)
class CertaintyFigures:
    """Everything, by number of responses; empty where there are too few LLMs or prompts.

    Attributes:
        regions: figures of the regions of embeddings.
        unknown: figures of "none of them", from style and embeddings.
        unknown_by_style: the same from style alone.
        topic_correlation: correlation of two responses of a new LLM to one topic; NaN with too few prompts.
    """

    regions: Mapping[int, RegionFigures]
    unknown: Mapping[int, UnknownFigures]
    unknown_by_style: Mapping[int, UnknownFigures]
    topic_correlation: float


def measure_certainty(
    encoder: ModelBehaviorEncoder, prepared: PreprocessedBehaviorEncoderData, batch_size: int, seed: int
) -> CertaintyFigures:
    """Measures on one split.

    Args:
        encoder: encoder that was trained on the split.
        prepared: the votes and the split, with held-out LLMs.
        batch_size: pairs encoded at once.
        seed: seed of the halves of the prompts and of the draws.
    """
    rng = np.random.default_rng(seed)
    catalog, asked = enrol_known(encoder, prepared, batch_size, rng)
    test = enrol(encoder, asked, batch_size)
    data = prepared.data
    known = np.unique(data.pairs.model_index[pairs_of(data, prepared.split.train)])
    new_pairs = select_pairs(data.pairs, np.flatnonzero(~np.isin(data.pairs.model_index, known)))
    new = enrol(encoder, new_pairs, batch_size)
    style_alone = replace(catalog.samples, embedded=empty_samples(catalog.models.names, encoder.dim).embedded)
    try:
        return CertaintyFigures(
            _measure_regions(fit_population(catalog, seed), new.samples.embedded, rng),
            _measure_unknown(fit_identifier(catalog, seed), test, np.random.default_rng(seed)),
            _measure_unknown(
                fit_identifier(replace(catalog, samples=style_alone), seed), test, np.random.default_rng(seed)
            ),
            _topic_correlation(new.samples.embedded, new_pairs, seed),
        )
    except DataError:
        return CertaintyFigures({}, {}, {}, float("nan"))


def enrol_known(
    encoder: ModelBehaviorEncoder,
    prepared: PreprocessedBehaviorEncoderData,
    batch_size: int,
    rng: np.random.Generator,
) -> tuple[Catalog, PairTable]:
    """The catalog of the known LLMs, and the responses of all LLMs to validation prompts that it has not seen.

    Args:
        encoder: encoder that was trained on the split.
        prepared: the votes and the split, with held-out LLMs.
        batch_size: pairs encoded at once.
        rng: generator that divides the validation prompts.
    """
    data, split = prepared.data, prepared.split
    prompt = normalised_prompt_ids(data.pairs.prompts)[data.pairs.prompt_index]
    training, validation = np.zeros((2, len(data.pairs)), dtype=bool)
    training[pairs_of(data, split.train)], validation[pairs_of(data, split.validation)] = True, True
    measured = np.unique(prompt[validation & ~training])
    asked = np.isin(prompt, rng.permutation(measured)[: len(measured) // 2])
    sampled = validation & ~training & ~asked
    rows = np.flatnonzero(training | sampled)
    pairs = select_pairs(data.pairs, rows)
    catalog = enrol_encoded(pairs, encode_pairs(encoder, pairs, batch_size), training[rows], sampled[rows])
    return catalog, select_pairs(data.pairs, np.flatnonzero(asked & ~training))


def _measure_regions(
    population: Population, sample: VectorSample, rng: np.random.Generator
) -> dict[int, RegionFigures]:
    prompts, found = np.unique(sample.prompt_keys), {}
    for k in REGION_SIZES:
        rows = []
        for _ in range(_REGION_DRAWS):
            first = np.isin(sample.prompt_keys, rng.permutation(prompts)[: len(prompts) // 2])
            for model in range(len(sample.offsets) - 1):
                own = sample.owner == model
                asked, others = np.flatnonzero(own & first), np.flatnonzero(own & ~first)
                if len(asked) >= k and len(others) > 1:
                    chosen = sample.vectors[rng.permutation(asked)[:k]].astype(np.float64)
                    rows.append(_try_region(population, chosen, sample.vectors[others].astype(np.float64)))
        if rows:
            means = np.mean(rows, axis=0).tolist()
            coverage = dict(zip(LEVELS, means[: len(LEVELS)], strict=True))
            radius, shrunk, plain, expected = means[len(LEVELS) :]
            found[k] = RegionFigures(coverage, radius, shrunk, plain, plain / expected, len(rows))
    return found


def _try_region(population: Population, chosen: Float64Array, others: Float64Array) -> tuple[float, ...]:
    """Hits by level, radius, square errors of the shrunk and of the plain mean, and what the latter should be."""
    place, later = population.place(chosen), others.mean(axis=0)
    shrunk = float(np.square(later - place.embedding).sum())
    # The others are not endlessly many, so that their mean is off by itself.
    noise = place.spread**2 / len(others)
    hits = (shrunk <= (radius / place.error) ** 2 * (place.error**2 + noise) for radius in place.radius.values())
    plain = float(np.square(later - chosen.mean(axis=0)).sum())
    scatter = np.square(others - later).sum() / (len(others) - 1)
    expected = float(scatter * (1 / len(chosen) + 1 / len(others)))
    return *map(float, hits), place.radius[LEVELS[-1]], shrunk, plain, expected


def _measure_unknown(identifier: Identifier, test: Catalog, rng: np.random.Generator) -> dict[int, UnknownFigures]:
    known = {name: index for index, name in enumerate(identifier.names)}
    found = {}
    for k in UNKNOWN_SIZES:
        none, is_new, right = [], [], []
        for row, name in enumerate(test.models.names):
            for judged in _judge(identifier, test, row, k, rng):
                none.append(judged.none)
                is_new.append(name not in known)
                right.append(judged.candidates[0].model == name)
        p, y = np.array(none), np.array(is_new)
        if y.any() and not y.all():
            found[k] = _score(p, y, np.array(right))
    return found


def _judge(identifier: Identifier, test: Catalog, row: int, k: int, rng: np.random.Generator) -> list[Identification]:
    styles, embedded = test.samples.styles, test.samples.embedded
    own = np.arange(len(styles.vectors))[styles.rows_of(row)]
    if len(own) < k:
        return []
    drawn = (rng.permutation(own)[:k] for _ in range(_UNKNOWN_DRAWS))
    return [identifier.identify(styles.vectors[rows], embedded.vectors[rows]) for rows in drawn]


def _score(p: Float64Array, y: BoolArray, right: BoolArray) -> UnknownFigures:
    weight = np.where(y, 0.5 / y.mean(), 0.5 / (~y).mean())
    return UnknownFigures(
        recognised=float(right[~y].mean()),
        log_loss=float(-np.average(np.log(np.maximum(np.where(y, p, 1 - p), 1e-12)), weights=weight)),
        brier=float(np.average(np.square(p - y), weights=weight)),
        calibration_error=expected_calibration_error(p, y.astype(np.float64), weight=weight),
        false_known=float((p[y] < 0.5).mean()),
        false_unknown=float((p[~y] >= 0.5).mean()),
        n=(int((~y).sum()), int(y.sum())),
    )


def _topic_correlation(sample: VectorSample, pairs: PairTable, seed: int) -> float:
    """Topics are clusters of prompts: k-means on the leading axes of TF-IDF (Deerwester et al. 1990)."""
    texts = dict(zip(prompt_keys(pairs).tolist(), pairs.prompts.take(pairs.prompt_index).to_pylist(), strict=True))
    keys, prompt = np.unique(sample.prompt_keys, return_inverse=True)
    if len(keys) < 5 * _TOPICS:
        return float("nan")
    counts = TfidfVectorizer(sublinear_tf=True, stop_words="english").fit_transform(
        [texts[key] for key in keys.tolist()]
    )
    axes = TruncatedSVD(min(_AXES, counts.shape[1] - 1), random_state=seed).fit_transform(counts)
    topic = KMeans(_TOPICS, n_init=3, random_state=seed).fit_predict(normalize(axes))
    return intraclass_correlation(np.asarray(sample.vectors).astype(np.float64), sample.owner, topic[prompt])
