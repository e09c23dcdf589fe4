"""What a response says: a frozen sentence-transformers model over prompt and response together."""

from __future__ import annotations

from typing import ClassVar, final

from model_behavior.models.behavior.execution import Backend, Precision
from model_behavior.models.behavior.pair_transformer import BUNDLED_MODEL, PairTransformer, ReadingConfig
from model_behavior.models.behavior.pooling import PoolingMode
from model_behavior.models.behavior.transformer_encoder_base import TransformerEncoderBase


@final
class SentenceTransformerEncoder(TransformerEncoderBase):
    """Encodes pairs with a frozen `PairTransformer`.

    Args:
        model: this and the next four are those of `ReadingConfig`.
        backend: what runs the transformer; see `TransformerEncoderBase`.
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
        super().__init__(ReadingConfig(model, prompt_tokens, response_tokens, pooling, precision), backend)

    def _load(self) -> PairTransformer:
        return PairTransformer(self._reading)
