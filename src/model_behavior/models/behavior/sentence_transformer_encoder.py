"""What a response says: a frozen sentence-transformers model over prompt and response together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import cached_property
from typing import Any, ClassVar, final

from model_behavior.models.behavior.encoder_base import FloatArray, TextEncoderBase
from model_behavior.models.behavior.execution import Backend, Precision
from model_behavior.models.behavior.pair_transformer import BUNDLED_MODEL, PairTransformer, ReadingConfig
from model_behavior.models.behavior.pooling import PoolingMode
from model_behavior.models.behavior.transformer_runner import TransformerRuns
from model_behavior.preprocessing.cache import ContentCache


@final
class SentenceTransformerEncoder(TextEncoderBase):
    """Encodes pairs with a frozen `PairTransformer`.

    Args:
        model: this and the next four are those of `ReadingConfig`.
        backend: what runs the transformer; see `choose_execution`. It is no part of `config`, since what was trained
            with one library can be used with another: their vectors agree.
    """

    name: ClassVar[str] = "semantic"

    def __init__(
        self,
        model: str = BUNDLED_MODEL,
        prompt_tokens: int = ReadingConfig.prompt_tokens,
        response_tokens: int = ReadingConfig.response_tokens,
        pooling: PoolingMode = ReadingConfig.pooling,
        precision: Precision = ReadingConfig.precision,
        backend: Backend = "auto",
    ) -> None:
        self._reading = ReadingConfig(model, prompt_tokens, response_tokens, pooling, precision)
        self._runs = TransformerRuns(precision, backend)

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
        return PairTransformer(self._reading)

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
