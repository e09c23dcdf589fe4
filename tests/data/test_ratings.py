"""Leaderboards as they are published."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from model_behavior.data.ratings import RatingTable, load_ratings
from model_behavior.errors import DataError


def shown(table: RatingTable) -> list[tuple[str, float, float, float]]:
    return list(zip(table.models, table.rating.tolist(), table.low.tolist(), table.high.tolist(), strict=True))


def entry(rating: float) -> dict[str, float]:
    return {"rating": rating, "rating_q025": rating - 5, "rating_q975": rating + 5, "num_battles": 9}


def test_the_catalog_of_the_arena(tmp_path: Path) -> None:
    boards = {"coding": {"n": entry(1100)}, "full": {"n": entry(1200), "m": entry(1300)}}
    (tmp_path / "leaderboard-text.json").write_text(json.dumps(boards, indent=2))
    table = load_ratings(tmp_path / "leaderboard-text.json")
    assert shown(table) == [("m", 1300, 1295, 1305), ("n", 1200, 1195, 1205)]
    assert list(table.categories) == ["coding", "full"]
    assert shown(table.categories["coding"]) == [("n", 1100, 1095, 1105)]


def test_a_board_of_one_category(tmp_path: Path) -> None:
    for board in ({"m": {"rating": 1.5}, "n": {"rating": 2}}, {"overall": {"m": 1.5, "n": 2}}, {"m": 1.5, "n": 2}):
        (tmp_path / "a.json").write_text(json.dumps(board))
        table = load_ratings(tmp_path / "a.json")
        assert (table.models, table.rating.tolist(), table.categories) == (("m", "n"), [1.5, 2.0], {})
        assert all(math.isnan(end) for end in (*table.low, *table.high))


@pytest.mark.parametrize(
    "text",
    [
        "model,rating,low,high\nn,1200,1195,1205\nm,1300,1295,1305\n",
        "Model,Arena Score,rating_q025,rating_q975,Organization\nn,1200,1195,1205,x\nm,1300,1295,1305,y\n",
        "rank,model_name,rating,rating_lower,rating_upper\n2,n,1200,1195,1205\n1,m,1300,1295,1305\n",
        'Model,Arena Score,95% CI\nn,"1,200",+5/-5\nm,"1,300",±5\n',
        "\ufeffModel,Arena Score,95% CI\nn,1200,+5/−5\nm,1300,+5 / -5\n",
    ],
)
def test_tables(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.csv").write_text(text, "utf-8")
    table = load_ratings(tmp_path / "a.csv")
    assert shown(table) == [("m", 1300, 1295, 1305), ("n", 1200, 1195, 1205)]
    assert table.categories == {}


def test_categories_in_columns_and_in_rows(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("model,rating,coding\nn,1200,\nm,1300,1250\n")
    table = load_ratings(tmp_path / "a.csv")
    assert shown(table)[0][:2] == ("m", 1300)
    assert (table.categories["coding"].models, table.categories["coding"].rating.tolist()) == (("m",), [1250])
    rows = [{"model": "m", "rating": rating, "category": name} for rating, name in ((1, "math"), (2, "overall"))]
    table = load_ratings(rows)
    assert (table.rating.tolist(), table.categories["math"].rating.tolist()) == ([2], [1])


def test_real_ratings(real_data: Path) -> None:
    table = load_ratings(real_data / "ratings_arena.csv")
    assert (len(table.models), len(table.categories)) == (39, 7)
    assert (table.low <= table.rating).all() and (table.rating <= table.high).all()


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{"prompt": "p"}], r"no ratings\. Columns found: prompt\. Allowed: the columns model and rating.* Fix"),
        ([{"model": "m", "rating": "high"}], r"row 1: model is 'm', rating is 'high'\. Allowed: a name and a number"),
        ([{"model": None, "rating": 1}], r"row 1: model is None, rating is 1"),
        ([{"model": "m", "rating": 1}] * 2, r"row 2: 'm' is rated twice\. Fix"),
        ([{"model": "m\x07", "rating": 1}], r"control character U\+0007"),
        ([{"model": "m", "rating": "61.5%"}], r"rating is '61.5%'\. Allowed: a name and a number"),
        ([{"model": "m", "rating": float("nan")}], r"rating is None\. Allowed: a name and a number"),
        ([{"model": "m", "rating": 1e300}], r"rating is 1e\+300\. Allowed: an Elo rating, at most 100000"),
        ([{"model": "m", "rating": 9, "low": 20, "high": 2}], r"rating of 'm' is 9, its interval 20 to 2\. Allowed"),
    ],
)
def test_broken_boards(rows: list[dict[str, Any]], message: str) -> None:
    with pytest.raises(DataError, match=message):
        load_ratings(rows)
