"""From raw votes to what the encoder trains on: filtered votes, their split, their triplets, their features."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, replace
from typing import Any, final

import numpy as np

from model_behavior.data.filters import FilterConfig, filter_votes
from model_behavior.data.split import split_votes
from model_behavior.data_models.behavior_encoder_types import PreprocessedBehaviorEncoderData, Triplets
from model_behavior.data_models.reports import FilterReport
from model_behavior.data_models.split import SplitVotes, ValidationSplit
from model_behavior.data_models.votes import PairTable, TrainingData
from model_behavior.preprocessing.cache import ContentCache
from model_behavior.preprocessing.columns import data_fingerprint, data_from_arrays, data_to_arrays
from model_behavior.preprocessing.entry_file import Arrays, CacheEntry, digest_of
from model_behavior.preprocessing.feature_cache import Features, PairEncoder, Progress, encode_through_cache
from model_behavior.preprocessing.triplets import TripletConfig, TripletSampler

_VERSION = 1  # goes up when the same votes and configuration give another result
_TRIPLET_COLUMNS = ("anchor", "positive", "negative", "vote", "kind")
_SPLIT_COLUMNS = ("train", "validation", "held_out")


@dataclass(frozen=True)
class PreprocessingConfig:
    """Which votes are used, and how triplets are drawn from them."""

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

    def preprocess(self, data: TrainingData, split: ValidationSplit) -> PreprocessedBehaviorEncoderData:
        """Filters, splits, and draws the validation triplets with the split's seed.

        Raises:
            DataError: nothing is left after filtering.
            UsageError: a held-out model that is not in the votes.
        """
        settings = json.dumps([asdict(self._config), asdict(split), _VERSION], sort_keys=True)
        key = digest_of(data_fingerprint(data), settings)
        entry = self._cache.get_or_build("triplets", key, lambda: self._build(data, split))
        return _from_entry(entry, key)

    def sampler(self, prepared: PreprocessedBehaviorEncoderData) -> TripletSampler:
        """Draws the training triplets, afresh each epoch."""
        return TripletSampler(prepared.data, prepared.split.train, self._config.triplets)

    def embed(
        self, encoder: PairEncoder, pairs: PairTable, batch_size: int, progress: Progress | None = None
    ) -> Features:
        """Features of all pairs, [n_pairs, dim]."""
        prompts = pairs.prompts.take(pairs.prompt_index).to_pylist()
        return encode_through_cache(encoder, prompts, pairs.responses.to_pylist(), self._cache, batch_size, progress)

    def _build(self, data: TrainingData, split: ValidationSplit) -> CacheEntry:
        kept, report = filter_votes(data, self._config.filters)
        # A held-out model that no filtered vote has is held out already; one that no vote ever had is a mistake.
        filtered_out = set(data.pairs.models) - set(kept.pairs.models)
        present = replace(split, held_out_models=tuple(m for m in split.held_out_models if m not in filtered_out))
        sides = split_votes(kept, present)
        sampler = TripletSampler(kept, sides.validation, self._config.triplets)
        triplets = sampler.sample(np.random.default_rng(split.seed))
        return _to_entry(kept, sides, triplets, report)


def _to_entry(data: TrainingData, sides: SplitVotes, triplets: Triplets, report: FilterReport) -> CacheEntry:
    arrays: Arrays = {
        **data_to_arrays(data),
        **{f"split.{name}": getattr(sides, name) for name in _SPLIT_COLUMNS},
        **{f"triplets.{name}": getattr(triplets, name) for name in _TRIPLET_COLUMNS},
    }
    return CacheEntry(arrays, {"report": asdict(report), "skipped": dict(triplets.skipped)})


def _from_entry(entry: CacheEntry, key: str) -> PreprocessedBehaviorEncoderData:
    arrays = entry.arrays
    report: dict[str, Any] = dict(entry.metadata["report"])
    report["rare_models"] = tuple(report["rare_models"])
    triplets = {name: arrays[f"triplets.{name}"] for name in _TRIPLET_COLUMNS}
    return PreprocessedBehaviorEncoderData(
        data=data_from_arrays(arrays),
        split=SplitVotes(**{name: arrays[f"split.{name}"] for name in _SPLIT_COLUMNS}),
        validation_triplets=Triplets(**triplets, skipped=entry.metadata["skipped"]),
        filter_report=FilterReport(**report),
        fingerprint=key,
    )
