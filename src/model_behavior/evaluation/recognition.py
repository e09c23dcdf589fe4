"""Which model, or which family, wrote k responses: the nearest mean embedding."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from model_behavior.evaluation.figures import Figure, interval, resample_prompts
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


@dataclass(frozen=True, eq=False)
class Drawn:
    """Groups of k responses: rows, [n_draws, k], and the model of each group, [n_draws]."""

    rows: npt.NDArray[np.int64]
    model: npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Guesses:
    """The true and the guessed model of each group, [n_draws] each."""

    model: npt.NDArray[np.int64]
    guessed: npt.NDArray[np.int64]


Recognised = Mapping[int, Sequence[Guesses]]
"""By k: the guesses that the estimate is made of, then those of each bootstrap replicate."""

RecognitionDraws = Mapping[int, Sequence[Drawn]]
"""By k: the groups that the estimate is made of, then those of each bootstrap replicate."""


def draw_recognition(responses: HeldResponses, seed: int) -> RecognitionDraws:
    """Draws the groups to recognise, which several embeddings of the same responses can share.

    Args:
        responses: of which models and prompts are looked at.
        seed: of draws and of the bootstrap, which draws whole prompts.
    """
    sizes = {k: _draw(responses, k, seed) for k in IDENTIFICATION_SIZES}
    return {k: drawn for k, drawn in sizes.items() if drawn}


def recognise(responses: HeldResponses, draws: RecognitionDraws) -> Recognised:
    """The known model with the nearest mean for every group; a k that no model has enough responses for is left out.

    Args:
        responses: to recognise.
        draws: groups of them, from `draw_recognition`.
    """
    missing = np.isnan(responses.known).any(axis=1)
    known = np.nan_to_num(metrics.normalise(responses.known)).T

    def guess(drawn: Drawn) -> Guesses:
        similarity = responses.embeddings[drawn.rows].mean(axis=1) @ known
        similarity[:, missing] = -np.inf
        return Guesses(drawn.model, similarity.argmax(axis=1))

    return {k: [guess(drawn) for drawn in groups] for k, groups in draws.items()}


def share_right(recognised: Recognised, label: npt.NDArray[np.integer] | None = None) -> dict[int, Figure]:
    """Share right for each k.

    Args:
        recognised: by `recognise`.
        label: what counts as right is the same label, such as the family, [n_models]; the same model by default.
    """

    def share(guesses: Guesses) -> float:
        if not len(guesses.model):
            return float("nan")
        if label is None:
            return float((guesses.guessed == guesses.model).mean())
        return float((label[guesses.guessed] == label[guesses.model]).mean())

    figures = {}
    for k, (whole, *replicates) in recognised.items():
        low, high = interval(np.array([share(guesses) for guesses in replicates]))
        figures[k] = Figure(share(whole), low, high, len(whole.model))
    return figures


def chance_of_recognition(responses: HeldResponses, label: npt.NDArray[np.integer] | None = None) -> float:
    """Share right when a known model is chosen blindly, each asked for equally often; NaN where none is known."""
    known = np.flatnonzero(~np.isnan(responses.known).any(axis=1))
    asked = np.unique(responses.model)
    if not len(known) or not len(asked):
        return float("nan")
    label = np.arange(len(responses.known)) if label is None else label
    return float((label[asked][:, None] == label[known][None, :]).mean())


def _draw(responses: HeldResponses, k: int, seed: int) -> list[Drawn]:
    rng = np.random.default_rng(seed)

    def draw(rows: npt.NDArray[np.int64], draws: int) -> Drawn:
        # A prompt that was drawn twice counts twice, but never gives the same response twice to one mean.
        distinct, times = np.unique(rows, return_counts=True)
        groups, truth = metrics.draw_groups(responses.model[distinct], k, draws, rng, times)
        return Drawn(distinct[groups], truth)

    whole = draw(np.arange(len(responses.model)), _DRAWS)
    if not len(whole.model):
        return []
    return [whole, *(draw(rows, _DRAWS // 4) for rows in resample_prompts(responses.prompt, _REPLICATES, rng))]
