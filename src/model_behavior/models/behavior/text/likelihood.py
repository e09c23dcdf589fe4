"""The text encoder `likelihood`: what a small language model makes of a response.

The model reads the prompt and the first tokens of the response, and predicts each. The statistics are those by which
generated text is told from people's: log-probabilities and ranks (GLTR, Gehrmann et al. 2019), and the surprise beyond
the entropy of the prediction, plain and in units of its own deviation (Fast-DetectGPT, Bao et al. 2024). A response
gains by an unusual but clumsy token as much as by an apt one: decision 0024 says what raises them besides quality.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, ClassVar, TypedDict, Unpack, final

import numpy as np

from model_behavior.arrays import Float32Array, Int64Array
from model_behavior.data.split import hash_prompts
from model_behavior.models.behavior.encoder_base import TextEncoderBase
from model_behavior.models.behavior.text.causal import (
    BUNDLED_CAUSAL_MODEL,
    CausalReader,
    CausalReadingConfig,
    TokenPredictions,
    bundled_digest,
    is_bundled,
)
from model_behavior.models.behavior.text.execution import Precision, choose_execution
from model_behavior.preprocessing.cache import ContentCache

_PARTS = ("start", "middle", "end")
_QUANTILES = (5, 25, 50, 75)
_RANKS = (1, 10, 100)
_LARGEST_SURPRISE = 2.0  # deviations of the prediction, up and down, beyond which one token counts no more

STATISTICS = (
    "log_probability_mean",
    "log_probability_deviation",
    *(f"log_probability_quantile_{share}" for share in _QUANTILES),
    "entropy_mean",
    "entropy_deviation",
    "best_mean",
    "excess_surprise",
    "excess_surprise_deviation",
    "excess_surprise_scaled",
    "excess_surprise_bounded",
    "log_rank_mean",
    *(f"rank_below_{rank}" for rank in _RANKS),
    *(f"{name}_{part}" for part in _PARTS for name in ("log_probability", "entropy", "excess_surprise")),
    "log_tokens",
)
"""Names of the columns of `describe`. Natural logarithms; shares are 0 to 1.

`excess_surprise` is the mean of -log p(token) less the entropy of the prediction there; `_scaled` divides it by the
root of the mean variance of log p under the predictions; `_bounded` is the mean over tokens of the excess in units of
the prediction's own deviation, each token's between -2 and 2, so that a few odd tokens cannot raise it.
`log_rank_mean` is the mean of log(1 + rank), `best_mean` the mean log-probability of the model's own choices, and
start, middle and end are thirds of the tokens that were read.
"""


class CausalReadingOptions(TypedDict, total=False):
    """The fields of `CausalReadingConfig` apart from the model, as keyword arguments; defaults as there."""

    prompt_tokens: int
    response_tokens: int
    precision: Precision


@final
class LikelihoodEncoder(TextEncoderBase):
    """Statistics of how well a causal language model predicts the response's first tokens, given the prompt.

    `feature_names` lists them in column order; all are 0 for an empty response. torch runs the model, whatever
    `use_backend` says: OpenVINO's bfloat16 products end the process with such a model, and its single precision is
    slower (decision 0024).

    Args:
        model: language model, see `CausalReadingConfig`.
        reading: token budgets and precision, see `CausalReadingConfig`.
    """

    name: ClassVar[str] = "likelihood"
    feature_names: ClassVar[tuple[str, ...]] = STATISTICS

    def __init__(self, model: str = BUNDLED_CAUSAL_MODEL, **reading: Unpack[CausalReadingOptions]) -> None:
        self._reading = CausalReadingConfig(model, **reading)
        self._execution = choose_execution("torch", self._reading.precision)
        self._cache = ContentCache()

    @property
    def dim(self) -> int:
        """Number of statistics."""
        return len(self.feature_names)

    @property
    def config(self) -> Mapping[str, Any]:
        """See `CausalReadingConfig`."""
        return asdict(self._reading)

    @property
    def cache_fingerprint(self) -> str:
        """The fingerprint, with the precision and device that run the model."""
        return f"{self.fingerprint} {self._execution}"

    def use_cache(self, cache: ContentCache) -> None:
        """Stores the unpacked weights in this cache."""
        self._cache = cache

    def weights_digest(self) -> str:
        """Hash of the weights; it tells other weights of the same name apart."""
        return self._digest

    def encode(self, prompts: Sequence[str], responses: Sequence[str], batch_size: int) -> Float32Array:
        """Computes the statistics of `feature_names`, float32, [n_pairs, dim]."""
        rows = [describe(predictions) for predictions in self._reader.predict(prompts, responses, batch_size)]
        return np.array(rows, dtype=np.float32).reshape(len(responses), self.dim)

    @cached_property
    def _digest(self) -> str:
        return bundled_digest() if is_bundled(self._reading.model) else self._reader.digest

    @cached_property
    def _reader(self) -> CausalReader:
        return CausalReader(self._reading, self._execution, self._cache)


def describe(predictions: TokenPredictions) -> Float32Array:
    """The statistics of one response, in the order of `STATISTICS`, float32, [n_statistics]."""
    log_probability, entropy = (
        values.astype(np.float64) for values in (predictions.log_probability, predictions.entropy)
    )
    n_tokens = len(log_probability)
    if not n_tokens:
        return np.zeros(len(STATISTICS), dtype=np.float32)
    excess = -log_probability - entropy
    variance = np.maximum(predictions.variance.astype(np.float64), 1e-6)
    bounded = np.clip(excess / np.sqrt(variance), -_LARGEST_SURPRISE, _LARGEST_SURPRISE)
    parts = [np.array_split(values, len(_PARTS)) for values in (log_probability, entropy, excess)]
    whole = [log_probability.mean(), entropy.mean(), excess.mean()]  # where a part has no token
    values = [
        log_probability.mean(),
        log_probability.std(),
        *np.percentile(log_probability, _QUANTILES),
        entropy.mean(),
        entropy.std(),
        predictions.best.mean(),
        excess.mean(),
        excess.std(),
        excess.mean() / np.sqrt(variance.mean()),
        bounded.mean(),
        np.log1p(predictions.rank).mean(),
        *((predictions.rank < rank).mean() for rank in _RANKS),
        *(
            kind[part].mean() if len(kind[part]) else mean
            for part in range(len(_PARTS))
            for kind, mean in zip(parts, whole, strict=True)
        ),
        np.log1p(n_tokens),
    ]
    return np.array(values, dtype=np.float32)


@dataclass(frozen=True, eq=False)
class KnownRange:
    """Range of the known models' mean statistics, beyond which a new model neither gains nor loses.

    A model can raise its surprise without answering better; within this range it passes at most for the known model
    with the most extreme statistics.

    Attributes:
        low: smallest mean of a known model, [n_statistics].
        high: largest mean of a known model, [n_statistics].
    """

    low: Float32Array
    high: Float32Array

    @classmethod
    def of(cls, means: Float32Array) -> KnownRange:
        """The range of the means of known models, [n_models, n_statistics]."""
        return cls(means.min(axis=0), means.max(axis=0))

    def clip(self, means: Float32Array) -> Float32Array:
        """Means of other models, moved into the range, [n_models, n_statistics]."""
        clipped: Float32Array = np.clip(means, self.low, self.high)
        return clipped


def sample_by_model(models: Sequence[str], prompts: Sequence[str], per_model: int) -> Int64Array:
    """Chooses responses where all would be too dear: of each model those to the prompts with the smallest hashes.

    All models rank prompts alike, so that models which answered the same prompts are compared on the same ones.

    Args:
        models: name of the model of each response, [n_responses].
        prompts: prompt of each response, [n_responses].
        per_model: largest number of responses of a model.

    Returns:
        Indices of the chosen responses, ascending.
    """
    order = np.argsort(hash_prompts(prompts), kind="stable")
    counts: dict[str, int] = {}
    chosen = []
    for row in order.tolist():
        counts[models[row]] = counts.get(models[row], 0) + 1
        if counts[models[row]] <= per_model:
            chosen.append(row)
    return np.sort(np.array(chosen, dtype=np.int64))
