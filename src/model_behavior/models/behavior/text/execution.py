"""Chooses the library, precision and device that run a transformer, from what is installed and the hardware."""

from __future__ import annotations

import importlib.util
import logging
import os
from dataclasses import dataclass
from functools import cache
from typing import Literal, TypeAlias, get_args

import torch

from model_behavior.errors import MissingExtraError, UsageError

Backend: TypeAlias = Literal["auto", "openvino", "onnxruntime", "torch"]
Precision: TypeAlias = Literal["f32", "bf16"]
BACKEND_VARIABLE = "MODEL_BEHAVIOR_BACKEND"

_PACKAGES: dict[str, tuple[str, ...]] = {
    "openvino": ("openvino", "onnx"),
    "onnxruntime": ("onnxruntime", "onnx"),
    "torch": (),
}
_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Execution:
    """How a transformer is run. All three settings change the vectors, at least in the last digits.

    Attributes:
        backend: library that runs it.
        precision: precision of the matrix products.
        device: processor or GPU.
    """

    backend: Literal["openvino", "onnxruntime", "torch"]
    precision: Precision
    device: Literal["cpu", "cuda"] = "cpu"

    def __str__(self) -> str:
        return f"{self.backend} {self.precision} {self.device}"


def choose_execution(backend: Backend = "auto", precision: Precision = "bf16") -> Execution:
    """Chooses the requested backend, or the fastest installed one.

    Args:
        backend: library; "auto" takes $MODEL_BEHAVIOR_BACKEND if that is set, else torch if there is a GPU, else the
            first of openvino, onnxruntime and torch that is installed.
        precision: requested precision; "bf16" falls back to f32 if backend or hardware lacks it, since it would only
            be slower.

    Raises:
        UsageError: the backend or precision is unknown.
        MissingExtraError: the requested backend is not installed.
    """
    wanted = os.environ.get(BACKEND_VARIABLE) or "auto" if backend == "auto" else backend
    if wanted not in get_args(Backend):
        raise UsageError(f"backend {wanted!r}: allowed are {', '.join(get_args(Backend))}")
    if precision not in get_args(Precision):
        raise UsageError(f"precision={precision!r}: allowed are {', '.join(get_args(Precision))}")
    if wanted in _PACKAGES and _missing(wanted):
        raise MissingExtraError(f"backend {wanted!r} ({', '.join(_missing(wanted))})", "fast")
    on_gpu = torch.cuda.is_available() and wanted in ("auto", "torch")
    chosen = "torch" if on_gpu else _first_installed() if wanted == "auto" else wanted
    native = on_gpu or (chosen != "onnxruntime" and _processor_has_bf16())
    return Execution(
        backend="openvino" if chosen == "openvino" else "onnxruntime" if chosen == "onnxruntime" else "torch",
        precision="bf16" if precision == "bf16" and native else "f32",
        device="cuda" if on_gpu else "cpu",
    )


def _missing(backend: str) -> list[str]:
    return [name for name in _PACKAGES[backend] if importlib.util.find_spec(name) is None]


def _first_installed() -> str:
    chosen = next(name for name in _PACKAGES if not _missing(name))
    if chosen != "openvino":
        _say_once(chosen, ", ".join(_missing("openvino")))
    return chosen


@cache
def _say_once(chosen: str, missing: str) -> None:
    _logger.warning(
        "transformers run on %s, since %s is not installed. Faster: pip install 'model-behavior[fast]'",
        chosen,
        missing,
    )


@cache
def _processor_has_bf16() -> bool:
    """Tells if the processor multiplies bfloat16 natively (AVX-512 BF16, AMX; BF16 on ARM)."""
    found = torch.cpu.get_capabilities()
    return any(bool(found.get(name)) for name in ("avx512_bf16", "amx_bf16", "bf16"))
