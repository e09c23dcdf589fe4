"""Prompts by a short key, so that what was trained on can be recognised without being kept."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from model_behavior.data.split import normalise_prompt

PromptKeys = npt.NDArray[np.uint64]


def hash_prompts(prompts: Sequence[str]) -> PromptKeys:
    """The 8-byte BLAKE2b digest of each normalised prompt, [n_prompts]; equal for prompts equal once normalised.

    Among a million prompts the chance that any two share a key is below 1 in 10 million.
    """
    return np.fromiter((hash_text(normalise_prompt(prompt)) for prompt in prompts), np.uint64, len(prompts))


def hash_text(text: str) -> int:
    """The 8-byte BLAKE2b digest of a text as it stands, as an unsigned integer."""
    return int.from_bytes(hashlib.blake2b(text.encode("utf-8", "replace"), digest_size=8).digest(), "little")
