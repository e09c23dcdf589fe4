"""Whether an embedding has collapsed, and what its variance is about: with intervals."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from model_behavior.evaluation.figures import Figure, bootstrap_prompts
from model_behavior.models.behavior import metrics
from model_behavior.models.behavior.encoder_base import FloatArray

_REPLICATES = 50

_Rows = npt.NDArray[np.int64]


def measure_collapse(
    embeddings: FloatArray, model: npt.NDArray[np.integer], prompt: npt.NDArray[np.integer], seed: int
) -> dict[str, Figure]:
    """Mean pairwise cosine distance, effective rank, and the shares of variance that prompt and model explain.

    Args:
        embeddings: of some responses, [n_rows, dim].
        model: of each, [n_rows].
        prompt: of each, [n_rows].
        seed: of the bootstrap, which draws whole prompts.
    """

    def effective_rank(rows: _Rows) -> float:
        # A row that was drawn twice adds no direction; so the interval lies a little below the estimate.
        return metrics.effective_rank(embeddings[rows]) if embeddings.shape[1] > 1 else 1.0

    figures: dict[str, Callable[[_Rows], float]] = {
        "mean_distance": lambda rows: metrics.mean_pairwise_distance(embeddings[rows]),
        "effective_rank": effective_rank,
        "prompt_share": lambda rows: metrics.variance_explained(embeddings[rows], _copies_apart(rows, prompt)),
        "model_share": lambda rows: metrics.variance_explained(embeddings[rows], model[rows]),
    }
    everything = np.arange(len(embeddings))
    measured = {}
    for name, figure in figures.items():
        low, high = bootstrap_prompts(prompt, figure, _REPLICATES, np.random.default_rng(seed))
        measured[name] = Figure(figure(everything), low, high, len(embeddings))
    return measured


def _copies_apart(rows: _Rows, prompt: npt.NDArray[np.integer]) -> npt.NDArray[np.int64]:
    """The prompt of each row, where a prompt drawn twice is two prompts, as two draws from a population would be."""
    order = np.argsort(rows, kind="stable")
    copy = np.empty(len(rows), dtype=np.int64)
    copy[order] = np.arange(len(rows)) - np.searchsorted(rows[order], rows[order])
    labels: npt.NDArray[np.int64] = prompt[rows].astype(np.int64) * (int(copy.max(initial=0)) + 1) + copy
    return labels
