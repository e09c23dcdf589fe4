"""Enrolling a part and adding the rest gives what enrolling everything gives."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from model_behavior.artifact import Artifact
from model_behavior.catalog import enrol, extend_catalog
from model_behavior.catalog.enrolment import Catalog, EnrolmentConfig, find_repeats
from model_behavior.data.arena import Arena
from model_behavior.data_models.votes import PairTable
from model_behavior.errors import DataError
from tests.catalog.version_2 import samples_to_arrays


def some(pairs: PairTable, chosen: np.ndarray) -> PairTable:
    return replace(
        pairs,
        responses=pairs.responses.take(pa.array(chosen)),
        histories=pairs.histories.take(pa.array(chosen)),
        prompt_index=pairs.prompt_index[chosen],
        model_index=pairs.model_index[chosen],
    )


def assert_same(found: Catalog, expected: Catalog) -> None:
    assert found.models.names == expected.models.names
    np.testing.assert_array_equal(found.models.count, expected.models.count)
    np.testing.assert_allclose(found.models.mean, expected.models.mean, atol=1e-6)
    np.testing.assert_allclose(found.models.spread, expected.models.spread, atol=1e-6)
    arrays = samples_to_arrays(expected.samples)
    for name, array in samples_to_arrays(found.samples).items():
        np.testing.assert_allclose(
            array.astype(np.float64), arrays[name].astype(np.float64), rtol=1e-3, atol=1e-3, err_msg=name
        )
    assert found.samples.answers == expected.samples.answers
    for mine, theirs in zip(found.samples.exemplars, expected.samples.exemplars, strict=True):
        assert len(mine) == len({each.prompt for each in mine}) == len(theirs)


@pytest.mark.parametrize("max_vectors", [512, 40])
def test_a_part_and_the_rest_are_the_whole(known: Artifact, arena: Arena, max_vectors: int) -> None:
    config = EnrolmentConfig(max_vectors)
    pairs = arena.held_out_responses
    rows = np.arange(len(pairs))
    # The first model has its first responses in one part and the others in the other, the last is in the second alone.
    part = (rows % 64 < 24) & (pairs.model_index < 5)
    first = enrol(known.encoder, some(pairs, rows[part]), 256, config=config)
    grown = extend_catalog(first, known.encoder, some(pairs, rows[~part]), 256, config=config)
    whole = enrol(known.encoder, pairs, 256, config=config)
    assert_same(grown, whole)
    assert np.diff(whole.samples.styles.offsets).max() == min(max_vectors, whole.models.count.max())
    assert first.models.names == whole.models.names[:5] and (first.models.count == 24).all()


def test_a_response_that_is_known_is_not_counted_again(known: Artifact, arena: Arena) -> None:
    pairs = arena.held_out_responses
    rows = np.arange(len(pairs))
    first = enrol(known.encoder, some(pairs, rows[rows % 64 < 24]), 256)
    np.testing.assert_array_equal(find_repeats(first, known.encoder, pairs, 256), rows % 64 < 24)
    whole = enrol(known.encoder, pairs, 256)
    assert_same(extend_catalog(first, known.encoder, pairs, 256), whole)
    assert extend_catalog(whole, known.encoder, pairs, 256) is whole
    with pytest.raises(DataError, match="no model to embed"):
        extend_catalog(whole, known.encoder, replace(pairs, responses=pa.array([""] * len(pairs))), 256)


def test_another_response_to_a_known_prompt_counts(known: Artifact, arena: Arena) -> None:
    pairs = some(arena.held_out_responses, np.arange(8))
    first = enrol(known.encoder, pairs, 256)
    texts = [f"{text} And that is that." for text in pairs.responses.to_pylist()]
    grown = extend_catalog(first, known.encoder, replace(pairs, responses=pa.array(texts, pa.large_string())), 256)
    assert grown.models.count.tolist() == [16]
