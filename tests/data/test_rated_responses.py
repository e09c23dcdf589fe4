"""Votes that are drawn from published ratings, and names that do not match."""

from __future__ import annotations

import numpy as np
import pytest

from model_behavior.data.loading import load_responses
from model_behavior.data.rated_responses import (
    describe_ratings,
    describe_unmatched,
    draw_votes,
    join_votes,
    responses_of,
)
from model_behavior.data.ratings import RatingTable
from model_behavior.data_models.votes import Outcome, PairTable
from model_behavior.errors import DataError
from tests.conftest import make_votes


def ratings(**values: float) -> RatingTable:
    rating = np.array(list(values.values()))
    return RatingTable(tuple(values), rating, rating - 5, rating + 5)


def responses(n_prompts: int, *models: str) -> PairTable:
    rows = [{"prompt": f"p{k}", "model": m, "response": f"{m} says {k}"} for k in range(n_prompts) for m in models]
    return load_responses(rows)[0]


def test_each_response_meets_two_others_and_the_better_wins_as_often_as_the_ratings_say() -> None:
    pairs = responses(4000, "low", "middle", "top")
    data = draw_votes(pairs, ratings(low=1000.0, middle=1000 + 400 * np.log10(3), top=1400.0), seed=0)
    assert len(data) == 12_000 and data.drawn is not None and data.drawn.all()
    models = np.array(data.pairs.models, dtype=object)
    a, b = (models[data.pairs.model_index[side]] for side in (data.pair_a, data.pair_b))
    assert (data.pairs.prompt_index[data.pair_a] == data.pairs.prompt_index[data.pair_b]).all() and (a != b).all()
    meetings = np.bincount(np.concatenate([data.pair_a, data.pair_b]))
    assert (meetings == 2).all()
    won = (a == "middle") & (b == "low") & (data.outcome == Outcome.MODEL_A)
    won |= (b == "middle") & (a == "low") & (data.outcome == Outcome.MODEL_B)
    met = ((a == "middle") & (b == "low")) | ((b == "middle") & (a == "low"))
    assert won.sum() / met.sum() == pytest.approx(0.75, abs=0.03)
    assert set(np.unique(data.outcome)) == {Outcome.MODEL_A, Outcome.MODEL_B}


def test_the_same_seed_draws_the_same_votes() -> None:
    pairs, board = responses(50, "low", "top"), ratings(low=1000.0, top=1100.0)
    one, again, other = (draw_votes(pairs, board, seed).outcome.tolist() for seed in (1, 1, 2))
    assert one == again != other


def test_what_is_not_compared() -> None:
    pairs = responses(10, "a", "b", "unrated")
    with pytest.raises(DataError, match="no prompt has responses of two models whose ratings differ"):
        draw_votes(pairs, ratings(a=1000.0, b=1009.0), seed=0)  # the intervals overlap
    data = draw_votes(pairs, ratings(a=1000.0, b=1011.0), seed=0)
    assert data.pairs.models == ("a", "b") and len(data) == 10
    with pytest.raises(DataError, match="no prompt"):
        draw_votes(responses(10, "a"), ratings(a=1000.0, b=1200.0), seed=0)


def test_cast_and_drawn_votes_together() -> None:
    cast = make_votes([("p0", "a", "a says 0", "x", "x says 0", Outcome.TIE)])
    joined = join_votes(cast, draw_votes(responses(3, "a", "b"), ratings(a=1000.0, b=1200.0), seed=0))
    assert joined.drawn is not None and joined.drawn.tolist() == [False, True, True, True]
    assert joined.pairs.models == ("a", "b", "x") and len(joined.pairs) == 7  # one response is in both
    assert joined.outcome[0] == Outcome.TIE
    assert (joined.pairs.prompt_index[joined.pair_a] == joined.pairs.prompt_index[joined.pair_b]).all()


def test_odd_ratings_are_told() -> None:
    assert describe_ratings(ratings(a=1000.0, b=1100.0, c=1200.0, d=1300.0)) == ()
    (narrow,) = describe_ratings(ratings(a=-1.5, b=-0.5, c=0.5, d=1.5))
    assert "span 3 points" in narrow and "multiply them by 173.7" in narrow
    (shares,) = describe_ratings(ratings(a=20.0, b=40.0, c=55.0, d=80.0))
    assert "not as percentages" in shares
    board = ratings(a=1000.0, b=1200.0)
    board.low[0] = np.nan
    assert describe_ratings(board) == ("1 of 2 ratings have no interval: these are taken as exact",)


def test_names_that_do_not_match() -> None:
    notes = describe_unmatched(("gpt-4-0314", "claude-2"), ("gpt-4-0613", "claude-2", "new"), ())
    assert notes == (
        "rated, but without a response: gpt-4-0314 (nearest: gpt-4-0613, new)",
        "without a rating, so rated from their responses: gpt-4-0613 (nearest: gpt-4-0314), new (nearest: gpt-4-0314)",
    )
    assert describe_unmatched(("a",), ("a",)) == ()
    assert describe_unmatched(("a",), (), ("a",)) == ()


def test_responses_of_some_models() -> None:
    found = responses_of(responses(2, "a", "b"), ["b"])
    assert found is not None and found.models == ("b",) and len(found) == 2
    assert responses_of(responses(2, "a"), ["b"]) is None
