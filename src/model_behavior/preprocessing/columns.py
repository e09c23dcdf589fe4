"""Votes as plain named arrays, and back: what the cache stores and what fingerprints are taken of."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from model_behavior.data_models.votes import PairTable, TrainingData
from model_behavior.preprocessing.entry_file import Arrays, digest_of


def data_to_arrays(data: TrainingData) -> Arrays:
    """All columns of the votes; texts as UTF-8 bytes with offsets."""
    pairs = data.pairs
    arrays: Arrays = {
        "pair_a": data.pair_a,
        "pair_b": data.pair_b,
        "outcome": data.outcome,
        "prompt_index": pairs.prompt_index,
        "model_index": pairs.model_index,
    }
    models = pa.array(pairs.models, type=pa.large_string())
    for name, texts in (
        ("prompts", pairs.prompts),
        ("responses", pairs.responses),
        ("histories", pairs.histories),
        ("models", models),
    ):
        arrays[f"{name}.offsets"], arrays[f"{name}.bytes"] = _split_texts(texts)
    return arrays


def data_from_arrays(arrays: Arrays) -> TrainingData:
    """The inverse of `data_to_arrays`."""
    pairs = PairTable(
        prompts=_join_texts(arrays, "prompts"),
        models=tuple(_join_texts(arrays, "models").to_pylist()),
        responses=_join_texts(arrays, "responses"),
        histories=_join_texts(arrays, "histories"),
        prompt_index=arrays["prompt_index"],
        model_index=arrays["model_index"],
    )
    return TrainingData(pairs, arrays["pair_a"], arrays["pair_b"], arrays["outcome"])


def data_fingerprint(data: TrainingData) -> str:
    """SHA-256 of the votes' content, order included."""
    arrays = data_to_arrays(data)
    return digest_of(*(part for name in sorted(arrays) for part in (name, arrays[name])))


def _split_texts(texts: pa.LargeStringArray) -> tuple[np.ndarray, np.ndarray]:
    if not len(texts):
        return np.zeros(1, dtype=np.int64), np.zeros(0, dtype=np.uint8)
    _, offset_buffer, byte_buffer = texts.buffers()
    offsets = np.frombuffer(offset_buffer, dtype=np.int64)[texts.offset : texts.offset + len(texts) + 1]
    raw = np.frombuffer(byte_buffer, dtype=np.uint8) if byte_buffer is not None else np.zeros(0, dtype=np.uint8)
    return offsets - offsets[0], raw[offsets[0] : offsets[-1]]


def _join_texts(arrays: Arrays, name: str) -> pa.LargeStringArray:
    offsets, raw = arrays[f"{name}.offsets"], arrays[f"{name}.bytes"]
    return pa.LargeStringArray.from_buffers(len(offsets) - 1, pa.py_buffer(offsets), pa.py_buffer(raw))
