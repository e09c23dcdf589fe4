"""Transforms are fitted on training pairs, on whole prompts of a sample of many, and applied in bounded memory."""

from __future__ import annotations

import tracemalloc
from collections import deque
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy import sparse

from model_behavior.arrays import Int32Array, Int64Array
from model_behavior.data.arena import Arena
from model_behavior.data.split import pairs_of
from model_behavior.data_models.votes import PairTable, ValidationSplit
from model_behavior.models.behavior.behavior_features import BehaviorBlocks, BehaviorFeatures, FeatureConfig
from model_behavior.models.behavior.configuration import EncoderConfig
from model_behavior.models.behavior.monitor import Runtime
from model_behavior.models.behavior.projection import ProjectionConfig
from model_behavior.models.behavior.text.registry import make_text_encoders
from model_behavior.models.behavior.topic_removal import PromptFeatures
from model_behavior.models.behavior.training_setup import (
    PairFeatureSource,
    choose_fitted_pairs,
    set_up_training,
    transform_in_parts,
)
from model_behavior.models.behavior.validation import EncoderVotes
from model_behavior.preprocessing.behavior_embedding_preprocessor import BehaviorEmbeddingPreprocessor
from model_behavior.preprocessing.cache import ContentCache
from model_behavior.preprocessing.feature_cache import Features

Rows = Int64Array
N_MODELS, PAIRS_PER_PROMPT = 5, 8


def make_pairs(n_pairs: int) -> tuple[list[Features], PromptFeatures, Int32Array]:
    """Dense features, counts and prompts of so many pairs, and their models."""
    rng = np.random.default_rng(0)
    model = rng.integers(0, N_MODELS, n_pairs).astype(np.int32)
    dense = rng.normal(size=(n_pairs, 20)) + rng.normal(size=(N_MODELS, 20))[model]
    counts = sparse.random(n_pairs, 300, 0.1, "csr", np.float32, rng)
    counts.data = np.ceil(4 * counts.data)
    prompt = np.arange(n_pairs) // PAIRS_PER_PROMPT
    asked = [rng.normal(size=(int(prompt[-1]) + 1, 6)).astype(np.float32)]
    return [dense.astype(np.float32), counts], PromptFeatures(asked, prompt), model


def fit(
    pairs: tuple[list[Features], PromptFeatures, Int32Array], rows: Rows
) -> tuple[BehaviorFeatures, BehaviorBlocks]:
    features, prompts, model = pairs
    config = FeatureConfig(rate_columns=50)
    return BehaviorFeatures.fit([block[rows] for block in features], at(prompts, rows), model[rows], config, 4)


def at(prompts: PromptFeatures, rows: Rows) -> PromptFeatures:
    return replace(prompts, prompt=prompts.prompt[rows])


class TestChoice:
    def test_up_to_the_limit_all_are_chosen(self, arena: Arena) -> None:
        train = np.arange(0, len(arena.votes.pairs), 2)
        assert choose_fitted_pairs(arena.votes.pairs, train, len(train)) is train

    def test_beyond_it_whole_prompts_are_chosen(self, arena: Arena) -> None:
        pairs = arena.votes.pairs
        train = np.arange(0, len(pairs), 2)
        chosen = choose_fitted_pairs(pairs, train, 100)
        assert len(chosen) == 100
        assert set(chosen.tolist()) <= set(train.tolist()) and chosen.tolist() == sorted(chosen)
        left_out = np.setdiff1d(train, chosen)
        cut = set(pairs.prompt_index[chosen].tolist()) & set(pairs.prompt_index[left_out].tolist())
        assert len(cut) <= 1
        larger = choose_fitted_pairs(pairs, train, 150)
        assert set(chosen.tolist()) < set(larger.tolist())

    def test_the_order_of_the_votes_does_not_matter(self, arena: Arena) -> None:
        pairs = arena.votes.pairs
        order = np.random.default_rng(0).permutation(len(pairs))
        prompts = np.random.default_rng(1).permutation(len(pairs.prompts))
        shuffled = PairTable(
            pairs.prompts.take(prompts),
            pairs.models,
            pairs.responses.take(order),
            pairs.histories.take(order),
            np.argsort(prompts)[pairs.prompt_index[order]].astype(np.int32),
            pairs.model_index[order],
        )

        def described(table: PairTable) -> set[tuple[str, int]]:
            rows = choose_fitted_pairs(table, np.arange(len(table)), 100)
            asked = table.prompts.take(table.prompt_index[rows]).to_pylist()
            return set(zip(asked, table.model_index[rows].tolist(), strict=True))

        assert described(shuffled) == described(pairs)


class TestParts:
    def test_within_the_limit_it_is_one_transform_of_the_others(self) -> None:
        features, prompts, _ = pairs = make_pairs(240)
        rows = np.flatnonzero(prompts.prompt % 5 > 0)
        transforms, own = fit(pairs, rows)
        (whole,) = transform_in_parts(transforms, features, prompts, (rows, own), 240)
        others = np.setdiff1d(np.arange(240), rows)
        rest = transforms.transform([block[others] for block in features], at(prompts, others))
        for found, left, right in (
            (whole.blocks[0], own.blocks[0], rest.blocks[0]),
            (whole.identity, own.identity, rest.identity),
        ):
            np.testing.assert_array_equal(found[rows], left)
            np.testing.assert_array_equal(found[others], right)
        np.testing.assert_array_equal(
            sparse.vstack([whole.blocks[1]]).toarray(), sparse.vstack([features[1]]).toarray()
        )

    @pytest.mark.parametrize("most", [7, 100, 239])
    def test_parts_together_are_the_whole(self, most: int) -> None:
        features, prompts, _ = pairs = make_pairs(240)
        rows = np.flatnonzero(prompts.prompt % 5 > 2)
        fitted = fit(pairs, rows)
        (whole,) = transform_in_parts(fitted[0], features, prompts, (rows, fitted[1]), 240)
        parts = list(transform_in_parts(fitted[0], features, prompts, (rows, fitted[1]), most))
        assert max(len(part.identity) for part in parts) <= most
        np.testing.assert_allclose(np.concatenate([part.identity for part in parts]), whole.identity, atol=1e-5)
        np.testing.assert_allclose(np.concatenate([part.blocks[0] for part in parts]), whole.blocks[0], atol=1e-5)
        stacked = sparse.vstack([part.blocks[1] for part in parts])
        np.testing.assert_array_equal(stacked.toarray(), sparse.vstack([features[1]]).toarray())

    def test_memory_does_not_grow_with_the_pairs(self) -> None:
        def peak(n_pairs: int) -> int:
            features, prompts, _ = pairs = make_pairs(n_pairs)
            rows = np.arange(400)
            transforms, own = fit(pairs, rows)
            tracemalloc.start()
            deque(transform_in_parts(transforms, features, prompts, (rows, own), 400), maxlen=0)
            try:
                return tracemalloc.get_traced_memory()[1]
            finally:
                tracemalloc.stop()

        at_once, larger = peak(1200), peak(4800)
        assert larger < 1.1 * at_once
        assert at_once > 400 * 20 * 4, "arrays are counted"


def test_a_training_on_more_pairs_than_are_fitted(arena: Arena, tmp_path: Path) -> None:
    cache = ContentCache(tmp_path)
    preprocessor = BehaviorEmbeddingPreprocessor(cache)
    prepared = preprocessor.preprocess(arena.votes, ValidationSplit(0.2, seed=1))
    votes = EncoderVotes(prepared, preprocessor.sampler(prepared), seed=0)
    source = PairFeatureSource(make_text_encoders(["style", "lexical"]), Runtime(cache), 256, with_prompts=True)
    pairs = prepared.data.pairs
    most = len(pairs) // 3
    config = EncoderConfig(features=FeatureConfig(fitted_pairs=most), projection=ProjectionConfig(dim=8, hidden=16))
    setup = set_up_training(votes, source, config)
    assert [block.shape[0] for block in setup.examples.prepared] == [len(pairs)] * 2
    assert np.linalg.norm(setup.examples.identity, axis=1).min() > 0.99
    rows = choose_fitted_pairs(pairs, pairs_of(prepared.data, prepared.split.train), most)
    features, _ = source.of_table(pairs)
    np.testing.assert_array_equal(setup.transforms.views[0].to_arrays()["scaling.mean"], features[0][rows].mean(axis=0))
    # Every pair comes out as a new one would, but for those that were fitted on.
    others = np.setdiff1d(np.arange(len(pairs)), rows)
    prompts = pairs.prompts.take(pairs.prompt_index[others]).to_pylist()
    new = setup.transforms.transform(*source.of_texts(prompts, pairs.responses.take(others).to_pylist()))
    np.testing.assert_allclose(setup.examples.identity[others], new.identity, atol=1e-4)
    np.testing.assert_allclose(setup.examples.prepared[0][others], setup.head.prepare(new.blocks)[0], atol=1e-3)
