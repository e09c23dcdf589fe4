"""What the text encoders with a transformer have in common: one `PairTransformer`, and how it is run."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import cached_property
from typing import Any

from model_behavior.models.behavior.encoder_base import FloatArray, TextEncoderBase
from model_behavior.models.behavior.execution import Backend
from model_behavior.models.behavior.pair_transformer import PairTransformer, ReadingConfig
from model_behavior.models.behavior.transformer_runner import TransformerRuns
from model_behavior.preprocessing.cache import ContentCache


class TransformerEncoderBase(TextEncoderBase):
    """A text encoder that gives the pooled vectors of a transformer.

    Args:
        reading: which transformer, and how much of a pair it reads.
        backend: what runs it; see `choose_execution`. It is no part of `config`, since what was trained with one
            library can be used with another: their vectors agree.
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
        """Hash of every parameter, so that other weights under the same name are other vectors."""
        return self._digest

    @cached_property
    def _digest(self) -> str:
        return self._transformer.digest()

    def encode(self, prompts: Sequence[str], responses: Sequence[str], batch_size: int) -> FloatArray:
        """Pooled vectors, float32, [n_pairs, dim]."""
        runner = self._runs.start(self._transformer, self.weights_digest())
        return runner.run(self._transformer.tokenize(prompts, responses), batch_size)

    @property
    def cache_fingerprint(self) -> str:
        """The fingerprint, and how the transformer is run."""
        return f"{self.fingerprint} {self._runs.execution}"

    def use_cache(self, cache: ContentCache) -> None:
        """Keeps the export of the transformer there."""
        self._runs.cache = cache

    def use_backend(self, backend: Backend) -> None:
        """Chooses what runs the transformer; see `choose_execution`."""
        self._runs.choose(backend)
