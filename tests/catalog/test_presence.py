"""P(none) where responses are shifted: the fusion of two kinds of evidence, on simulated trials."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import expit

from model_behavior.catalog.presence import Presence, PresenceTrials, fit_presence, shift_probes


def trials(n: int, seed: int) -> PresenceTrials:
    """Ratios tell new models well as they are, nothing where all is shifted; bounded style always tells a little."""
    rng = np.random.default_rng(seed)
    known, shifted = rng.random(n) < 0.5, rng.random(n) < 0.5
    logit = np.where(known, 3.0, -3.0) + rng.normal(0, 2, n) - np.where(shifted, rng.uniform(10, 60, n), 0)
    support = np.where(known, 2.0, -2.0) + rng.normal(0, 3, n)
    return PresenceTrials(logit, support, rng.choice([4.0, 8.0, 32.0], n), known, shifted)


def none_of(presence: Presence, judged: PresenceTrials) -> np.ndarray:
    return np.asarray(expit(-presence.logit_known(judged.logit, judged.support, judged.k)))


def log_loss(none: np.ndarray, known: np.ndarray) -> float:
    return float(-np.log(np.where(known, 1 - none, none)).mean())


def test_neither_kind_of_responses_is_judged_with_false_certainty() -> None:
    presence, judged = fit_presence(trials(4000, 0)), trials(4000, 1)
    none = none_of(presence, judged)
    for shifted in (False, True):
        side = judged.shifted == shifted
        assert none[side].mean() == pytest.approx(np.mean(~judged.known[side]), abs=0.1)
        for sure, is_new in ((none < 0.2, False), (none > 0.8, True)):
            assert np.mean(judged.known[side & sure] != is_new) > 0.65
    as_is, by_ratios = ~judged.shifted, expit(-judged.logit)
    assert log_loss(none[as_is], judged.known[as_is]) < 0.2 < log_loss(none[~as_is], judged.known[~as_is]) < 0.8
    assert log_loss(by_ratios[~as_is].clip(1e-12, 1 - 1e-12), judged.known[~as_is]) > 5


def test_it_is_level_beyond_the_largest_number_of_responses_tried() -> None:
    presence = fit_presence(trials(400, 0))
    assert presence.most == 32
    logits = presence.logit_known(np.ones(2), np.ones(2), np.array([32.0, 900.0]))
    assert logits[0] == logits[1]


def test_what_no_shift_explains_still_counts() -> None:
    presence = fit_presence(trials(4000, 0))
    weak, strong = np.full(2, -30.0), np.array([-6.0, 8.0])
    none = expit(-presence.logit_known(weak, strong, np.full(2, 32.0)))
    assert none[0] > 0.8 and none[1] < 0.35


def test_shifts_move_a_few_features_and_the_embedding_of_every_probe() -> None:
    rng = np.random.default_rng(0)
    style, place, embedded = np.zeros((50, 30)), np.zeros((50, 8)), rng.normal(size=(40, 8))
    moved, displaced = shift_probes([style, place], embedded, rng)
    assert not style.any() and not place.any(), "the arguments stay"
    changed = (moved != 0).sum(axis=1)
    assert changed.min() == 1 and changed.max() == 5
    assert (np.abs(moved[moved != 0]) >= 0.3).all() and np.abs(moved).max() <= 2
    assert (np.linalg.norm(displaced, axis=1) > 0).sum() > 40
    (alone,) = shift_probes([style], embedded, rng)
    assert alone.any()


def test_few_trials_give_weights_near_nothing() -> None:
    nothing = trials(2, 3)
    assert np.abs(fit_presence(nothing).weights).max() < 3
