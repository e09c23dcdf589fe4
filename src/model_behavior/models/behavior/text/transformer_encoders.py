"""The text encoders with a transformer: `semantic`, a frozen one, and `finetuned`, one that is tuned on votes.

`SentenceTransformerEncoder` takes a sentence-transformers model unchanged; `FineTunedEncoder` tunes one on votes first.
Both run a `PairTransformer` over prompt and response together, with the library that the user chooses.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import cached_property, partial
from typing import Any, ClassVar, Self, TypedDict, Unpack, final

from model_behavior.arrays import AnyArray, Arrays, Float32Array
from model_behavior.data_models.training_log import EpochLog
from model_behavior.errors import UsageError
from model_behavior.models.behavior.checkpoint import Checkpoint, tuning_checkpoint
from model_behavior.models.behavior.encoder_base import TextEncoderBase
from model_behavior.models.behavior.monitor import Runtime
from model_behavior.models.behavior.text.execution import Backend, Precision
from model_behavior.models.behavior.text.fine_tuning import (
    FineTuner,
    FineTuningConfig,
    choose_tuned_weights,
    set_tuned_weights,
)
from model_behavior.models.behavior.text.runner import TransformerRuns
from model_behavior.models.behavior.text.transformer import BUNDLED_MODEL, PairTransformer, PoolingMode, ReadingConfig
from model_behavior.models.behavior.validation import EncoderVotes
from model_behavior.preprocessing.cache import ContentCache
from model_behavior.preprocessing.entry_file import CacheEntry, digest_of

_KIND = "tuned-weights"


class ReadingOptions(TypedDict, total=False):
    """The fields of `ReadingConfig` apart from the model, as keyword arguments; defaults as there."""

    prompt_tokens: int
    response_tokens: int
    pooling: PoolingMode
    precision: Precision


class TransformerEncoderBase(TextEncoderBase):
    """A text encoder that gives the pooled vectors of a transformer.

    Args:
        reading: transformer and token budgets.
        backend: library that runs it; see `choose_execution`. It is not part of `config`: the vectors of all
            libraries agree, so a training done with one can be used with another.
    """

    def __init__(self, reading: ReadingConfig, backend: Backend) -> None:
        self._reading = reading
        self._runs = TransformerRuns(reading.precision, backend)

    @abstractmethod
    def _load(self) -> PairTransformer:
        """The transformer with the weights that it encodes with."""

    @property
    def config(self) -> Mapping[str, Any]:
        """See `ReadingConfig`."""
        return asdict(self._reading)

    @property
    def dim(self) -> int:
        """Width of the transformer."""
        return self._transformer.dim

    @cached_property
    def _transformer(self) -> PairTransformer:
        return self._load()

    def weights_digest(self) -> str:
        """Hash of every parameter; it tells other weights of the same name apart."""
        return self._digest

    @cached_property
    def _digest(self) -> str:
        return self._transformer.digest()

    def encode(self, prompts: Sequence[str], responses: Sequence[str], batch_size: int) -> Float32Array:
        """Pooled vectors, float32, [n_pairs, dim]."""
        runner = self._runs.start(self._transformer, self.weights_digest())
        return runner.run(self._transformer.tokenize(prompts, responses), batch_size)

    @property
    def cache_fingerprint(self) -> str:
        """The fingerprint, with the library, precision and device that run the transformer."""
        return f"{self.fingerprint} {self._runs.execution}"

    def use_cache(self, cache: ContentCache) -> None:
        """Stores exports of the transformer in this cache."""
        self._runs.cache = cache

    def use_backend(self, backend: Backend) -> None:
        """Chooses the library that runs the transformer; see `choose_execution`."""
        self._runs.choose(backend)


@final
class SentenceTransformerEncoder(TransformerEncoderBase):
    """Encodes pairs with a frozen `PairTransformer`.

    Args:
        model: transformer, see `ReadingConfig`.
        backend: library that runs it, see `TransformerEncoderBase`.
        reading: token budgets, pooling and precision, see `ReadingConfig`.
    """

    name: ClassVar[str] = "semantic"

    def __init__(
        self, model: str = BUNDLED_MODEL, *, backend: Backend = "auto", **reading: Unpack[ReadingOptions]
    ) -> None:
        super().__init__(ReadingConfig(model, **reading), backend)

    def _load(self) -> PairTransformer:
        return PairTransformer(self._reading)


@final
class FineTunedEncoder(TransformerEncoderBase):
    """A `PairTransformer` that is tuned on votes and then frozen.

    `ModelBehaviorEncoder.train` tunes it on its training votes before the first epoch. The cache keeps the tuned
    weights, so that the same tuning is never repeated.

    Args:
        model: backbone, see `ReadingConfig`.
        tuning: settings of the tuning, which runs on torch.
        backend: library that runs the tuned transformer, see `TransformerEncoderBase`.
        reading: token budgets, pooling and precision, see `ReadingConfig`.

    Attributes:
        history: one log per round of the tuning; empty for a loaded encoder.
    """

    name: ClassVar[str] = "finetuned"
    learns_from_votes: ClassVar[bool] = True

    def __init__(
        self,
        model: str = BUNDLED_MODEL,
        *,
        tuning: FineTuningConfig | Mapping[str, Any] | None = None,
        backend: Backend = "auto",
        **reading: Unpack[ReadingOptions],
    ) -> None:
        super().__init__(ReadingConfig(model, **reading), backend)
        self._tuning = tuning if isinstance(tuning, FineTuningConfig) else FineTuningConfig.from_json(tuning or {})
        self._tuned: Arrays = {}
        self.history: list[EpochLog] = []

    @property
    def config(self) -> Mapping[str, Any]:
        """See `ReadingConfig` and `FineTuningConfig`."""
        return {**super().config, "tuning": asdict(self._tuning)}

    def _load(self) -> PairTransformer:
        """The backbone, with the tuned weights where there are any."""
        transformer = PairTransformer(self._reading)
        if self._tuned:
            choose_tuned_weights(transformer.network, self._tuning)
            set_tuned_weights(transformer.network, self._tuned)
        return transformer

    def encode(self, prompts: Sequence[str], responses: Sequence[str], batch_size: int) -> Float32Array:
        """Pooled vectors, float32, [n_pairs, dim].

        Raises:
            UsageError: the encoder is not tuned yet.
        """
        if not self._tuned:
            raise UsageError(
                "the text encoder 'finetuned' is not tuned yet. Fix: ModelBehaviorEncoder.train, which tunes it, or "
                "'semantic' for the backbone without tuning"
            )
        return super().encode(prompts, responses, batch_size)

    def fitted_on(self, votes: EncoderVotes, runtime: Runtime) -> Self:
        """Returns an encoder of the same configuration, tuned on these votes; this one stays unchanged.

        Every process of `runtime.group` must call this method, since they tune together.

        Raises:
            CollapseError: all pairs are mapped to one point, or the loss is not a number.
        """
        untuned = type(self)(**self.config)
        key = digest_of(votes.fingerprint, untuned.fingerprint)
        entry = runtime.cache.find(_KIND, key)
        is_everywhere = runtime.group.all_agree(entry is not None)
        if entry is None or not is_everywhere:
            entry = self._tune(votes, runtime, key)
            if runtime.group.is_first:
                runtime.cache.keep(_KIND, key, entry)
        fitted = self.with_tensors(entry.arrays)
        fitted.history = [EpochLog.from_json(log) for log in entry.metadata["history"]]
        return fitted

    def tensors(self) -> Arrays:
        """The tuned weights."""
        return self._tuned

    def with_tensors(self, arrays: Mapping[str, AnyArray]) -> Self:
        """Returns an encoder of the same configuration with tuned weights.

        Raises:
            UsageError: on first use, if the weights do not fit this backbone and mode.
        """
        tuned = type(self)(**self.config, backend=self._runs.execution.backend)
        tuned._tuned = dict(arrays)
        return tuned

    def _tune(self, votes: EncoderVotes, runtime: Runtime, key: str) -> CacheEntry:
        monitor = runtime.monitor
        tuner = FineTuner(PairTransformer(self._reading), votes, self._tuning, runtime.group)
        path = None if runtime.checkpoint is None else tuning_checkpoint(runtime.checkpoint)
        checkpoint = Checkpoint(path, key, runtime.group)
        if runtime.resume:
            checkpoint.restore(tuner)
        for log in tuner.history:
            monitor.on_tuning_round(log)

        def on_round(log: EpochLog) -> None:
            checkpoint.save(tuner)
            monitor.on_tuning_round(log)

        best = tuner.run(partial(monitor.on_progress, "fine-tuning"), on_round)
        return CacheEntry(best, {"history": [log.to_json() for log in tuner.history]})
