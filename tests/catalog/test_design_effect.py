from __future__ import annotations

import numpy as np
import pytest

from model_behavior.catalog.placement import effective_responses, intraclass_correlation


def test_effective_responses_by_hand() -> None:
    assert effective_responses(np.arange(12), 0.3) == 12
    assert effective_responses(np.zeros(12, np.int64), 0.0) == 12
    assert effective_responses(np.zeros(12, np.int64), 1.0) == 1
    # Topics of 6, 3 and 1 responses: m = (36 + 9 + 1) / 10.
    assert effective_responses(np.repeat([4, 7, 9], [6, 3, 1]), 0.2) == pytest.approx(10 / (1 + 0.2 * 3.6))


def test_correlation_is_recovered_and_tells_how_the_mean_varies() -> None:
    rng = np.random.default_rng(0)
    share, n_models, topics, per_topic = 0.2, 400, 8, 6
    owner = np.repeat(np.arange(n_models), topics * per_topic)
    topic = np.tile(np.repeat(np.arange(topics), per_topic), n_models)
    places = rng.normal(size=(n_models, 3)) * 2
    shared = np.sqrt(share) * rng.normal(size=(n_models, topics, 3))
    vectors = places[owner] + shared[owner, topic] + np.sqrt(1 - share) * rng.normal(size=(len(owner), 3))
    assert intraclass_correlation(vectors, owner, topic) == pytest.approx(share, abs=0.02)
    means = vectors.reshape(n_models, -1, 3).mean(axis=1)
    effective = effective_responses(topic[owner == 0], share)
    assert np.square(means - places).mean() == pytest.approx(1 / effective, rel=0.1)


def test_no_correlation_where_none_can_be_seen() -> None:
    rng = np.random.default_rng(1)
    vectors, owner = rng.normal(size=(600, 40)), np.repeat(np.arange(20), 30)
    assert intraclass_correlation(vectors, owner, np.arange(600)) == 0
    assert intraclass_correlation(vectors, owner, np.zeros(600, np.int64)) == 0
    assert intraclass_correlation(vectors, owner, np.tile(np.arange(10), 60)) < 0.02
