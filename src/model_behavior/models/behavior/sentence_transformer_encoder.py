"""What a response says: a frozen sentence-transformers model over prompt and response together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import cached_property
from typing import Any, ClassVar, final

from model_behavior.models.behavior.encoder_base import FloatArray, TextEncoderBase
from model_behavior.models.behavior.pair_transformer import BUNDLED_MODEL, PairTransformer, Precision, ReadingConfig
from model_behavior.models.behavior.pooling import PoolingMode


@final
class SentenceTransformerEncoder(TextEncoderBase):
    """Encodes pairs with a frozen `PairTransformer`. The arguments are those of `ReadingConfig`."""

    name: ClassVar[str] = "semantic"

    def __init__(
        self,
        model: str = BUNDLED_MODEL,
        prompt_tokens: int = ReadingConfig.prompt_tokens,
        response_tokens: int = ReadingConfig.response_tokens,
        pooling: PoolingMode = ReadingConfig.pooling,
        precision: Precision = ReadingConfig.precision,
    ) -> None:
        self._reading = ReadingConfig(model, prompt_tokens, response_tokens, pooling, precision)

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
        return self._transformer.encode(prompts, responses, batch_size)
