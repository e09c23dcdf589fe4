"""Which prompts tell most about a new model."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from model_behavior.catalog.asking import KnownSoFar, PromptBook, book_from_stored, book_to_arrays, choose_prompts

RATING = np.linspace(-1.5, 1.5, 24)


def book(spoken: np.ndarray, identity: np.ndarray | None = None) -> PromptBook:
    n = spoken.shape[1]
    return PromptBook(
        np.arange(n, dtype=np.uint64) + 10,
        tuple(f"prompt {index}" for index in range(n)),
        tuple(f"m{index:02}" for index in range(len(spoken))),
        spoken.astype(np.float32),
        (np.zeros(n) if identity is None else identity).astype(np.float32),
    )


def unrelated(rng: np.random.Generator, n_prompts: int, size: float = 0.3) -> np.ndarray:
    """Noise of each prompt that has nothing to do with the rating or with that of another, [24, n_prompts]."""
    columns = np.column_stack([np.ones(24), RATING, rng.normal(size=(24, n_prompts))])
    noise: np.ndarray = size * np.sqrt(24) * np.linalg.qr(columns)[0][:, 2:]
    return noise


def test_prompts_that_tell_more_come_first() -> None:
    rng = np.random.default_rng(0)
    slope = np.array([0.0, 0.2, 0.5, 0.9])
    told = book(RATING[:, None] * slope + unrelated(rng, 4))
    found = choose_prompts(told, RATING, 4)
    assert [each.prompt for each in found] == ["prompt 3", "prompt 2", "prompt 1", "prompt 0"]
    left = [each.left for each in found]
    assert all(0 < after < before < 1 for before, after in pairwise(left))
    assert found[0].key == f"{13:016x}"
    assert len(choose_prompts(told, RATING, 9)) == 4  # there are no more


def test_a_second_prompt_that_says_the_same_is_worth_less() -> None:
    rng = np.random.default_rng(1)
    noise = 0.5 * rng.normal(size=(24, 2))
    twin = RATING + noise[:, 0]
    told = book(np.stack([twin, twin, 0.8 * RATING + noise[:, 1]], axis=1))
    assert {each.prompt for each in choose_prompts(told, RATING, 2)} == {"prompt 2", "prompt 0"}


def test_equal_prompts_are_told_apart_by_identity() -> None:
    same = np.repeat((RATING + 0.1)[:, None], 3, axis=1)
    assert choose_prompts(book(same, np.array([0.1, 0.5, 0.3])), RATING, 1)[0].prompt == "prompt 1"


def test_answers_so_far_are_not_asked_again_and_the_rest_fits_the_rating() -> None:
    rng = np.random.default_rng(2)
    many = np.linspace(-1.5, 1.5, 60)
    # The first tells the better half apart, the second the worse half, equally well; the third is answered.
    spoken = np.stack([np.maximum(many, 0), np.minimum(many, 0), 0.1 * many], axis=1)
    told = book(spoken + 0.3 * rng.normal(size=spoken.shape))
    for rating, first in ((1.2, "prompt 0"), (-1.2, "prompt 1")):
        found = choose_prompts(told, many, 3, KnownSoFar({12}, rating, 0.2))
        assert found[0].prompt == first and len(found) == 2


def test_answers_that_are_missing_do_no_harm() -> None:
    rng = np.random.default_rng(3)
    spoken = RATING[:, None] * np.array([0.1, 0.9]) + 0.3 * rng.normal(size=(24, 2))
    spoken[::3, 1] = np.nan
    assert choose_prompts(book(spoken), RATING, 1)[0].prompt == "prompt 1"


def test_a_book_that_does_not_fit_is_refused() -> None:
    arrays = book_to_arrays(book(np.zeros((2, 3))))
    with pytest.raises(ValueError, match="2 prompts beside arrays"):
        book_from_stored(arrays, {"models": ["a", "b"], "prompts": ["p", "q"]})
