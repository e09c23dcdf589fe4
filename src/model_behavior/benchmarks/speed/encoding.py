"""The semantic encoder's transformer on equal texts: each backend, sentence-transformers, and one text at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch

from model_behavior.arrays import Float32Array
from model_behavior.benchmarks.speed.clock import Machine, Timing, Work, measure_machine, take_turns, transformer_flops
from model_behavior.errors import MissingExtraError
from model_behavior.models.behavior.text.execution import Backend, Precision, choose_execution
from model_behavior.models.behavior.text.runner import TransformerRuns
from model_behavior.models.behavior.text.transformer import (
    BUNDLED_MODEL,
    PairTransformer,
    ReadingConfig,
    locate_model,
    silenced_loading,
)
from model_behavior.preprocessing.cache import ContentCache

LIBRARY = "sentence-transformers, batches of 32"
ONE_BY_ONE = "sentence-transformers, one text at a time"
_BATCH = 32
_TOKENS = 256
_WAYS: tuple[tuple[Backend, Precision], ...] = (
    ("openvino", "bf16"),
    ("openvino", "f32"),
    ("onnxruntime", "f32"),
    ("torch", "bf16"),
    ("torch", "f32"),
)


@dataclass(frozen=True)
class EncodingSpeed:
    """Speed of encoding.

    Attributes:
        timings: timings by way.
        cosine: least cosine of a way's vectors with those of sentence-transformers.
        floor: seconds that the products of one turn take at the machine's rate, by precision, median over turns.
        machine: rates of the machine.
        native: True if the processor has bf16.
        tokens: mean tokens of a text.
        chosen: way that `choose_execution` takes by default.
    """

    timings: dict[str, Timing]
    cosine: dict[str, float]
    floor: dict[Precision, float]
    machine: Machine
    native: bool
    tokens: float
    chosen: str


def measure_encoding(
    texts: Sequence[str], turns: int, cache: ContentCache, progress: Callable[[int, int], None]
) -> EncodingSpeed:
    """Encodes the same texts, cut at 256 tokens, in every way; each turn takes the next part of them."""
    from sentence_transformers import SentenceTransformer

    device = "cuda" if torch.cuda.is_available() else "cpu"
    with silenced_loading():
        library = SentenceTransformer(locate_model(BUNDLED_MODEL), device=device)
    library.max_seq_length = _TOKENS
    parts = [list(texts[turn::turns]) for turn in range(turns)]
    vectors: dict[str, list[Float32Array]] = {}

    def keep(name: str, encode: Callable[[list[str]], Float32Array], turn: int) -> None:
        vectors.setdefault(name, []).append(encode(parts[turn]))
        progress(sum(map(len, vectors.values())), turns * len(encoders))

    encoders: dict[str, Callable[[list[str]], Float32Array]] = {
        **_runners(cache),
        LIBRARY: partial(_encode_library, library, _BATCH),
        ONE_BY_ONE: partial(_encode_library, library, 1),
    }
    ways: dict[str, Work] = {name: partial(keep, name, encode) for name, encode in encoders.items()}
    for encode in encoders.values():
        encode(parts[0][:2])
    timings = take_turns(ways, turns, len(parts[0]))
    lengths = [[len(ids) for ids in _tokenize(library.tokenizer, part)] for part in parts]
    native = choose_execution("torch").precision == "bf16"
    precisions: tuple[Precision, ...] = ("f32", "bf16") if native else ("f32",)
    config = library[0].auto_model.config
    machine = measure_machine(config.hidden_size, precisions, texts, device)
    work = float(np.median([transformer_flops(config, each) for each in lengths]))
    return EncodingSpeed(
        timings=timings,
        cosine={name: _least_cosine(vectors[name], vectors[LIBRARY]) for name in encoders},
        floor={each: work / machine.flops[each] for each in precisions},
        machine=machine,
        native=native,
        tokens=float(np.mean([length for part in lengths for length in part])),
        chosen=str(choose_execution()),
    )


def _runners(cache: ContentCache) -> dict[str, Callable[[list[str]], Float32Array]]:
    """Each backend that is installed, once for every precision that it really has."""
    found: dict[str, Callable[[list[str]], Float32Array]] = {}
    transformer = PairTransformer(ReadingConfig(BUNDLED_MODEL))
    digest = transformer.digest()
    for backend, precision in _WAYS:
        try:
            runs = TransformerRuns(precision, backend)
        except MissingExtraError:
            continue
        runs.cache = cache
        if runs.execution.precision == precision:
            found[str(runs.execution)] = partial(_encode, runs, transformer, digest)
    return found


def _encode(runs: TransformerRuns, transformer: PairTransformer, digest: str, texts: list[str]) -> Float32Array:
    token_ids = [np.array(ids) for ids in _tokenize(transformer.network.tokenizer, texts)]
    return runs.start(transformer, digest).run(token_ids, len(texts))


def _tokenize(tokenizer: Any, texts: list[str]) -> list[list[int]]:
    ids: list[list[int]] = tokenizer(texts, truncation=True, max_length=_TOKENS)["input_ids"]
    return ids


def _encode_library(library: Any, batch_size: int, texts: list[str]) -> Float32Array:
    if batch_size > 1:
        encoded: Float32Array = library.encode(texts, batch_size=batch_size, show_progress_bar=False)
        return encoded
    return np.stack([library.encode(text, show_progress_bar=False) for text in texts])


def _least_cosine(one: list[Float32Array], other: list[Float32Array]) -> float:
    left, right = np.concatenate(one), np.concatenate(other)
    lengths = np.linalg.norm(left, axis=1) * np.linalg.norm(right, axis=1)
    return float(((left * right).sum(axis=1) / lengths).min())
