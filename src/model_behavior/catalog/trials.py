"""Trials with a known answer, that identification is calibrated on."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from model_behavior.catalog.calibration import Trials
from model_behavior.catalog.evidence import Evidence, mean_ratios
from model_behavior.catalog.two_covariance import FloatArray
from model_behavior.data.families import number_families
from model_behavior.errors import DataError

TRIAL_SIZES = (1, 2, 4, 8, 16, 32, 64, 128)
_DRAWS_PER_MODEL = 4


def draw_trials(evidence: Evidence, rng: np.random.Generator) -> Trials:
    """Means of k responses of one model each: once with the model known, once without it, once without its family.

    A new model may or may not have relatives in the catalog, so that half of the unknown ones have. The responses of a
    trial answer prompts that no model is known by: models answer a prompt alike, and the encoder places responses that
    it was trained on closer together than new ones.

    Raises:
        DataError: too few prompts in common.
    """
    style_rows, embedded_rows = evidence.shared()
    prompt, owner = evidence.styles.prompt[style_rows], evidence.styles.owner[style_rows]
    family = number_families(evidence.names)
    parts: list[Trials] = []
    for asked in _asked_prompts(evidence):
        rows = np.flatnonzero(np.isin(prompt, asked))
        if len(np.unique(evidence.styles.owner[~np.isin(evidence.styles.prompt, asked)])) < 2:
            continue
        known = evidence.know(asked)
        for model in np.unique(owner[rows]).tolist():
            own = rows[owner[rows] == model]
            for k in TRIAL_SIZES:
                if k > len(own):
                    break
                drawn = np.stack([rng.permutation(own)[:k] for _ in range(_DRAWS_PER_MODEL)])
                probes = [evidence.styles.vectors[style_rows[drawn]].mean(axis=1)]
                if len(known) > 1:
                    probes.append(evidence.embedded.vectors[embedded_rows[drawn]].mean(axis=1))
                parts += _with_and_without(mean_ratios(known, probes, k), k, model, family)
    if not parts:
        raise DataError(
            "the sampled responses answer too few prompts in common to calibrate on. Fix: enrol models from responses "
            "to several prompts each"
        )
    return Trials(
        np.concatenate([part.ratios for part in parts]),
        np.concatenate([part.k for part in parts]),
        np.concatenate([part.answer for part in parts]),
    )


def recognition_by_size(trials: Trials) -> dict[int, float]:
    """Share of the trials of known models in which the right one is likeliest, by number of responses."""
    known = trials.answer >= 0
    right = trials.ratios.argmax(axis=1) == trials.answer
    return {int(k): float(right[known & (trials.k == k)].mean()) for k in np.unique(trials.k[known])}


def _asked_prompts(evidence: Evidence) -> list[npt.NDArray[np.uint64]]:
    """Prompts to ask: those held back from a training, else one half and then the other, in the order of the hashes."""
    back = evidence.held_back[evidence.embedded.owner]
    if back.any():
        return [np.unique(evidence.embedded.prompt[back])]
    prompts = np.unique(evidence.styles.prompt)
    return [prompts[0::2], prompts[1::2]]


def _with_and_without(ratios: FloatArray, k: int, model: int, family: npt.NDArray[np.integer]) -> list[Trials]:
    """Trials of responses of one model: with it among the known ones, without it, and without its family."""
    sizes, nobody = np.full(len(ratios), float(k)), np.full(len(ratios), -1)
    found = [] if np.isneginf(ratios[:, model]).any() else [Trials(ratios, sizes, np.full(len(ratios), model))]
    for gone in (np.arange(len(family)) == model, family == family[model]):
        without = np.where(gone, -np.inf, ratios)
        if np.isfinite(without).any(axis=1).all():
            found.append(Trials(without, sizes, nobody))
    return found
