"""Prepares raw votes for the encoder: filters and splits them, forms triplets, encodes texts.

Filtered votes and validation triplets are kept in the cache as named arrays; fingerprints are taken of the same arrays.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, final

import numpy as np
import pyarrow as pa

from model_behavior.arrays import Arrays
from model_behavior.data.filters import FilterConfig, filter_votes
from model_behavior.data.split import split_votes
from model_behavior.data_models.behavior_encoder_types import PreprocessedBehaviorEncoderData, Triplets
from model_behavior.data_models.votes import (
    FilterReport,
    KeptByThreshold,
    Outcome,
    PairTable,
    SplitVotes,
    TrainingData,
    ValidationSplit,
)
from model_behavior.errors import DataError
from model_behavior.preprocessing.cache import ContentCache
from model_behavior.preprocessing.entry_file import CacheEntry, digest_of
from model_behavior.preprocessing.feature_cache import Features, PairEncoder, Progress, encode_through_cache
from model_behavior.preprocessing.triplets import TripletConfig, TripletSampler

VOTES = "votes"
"""Kind of the cache entries of filtered votes."""

_VERSION = 2  # goes up when the same votes and configuration give another result
_TRIPLET_COLUMNS = ("anchor", "positive", "negative", "vote", "kind")
_SPLIT_COLUMNS = ("train", "validation", "held_out")


@dataclass(frozen=True)
class PreprocessingConfig:
    """Settings of the filters and of the triplets."""

    filters: FilterConfig = field(default_factory=FilterConfig)
    triplets: TripletConfig = field(default_factory=TripletConfig)


@final
class BehaviorEmbeddingPreprocessor:
    """Filters and splits votes and forms their triplets, through the cache.

    Args:
        cache: shared with `PromptEmbeddingPreprocessor`.
        config: filtering rules and triplet shares.
    """

    def __init__(self, cache: ContentCache, config: PreprocessingConfig | None = None) -> None:
        self._cache = cache
        self._config = config if config is not None else PreprocessingConfig()

    def preprocess(
        self, data: TrainingData, split: ValidationSplit, progress: Progress | None = None
    ) -> PreprocessedBehaviorEncoderData:
        """Filters, splits, and draws the validation triplets with the split's seed.

        Raises:
            DataError: no votes are left after filtering.
            UsageError: a held-out model is not in the votes.
        """
        filters = json.dumps([asdict(self._config.filters), _VERSION], sort_keys=True)
        votes_key = digest_of(data_fingerprint(data), filters)
        votes = self._cache.get_or_build(VOTES, votes_key, lambda: self._filter(data, progress))
        kept = data_from_arrays(votes.arrays)
        settings = json.dumps([asdict(split), _VERSION], sort_keys=True)
        key = digest_of(votes_key, settings)
        triplets = self._cache.get_or_build("triplets", key, lambda: self._form(data, kept, split))
        return replace(_from_entries(kept, votes.metadata, triplets, key), votes_key=votes_key)

    def sampler(self, prepared: PreprocessedBehaviorEncoderData) -> TripletSampler:
        """Draws the training triplets, afresh each epoch.

        Raises:
            DataError: no triplet can be formed on one side of the split.
        """
        sampler = TripletSampler(prepared.data, prepared.split.train, self._config.triplets)
        _check_triplets(prepared, sampler)
        return sampler

    def embed(
        self, encoder: PairEncoder, pairs: PairTable, batch_size: int, progress: Progress | None = None
    ) -> Features:
        """Features of all pairs, [n_pairs, dim]."""
        prompts = pairs.prompts.take(pairs.prompt_index).to_pylist()
        return encode_through_cache(encoder, prompts, pairs.responses.to_pylist(), self._cache, batch_size, progress)

    def _filter(self, data: TrainingData, progress: Progress | None) -> CacheEntry:
        kept, report = filter_votes(data, self._config.filters, progress)
        return CacheEntry(data_to_arrays(kept), asdict(report))

    @staticmethod
    def _form(data: TrainingData, kept: TrainingData, split: ValidationSplit) -> CacheEntry:
        # A held-out model that no filtered vote has is held out already; one that no vote ever had is a mistake.
        filtered_out = set(data.pairs.models) - set(kept.pairs.models)
        present = replace(split, held_out_models=tuple(m for m in split.held_out_models if m not in filtered_out))
        sides = split_votes(kept, present)
        # However a run draws its own positives, it is measured on the same triplets as every other.
        triplets = TripletSampler(kept, sides.validation, TripletConfig()).sample(np.random.default_rng(split.seed))
        arrays: Arrays = {
            **{f"split.{name}": getattr(sides, name) for name in _SPLIT_COLUMNS},
            **{f"triplets.{name}": getattr(triplets, name) for name in _TRIPLET_COLUMNS},
        }
        return CacheEntry(arrays, {"skipped": dict(triplets.skipped)})


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
    if data.drawn is not None:
        arrays["drawn"] = data.drawn
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
    return TrainingData(pairs, arrays["pair_a"], arrays["pair_b"], arrays["outcome"], arrays.get("drawn"))


def data_fingerprint(data: TrainingData) -> str:
    """SHA-256 of the votes' content, order included."""
    arrays = data_to_arrays(data)
    return digest_of(*(part for name in sorted(arrays) for part in (name, arrays[name])))


def _from_entries(
    kept: TrainingData, report: Mapping[str, Any], entry: CacheEntry, key: str
) -> PreprocessedBehaviorEncoderData:
    columns = {name: entry.arrays[f"triplets.{name}"] for name in _TRIPLET_COLUMNS}
    return PreprocessedBehaviorEncoderData(
        data=kept,
        split=SplitVotes(**{name: entry.arrays[f"split.{name}"] for name in _SPLIT_COLUMNS}),
        validation_triplets=Triplets(**columns, skipped=entry.metadata["skipped"]),
        filter_report=FilterReport(
            votes_before=report["votes_before"],
            votes_after=report["votes_after"],
            removed=report["removed"],
            rare_models=tuple(report["rare_models"]),
            masked_responses=report["masked_responses"],
            thresholds=tuple(KeptByThreshold(**each) for each in report.get("thresholds", ())),
            canonicalised=report["canonicalised"],
        ),
        fingerprint=key,
    )


def _check_triplets(prepared: PreprocessedBehaviorEncoderData, sampler: TripletSampler) -> None:
    sides = {"training": sampler.sample(np.random.default_rng(0)), "validation": prepared.validation_triplets}
    for side, triplets in sides.items():
        if not len(triplets):
            reasons = ", ".join(f"{count} x {reason}" for reason, count in triplets.skipped.items()) or "no votes"
            why = (
                "Every vote is both_bad, so that no response is known to be good. Fix: votes that a model won, or ties."
                if (prepared.data.outcome == Outcome.BOTH_BAD).all()
                else "A decided vote needs a model with responses to two prompts on its side of the split, a tie a "
                "third model. Fix: more votes, or another validation fraction."
            )
            raise DataError(f"no {side} triplet can be formed ({reasons}). {why}")


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
