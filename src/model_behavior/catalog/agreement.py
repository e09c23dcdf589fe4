"""The input of stage 2 about the models: their embeddings, features of their responses, and whom these agree with.

Of the responses x to one prompt, u(x) are their TF-IDF weights, k(x, y) the cosine of two, k' the same after both are
centred on the responses of the voted models, the peers, brought to a mean k'(x, x) of 1. The rating that a response
speaks for is that of a kernel ridge regression on its peers' ratings, less their mean,

    z(x) = k'(x, P) (k'(P, P) + penalty I)^-1 (r_P - mean r_P) = w(x) . r

(Saunders, Gammerman and Vovk 1998). It is linear in the ratings, so that w(x) can be had before them. What the prompt
itself brings, its topic and the length that it asks for, is in all responses alike and gone by the centring. There are
two views: all words of a response, and its last ones, which are where the answer to a task stands. How good the peers
were that a model was compared with is told beside: the mean rating of all that have answered the prompt.

A peer of the same family says little about a model of another one, so that the voted models are read without their
families: what is learned from them then holds for models of new families.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import sparse

from model_behavior.arrays import BoolArray, Float64Array, Int64Array, UInt32Array, UInt64Array
from model_behavior.catalog import Catalog
from model_behavior.catalog.samples import N_WORDS, ModelSamples, PackedWords, VectorSample, words_and_weights
from model_behavior.data.text_columns import LazyTexts
from model_behavior.data_models.scoring_types import Agreement, ModelAnswers, ModelTable
from model_behavior.data_models.votes import PairTable
from model_behavior.models.behavior.model_behavior_encoder import ModelBehaviorEncoder
from model_behavior.models.behavior.text.style import StyleEncoder
from model_behavior.names import family_of
from model_behavior.preprocessing.feature_cache import encode_through_cache
from model_behavior.preprocessing.scoring_votes import AnswerTable

_PENALTY = 2.0
_LEAST_PEERS = 2
_MOST_PEERS = 128  # of a prompt, so that its cost stays bounded
_VIEWS = (slice(0, N_WORDS), slice(N_WORDS, None))


@dataclass(frozen=True, eq=False)
class Answers:
    """Responses of some models, any number to any prompts.

    Attributes:
        names: names of the models, [n_models].
        owner: model of each response, int64, [n_responses].
        keys: hash of the normalised prompt of each, uint64, [n_responses].
        words: packed words of each, see `samples`, [n_responses, WIDTH].
    """

    names: tuple[str, ...]
    owner: Int64Array
    keys: UInt64Array
    words: PackedWords


def model_table(
    encoder: ModelBehaviorEncoder, catalog: Catalog, voted: Sequence[str], names: Sequence[str] | None = None
) -> ModelTable:
    """Makes the scorer's input: the identity part of the embeddings, features and agreement of the responses.

    The other part of an embedding was trained on votes about the models that the scorer learns from, so ratings
    predicted from it generalise less well to new models (decision 0007). It is used if there is no identity part.

    Args:
        encoder: encoder that the catalog was made with.
        catalog: catalog of the models and of those with votes.
        voted: models with votes, which agreement is measured with.
        names: models to have a row, all of the catalog by default.
    """
    chosen = tuple(catalog.models.names if names is None else names)
    place = {name: row for row, name in enumerate(catalog.models.names)}
    models = catalog.models.select([place[name] for name in chosen])
    agreement, answers = measure_agreement(catalog.samples, chosen, voted), features_of(catalog.samples, chosen)
    weight = encoder.config.features.identity_weight
    if not weight:
        return ModelTable(models.names, models.mean, models.count, models.spread, agreement, answers)
    identity = np.ascontiguousarray(encoder.identity_of(models.mean))
    # In a unit embedding the identity part of a pair has this square length.
    square = weight**2 / (1 + weight**2)
    spread = np.sqrt(np.maximum(square - np.square(identity).sum(axis=1), 0)).astype(np.float32)
    return ModelTable(models.names, identity, models.count, spread, agreement, answers)


def measure_agreement(samples: ModelSamples, names: Sequence[str], voted: Sequence[str]) -> Agreement:
    """Measures how models of a catalog agree with the voted ones.

    Args:
        samples: samples of the catalog.
        names: models to measure; a voted one is compared without its family, any other only without itself.
        voted: models with votes.
    """
    peers, asking = answers_of(samples, voted), answers_of(samples, names)
    known = np.array([name in set(voted) for name in names], dtype=bool)
    return agree(asking, peers, known)


def features_of(samples: ModelSamples, names: Sequence[str]) -> ModelAnswers:
    """Style features of the sampled responses of some models of a catalog; models that are not in it have none."""
    rows, owner = _rows_of(samples.names, samples.styles, names)
    return ModelAnswers(StyleEncoder.feature_names, owner, samples.styles.vectors[rows].astype(np.float32))


def features_of_pairs(encoder: ModelBehaviorEncoder, pairs: PairTable, batch_size: int) -> AnswerTable:
    """The same features of all pairs of filtered votes, from the cache where training has left them there."""
    prompts, responses = LazyTexts(pairs.prompts, pairs.prompt_index), LazyTexts(pairs.responses)
    return StyleEncoder.feature_names, np.asarray(
        encode_through_cache(StyleEncoder(), prompts, responses, encoder.runtime.cache, batch_size)
    )


def answers_of(samples: ModelSamples, names: Sequence[str]) -> Answers:
    """The sampled responses of some models of a catalog; models that are not in it have none."""
    rows, owner = _rows_of(samples.names, samples.words, names)
    return Answers(tuple(names), owner, samples.words.prompt_keys[rows], samples.words.vectors[rows])


def _rows_of(known: Sequence[str], sample: VectorSample, names: Sequence[str]) -> tuple[Int64Array, Int64Array]:
    """The rows of a sample that are of some models, and the place of each row's model among these."""
    place = {name: row for row, name in enumerate(known)}
    spans = [sample.rows_of(place[name]) if name in place else slice(0, 0) for name in names]
    parts = [np.arange(span.start, span.stop) for span in spans]
    owner = np.repeat(np.arange(len(parts)), [len(part) for part in parts])
    return np.concatenate([np.empty(0, np.int64), *parts]), owner


def agree(asking: Answers, peers: Answers, known: BoolArray) -> Agreement:
    """Measures how responses agree with those of peers to the same prompts.

    Args:
        asking: responses of any models.
        peers: responses of the models with votes.
        known: asking models that are read without their family, since a rating is learned from them, [n_models];
            of any other, a model of the same name is left out alone.
    """
    families = np.array([family_of(name) for name in peers.names], dtype=object)
    own = [
        families == family_of(name) if is_known else np.array([peer == name for peer in peers.names], dtype=bool)
        for name, is_known in zip(asking.names, known.tolist(), strict=True)
    ]
    return _measure(asking, peers, np.array(own, dtype=bool).reshape(len(asking.names), len(peers.names)))


@dataclass(frozen=True, eq=False)
class _Block:
    """Weights [n_rows, n_columns] and where they stand."""

    weights: Float64Array
    rows: Int64Array
    columns: Int64Array


class _Rarity:
    """Inverse document frequencies among the peers' responses, smoothed as scikit-learn does."""

    def __init__(self, packed: PackedWords) -> None:
        self._words, documents = np.unique(words_and_weights(packed)[0][packed > 0], return_counts=True)
        self._idf = np.log((1 + len(packed)) / (1 + documents)) + 1

    def of(self, words: UInt32Array) -> Float64Array:
        """Of words that the peers have used."""
        idf: Float64Array = self._idf[np.searchsorted(self._words, words)]
        return idf


def _measure(asking: Answers, peers: Answers, excluded: BoolArray) -> Agreement:
    """`excluded`: peers that a model is not compared with, [n_models, n_peers]."""
    rarity = [_Rarity(peers.words[:, view]) for view in _VIEWS]
    found: list[list[_Block]] = [[] for _ in _VIEWS]
    everyone: list[_Block] = []
    for rows, others in _by_prompt(asking.keys, peers.keys):
        everyone.append(_Block(np.full((len(rows), len(others)), 1 / len(others)), rows, peers.owner[others]))
        groups = list(_by_peers(~excluded[np.ix_(asking.owner[rows], peers.owner[others])]))
        for view, columns in enumerate(_VIEWS):
            kernel = _kernel(asking.words[rows, columns], peers.words[others, columns], rarity[view])
            if kernel is not None:
                crossed, among = kernel[: len(rows), len(rows) :], kernel[len(rows) :, len(rows) :]
                found[view] += [
                    _Block(
                        _ridge(crossed[np.ix_(some, allowed)], among[np.ix_(allowed, allowed)]),
                        rows[some],
                        peers.owner[others[allowed]],
                    )
                    for some, allowed in groups
                ]
    shape = len(asking.owner), len(peers.names)
    return Agreement(
        peers.names,
        asking.owner,
        tuple(_as_matrix(each, shape) for each in found),
        _as_matrix(everyone, shape),
        asking.keys,
    )


def _by_prompt(asking: UInt64Array, peers: UInt64Array) -> Iterator[tuple[Int64Array, Int64Array]]:
    """The asking rows and the peers' rows of every prompt that both have answered."""
    order, peer_order = np.argsort(asking, kind="stable"), np.argsort(peers, kind="stable")
    shared = np.intersect1d(asking, peers)
    ends = [
        np.searchsorted(keys[by], shared, side)
        for keys, by in ((asking, order), (peers, peer_order))
        for side in ("left", "right")
    ]
    for key, first, last, first_peer, last_peer in zip(shared.tolist(), *ends, strict=True):
        others = peer_order[first_peer:last_peer]
        if len(others) > _MOST_PEERS:
            others = np.sort(np.random.default_rng(key).choice(others, _MOST_PEERS, replace=False))
        yield order[first:last], others


def _by_peers(
    allowed: BoolArray,
) -> Iterator[tuple[Int64Array, Int64Array]]:
    """Asking rows that are allowed the same peers, with these; those with too few are left out."""
    sets, group = np.unique(allowed, axis=0, return_inverse=True)
    for index, chosen in enumerate(sets):
        if np.count_nonzero(chosen) >= _LEAST_PEERS:
            yield np.flatnonzero(group.ravel() == index), np.flatnonzero(chosen)


def _kernel(asking: PackedWords, peers: PackedWords, rarity: _Rarity) -> Float64Array | None:
    """Cosines between all responses to a prompt, asking ones first; None where no word tells peers apart.

    Words count that more than one peer has used, and not all of them; of two peers, those that one of them has used.
    """
    words, weights = words_and_weights(np.concatenate([asking, peers]))
    distinct, column = np.unique(words, return_inverse=True)
    dense = np.zeros((len(words), len(distinct)))
    dense[np.arange(len(words))[:, None], column.reshape(words.shape)] = weights  # a word twice has the same weight
    used = np.count_nonzero(dense[len(asking) :], axis=0)
    telling = (used > (len(peers) > 2)) & (used < len(peers))
    if not telling.any():
        return None
    dense = dense[:, telling] * rarity.of(distinct[telling])
    dense /= np.maximum(np.linalg.norm(dense, axis=1, keepdims=True), 1e-9)
    kernel: Float64Array = dense @ dense.T
    return kernel


def _ridge(asking: Float64Array, peers: Float64Array) -> Float64Array:
    """The weights w(x) of the module's equation, [n_asking, n_peers], from cosines with and among the peers."""
    means = peers.mean(axis=0)
    centred = peers - means - means[:, None] + means.mean()
    crossed = asking - asking.mean(axis=1, keepdims=True) - means + means.mean()
    scale = max(float(np.trace(centred)) / len(peers), 1e-9)
    weights = np.linalg.solve(centred / scale + _PENALTY * np.eye(len(peers)), crossed.T / scale).T
    result: Float64Array = weights - weights.mean(axis=1, keepdims=True)
    return result


def _as_matrix(blocks: Sequence[_Block], shape: tuple[int, int]) -> sparse.csr_matrix:
    if not blocks:
        return sparse.csr_matrix(shape, dtype=np.float32)
    values = np.concatenate([block.weights.ravel() for block in blocks]).astype(np.float32)
    rows = np.concatenate([np.repeat(block.rows, len(block.columns)) for block in blocks])
    columns = np.concatenate([np.tile(block.columns, len(block.rows)) for block in blocks])
    return sparse.csr_matrix((values, (rows, columns)), shape=shape)
