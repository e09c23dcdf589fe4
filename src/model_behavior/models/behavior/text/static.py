"""The text encoder `static`: the mean of one fixed vector for each token of a response.

The vectors are a table in the format of Model2Vec (Tulkens and van Dongen 2024,
https://github.com/MinishLab/model2vec): any local folder or Hugging Face Hub id, or the default, which is distilled
from the bundled transformer. Distilling gives each token of the vocabulary to the transformer alone, keeps the
principal components of the vectors, and weighs a token by how rare it is (SIF: Arora, Liang and Ma 2017), its frequency
taken from its place in the vocabulary by Zipf's law.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Self, final

import numpy as np
import torch

from model_behavior.arrays import AnyArray, Arrays, Float32Array
from model_behavior.errors import MissingExtraError, UsageError
from model_behavior.models.behavior.encoder_base import TextEncoderBase, portions
from model_behavior.models.behavior.text.transformer import (
    BUNDLED_MODEL,
    PairTransformer,
    ReadingConfig,
    cut_characters,
    head_and_tail,
    locate_model,
)
from model_behavior.preprocessing.cache import ContentCache
from model_behavior.preprocessing.entry_file import CacheEntry, digest_of

DISTILLED_DIM = 256
_RECIPE = "1"  # of the distillation; part of the key of the cache
_SIF = 1e-4
_TOKENS_AT_ONCE = 1024
_FILES = ("model.safetensors", "tokenizer.json", "config.json")
_NESTED = "0_StaticEmbedding"
_ALLOWED = f"a local folder or Hugging Face Hub id in the format of Model2Vec, or {BUNDLED_MODEL!r}"


@dataclass(frozen=True)
class StaticConfig:
    """The table of `static`, and how much of a response it reads.

    Attributes:
        model: local folder or Hugging Face Hub id in the format of Model2Vec, or "all-MiniLM-L6-v2" for a table that is
            distilled from the weights that the `semantic` extra installs, once, in about a minute; the cache keeps it.
        response_tokens: most tokens of the response; of a longer one, half are of its head and half of its tail.
    """

    model: str = BUNDLED_MODEL
    response_tokens: int = 512

    def __post_init__(self) -> None:
        if self.response_tokens < 2:
            raise UsageError(f"response_tokens={self.response_tokens}: at least 2 are needed")


@dataclass(frozen=True, eq=False)
class TokenTable:
    """Vectors of tokens.

    Attributes:
        vectors: vector of each token, float16, [n_tokens, dim].
        tokenizer: tokenizer, as the JSON of `tokenizers`.
        normalise: True to scale the mean of a text's vectors to length 1.
    """

    vectors: AnyArray
    tokenizer: str
    normalise: bool

    def to_arrays(self) -> Arrays:
        """Named arrays, to be saved."""
        text = np.frombuffer(self.tokenizer.encode(), np.uint8)
        return {"vectors": self.vectors, "tokenizer": text, "normalise": np.array([self.normalise])}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, AnyArray]) -> Self:
        """The inverse of `to_arrays`.

        Raises:
            UsageError: the arrays are not those of a table.
        """
        if set(arrays) != {"vectors", "tokenizer", "normalise"}:
            raise UsageError(
                f"text encoder 'static' was given {', '.join(sorted(arrays))}; a table of tokens is needed"
            )
        return cls(arrays["vectors"], arrays["tokenizer"].tobytes().decode(), bool(arrays["normalise"][0]))


@final
class StaticEncoder(TextEncoderBase):
    """Mean of the vectors of a response's tokens, unknown ones left out; prompts are ignored.

    A saved encoder has its table with it (30 thousand tokens of 256 columns are 16 MB), so that loading needs neither
    the folder nor the transformer that it came from.

    Args:
        model: table, see `StaticConfig`.
        response_tokens: most tokens of a response.
    """

    name: ClassVar[str] = "static"

    def __init__(self, model: str = BUNDLED_MODEL, response_tokens: int = StaticConfig.response_tokens) -> None:
        self._static = StaticConfig(model, response_tokens)
        self._cache = ContentCache()
        self._given: TokenTable | None = None

    @property
    def dim(self) -> int:
        """Number of columns of the table."""
        return int(self._table.vectors.shape[1])

    @property
    def config(self) -> Mapping[str, Any]:
        """See `StaticConfig`."""
        return dict(vars(self._static))

    def use_cache(self, cache: ContentCache) -> None:
        """Stores the distilled table in this cache."""
        self._cache = cache

    def weights_digest(self) -> str:
        """Hash of table and tokenizer."""
        return self._digest

    def encode(self, prompts: Sequence[str], responses: Sequence[str], batch_size: int) -> Float32Array:
        """Means of token vectors, float32, [n_pairs, dim]; 0 for a response without a known token."""
        parts = [self._encode(responses[part]) for part in portions(responses, batch_size)]
        return np.concatenate(parts) if parts else np.empty((0, self.dim), np.float32)

    def tensors(self) -> Arrays:
        """The table."""
        return self._table.to_arrays()

    def with_tensors(self, arrays: Mapping[str, AnyArray]) -> Self:
        """Returns an encoder of the same configuration with this table.

        Raises:
            UsageError: the arrays are not those of a table.
        """
        other = type(self)(**self.config)
        other._given = TokenTable.from_arrays(arrays)
        return other

    @cached_property
    def _table(self) -> TokenTable:
        return load_table(self._static.model, self._cache) if self._given is None else self._given

    @cached_property
    def _digest(self) -> str:
        return digest_of(*(value for _, value in sorted(self._table.to_arrays().items())))

    @cached_property
    def _tokenizer(self) -> Any:
        return _open_tokenizer(self._table.tokenizer)

    @cached_property
    def _unknown(self) -> int | None:
        token = getattr(self._tokenizer.model, "unk_token", None)
        found: int | None = None if token is None else self._tokenizer.token_to_id(token)
        return found

    @cached_property
    def _vectors(self) -> torch.Tensor:
        return torch.from_numpy(self._table.vectors.astype(np.float32))

    def _encode(self, responses: Sequence[str]) -> Float32Array:
        budget, unknown = self._static.response_tokens, self._unknown
        texts = [cut_characters(text, budget) for text in responses]
        found = self._tokenizer.encode_batch_fast(texts, add_special_tokens=False)
        ids = [head_and_tail([token for token in each.ids if token != unknown], budget) for each in found]
        offsets = np.cumsum([0, *map(len, ids[:-1])])
        flat = np.fromiter((token for each in ids for token in each), np.int64, sum(map(len, ids)))
        means = torch.nn.functional.embedding_bag(
            torch.from_numpy(flat), self._vectors, torch.from_numpy(offsets), mode="mean"
        )
        vectors: Float32Array = means.numpy()
        if self._table.normalise:
            vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), np.finfo(np.float32).tiny)
        return vectors


def load_table(model: str, cache: ContentCache) -> TokenTable:
    """The table of a name.

    Args:
        model: see `StaticConfig`.
        cache: cache that keeps the distilled table.

    Raises:
        MissingExtraError: what reads or distils it is not installed.
        UsageError: there is no such table.
    """
    if model == BUNDLED_MODEL and not Path(model).exists():
        with (Path(locate_model(model)) / "model.safetensors").open("rb") as file:
            weights = hashlib.file_digest(file, "sha256").hexdigest()
        entry = cache.get_or_build("exports", digest_of("static", _RECIPE, weights), _distil_bundled)
        return TokenTable.from_arrays(entry.arrays)
    return read_table(_locate(model))


def read_table(folder: Path) -> TokenTable:
    """Reads a folder in the format of Model2Vec, or of a sentence-transformers model that is one static embedding.

    `embeddings` [n_rows, dim], with `mapping` the row of each token, and with `weights` a factor for each token; or
    `embedding.weight` [n_tokens, dim]. The table has the products.

    Raises:
        UsageError: files are missing, damaged, or do not belong together.
    """
    place = folder / _NESTED if (folder / _NESTED).is_dir() else folder
    try:
        from safetensors.numpy import load_file

        arrays = load_file(place / "model.safetensors")
        text = (place / "tokenizer.json").read_text("utf-8")
        settings = folder / "config.json"
        config = json.loads(settings.read_text("utf-8")) if settings.exists() else {}
        stored = arrays["embeddings"] if "embeddings" in arrays else arrays["embedding.weight"]
        vectors = stored.astype(np.float32)
        if "mapping" in arrays:
            vectors = vectors[arrays["mapping"]]
        if "weights" in arrays:
            vectors = vectors * arrays["weights"].astype(np.float32)[:, None]
        n_tokens = _open_tokenizer(text).get_vocab_size()
    except MissingExtraError:
        raise
    except Exception as error:  # of safetensors, tokenizers, JSON and NumPy alike
        raise UsageError(f"no static embeddings in {str(folder)!r}: {error}. Allowed: {_ALLOWED}") from error
    if vectors.ndim != 2 or len(vectors) < n_tokens or not np.isfinite(vectors).all():
        raise UsageError(
            f"static embeddings in {str(folder)!r} of shape {vectors.shape} for {n_tokens} tokens: "
            "one finite vector for each token is needed"
        )
    return TokenTable(vectors.astype(np.float16), text, bool(config.get("normalize", False)))


def distil(transformer: PairTransformer, dim: int = DISTILLED_DIM) -> TokenTable:
    """A table from a transformer: its vector of each token alone, reduced to `dim` components and weighted."""
    network = transformer.network
    ids = _frame(network.tokenizer)
    vectors = np.empty((len(ids), transformer.dim), np.float32)
    with torch.inference_mode():
        for start in range(0, len(ids), _TOKENS_AT_ONCE):
            part = torch.from_numpy(ids[start : start + _TOKENS_AT_ONCE]).to(transformer.device)
            vectors[start : start + len(part)] = transformer(part, torch.ones_like(part)).cpu().numpy()
    reduced = _principal(vectors, dim) * weigh_by_rank(len(vectors))[:, None]
    text = network.tokenizer.backend_tokenizer.to_str()
    return TokenTable(reduced.astype(np.float16), text, normalise=True)


def _distil_bundled() -> CacheEntry:
    return CacheEntry(distil(PairTransformer(ReadingConfig(precision="f32"))).to_arrays(), {})


def weigh_by_rank(n_tokens: int) -> Float32Array:
    """a / (a + p) with p the frequency of the token at each place, which falls as 1 / place, [n_tokens]."""
    inverse = 1 / np.arange(2, n_tokens + 2)
    weights: Float32Array = (_SIF / (_SIF + inverse / inverse.sum())).astype(np.float32)
    return weights


def _principal(vectors: Float32Array, dim: int) -> AnyArray:
    """The first principal components, the largest entry of each direction positive, [n, dim]."""
    centred = vectors.astype(np.float64) - vectors.mean(axis=0, dtype=np.float64)
    _, directions = np.linalg.eigh(centred.T @ centred)
    directions = directions[:, ::-1][:, :dim]
    largest = np.take_along_axis(directions, np.abs(directions).argmax(axis=0)[None], axis=0)
    components: AnyArray = centred @ (directions * np.where(largest < 0, -1.0, 1.0))
    return components


def _frame(tokenizer: Any) -> AnyArray:
    """Every token between the special tokens that begin and end a text, int64, [n_tokens, up to 3]."""
    ids = np.arange(len(tokenizer))
    special = (tokenizer.cls_token_id, tokenizer.sep_token_id)
    first, last = ([] if each is None else [np.full_like(ids, each)] for each in special)
    return np.stack([*first, ids, *last], axis=1)


def _open_tokenizer(text: str) -> Any:
    try:
        from tokenizers import Tokenizer
    except ImportError as error:
        raise MissingExtraError("the text encoder 'static'", "semantic") from error
    tokenizer = Tokenizer.from_str(text)
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer


def _locate(model: str) -> Path:
    """The local folder of a name; a name that is no folder is fetched from the Hugging Face Hub."""
    if Path(model).is_dir():
        return Path(model)
    try:
        from huggingface_hub import snapshot_download
    except ImportError as error:
        raise MissingExtraError("static embeddings of the Hugging Face Hub", "hub") from error
    try:
        patterns = [*_FILES, *(f"{_NESTED}/{name}" for name in _FILES)]
        return Path(snapshot_download(model, allow_patterns=patterns))
    except (OSError, ValueError) as error:
        raise UsageError(f"cannot load the static embeddings {model!r}: {error}. Allowed: {_ALLOWED}") from error
