"""The interface of everything that turns a (prompt, response) pair into numbers before training."""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar, TypeAlias

import numpy as np
import numpy.typing as npt

from model_behavior.models.behavior.execution import Backend
from model_behavior.preprocessing.cache import ContentCache
from model_behavior.preprocessing.feature_cache import Features

FloatArray: TypeAlias = npt.NDArray[np.float32]


_CHARACTERS_AT_ONCE = 2_000_000


def portions(texts: Sequence[str], batch_size: int) -> Iterator[slice]:
    """Consecutive parts of at most `batch_size` texts and, where one text is not longer, 2 million characters."""
    start = characters = 0
    for index, text in enumerate(texts):
        if index > start and (index - start == batch_size or characters + len(text) > _CHARACTERS_AT_ONCE):
            yield slice(start, index)
            start, characters = index, 0
        characters += len(text)
    if start < len(texts):
        yield slice(start, len(texts))


class TextEncoderBase(ABC):
    """A frozen encoder of (prompt, response) pairs.

    Nothing in it is fitted on votes: what it gives for a pair depends on the pair and on its configuration
    alone, so that its output can be cached by content. Scaling, weighting and projection are learned by
    `ModelBehaviorEncoder` on top of it.
    """

    name: ClassVar[str]
    """The name on the command line and in saved configurations."""

    version: ClassVar[int] = 1
    """Part of the fingerprint; goes up when the same configuration gives other numbers."""

    @property
    @abstractmethod
    def dim(self) -> int:
        """Number of columns of what `encode` returns."""

    @property
    @abstractmethod
    def config(self) -> Mapping[str, Any]:
        """The constructor's arguments, as JSON values: `type(encoder)(**encoder.config)` is an equal encoder."""

    @abstractmethod
    def encode(self, prompts: Sequence[str], responses: Sequence[str], batch_size: int) -> Features:
        """Encodes pairs, in order.

        Args:
            prompts: [n_pairs].
            responses: [n_pairs].
            batch_size: pairs handled at once, where that matters for memory.

        Returns:
            [n_pairs, dim], dense or sparse, always the same kind for one encoder.
        """

    @property
    def fingerprint(self) -> str:
        """Hash of everything that decides the output: name, version, configuration and weights."""
        text = json.dumps([self.name, self.version, self.weights_digest(), dict(self.config)], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()

    @property
    def cache_fingerprint(self) -> str:
        """Names cached output: the fingerprint, and what else changes the numbers, be it in the last digits."""
        return self.fingerprint

    def use_cache(self, cache: ContentCache) -> None:  # noqa: B027 - nothing to do for most
        """Told where files that are derived from the weights may be kept; most encoders have none."""

    def use_backend(self, backend: Backend) -> None:  # noqa: B027
        """Told which library is to run a transformer; most encoders have none."""

    def weights_digest(self) -> str:
        """Hash of the weights, "" for an encoder without weights."""
        return ""
