"""The text encoder `lexical`: hashed counts of the words, punctuation and word pairs of a response."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, final

import numpy as np
from scipy import sparse

from model_behavior.errors import UsageError
from model_behavior.models.behavior.encoder_base import TextEncoderBase, portions
from model_behavior.models.behavior.text.tokens import Tokens, char_ngrams, tokenize, word_ngrams


@final
class LexicalEncoder(TextEncoderBase):
    """Counts of hashed n-grams of the response (the hashing trick, Weinberger et al. 2009).

    Args:
        word_sizes: sizes of the word and punctuation n-grams.
        char_sizes: sizes of the byte n-grams, none by default.
        bits: binary logarithm of the number of columns; two n-grams share a column with probability 2**-bits.
    """

    name: ClassVar[str] = "lexical"
    version: ClassVar[int] = 2

    def __init__(self, word_sizes: Sequence[int] = (1, 2), char_sizes: Sequence[int] = (), bits: int = 20) -> None:
        if not (word_sizes or char_sizes) or min(*word_sizes, *char_sizes, 1) < 1 or not 1 <= bits <= 30:
            raise UsageError(
                f"word_sizes={word_sizes}, char_sizes={char_sizes}, bits={bits}: at least one size of 1 or more is "
                "needed, and 1 to 30 bits"
            )
        self.word_sizes = tuple(word_sizes)
        self.char_sizes = tuple(char_sizes)
        self.bits = bits

    @property
    def dim(self) -> int:
        """Number of columns, 2**bits."""
        return 1 << self.bits

    @property
    def config(self) -> Mapping[str, Any]:
        """See the class."""
        return {"word_sizes": list(self.word_sizes), "char_sizes": list(self.char_sizes), "bits": self.bits}

    def encode(self, prompts: Sequence[str], responses: Sequence[str], batch_size: int) -> sparse.csr_matrix:
        """Counts n-grams of the responses as CSR, float32, [n_pairs, dim]; prompts are ignored."""
        batches = [self._count(responses[part]) for part in portions(responses, batch_size)]
        if len(batches) == 1:
            return batches[0]
        return sparse.vstack(batches, format="csr") if batches else sparse.csr_matrix((0, self.dim), dtype=np.float32)

    def _count(self, texts: Sequence[str]) -> sparse.csr_matrix:
        words = tokenize(texts)
        grams: list[Tokens] = [word_ngrams(words, size) for size in self.word_sizes]
        grams += [char_ngrams(texts, size) for size in self.char_sizes]
        columns = np.concatenate([gram.hashes for gram in grams]) >> np.uint64(64 - self.bits)
        rows = np.concatenate([gram.text for gram in grams])
        ordered = np.sort(rows << self.bits | columns.astype(np.int64))
        first = np.flatnonzero(np.diff(ordered, prepend=-1))
        keys, counts = ordered[first], np.diff(first, append=len(ordered))
        indptr = np.searchsorted(keys, np.arange(len(texts) + 1, dtype=np.int64) << self.bits)
        indices = (keys & (self.dim - 1)).astype(np.int32)
        return sparse.csr_matrix(
            (counts.astype(np.float32), indices, indptr.astype(np.int64)), shape=(len(texts), self.dim)
        )
