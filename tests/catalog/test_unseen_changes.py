"""What a person cannot see in responses changes no identity, drift, embedding or word that is kept."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from model_behavior.artifact import Artifact
from model_behavior.catalog.samples import pack_words
from model_behavior.data.arena import Arena
from tests.conftest import held_out_rows

CHANGES: dict[str, Callable[[str], str]] = {
    "line feed": lambda text: text + "\n",
    "carriage returns": lambda text: text.replace("\n", "\r\n"),
    "curly apostrophes": lambda text: text.replace("'", "\u2019"),
    "end of turn": lambda text: text + "<|im_end|>",
    "empty reasoning": lambda text: "<think>\n</think>\n\n" + text,
    "reasoning": lambda text: "<think>Let me see.</think>" + text,
    "no-break spaces": lambda text: "\ufeff" + text.replace(" ", "\u00a0"),
    "role": lambda text: "Assistant: " + text,
}


def rows_of_one(arena: Arena, change: Callable[[str], str]) -> list[dict[str, str]]:
    rows = [row for row in held_out_rows(arena) if row["model"] == arena.held_out[0]]
    return [{**row, "response": change(row["response"])} for row in rows]


@pytest.mark.parametrize("name", CHANGES)
def test_identity_is_what_a_person_sees(known: Artifact, arena: Arena, name: str) -> None:
    plain, changed = (rows_of_one(arena, change) for change in (str, CHANGES[name]))
    (as_it_is,), (other,) = (tuple(known.identify(rows).values()) for rows in (plain, changed))
    assert other.none == pytest.approx(as_it_is.none, abs=1e-9)
    assert other.candidates == as_it_is.candidates
    assert sum(other.canonicalised.values()) >= sum(as_it_is.canonicalised.values())
    responses = [row["response"] for row in changed]
    assert np.array_equal(pack_words(responses), pack_words([row["response"] for row in plain]))


def test_drift_sees_no_change_that_a_person_does_not(known: Artifact, arena: Arena) -> None:
    model = arena.held_out[0]
    grown = known.onboard(rows_of_one(arena, str))
    for change in CHANGES.values():
        report = grown.drift(rows_of_one(arena, change), model)
        assert report.effect == 0
        assert not report.changed
    assert report.canonicalised["role prefixes"] == report.n_new


def test_the_same_responses_in_another_wrapping_are_repeats(known: Artifact, arena: Arena) -> None:
    grown = known.onboard(rows_of_one(arena, str))
    again = grown.onboard(rows_of_one(arena, CHANGES["reasoning"]), add=True)
    assert again.models.count.tolist() == grown.models.count.tolist()
