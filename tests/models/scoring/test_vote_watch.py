"""Thumbs of a model beside its own earlier ones."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import hypergeom

from model_behavior.data.vote_log import LoggedThumb
from model_behavior.models.scoring.vote_watch import watch_thumbs


def thumbs_of(model: str, ups: list[bool], first_prompt: int = 0) -> list[LoggedThumb]:
    return [LoggedThumb(f"{model}-{n}", first_prompt + n, model, up) for n, up in enumerate(ups)]


def test_a_fall_is_found_with_the_p_value_of_the_exact_test() -> None:
    ups = [True] * 30 + [False] * 10 + [False] * 30 + [True] * 10
    (found,) = watch_thumbs(thumbs_of("m", ups))
    assert (found.earlier, found.latest, found.before, found.observed) == (40, 40, 0.75, 0.25)
    chances = hypergeom(80, 40, 40).pmf(np.arange(41))
    assert found.p_value == pytest.approx(chances[chances <= chances[30] * (1 + 1e-7)].sum())
    assert found.changed


def test_the_latest_100_are_compared_with_all_before_and_each_model_with_itself() -> None:
    steady = thumbs_of("good", [True] * 300) + thumbs_of("bad", [False] * 300)
    found = watch_thumbs([*steady, *thumbs_of("fell", [True] * 300 + [False] * 100)])
    assert [(each.model, each.earlier, each.latest, each.changed) for each in found] == [
        ("fell", 300, 100, True),
        ("bad", 200, 100, False),
        ("good", 200, 100, False),
    ]


def test_a_prompt_counts_once_with_its_latest_thumb() -> None:
    before = thumbs_of("m", [True] * 10)
    again = [LoggedThumb(f"again-{n}", 3, "m", False) for n in range(500)]
    (found,) = watch_thumbs([*before, *again])
    assert (found.earlier, found.latest, found.observed) == (5, 5, 0.8) and not found.changed
    assert watch_thumbs(again) == () and watch_thumbs([]) == ()


def test_false_alarms_are_rare_and_a_fall_of_a_fifth_is_found() -> None:
    rng = np.random.default_rng(0)
    alarms = hits = 0
    for _ in range(80):
        drawn = [each for name in "abc" for each in thumbs_of(name, (rng.random(400) < 0.8).tolist())]
        alarms += any(each.changed for each in watch_thumbs(drawn))
        fell = [*(rng.random(400) < 0.8).tolist(), *(rng.random(100) < 0.6).tolist()]
        hits += watch_thumbs(thumbs_of("a", fell))[0].changed
    assert alarms <= 0.05 * 80 + 5 and hits >= 0.85 * 80
