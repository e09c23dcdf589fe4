"""Whether an embedding has collapsed, and what its variance is about: with intervals."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from model_behavior.evaluation.figures import Figure, interval
from model_behavior.models.behavior import metrics
from model_behavior.models.behavior.encoder_base import FloatArray

_REPLICATES = 100

_Rows = npt.NDArray[np.int64]


def measure_collapse(
    embeddings: FloatArray, model: npt.NDArray[np.integer], prompt: npt.NDArray[np.integer], seed: int
) -> dict[str, Figure]:
    """Mean pairwise cosine distance, effective rank, and the shares of variance that prompt and model explain.

    Intervals are of halves of the prompts, drawn without replacement: their figures vary as much as those of as many
    prompts from a population (McCarthy 1969). Copies of a response, as the bootstrap draws them, would pass for
    agreement.

    Args:
        embeddings: of some responses, [n_rows, dim].
        model: of each, [n_rows].
        prompt: of each, [n_rows].
        seed: of the halves.
    """
    figures: dict[str, Callable[[_Rows], float]] = {
        "mean_distance": lambda rows: metrics.mean_pairwise_distance(embeddings[rows]),
        "effective_rank": lambda rows: metrics.effective_rank(embeddings[rows]) if embeddings.shape[1] > 1 else 1.0,
        "prompt_share": lambda rows: metrics.variance_explained(embeddings[rows], prompt[rows]),
        "model_share": lambda rows: metrics.variance_explained(embeddings[rows], model[rows]),
    }
    halves = _draw_halves(prompt, np.random.default_rng(seed))
    everything = np.arange(len(embeddings))
    measured = {}
    for name, figure in figures.items():
        value = figure(everything)
        replicates = np.array([figure(half) for half in halves]) if halves else np.full(1, np.nan)
        # Half as many responses have a lower rank; only how far the halves scatter is taken from them.
        low, high = interval(value + replicates - np.mean(replicates))
        measured[name] = Figure(value, low, high, len(embeddings))
    return measured


def _draw_halves(prompt: npt.NDArray[np.integer], rng: np.random.Generator) -> list[_Rows]:
    """The rows of half of the prompts, again and again; none with fewer than four prompts."""
    distinct = np.unique(prompt)
    if len(distinct) < 4:
        return []
    return [
        np.flatnonzero(np.isin(prompt, rng.permutation(distinct)[: len(distinct) // 2])) for _ in range(_REPLICATES)
    ]
