from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from model_behavior.arrays import AnyArray
from model_behavior.data_models.votes import PairTable, TrainingData
from model_behavior.preprocessing.behavior_embedding_preprocessor import (
    BehaviorEmbeddingPreprocessor,
    data_fingerprint,
    data_from_arrays,
    data_to_arrays,
)
from model_behavior.preprocessing.cache import CacheWarning, ContentCache
from model_behavior.preprocessing.entry_file import CacheEntry
from model_behavior.preprocessing.feature_cache import Features, cut_by_content, encode_through_cache
from model_behavior.preprocessing.prompt_embedding_preprocessor import PromptEmbeddingPreprocessor

Pair = tuple[str, str]

LETTERS = "abc"


def letter_counts(prompt: str, response: str) -> list[float]:
    return [float(len(prompt)), *(float(response.count(letter)) for letter in LETTERS)]


class LetterCounter:
    """Counts letters of the response, and remembers which pairs it was asked for."""

    def __init__(self, kind: str = "dense", fingerprint: str = "f") -> None:
        self.name = f"letters-{kind}"
        self.cache_fingerprint = fingerprint
        self.derived: ContentCache | None = None
        self.calls: list[list[Pair]] = []
        self.batch_sizes: set[int] = set()
        self.calls_before_failure = 10**9

    def use_cache(self, cache: ContentCache) -> None:
        self.derived = cache

    def encode(self, prompts: Sequence[str], responses: Sequence[str], batch_size: int) -> Features:
        if len(self.calls) == self.calls_before_failure:
            raise KeyboardInterrupt
        pairs = list(zip(prompts, responses, strict=True))
        self.calls.append(pairs)
        self.batch_sizes.add(batch_size)
        rows = np.array([letter_counts(*pair) for pair in pairs], dtype=np.float32).reshape(-1, 1 + len(LETTERS))
        return sparse.csr_matrix(rows) if self.name.endswith("sparse") else rows


@pytest.fixture(params=["dense", "sparse"])
def encoder(request: pytest.FixtureRequest) -> LetterCounter:
    return LetterCounter(request.param)


@pytest.fixture
def cache(tmp_path: Path) -> ContentCache:
    return ContentCache(tmp_path)


@pytest.fixture
def chunks_of_four(monkeypatch: pytest.MonkeyPatch) -> None:
    """Chunks by position, whatever their content."""
    monkeypatch.setattr("model_behavior.preprocessing.feature_cache._MEAN_CHUNK", 2**40)
    monkeypatch.setattr("model_behavior.preprocessing.feature_cache._LARGEST_CHUNK", 4)


def encode(encoder: LetterCounter, pairs: Sequence[Pair], cache: ContentCache) -> Features:
    return encode_through_cache(encoder, [prompt for prompt, _ in pairs], [text for _, text in pairs], cache, 2)


def assert_features(features: Features, pairs: Sequence[Pair], encoder: LetterCounter) -> None:
    expected = np.array([letter_counts(*pair) for pair in pairs]).reshape(-1, 1 + len(LETTERS))
    assert features.shape == expected.shape
    assert features.dtype == np.float32
    assert sparse.issparse(features) == encoder.name.endswith("sparse")
    values: AnyArray = features if isinstance(features, np.ndarray) else features.toarray()
    np.testing.assert_array_equal(values, expected)


PAIRS: list[Pair] = [
    ("p", "aab"), ("p", "c"), ("p", "aab"), ("", "p"),
    ("q", ""), ("p", "c"), ("q", ""), ("", ""),
    ("pa", "b"), ("p", "ab"),
]  # fmt: skip


def test_each_distinct_pair_of_a_chunk_is_encoded_once(
    encoder: LetterCounter, cache: ContentCache, chunks_of_four: None
) -> None:
    assert_features(encode(encoder, PAIRS, cache), PAIRS, encoder)
    assert encoder.calls == [
        [("p", "aab"), ("p", "c"), ("", "p")],
        [("q", ""), ("p", "c"), ("", "")],
        [("pa", "b"), ("p", "ab")],
    ]
    assert encoder.batch_sizes == {2}
    assert cache.info().entries == {f"features-{encoder.name}": 3}


def test_a_warm_cache_encodes_nothing(encoder: LetterCounter, cache: ContentCache, chunks_of_four: None) -> None:
    encode(encoder, PAIRS, cache)
    n_calls = len(encoder.calls)
    assert_features(encode(encoder, PAIRS, cache), PAIRS, encoder)
    assert len(encoder.calls) == n_calls


def test_more_pairs_encode_the_new_chunks_only(
    encoder: LetterCounter, cache: ContentCache, chunks_of_four: None
) -> None:
    encode(encoder, PAIRS[:8], cache)
    encoder.calls.clear()
    assert_features(encode(encoder, PAIRS, cache), PAIRS, encoder)
    assert encoder.calls == [PAIRS[8:]]


def test_prompt_and_response_are_not_confused(encoder: LetterCounter, cache: ContentCache) -> None:
    for pairs in ([("ab", "c")], [("a", "bc")], [("c", "ab")], [("", "abc")]):
        assert_features(encode(encoder, pairs, cache), pairs, encoder)
    assert len(encoder.calls) == 4


def test_another_fingerprint_is_another_entry(cache: ContentCache) -> None:
    n_chunks = len(cut_by_content([prompt for prompt, _ in PAIRS], [text for _, text in PAIRS]))
    for fingerprint, calls in (("f", n_chunks), ("g", n_chunks), ("f", 0)):
        encoder = LetterCounter(fingerprint=fingerprint)
        assert_features(encode(encoder, PAIRS, cache), PAIRS, encoder)
        assert len(encoder.calls) == calls
    assert cache.info().entries == {"features-letters-dense": 2 * n_chunks}


def test_an_interrupted_run_keeps_its_chunks(encoder: LetterCounter, cache: ContentCache, chunks_of_four: None) -> None:
    encoder.calls_before_failure = 2
    with pytest.raises(KeyboardInterrupt):
        encode(encoder, PAIRS, cache)
    again = LetterCounter(encoder.name.removeprefix("letters-"))
    assert_features(encode(again, PAIRS, cache), PAIRS, again)
    assert again.calls == [PAIRS[8:]]


def test_a_damaged_chunk_is_encoded_again(encoder: LetterCounter, cache: ContentCache, chunks_of_four: None) -> None:
    encode(encoder, PAIRS, cache)
    encoder.calls.clear()
    damaged = sorted(cache.path.rglob("*.safetensors"))[0]
    damaged.write_bytes(damaged.read_bytes()[:-1])
    with pytest.warns(CacheWarning, match="computing it again"):
        assert_features(encode(encoder, PAIRS, cache), PAIRS, encoder)
    assert len(encoder.calls) == 1


def test_progress_counts_pairs_with_repeats_and_cached_ones(
    encoder: LetterCounter, cache: ContentCache, chunks_of_four: None
) -> None:
    prompts, responses = [prompt for prompt, _ in PAIRS], [response for _, response in PAIRS]
    for _ in range(2):
        steps: list[tuple[int, int]] = []

        def note(done: int, of: int, to: list[tuple[int, int]] = steps) -> None:
            to.append((done, of))

        encode_through_cache(encoder, prompts, responses, cache, 2, note)
        assert steps == [(4, 10), (8, 10), (10, 10)]


def test_no_pairs(encoder: LetterCounter, cache: ContentCache) -> None:
    assert_features(encode(encoder, [], cache), [], encoder)


def test_lists_of_different_lengths(encoder: LetterCounter, cache: ContentCache) -> None:
    with pytest.raises(ValueError, match="2 prompts but 1 responses"):
        encode_through_cache(encoder, ["p", "q"], ["a"], cache, 2)


def varied(n_pairs: int) -> list[Pair]:
    return [("p" * (i % 7), "a" * (i % 5) + "b" * (i % 3) + f"{i % 1000}") for i in range(n_pairs)]


@pytest.mark.parametrize("n_pairs", [1, 4095, 4096, 4097, 9000])
def test_order_is_kept_over_whole_chunks(encoder: LetterCounter, cache: ContentCache, n_pairs: int) -> None:
    pairs = varied(n_pairs)
    assert_features(encode(encoder, pairs, cache), pairs, encoder)
    chunks = cut_by_content([prompt for prompt, _ in pairs], [text for _, text in pairs])
    assert len(encoder.calls) == len(chunks)
    assert all(len(call) == len(set(call)) for call in encoder.calls)


def test_chunks_cover_all_pairs_once_and_stay_small() -> None:
    pairs = [(f"p{i}", f"r{i}") for i in range(30_000)]
    chunks = cut_by_content([prompt for prompt, _ in pairs], [text for _, text in pairs])
    assert [i for chunk in chunks for i in range(chunk.start, chunk.stop)] == list(range(30_000))
    assert 15 < len(chunks) < 60 and max(chunk.stop - chunk.start for chunk in chunks) <= 4096
    assert cut_by_content([], []) == [slice(0, 0)]


def test_pairs_put_in_front_change_one_chunk(cache: ContentCache) -> None:
    encoder = LetterCounter("dense")
    pairs = [(f"p{i}", f"r{i}") for i in range(12_000)]
    encode(encoder, pairs, cache)
    encoder.calls.clear()
    encode(encoder, [("new", "pair"), *pairs], cache)
    assert len(encoder.calls) == 1


def test_prompts_go_through_the_same_cache(encoder: LetterCounter, cache: ContentCache) -> None:
    prompts = ["abc", "c", "abc"]
    features = PromptEmbeddingPreprocessor(encoder, cache).preprocess(prompts, batch_size=2)
    assert_features(features, [("", prompt) for prompt in prompts], encoder)
    assert_features(
        encode(encoder, [("", prompt) for prompt in prompts], cache), [("", "abc"), ("", "c"), ("", "abc")], encoder
    )
    PromptEmbeddingPreprocessor(encoder, cache).preprocess(prompts)
    assert len(encoder.calls) == 1


def test_pairs_of_a_table_go_through_the_same_cache(encoder: LetterCounter, cache: ContentCache) -> None:
    pairs = make_data(["p", "qq"], ["m", "n"], [("aa", "", 1, 0), ("b", "", 0, 1), ("aa", "", 1, 1)], []).pairs
    features = BehaviorEmbeddingPreprocessor(cache).embed(encoder, pairs, batch_size=2)
    assert_features(features, [("qq", "aa"), ("p", "b"), ("qq", "aa")], encoder)
    encode(encoder, [("qq", "aa"), ("p", "b"), ("qq", "aa")], cache)
    assert encoder.calls == [[("qq", "aa"), ("p", "b")]]


Row = tuple[str, str, int, int]
Vote = tuple[int, int, int]


def make_data(prompts: list[str], models: list[str], rows: Sequence[Row], votes: Sequence[Vote]) -> TrainingData:
    responses, histories, prompt_index, model_index = zip(*rows, strict=True) if rows else ((), (), (), ())
    pairs = PairTable(
        prompts=pa.array(prompts, pa.large_string()),
        models=tuple(models),
        responses=pa.array(responses, pa.large_string()),
        histories=pa.array(histories, pa.large_string()),
        prompt_index=np.array(prompt_index, dtype=np.int32),
        model_index=np.array(model_index, dtype=np.int32),
    )
    pair_a, pair_b, outcome = np.array(votes, dtype=np.int32).reshape(-1, 3).T
    return TrainingData(pairs, pair_a, pair_b, outcome.astype(np.int8))


@st.composite
def tables(draw: st.DrawFn) -> TrainingData:
    texts = st.text(max_size=6)
    prompts, models = draw(st.lists(texts, max_size=4)), draw(st.lists(texts, max_size=3))
    indices = st.integers(0, 9)
    rows = draw(st.lists(st.tuples(texts, texts, indices, indices), max_size=6))
    return make_data(prompts, models, rows, draw(st.lists(st.tuples(indices, indices, st.integers(0, 3)), max_size=4)))


def contents(data: TrainingData) -> list[Any]:
    pairs = data.pairs
    texts = [column.to_pylist() for column in (pairs.prompts, pairs.responses, pairs.histories)]
    columns = (pairs.prompt_index, pairs.model_index, data.pair_a, data.pair_b, data.outcome)
    arrays: list[AnyArray] = list(columns)
    return [*texts, pairs.models, *((array.dtype.name, array.tolist()) for array in arrays)]


def sliced(texts: pa.LargeStringArray) -> pa.LargeStringArray:
    """The same texts as a window into a longer array."""
    around = pa.concat_arrays([pa.array(["x", "before"], pa.large_string()), texts, pa.array(["é"], pa.large_string())])
    return around.slice(2, len(texts))


def with_sliced_texts(data: TrainingData) -> TrainingData:
    pairs = data.pairs
    windows = PairTable(
        sliced(pairs.prompts),
        pairs.models,
        sliced(pairs.responses),
        sliced(pairs.histories),
        pairs.prompt_index,
        pairs.model_index,
    )
    return TrainingData(windows, data.pair_a, data.pair_b, data.outcome)


class TestColumns:
    @settings(max_examples=150, deadline=None)
    @given(tables())
    def test_votes_come_back_from_arrays(self, data: TrainingData) -> None:
        again = data_from_arrays(data_to_arrays(data))
        assert contents(again) == contents(data)
        again.pairs.prompts.validate(full=True)
        again.pairs.responses.validate(full=True)

    @settings(max_examples=100, deadline=None)
    @given(tables())
    def test_a_slice_is_stored_as_a_copy_would_be(self, data: TrainingData) -> None:
        windows = with_sliced_texts(data)
        assert contents(data_from_arrays(data_to_arrays(windows))) == contents(data)
        assert data_fingerprint(windows) == data_fingerprint(data)
        assert sum(array.nbytes for array in data_to_arrays(windows).values()) == sum(
            array.nbytes for array in data_to_arrays(data).values()
        )

    def test_votes_survive_the_cache(self, cache: ContentCache) -> None:
        data = with_sliced_texts(make_data(["é", ""], ["m", "n"], [("漢\0", "[]", 0, 1), ("", "", 1, 0)], [(0, 1, 2)]))
        for _ in range(2):
            entry = cache.get_or_build("votes", "ab", lambda: CacheEntry(data_to_arrays(data), {}))
            assert contents(data_from_arrays(entry.arrays)) == contents(data)
            assert data_fingerprint(data_from_arrays(entry.arrays)) == data_fingerprint(data)

    def test_every_column_counts_in_the_fingerprint(self) -> None:
        rows: list[Row] = [("r", "h", 0, 0), ("s", "", 1, 1)]
        variants = [
            make_data(["p", "q"], ["m", "n"], rows, [(0, 1, 2)]),
            make_data(["pq", ""], ["m", "n"], rows, [(0, 1, 2)]),
            make_data(["p", "q"], ["m", "o"], rows, [(0, 1, 2)]),
            make_data(["p", "q"], ["m", "n"], [("r", "", 0, 0), ("s", "h", 1, 1)], [(0, 1, 2)]),
            make_data(["p", "q"], ["m", "n"], [("rs", "h", 0, 0), ("", "", 1, 1)], [(0, 1, 2)]),
            make_data(["p", "q"], ["m", "n"], [("r", "h", 1, 0), ("s", "", 1, 1)], [(0, 1, 2)]),
            make_data(["p", "q"], ["m", "n"], [("r", "h", 0, 1), ("s", "", 1, 1)], [(0, 1, 2)]),
            make_data(["p", "q"], ["m", "n"], rows, [(1, 1, 2)]),
            make_data(["p", "q"], ["m", "n"], rows, [(0, 0, 2)]),
            make_data(["p", "q"], ["m", "n"], rows, [(0, 1, 3)]),
            make_data(["p", "q"], ["m", "n"], rows, [(0, 1, 2), (0, 1, 2)]),
        ]
        prints = [data_fingerprint(data) for data in variants]
        assert all(one != other for one, other in itertools.combinations(prints, 2))
        assert data_fingerprint(make_data(["p", "q"], ["m", "n"], rows, [(0, 1, 2)])) == prints[0]
