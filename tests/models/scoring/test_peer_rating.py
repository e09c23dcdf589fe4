"""Ratings read from agreement, and the two readings as one."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse

from model_behavior.data_models.scoring_types import Agreement, ModelTable
from model_behavior.models.scoring.embedding_rating import EmbeddingRating
from model_behavior.models.scoring.few_families import REACH
from model_behavior.models.scoring.peer_rating import PeerRating, PeerRatingConfig
from model_behavior.models.scoring.rating_reader import RatingReader

NOISE = np.array([0.6, 1.5])
ERROR = 0.4


def speak(
    names: tuple[str, ...], rating: np.ndarray, peers: tuple[str, ...], known: np.ndarray, k: int, seed: int
) -> Agreement:
    """Responses that speak for half of their model's rating, and for a fifth of it in the second view, with noise.

    A weight on the first peer alone is what carries the number: w = z / its rating.
    """
    rng = np.random.default_rng(seed)
    owner = np.repeat(np.arange(len(names)), k)
    weights = []
    for gain, noise in zip((0.5, 0.2), NOISE, strict=True):
        value = gain * rating[owner] + noise * rng.normal(size=len(owner))
        weights.append(sparse.csr_matrix((value / known[0], (np.arange(len(owner)), np.zeros(len(owner), int))),
                                         shape=(len(owner), len(peers))))  # fmt: skip
    everyone = np.full((len(owner), len(peers)), 1 / len(peers))
    return Agreement(peers, owner, tuple(weights), sparse.csr_matrix(everyone))


def world(n: int, seed: int) -> tuple[tuple[str, ...], np.ndarray, np.ndarray]:
    """Names, ratings, and what of them responses can tell."""
    rng = np.random.default_rng(seed)
    rating = 1.2 * rng.normal(size=n)
    return tuple(f"m{index:02d}x" for index in range(n)), rating, rating + ERROR * rng.normal(size=n)


@pytest.mark.parametrize("k", [2, 8, 64])
def test_intervals_of_new_models_cover_their_ratings(k: int) -> None:
    covered, errors, spreads = [], [], []
    for seed in range(40):
        names, rating, told = world(70, seed)
        voted, new = names[:50], names[50:]
        model = PeerRating()
        model.fit(speak(voted, told[:50], voted, rating[:50], 100, seed), rating[:50], np.zeros(50))
        found = model.predict(speak(new, told[50:], voted, rating[:50], k, seed + 1000), len(new))
        assert found.shared.tolist() == [k] * 20
        covered.append(np.abs(found.mean - rating[50:]) < 1.96 * np.sqrt(found.variance))
        errors.append(np.square(found.mean - rating[50:]).mean())
        spreads.append(found.variance.mean())
    assert 0.92 <= np.mean(covered) <= 0.975
    assert np.mean(spreads) == pytest.approx(np.mean(errors), rel=0.15)


def test_more_responses_take_variance_away_down_to_the_residual() -> None:
    left = []
    for seed in range(20):
        names, rating, told = world(60, seed)
        model = PeerRating(PeerRatingConfig(penalty=0))
        model.fit(speak(names, told, names, rating, 200, seed + 1000), rating, np.zeros(60))
        variance = model.variance(np.array([0, 1, 8, 32, 10**9]))
        assert (np.diff(variance) < 0).all()
        # Without a response nothing is known but how ratings are spread, and that new models may reach further.
        assert variance[-1] + (variance[0] - variance[-1]) / REACH == pytest.approx(rating.var(), rel=0.1)
        left.append(variance[-1])
    # The variance of a rating given what endlessly many responses tell, in the world above.
    assert np.mean(left) == pytest.approx(1.44 * ERROR**2 / (1.44 + ERROR**2), rel=0.15)


def test_models_without_shared_prompts_are_at_the_level() -> None:
    names, rating, told = world(20, 5)
    model = PeerRating()
    model.fit(speak(names, told, names, rating, 50, 6), rating, np.zeros(20))
    nothing = sparse.csr_matrix((2, 20))
    nobody = Agreement(names, np.array([0, 0]), (nothing, nothing), nothing)
    found = model.predict(nobody, 1)
    assert found.shared.tolist() == [0]
    assert found.mean[0] == pytest.approx(rating.mean())


def test_peers_that_are_better_speak_for_a_better_model() -> None:
    """Two groups that have answered other prompts, the second one better by 3: z says nothing of that."""
    rng = np.random.default_rng(13)
    within = rng.normal(size=40)
    group = np.repeat([0, 1], 20)
    rating = within + 3 * group
    names = tuple(f"m{index:02d}x" for index in range(40))
    owner = np.repeat(np.arange(40), 30)

    def agreement(rows: np.ndarray, peers: np.ndarray) -> Agreement:
        n = len(rows)
        told = 0.5 * within[rows] + 0.3 * rng.normal(size=n)
        values = sparse.csr_matrix((told / rating[peers][0], (np.arange(n), np.zeros(n, int))), shape=(n, len(peers)))
        same = group[rows][:, None] == group[peers]
        means = sparse.csr_matrix(same / same.sum(axis=1, keepdims=True))
        return Agreement(tuple(names[peer] for peer in peers), owner[: len(rows)], (values,), means)

    voted, new = np.flatnonzero(np.arange(40) % 4 > 0), np.flatnonzero(np.arange(40) % 4 == 0)
    model = PeerRating()
    model.fit(agreement(np.repeat(voted, 30), voted), rating[voted], np.zeros(len(voted)))
    found = model.predict(agreement(np.repeat(new, 30), voted), len(new))
    assert np.abs(found.mean - rating[new]).mean() < 0.3


def test_too_few_models_teach_nothing() -> None:
    names, rating, told = world(7, 7)
    model = PeerRating()
    model.fit(speak(names, told, names, rating, 50, 8), rating, np.zeros(7))
    assert not model.is_fitted
    many, rating, told = world(8, 7)
    model.fit(speak(many, told, many, rating, 50, 8), rating, np.zeros(8))
    assert model.is_fitted


def tables(k: int = 20) -> tuple[ModelTable, ModelTable, np.ndarray]:
    """Voted and new models whose embeddings tell a little of their rating, and whose agreement tells more."""
    names, rating, told = world(40, 9)
    rng = np.random.default_rng(10)
    embedding = (0.1 * rng.normal(size=(40, 4)) + 0.05 * rating[:, None]).astype(np.float32)
    voted, new = names[:30], names[30:]
    found = []
    for some, part, seed in ((voted, slice(0, 30), 11), (new, slice(30, 40), 12)):
        agreement = speak(some, told[part], voted, rating[:30], k, seed)
        n = len(some)
        table = ModelTable(some, embedding[part], np.full(n, k), np.full(n, 0.3, np.float32), agreement)
        found.append(table)
    return found[0], found[1], rating


def test_the_two_readings_are_weighted_by_their_variances_and_the_errors_at_these_weights_are_told() -> None:
    voted, new, rating = tables()
    reader, alone = RatingReader(), RatingReader()
    reader.fit(voted, rating[:30], np.full(30, 0.01))
    alone.fit(ModelTable(voted.names, voted.embedding, voted.count, voted.spread), rating[:30], np.full(30, 0.01))
    bare = ModelTable(new.names, new.embedding, new.count, new.spread)
    peers, embedding = PeerRating(), EmbeddingRating()
    assert voted.agreement is not None and new.agreement is not None
    peers.fit(voted.agreement, rating[:30], np.full(30, 0.01))
    embedding.fit(voted, rating[:30], np.full(30, 0.01))
    second, first = peers.predict(new.agreement, 10), embedding.predict(new)
    precision = np.stack([0.5 / first[1], 3 / second.variance])
    weight = precision / precision.sum(axis=0)
    told = np.stack([embedding.left_out, peers.left_out])
    for row, (joint, single) in enumerate(zip(reader.read(new), alone.read(bare), strict=True)):
        assert single.mean == pytest.approx(first[0][row])
        assert joint.mean == pytest.approx(weight[:, row] @ [first[0][row], second.mean[row]])
        known = weight[:, row] @ told
        inside = (np.square(known - rating[:30]).mean() - 0.01) * 30 / 28  # thirty families
        assert joint.variance > inside
        assert joint.beyond == int(joint.mean > known.max()) - int(joint.mean < known.min())
        assert joint.shared == 1


def test_without_agreement_the_embedding_speaks_alone_and_states_come_back() -> None:
    voted, new, rating = tables()
    reader = RatingReader()
    reader.fit(voted, rating[:30], np.full(30, 0.01))
    bare = ModelTable(new.names, new.embedding, new.count, new.spread)
    alone = RatingReader()
    alone.fit(ModelTable(voted.names, voted.embedding, voted.count, voted.spread), rating[:30], np.full(30, 0.01))
    for joint, single in zip(reader.read(bare), alone.read(bare), strict=True):
        assert joint.parts["agreement"].weight == 0
        assert joint.mean == single.mean and joint.parts["embedding"] == single.parts["embedding"]
    state = reader.get_state_dict()
    again = RatingReader.load_state_dict(state, reader.config)
    assert again.read(new) == reader.read(new)


def test_the_variance_that_more_responses_take_away_is_the_difference_of_readings() -> None:
    voted, few, rating = tables(8)
    _, many, _ = tables(64)
    reader = RatingReader()
    reader.fit(voted, rating[:30], np.full(30, 0.01))
    checked = 0
    for now, later in zip(reader.read(few), reader.read(many), strict=True):
        if max(abs(now.mean), abs(later.mean)) > 0.5 * rating.std():  # the interval is wider there
            continue
        checked += 1
        falls = reader.sampling_variance(now)(np.array([8, 64]))
        assert (np.diff(falls) < 0).all()
        assert now.variance - (falls[0] - falls[1]) == pytest.approx(later.variance, rel=0.1)
    assert checked >= 3


def test_a_reader_of_an_earlier_release_is_read_with_its_two_witnesses() -> None:
    voted, new, rating = tables()
    reader = RatingReader()
    reader.fit(voted, rating[:30], np.full(30, 0.01))
    state = reader.get_state_dict()
    gone = ("answers.", "join.", "embedding.basis", "embedding.between", "embedding.within")
    tensors = {name: value for name, value in state["tensors"].items() if not name.startswith(gone)}
    constants = {name: state["embedding"]["constants"][name] for name in ("signal", "residual")}
    old = {
        "embedding": {"constants": {**constants, "noise_ratio": 5.0}},
        "peers": state["peers"],
        "tensors": tensors,
    }
    again = RatingReader.load_state_dict(old, reader.config)
    assert again.witnesses == ("embedding", "agreement")
    offset = (new.embedding - tensors["embedding.centre"]) / tensors["embedding.scale"][0]
    np.testing.assert_allclose(again.standardise(new), offset / (1 + 5.0 / new.count)[:, None])
    for joint in again.read(new):
        assert joint.beyond == 0 and sum(part.weight for part in joint.parts.values()) == pytest.approx(1)
