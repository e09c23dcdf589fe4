"""Runs a transformer with OpenVINO, onnxruntime or torch: tokens in, pooled vectors out.

OpenVINO and onnxruntime read an ONNX file, which torch exports once for given weights and the cache keeps. Every
run begins with a comparison of the export with torch.
"""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias, final

import numpy as np
import torch
from torch import nn

from model_behavior.arrays import Float32Array, UInt8Array
from model_behavior.errors import ModelBehaviorError
from model_behavior.models.behavior.text.execution import Backend, Execution, Precision, choose_execution
from model_behavior.models.behavior.text.transformer import (
    PairTransformer,
    Pooling,
    PoolingMode,
    TokenArray,
    pad,
    plan_batches,
)
from model_behavior.preprocessing.cache import ContentCache
from model_behavior.preprocessing.entry_file import CacheEntry, digest_of

INPUT_NAMES = ("input_ids", "attention_mask")
_VERSION = 1  # increases when the export changes
_TOKENS_AT_ONCE = 1024  # per batch, padding included: large matrix products that still fit in the processor's caches
_AGREEMENT = 0.999  # least cosine between vectors of the export and of torch

_Run: TypeAlias = Callable[[TokenArray, TokenArray], Float32Array]
"""Function from (ids, mask), [n_texts, n_tokens] each, to [n_texts, dim]."""


class ExportError(ModelBehaviorError):
    """`torch.onnx.export` cannot export the network, or its export gives other vectors."""


@final
class PooledTransformer(nn.Module):
    """A Hugging Face transformer with the pooling of its last layer, as one network of ids and mask."""

    def __init__(self, transformer: nn.Module, pooling: PoolingMode) -> None:
        super().__init__()
        self.transformer = transformer
        self.pooling = Pooling(pooling)

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        """Maps ids and mask, [n_texts, n_tokens] each, to pooled vectors, [n_texts, dim]."""
        output = self.transformer(input_ids=input_ids, attention_mask=attention_mask)
        pooled: torch.Tensor = self.pooling(output.last_hidden_state, attention_mask)
        return pooled


@dataclass(frozen=True, eq=False)
class TransformerSource:
    """The transformer to run.

    Attributes:
        network: transformer with its pooling.
        fingerprint: fingerprint of the weights and the pooling; key of the export in the cache.
        dim: number of columns of the output.
        padding: id of the padding token.
    """

    network: PooledTransformer
    fingerprint: str
    dim: int
    padding: int = 0


@final
class TransformerRunner:
    """Runs a transformer over texts of any length, in batches of a bounded number of tokens, sorted by length.

    It uses as many threads as torch, so that `torch.set_num_threads` holds for every library.

    Args:
        source: transformer to run.
        execution: library, precision and device.
        cache: cache that keeps the export, if the library needs one.

    Raises:
        ExportError: the library needs an export, and torch cannot make it, or the export gives other vectors.
    """

    def __init__(self, source: TransformerSource, execution: Execution, cache: ContentCache) -> None:
        self._source = source
        start = {"openvino": _start_openvino, "onnxruntime": _start_onnxruntime, "torch": _start_torch}
        self._run: _Run = start[execution.backend](source, execution, cache)
        if execution.backend != "torch":
            _check_agreement(self._run, _start_torch(source, Execution("torch", "f32"), cache))

    def run(self, token_ids: Sequence[TokenArray], max_rows: int) -> Float32Array:
        """Computes pooled vectors in order, float32, [n_texts, dim].

        Args:
            token_ids: token ids of each text, at least one per text, [n_texts].
            max_rows: largest number of texts in a batch.
        """
        vectors = np.empty((len(token_ids), self._source.dim), dtype=np.float32)
        for rows in plan_batches(token_ids, max_rows, _TOKENS_AT_ONCE):
            vectors[rows] = self._run(*pad([token_ids[row] for row in rows], self._source.padding))
        return vectors


@final
class TransformerRuns:
    """The choice of how a text encoder's transformer is run, and the runner once it is started.

    Args:
        precision: see `ReadingConfig`.
        backend: see `choose_execution`.

    Attributes:
        execution: chosen library, precision and device.
        cache: cache that keeps an export.
    """

    def __init__(self, precision: Precision, backend: Backend) -> None:
        self._precision = precision
        self.cache = ContentCache()
        self.choose(backend)

    def choose(self, backend: Backend) -> None:
        """Chooses the library anew.

        Raises:
            UsageError, MissingExtraError: see `choose_execution`.
        """
        self.execution: Execution = choose_execution(backend, self._precision)
        self._runner: TransformerRunner | None = None

    def start(self, transformer: PairTransformer, weights_digest: str) -> TransformerRunner:
        """Returns the runner of this transformer, whose weights must not change any more."""
        if self._runner is None:
            pooling = transformer.config.pooling
            network = PooledTransformer(transformer.network.auto_model, pooling)
            fingerprint = f"{weights_digest} {pooling}"
            source = TransformerSource(network, fingerprint, transformer.dim, transformer.padding)
            self._runner = TransformerRunner(source, self.execution, self.cache)
        return self._runner


def _check_agreement(run: _Run, reference: _Run) -> None:
    """Compares the export with torch on a padded batch whose shape differs from the exported one."""
    ids, mask = pad([np.arange(length) for length in (2, 7, 4)], padding=0)
    one, other = run(ids, mask), reference(ids, mask)
    cosine = (one * other).sum(axis=1) / (np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1))
    if not cosine.min() >= _AGREEMENT:
        raise ExportError(
            f"the exported transformer gives other vectors than torch (cosine {cosine.min():.4f}; at least "
            f"{_AGREEMENT} is needed). Fix: --backend torch"
        )


def _start_torch(source: TransformerSource, execution: Execution, cache: ContentCache) -> _Run:
    network, device = source.network.eval().to(execution.device), execution.device
    reduced = execution.precision == "bf16"

    def run(ids: TokenArray, mask: TokenArray) -> Float32Array:
        with torch.inference_mode(), torch.autocast(device, torch.bfloat16, enabled=reduced):
            pooled = network(torch.from_numpy(ids).to(device), torch.from_numpy(mask).to(device))
        vectors: Float32Array = pooled.float().cpu().numpy()
        return vectors

    return run


def _start_openvino(source: TransformerSource, execution: Execution, cache: ContentCache) -> _Run:
    import openvino

    core = openvino.Core()
    model = core.read_model(exported_onnx(source.network, source.fingerprint, cache).tobytes())
    settings: dict[str, Any] = {
        "INFERENCE_PRECISION_HINT": execution.precision,
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        "PERFORMANCE_HINT": "LATENCY",
    }
    compiled = core.compile_model(model, "CPU", settings)

    def run(ids: TokenArray, mask: TokenArray) -> Float32Array:
        vectors: Float32Array = compiled([ids, mask])[0]
        return vectors

    return run


def _start_onnxruntime(source: TransformerSource, execution: Execution, cache: ContentCache) -> _Run:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    content = exported_onnx(source.network, source.fingerprint, cache).tobytes()
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])

    def run(ids: TokenArray, mask: TokenArray) -> Float32Array:
        vectors: Float32Array = session.run(None, dict(zip(INPUT_NAMES, (ids, mask), strict=True)))[0]
        return vectors

    return run


def exported_onnx(network: nn.Module, fingerprint: str, cache: ContentCache) -> UInt8Array:
    """Returns the network as the bytes of an ONNX file, from the cache if it was exported before.

    Args:
        network: network from (input_ids, attention_mask), int64 [n_texts, n_tokens] each, to [n_texts, dim].
        fingerprint: fingerprint of its weights and of everything else that decides its output.
        cache: cache that keeps the export.

    Raises:
        ExportError: torch cannot export the network.
    """
    key = digest_of("onnx", str(_VERSION), torch.__version__, fingerprint)

    def build() -> CacheEntry:
        return CacheEntry({"onnx": _export(network)}, {})

    content: UInt8Array = cache.get_or_build("exports", key, build).arrays["onnx"]
    return content


def _export(network: nn.Module) -> UInt8Array:
    # The exporter that traces one call takes a tenth of a second; the one over torch.export takes ten seconds. A trace
    # may turn a variable into a constant: `TransformerRunner` compares a batch of another shape with torch.
    ids = torch.arange(2 * 3).reshape(2, 3)
    mask = torch.tensor([[1, 1, 1], [1, 1, 0]])
    sizes = {0: "texts", 1: "tokens"}
    with tempfile.TemporaryDirectory() as folder, _quiet_exporter():
        path = Path(folder) / "network.onnx"
        try:
            torch.onnx.export(
                network.eval(),
                (ids, mask),
                path,
                input_names=list(INPUT_NAMES),
                output_names=["pooled"],
                dynamic_axes={**dict.fromkeys(INPUT_NAMES, sizes), "pooled": {0: "texts"}},
                dynamo=False,
            )
        except (torch.onnx.OnnxExporterError, RuntimeError, ValueError) as error:
            reason = str(error).strip().splitlines()[0]
            raise ExportError(f"the transformer cannot be exported to ONNX ({reason}). Fix: --backend torch") from error
        return np.fromfile(path, dtype=np.uint8)


@contextmanager
def _quiet_exporter() -> Iterator[None]:
    """Hides the exporter's warnings about traced constants and about the newer exporter."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
