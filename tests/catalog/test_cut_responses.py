"""Responses that a limit has cut are found, and set aside in both samples."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from model_behavior.arrays import Float64Array
from model_behavior.catalog import Catalog, ModelEmbeddings
from model_behavior.catalog.cut_responses import find_limit, read_endings
from model_behavior.catalog.drift import measure_drift
from model_behavior.catalog.samples import VectorSample, empty_samples
from model_behavior.errors import DataError
from model_behavior.models.behavior.text.style import StyleEncoder

NAMES = StyleEncoder.feature_names
IS_NEW = np.repeat([False, True], 100)


def lengths_of(rng: np.random.Generator, n: int) -> Float64Array:
    drawn: Float64Array = rng.normal(6.5, 0.6, n)
    return drawn


def test_a_limit_is_found_where_one_sample_alone_is_cut() -> None:
    rng = np.random.default_rng(0)
    lengths, unfinished = lengths_of(rng, 200), rng.random(200) < 0.1
    assert find_limit(lengths, unfinished, IS_NEW) == np.inf
    limit = np.log(900)
    for side in (IS_NEW, ~IS_NEW):
        is_cut = side & (lengths > limit)
        found = find_limit(np.where(is_cut, limit, lengths), unfinished | is_cut, side)
        assert limit - np.log(2) < found <= limit
    everywhere = lengths > limit  # the model's own limit, then as now
    assert find_limit(np.minimum(lengths, limit), unfinished | everywhere, IS_NEW) == np.inf


def catalog_of(name: str, lengths: Float64Array, unfinished: np.ndarray, first: int, shift: float) -> Catalog:
    """Responses whose vector is their length, beside noise, with style features."""
    n = len(lengths)
    rng = np.random.default_rng(first)
    vectors = rng.normal(0, 1, (n, 4)) + shift
    vectors[:, 0] = 3 * lengths
    styles = np.zeros((n, len(NAMES)))
    styles[:, NAMES.index("log_characters")], styles[:, NAMES.index("ends_in_mid_sentence")] = lengths, unfinished
    keys, offsets = np.arange(first, first + n, dtype=np.uint64), np.array([0, n])
    models = ModelEmbeddings((name,), vectors.mean(axis=0, keepdims=True), np.array([n]), np.zeros(1, np.float32))
    return Catalog(
        models,
        replace(
            empty_samples((name,), 4),
            embedded=VectorSample(vectors.astype(np.float16), keys, offsets),
            styles=VectorSample(styles.astype(np.float16), keys, offsets),
        ),
    )


def test_cut_responses_are_no_change_and_a_change_is_found_beside_them() -> None:
    rng = np.random.default_rng(1)
    old = lengths_of(rng, 200)
    catalog = catalog_of("m", old, np.zeros(200, bool), 0, 0.0)
    limit, new = float(np.quantile(old, 0.6)), lengths_of(rng, 200)
    cut = np.minimum(new, limit)
    report = measure_drift(catalog, "m", catalog_of("x", cut, new > limit, 1000, 0.0))
    assert not report.changed and "a limit cuts responses of one sample" in report.caution
    assert report.n_new < 150 and report.n_enrolled < 150
    assert measure_drift(catalog, "m", catalog_of("x", cut, new > limit, 1000, 1.0)).changed
    unseen = measure_drift(catalog, "m", catalog_of("x", cut, np.zeros(200, bool), 1000, 0.0))
    assert unseen.changed and unseen.n_new == 200  # shorter ones that are whole are a change
    short = float(np.quantile(old, 0.005))
    with pytest.raises(DataError, match="nearly all responses of m are longer than"):
        measure_drift(catalog, "m", catalog_of("x", np.minimum(new, short), new > short, 1000, 0.0))


def test_endings_of_responses_to_one_prompt_are_in_order() -> None:
    catalog = catalog_of("m", np.array([5.0, 6.0, 7.0]), np.array([True, False, True]), 0, 0.0)
    keys = np.array([3, 3, 9], np.uint64)
    styles = replace(catalog.samples.styles, prompt_keys=keys)
    embedded = replace(catalog.samples.embedded, prompt_keys=np.array([3, 3, 8], np.uint64))
    lengths, unfinished = read_endings(replace(catalog.samples, styles=styles, embedded=embedded), 0)
    assert lengths.tolist() == [5.0, 6.0, 0.0] and unfinished.tolist() == [True, False, False]
