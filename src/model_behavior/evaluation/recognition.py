"""Which model, or which family, wrote k responses: the nearest mean embedding."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from model_behavior.evaluation.figures import Figure, bootstrap_prompts
from model_behavior.models.behavior import metrics
from model_behavior.models.behavior.encoder_base import FloatArray

IDENTIFICATION_SIZES = (1, 8, 32)
_DRAWS = 20
_REPLICATES = 100


@dataclass(frozen=True, eq=False)
class HeldResponses:
    """Responses that nothing was fitted to, and the models to choose from.

    Attributes:
        embeddings: [n_rows, dim].
        model: index into `known` of each row, [n_rows].
        prompt: of each row, [n_rows].
        known: mean embedding of each model from other responses, [n_models, dim]; rows of NaN cannot be chosen.
    """

    embeddings: FloatArray
    model: npt.NDArray[np.integer]
    prompt: npt.NDArray[np.integer]
    known: FloatArray


def measure_recognition(
    responses: HeldResponses, seed: int, label: npt.NDArray[np.integer] | None = None
) -> dict[int, Figure]:
    """Share right for each k of `IDENTIFICATION_SIZES`; a k that no model has enough responses for is left out.

    Args:
        responses: to recognise.
        seed: of draws and of the bootstrap, which draws whole prompts.
        label: what counts as right is the same label, such as the family, [n_models]; the same model by default.
    """
    label = np.arange(len(responses.known)) if label is None else label
    sizes = {k: _recognise(responses, label, k, seed) for k in IDENTIFICATION_SIZES}
    return {k: figure for k, figure in sizes.items() if figure is not None}


def chance_of_recognition(responses: HeldResponses, label: npt.NDArray[np.integer] | None = None) -> float:
    """Share right when a known model is chosen blindly, each asked for equally often; NaN where none is known."""
    known = np.flatnonzero(~np.isnan(responses.known).any(axis=1))
    asked = np.unique(responses.model)
    if not len(known) or not len(asked):
        return float("nan")
    label = np.arange(len(responses.known)) if label is None else label
    return float((label[asked][:, None] == label[known][None, :]).mean())


def _recognise(responses: HeldResponses, label: npt.NDArray[np.integer], k: int, seed: int) -> Figure | None:
    rng = np.random.default_rng(seed)
    missing = np.isnan(responses.known).any(axis=1)
    known = np.nan_to_num(metrics.normalise(responses.known)).T

    def share(rows: npt.NDArray[np.int64], draws: int) -> tuple[float, int]:
        # A prompt that was drawn twice counts twice, but never gives the same response twice to one mean.
        distinct, times = np.unique(rows, return_counts=True)
        groups, truth = metrics.draw_groups(responses.model[distinct], k, draws, rng, times)
        if not len(truth):
            return float("nan"), 0
        similarity = responses.embeddings[distinct][groups].mean(axis=1) @ known
        similarity[:, missing] = -np.inf
        return float((label[similarity.argmax(axis=1)] == label[truth]).mean()), len(truth)

    value, n_draws = share(np.arange(len(responses.model)), _DRAWS)
    if not n_draws:
        return None
    low, high = bootstrap_prompts(responses.prompt, lambda rows: share(rows, _DRAWS // 4)[0], _REPLICATES, rng)
    return Figure(value, low, high, n_draws)
