"""Encodes the features of a training in several processes, through the cache.

Filtered votes are cut where the cache cuts them (`cut_by_content`). Each part is a task: a process encodes it and
leaves the features in the cache, where training finds them. So two processes may do the same task without harm, the
task of a killed one is done again, and a run that was cut off goes on with what is missing. The processes are the
workers of the runtime, which read votes and text encoders from the cache, or those that `torchrun` has started.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import final

from model_behavior.data.text_columns import LazyTexts
from model_behavior.data_models.behavior_encoder_types import PreprocessedBehaviorEncoderData
from model_behavior.data_models.votes import PairTable
from model_behavior.errors import ArtifactError, DataError, ModelBehaviorError, UsageError
from model_behavior.models.behavior.encoder_base import TextEncoderBase
from model_behavior.models.behavior.monitor import EncodingWorkers, Runtime
from model_behavior.models.behavior.text.execution import Backend
from model_behavior.models.behavior.text.registry import text_encoders_from_state, text_encoders_to_state
from model_behavior.models.behavior.text.style import StyleEncoder
from model_behavior.models.behavior.training_setup import PairFeatureSource
from model_behavior.preprocessing.behavior_embedding_preprocessor import VOTES, data_from_arrays
from model_behavior.preprocessing.cache import CacheWarning, ContentCache
from model_behavior.preprocessing.entry_file import CacheEntry, digest_of
from model_behavior.preprocessing.feature_cache import EntryName, cut_by_content, encode_through_cache, name_entries
from model_behavior.preprocessing.prompt_embedding_preprocessor import PromptEmbeddingPreprocessor, cut_prompts

_ENCODERS = "text-encoders"
_PATIENCE = 90.0  # seconds until a file that another machine has written must be seen; NFS may take a minute
_SHARED = "Fix: --cache with a folder on a file system that all machines share"


@dataclass(frozen=True)
class Part:
    """Rows of filtered votes whose features the cache keeps in entries of their own.

    Attributes:
        rows: consecutive pairs, or consecutive prompts.
        prompts: True for prompts alone.
    """

    rows: range
    prompts: bool


@dataclass(frozen=True)
class EncodingJob:
    """What a worker opens; all of it lies in the cache.

    Attributes:
        cache: folder of the cache, which every worker sees.
        votes: key of the filtered votes.
        encoders: key of the text encoders.
        backend: library that runs the transformers among them.
        batch_size: number of pairs encoded at once.
        with_prompts: encode prompts, too.
    """

    cache: Path
    votes: str
    encoders: str
    backend: Backend
    batch_size: int
    with_prompts: bool


@final
class PartEncoder:
    """Encodes parts of filtered votes, with all that training reads of them later.

    Args:
        source: text encoders, cache and batch size.
        pairs: pairs of the votes.
    """

    def __init__(self, source: PairFeatureSource, pairs: PairTable) -> None:
        self._source = source
        self._prompts = LazyTexts(pairs.prompts)
        self._asked, self._responses = LazyTexts(pairs.prompts, pairs.prompt_index), LazyTexts(pairs.responses)
        # Enrolment keeps style features of every response, whatever the text encoders.
        has_style = any(isinstance(encoder, StyleEncoder) for encoder in source.text_encoders)
        self._others: Sequence[TextEncoderBase] = () if has_style else (StyleEncoder(),)

    def parts(self) -> Iterator[Part]:
        """All parts, in order: those of the pairs, then those of the prompts."""
        for rows in cut_by_content(self._asked, self._responses):
            yield Part(range(rows.start, rows.stop), prompts=False)
        if self._source.with_prompts:
            for rows in cut_prompts(self._prompts):
                yield Part(range(rows.start, rows.stop), prompts=True)

    def name_entries(self, part: Part) -> list[EntryName]:
        """The cache entries that `encode` leaves."""
        encoders, cache = self._source.text_encoders, self._source.runtime.cache
        prompts, responses = self._texts(part)
        names: list[EntryName] = []
        if not part.prompts:
            for encoder in (*encoders, *self._others):
                names += name_entries(encoder, prompts, responses)
        if self._source.with_prompts:
            distinct = list(dict.fromkeys(prompts))
            for encoder in encoders:
                names += PromptEmbeddingPreprocessor(encoder, cache).name_entries(distinct)
        return names

    def encode(self, part: Part) -> None:
        """Leaves the features of a part in the cache; those that are there are not computed again."""
        source, cache = self._source, self._source.runtime.cache
        prompts, responses = self._texts(part)
        if part.prompts:
            for encoder in source.text_encoders:
                PromptEmbeddingPreprocessor(encoder, cache).preprocess(prompts, source.batch_size)
            return
        source.of_texts(prompts, responses)
        for encoder in self._others:
            encode_through_cache(encoder, prompts, responses, cache, source.batch_size)

    def _texts(self, part: Part) -> tuple[list[str], list[str]]:
        """Prompts and responses; of prompts alone no responses."""
        rows = slice(part.rows.start, part.rows.stop)
        return (self._prompts[rows], []) if part.prompts else (self._asked[rows], self._responses[rows])


def encode_together(source: PairFeatureSource, prepared: PreprocessedBehaviorEncoderData) -> None:
    """Encodes what the cache lacks in the workers of the runtime, or in the processes of its group.

    Every process of the group must call this function. One process without workers encodes nothing here.

    Raises:
        DataError: what a worker has encoded is not in the cache.
        ModelBehaviorError: a worker failed; what is finished is kept.
    """
    runtime = source.runtime
    if not runtime.cache.enabled or (runtime.workers is None and runtime.group.size == 1):
        return
    encoder = PartEncoder(source, prepared.data.pairs)
    if runtime.workers is not None:
        with runtime.group.first_alone():
            if runtime.group.is_first:
                _encode_in_workers(runtime.workers, encoder, source, prepared.votes_key)
        return
    parts = list(encoder.parts())
    own = parts[runtime.group.rank :: runtime.group.size]
    for done, part in enumerate(own, 1):
        if _missing(runtime.cache, encoder.name_entries(part)):
            encoder.encode(part)
        runtime.monitor.on_progress("features", done, len(own))
    runtime.group.wait_for_all()


def encode_part(job: EncodingJob, part: Part) -> Part:
    """Encodes a part in a worker, which keeps votes and text encoders for the next part; returns it.

    Raises:
        UsageError: the worker does not see the cache of the job.
        ArtifactError: its text encoders give other numbers here.
        ModelBehaviorError: it cannot write to the cache.
    """
    with warnings.catch_warnings():
        # One process would go on without the cache; of a worker nothing would be left.
        warnings.filterwarnings("error", "cannot write", CacheWarning)
        try:
            _open(job).encode(part)
        except CacheWarning as error:
            raise ModelBehaviorError(f"a worker {str(error).partition(';')[0]}. What is finished is kept") from None
    return part


def _encode_in_workers(
    workers: EncodingWorkers, encoder: PartEncoder, source: PairFeatureSource, votes_key: str
) -> None:
    cache, monitor = source.runtime.cache, source.runtime.monitor
    entries = {part: encoder.name_entries(part) for part in encoder.parts()}
    missing = {part: names for part, names in entries.items() if _missing(cache, names)}
    if not missing:
        return
    job = EncodingJob(
        cache.path.resolve(),
        votes_key,
        _keep_encoders(source),
        source.runtime.backend,
        source.batch_size,
        source.with_prompts,
    )
    done, total = 0, sum(len(part.rows) for part in missing)
    for part in workers(encode_part, [(job, part) for part in missing]):
        done += len(part.rows)
        monitor.on_progress("features", done, total)
    _wait_for(cache, [name for names in missing.values() for name in names])


def _missing(cache: ContentCache, names: Sequence[EntryName]) -> list[EntryName]:
    return [name for name in names if not cache.has(*name)]


def _wait_for(cache: ContentCache, names: Sequence[EntryName]) -> None:
    deadline = time.monotonic() + _PATIENCE
    while names := _missing(cache, names):
        if time.monotonic() > deadline:
            raise DataError(
                f"{len(names):,} entries are not in the cache {cache.path}, though workers have encoded them. {_SHARED}"
            )
        time.sleep(1)


def _keep_encoders(source: PairFeatureSource) -> str:
    """Writes the text encoders where workers find them; returns the key."""
    saved, tensors = text_encoders_to_state(source.text_encoders)
    fingerprints = [encoder.cache_fingerprint for encoder in source.text_encoders]
    key = digest_of(*fingerprints)
    source.runtime.cache.keep(_ENCODERS, key, CacheEntry(tensors, {"encoders": saved, "fingerprints": fingerprints}))
    return key


@lru_cache(maxsize=1)
def _open(job: EncodingJob) -> PartEncoder:
    cache = ContentCache(job.cache)
    # The process that starts the workers has verified what they read.
    votes, saved = cache.find(VOTES, job.votes, verify=False), cache.find(_ENCODERS, job.encoders, verify=False)
    if votes is None or saved is None:
        raise UsageError(f"a worker does not find the votes in the cache {job.cache}. {_SHARED}")
    encoders = text_encoders_from_state(saved.metadata["encoders"], saved.arrays)
    for encoder, expected in zip(encoders, saved.metadata["fingerprints"], strict=True):
        encoder.use_backend(job.backend)
        encoder.use_cache(cache)
        if encoder.cache_fingerprint != expected:
            raise ArtifactError(
                f"text encoder {encoder.name!r} runs on a worker as {encoder.cache_fingerprint}, where the run began "
                f"as {expected}. Fix: the same libraries and kind of device on all machines, or --backend torch"
            )
    source = PairFeatureSource(encoders, Runtime(cache), job.batch_size, job.with_prompts)
    return PartEncoder(source, data_from_arrays(votes.arrays).pairs)
