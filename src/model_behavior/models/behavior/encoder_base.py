"""The interface of text encoders, which turn (prompt, response) pairs into numbers before training."""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

from model_behavior.arrays import AnyArray, Arrays
from model_behavior.errors import UsageError
from model_behavior.models.behavior.monitor import Runtime
from model_behavior.models.behavior.text.execution import Backend
from model_behavior.models.behavior.validation import EncoderVotes
from model_behavior.preprocessing.cache import ContentCache
from model_behavior.preprocessing.feature_cache import Features

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

    Its output for a pair depends only on the pair, its configuration and its weights, so that it can be cached by
    content. `ModelBehaviorEncoder` learns scaling, weighting and projection on top of it. A text encoder that learns
    from votes does so once, in `fitted_on`, before anything is encoded; most learn nothing.
    """

    name: ClassVar[str]
    """The name on the command line and in saved configurations."""

    version: ClassVar[int] = 1
    """Part of the fingerprint; goes up when the same configuration gives other numbers."""

    learns_from_votes: ClassVar[bool] = False
    """Whether it must be `fitted_on` votes before it can encode."""

    @property
    @abstractmethod
    def dim(self) -> int:
        """Number of columns of what `encode` returns."""

    @property
    @abstractmethod
    def config(self) -> Mapping[str, Any]:
        """The constructor's arguments, as JSON values.

        `type(encoder)(**encoder.config).with_tensors(encoder.tensors())` is an equal encoder.
        """

    @abstractmethod
    def encode(self, prompts: Sequence[str], responses: Sequence[str], batch_size: int) -> Features:
        """Encodes pairs, in order.

        Args:
            prompts: prompts, [n_pairs].
            responses: responses to them, [n_pairs].
            batch_size: number of pairs handled at once, to bound memory.

        Returns:
            Features, [n_pairs, dim], dense or sparse, always the same kind for one encoder.
        """

    @property
    def fingerprint(self) -> str:
        """Hash of everything that decides the output: name, version, configuration and weights."""
        return self.fingerprint_with(self.config)

    def fingerprint_with(self, config: Mapping[str, Any]) -> str:
        """The fingerprint with another form of the configuration, such as one saved by an earlier release."""
        text = json.dumps([self.name, self.version, self.weights_digest(), dict(config)], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()

    @property
    def cache_fingerprint(self) -> str:
        """Key of cached output: the fingerprint, and all else that changes the numbers, even in the last digits."""
        return self.fingerprint

    def use_cache(self, cache: ContentCache) -> None:  # noqa: B027 - nothing to do for most
        """Sets the cache for files that are derived from the weights; most encoders have none."""

    def use_backend(self, backend: Backend) -> None:  # noqa: B027
        """Sets the library that runs a transformer; most encoders have none."""

    def weights_digest(self) -> str:
        """Hash of the weights, "" for an encoder without weights."""
        return ""

    def fitted_on(self, votes: EncoderVotes, runtime: Runtime) -> TextEncoderBase:
        """Returns an encoder of the same configuration that has learned from votes; itself if it learns nothing.

        Args:
            votes: votes to learn from.
            runtime: cache, progress and checkpoint.
        """
        del votes, runtime
        return self

    def tensors(self) -> Arrays:
        """Weights learned from votes, for `with_tensors`."""
        return {}

    def with_tensors(self, arrays: Mapping[str, AnyArray]) -> TextEncoderBase:
        """Returns an encoder of the same configuration with these learned weights.

        Raises:
            UsageError: the weights are not those of such an encoder.
        """
        if arrays:
            raise UsageError(f"text encoder {self.name!r} learns nothing, but was given {', '.join(sorted(arrays))}")
        return self
