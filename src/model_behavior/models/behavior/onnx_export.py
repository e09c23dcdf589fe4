"""A torch network of tokens as an ONNX file, made once per weights and kept in the cache."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from model_behavior.errors import ModelBehaviorError
from model_behavior.preprocessing.cache import ContentCache
from model_behavior.preprocessing.entry_file import CacheEntry, digest_of

INPUT_NAMES = ("input_ids", "attention_mask")
_VERSION = 1  # goes up when the same network is exported in another way


class ExportError(ModelBehaviorError):
    """A network that `torch.onnx.export` cannot write, or writes as another one."""


def exported_onnx(network: nn.Module, fingerprint: str, cache: ContentCache) -> npt.NDArray[np.uint8]:
    """The network as the bytes of an ONNX file, from the cache if it was exported before.

    Args:
        network: (input_ids, attention_mask), int64 [n_texts, n_tokens] each, to [n_texts, dim].
        fingerprint: of its weights and of all else that decides its output.
        cache: where the export is kept.

    Raises:
        ExportError: torch cannot export it.
    """
    key = digest_of("onnx", str(_VERSION), torch.__version__, fingerprint)

    def build() -> CacheEntry:
        return CacheEntry({"onnx": _export(network)}, {})

    content: npt.NDArray[np.uint8] = cache.get_or_build("exports", key, build).arrays["onnx"]
    return content


def _export(network: nn.Module) -> npt.NDArray[np.uint8]:
    # The exporter that traces one call: a tenth of a second where the one over torch.export takes ten. What it may take
    # for a constant wrongly is found by `TransformerRunner`, which compares a batch of another shape with torch.
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
    """The exporter warns of every value that it takes for a constant, and that another exporter is the usual one."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
