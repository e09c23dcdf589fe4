"""Who meets whom on which prompt, from the smallest table and from every published format of votes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from model_behavior.data.loading import load_votes
from model_behavior.data.questions import Matchup, iter_matchups
from model_behavior.errors import DataError

Rows = list[dict[str, Any]]

ROWS: Rows = [
    {"prompt": "Name a river.", "model_a": "m", "model_b": "n", "note": "x"},
    {"prompt": None, "model_a": "m", "model_b": "n", "note": "x"},
    {"prompt": "p", "model_a": None, "model_b": "n", "note": "x"},
    {"prompt": "p", "model_a": "m", "model_b": "  ", "note": "x"},
    {"prompt": "Zwölf\nZeilen", "model_a": " n ", "model_b": "n", "note": "x"},
]
MATCHUPS = [Matchup("Name a river.", "m", "n"), None, None, None, Matchup("Zwölf\nZeilen", "n", "n")]


def write(path: Path, rows: Rows) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    else:
        path.write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    return path


def read(path: Path, batch_rows: int = 4096) -> list[Matchup | None]:
    return [matchup for _, matchups in iter_matchups(path, batch_rows) for matchup in matchups]


@pytest.mark.parametrize("ending", ["jsonl", "parquet"])
@pytest.mark.parametrize("batch_rows", [1, 2, 99])
def test_three_columns_are_enough_and_all_come_along(tmp_path: Path, ending: str, batch_rows: int) -> None:
    path = write(tmp_path / f"a.{ending}", ROWS)
    batches = list(iter_matchups(path, batch_rows))
    assert [matchup for _, matchups in batches for matchup in matchups] == MATCHUPS
    assert [len(matchups) for _, matchups in batches] == [batch.num_rows for batch, _ in batches]
    assert pa.Table.from_batches([batch for batch, _ in batches]).to_pylist() == ROWS


def test_csv(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text('model_b,prompt,model_a\nn,"a, b\nc",m\n,p,m\n')
    assert read(path) == [Matchup("a, b\nc", "m", "n"), None]


def votes(**more: Any) -> Rows:
    row = {"prompt": "p", "model_a": "m", "response_a": "x", "model_b": "n", "response_b": "y", "winner": "tie"}
    return [{**row, **more}]


@pytest.mark.parametrize("change", [{}, {"winner": None}, {"winner": "nobody"}, {"response_a": None}, {"model_b": "m"}])
def test_a_table_of_votes_needs_no_outcome(tmp_path: Path, change: dict[str, Any]) -> None:
    expected = Matchup("p", "m", "m" if "model_b" in change else "n")
    assert read(write(tmp_path / "a.jsonl", votes(**change))) == [expected]


def test_a_table_that_could_be_one_of_responses_is_one_of_matchups(tmp_path: Path) -> None:
    rows = [{"prompt": "p", "response": "x", "model_a": "m", "model_b": "n"}]
    assert read(write(tmp_path / "a.jsonl", rows)) == [Matchup("p", "m", "n")]


def test_lists_of_turns_are_read_as_such(tmp_path: Path) -> None:
    flags = {"winner_model_a": 1, "winner_model_b": 0, "winner_tie": 0}
    turns = {"prompt": '["p1", "p2"]', "response_a": '["x1", "x2"]', "response_b": '["y1", "y2"]'}
    rows = [{"model_a": "m", "model_b": "n", **turns, **flags}]
    assert read(write(tmp_path / "a.jsonl", rows)) == [Matchup("p2", "m", "n")]


def test_a_published_format_without_an_outcome_gives_none(tmp_path: Path) -> None:
    texts = {"instruction": "p", "output_1": "x", "output_2": "y", "generator_1": "m", "generator_2": "n"}
    rows = [{**texts, "preference": preference} for preference in (1.0, None)]
    assert read(write(tmp_path / "a.jsonl", rows)) == [Matchup("p", "m", "n"), None]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{"prompt": "p", "response": "x"}], r"holds responses \(.*\), but votes are needed.*prompt, model_a, model_b"),
        ([{"instruction": "p", "output": "x", "generator": "m"}], r"holds responses \(AlpacaEval outputs\)"),
        ([{"prompt": "p", "model_a": "m"}], r"unknown format.*To predict, at least: prompt, model_a, model_b\."),
        ([{**ROWS[0], "model_a": name} for name in (None, ["m"])], r"row 2: model_a is .*Allowed: a model's name"),
    ],
    ids=["responses", "outputs", "a column short", "a list for a name"],
)
def test_other_data_says_what_is_needed(tmp_path: Path, rows: Rows, message: str) -> None:
    path = tmp_path / "a.parquet"
    with pytest.raises(DataError, match=message) as caught:
        read(write(path, rows), batch_rows=1)
    assert str(caught.value).startswith(str(path))


def test_shards_of_a_folder_follow_each_other(tmp_path: Path) -> None:
    write(tmp_path / "b.parquet", ROWS[4:])
    write(tmp_path / "a.parquet", ROWS[:4])
    assert read(tmp_path) == MATCHUPS


def test_shards_of_other_columns_are_refused(tmp_path: Path) -> None:
    write(tmp_path / "a.parquet", ROWS)
    write(tmp_path / "b.parquet", [{**ROWS[0], "more": 1}])
    with pytest.raises(DataError, match=r"b\.parquet: its columns differ.*Fix: predict it by itself"):
        read(tmp_path)


@pytest.mark.parametrize(
    "name",
    [
        "alpaca_eval_annotations.json",
        "arena_human_preference_55k.csv",
        "arena_human_preference_100k.parquet",
        "arena_human_preference_140k.parquet",
        "chatbot_arena_conversations.parquet",
    ],
)
def test_published_votes_meet_as_they_are_loaded(real_data: Path, name: str) -> None:
    path = real_data / "formats" / name
    if not path.is_file():
        pytest.skip(f"{path} is not there")
    loaded, _ = load_votes(path)
    pairs = loaded.pairs
    prompts, models = pairs.prompts.to_pylist(), pairs.models
    expected = [
        Matchup(prompts[pairs.prompt_index[a]], models[pairs.model_index[a]], models[pairs.model_index[b]])
        for a, b in zip(loaded.pair_a, loaded.pair_b, strict=True)
    ]
    assert [matchup for matchup in read(path, batch_rows=64) if matchup is not None] == expected


@pytest.mark.parametrize("name", ["alpaca_eval_model_outputs.json", "arena_hard_answers.jsonl", "chat_log.jsonl"])
def test_published_responses_are_refused(real_data: Path, name: str) -> None:
    path = real_data / "formats" / name
    if not path.is_file():
        pytest.skip(f"{path} is not there")
    with pytest.raises(DataError, match="holds responses"):
        read(path)
