from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from model_behavior.data.loading import iter_pairs, load_responses, load_votes
from model_behavior.data_models.votes import Outcome, TrainingData
from model_behavior.errors import DataError, UsageError

SHARED = Path(__file__).parents[2].parent / "shared" / "data"
FORMATS = SHARED / "formats"
needs_shared = pytest.mark.skipif(not FORMATS.is_dir(), reason=f"the sample data are not there: {FORMATS}")

VOTE = {"prompt": "p", "model_a": "m", "response_a": "x", "model_b": "n", "response_b": "y", "winner": "model_a"}
KAGGLE = {
    **{key: VOTE[key] for key in ("model_a", "model_b")},
    **{"prompt": '["p"]', "response_a": '["x"]', "response_b": '["y"]'},
    **{"winner_model_a": 0, "winner_model_b": 1, "winner_tie": 0},
}


def write_lines(path: Path, *rows: dict[str, Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def read_votes(data: TrainingData) -> list[tuple[str, str, str, str, str, str]]:
    pairs = data.pairs
    prompts, responses = pairs.prompts.to_pylist(), pairs.responses.to_pylist()
    return [
        (
            prompts[pairs.prompt_index[a]],
            pairs.models[pairs.model_index[a]],
            responses[a],
            pairs.models[pairs.model_index[b]],
            responses[b],
            Outcome(outcome).label,
        )
        for a, b, outcome in zip(data.pair_a, data.pair_b, data.outcome, strict=True)
    ]


def test_sources_of_several_formats_are_joined_in_order(tmp_path: Path) -> None:
    (tmp_path / "shards").mkdir()
    write_lines(tmp_path / "shards" / "b.jsonl", KAGGLE, {**KAGGLE, "response_a": "[null]"})
    write_lines(tmp_path / "shards" / "a.jsonl", {**VOTE, "winner": "tie"}, {**VOTE, "winner": None}, VOTE)
    pq.write_table(pa.Table.from_pylist([{**VOTE, "prompt": "q"}] * 2), tmp_path / "c.parquet")
    calls: list[tuple[int, int | None]] = []
    data, report = load_votes(
        tmp_path / "c.parquet", str(tmp_path / "shards"), progress=lambda done, total: calls.append((done, total))
    )
    texts = ("m", "x", "n", "y")
    assert read_votes(data) == [
        ("q", *texts, "model_a"),
        ("q", *texts, "model_a"),
        ("p", *texts, "tie"),
        ("p", *texts, "model_a"),
        ("p", *texts, "model_b"),
    ]
    assert len(data.pairs) == 4
    assert [(source.format, source.rows, source.used, dict(source.skipped)) for source in report.sources] == [
        ("plain table", 2, 2, {}),
        ("plain table", 3, 2, {"no outcome": 1}),
        ("Kaggle 55k", 2, 1, {"no response": 1}),
    ]
    assert [Path(source.source).name for source in report.sources] == ["c.parquet", "a.jsonl", "b.jsonl"]
    assert calls == [(2, None), (5, None), (7, None)]


def test_progress_knows_the_total_of_parquet(tmp_path: Path) -> None:
    pq.write_table(pa.Table.from_pylist([VOTE] * 1500), tmp_path / "c.parquet")
    calls: list[tuple[int, int | None]] = []
    load_votes(tmp_path / "c.parquet", progress=lambda done, total: calls.append((done, total)))
    assert calls == [(1024, 1500), (1500, 1500)]


def test_histories_tell_pairs_apart(tmp_path: Path) -> None:
    two = {"prompt": '["a", "p"]', "response_a": '["b", "x"]', "response_b": '["c", "y"]'}
    data, _ = load_votes(write_lines(tmp_path / "a.jsonl", KAGGLE, {**KAGGLE, **two}, KAGGLE))
    assert len(data.pairs) == 4
    assert data.pairs.prompts.to_pylist() == ["p"]
    assert [bool(text) for text in data.pairs.histories.to_pylist()] == [False, False, True, True]


def test_ppe_comes_with_a_warning(tmp_path: Path) -> None:
    row = {**VOTE, "response_1": "x", "response_2": "y"}
    del row["response_a"], row["response_b"]
    _, report = load_votes(write_lines(tmp_path / "a.jsonl", row))
    assert "evaluation only" in report.sources[0].warnings[0]


def test_a_late_error_names_the_row(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "a.jsonl", *[VOTE] * 2000, {**VOTE, "winner": "nobody"})
    with pytest.raises(DataError, match=r"a\.jsonl, row 2001: unknown outcome 'nobody'"):
        load_votes(path)


def test_responses_of_votes_are_both_sides(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "a.jsonl", VOTE, {**VOTE, "model_b": "o"})
    pairs, report = load_responses(path)
    assert pairs.models == ("m", "n", "o")
    assert len(pairs) == 3
    assert report.sources[0].used == 2


def test_the_caller_names_the_model_where_the_file_does_not(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "a.jsonl", {"prompt": "p", "response": "x"}, {"prompt": "q", "response": "y"})
    pairs, _ = load_responses(path, model=" mine ")
    assert pairs.models == ("mine",)
    assert pairs.responses.to_pylist() == ["x", "y"]
    with pytest.raises(UsageError) as caught:
        load_responses(path)
    assert str(caught.value) == (
        f"{path}: no column names the model (prompt-response table, columns: prompt, response). "
        "Fix: give its name with --model, or add a column 'model'."
    )


def test_a_named_model_fills_gaps_and_never_overrides(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [
        {"prompt": "p", "response": "x", "model": "m"},
        {"prompt": "q", "response": "y", "model": None},
    ]
    path = write_lines(tmp_path / "a.jsonl", *rows)
    pairs, report = load_responses(path)
    assert pairs.models == ("m",)
    assert report.sources[0].skipped == {"no model name": 1}
    assert load_responses(path, model="m")[0].models == ("m",)
    with pytest.raises(UsageError, match=r"a\.jsonl, row 1: the row is of 'm', but --model other was given"):
        load_responses(path, model="other")
    with pytest.raises(UsageError, match="the rows of plain table name their models"):
        load_responses(write_lines(tmp_path / "v.jsonl", VOTE), model="other")


RESPONSES: list[dict[str, Any]] = [
    {"prompt": "p", "response": "x", "extra": 1},
    {"instruction": "p", "output": "x", "generator": "m"},
    {"messages": [{"role": "user", "content": "p"}, {"role": "assistant", "content": "x"}]},
]


@pytest.mark.parametrize("row", RESPONSES)
@pytest.mark.parametrize("name", ["a.jsonl", "a.json", "a.parquet"])
def test_pairs_come_with_their_columns(tmp_path: Path, row: dict[str, Any], name: str) -> None:
    path = tmp_path / name
    if name == "a.parquet":
        pq.write_table(pa.Table.from_pylist([row] * 5), path)
    elif name == "a.json":
        path.write_text(json.dumps([row] * 5))
    else:
        write_lines(path, *[row] * 5)
    parts = list(iter_pairs(path, batch_rows=2))
    assert [batch.num_rows for batch, _, _ in parts] == [2, 2, 1]
    assert all(batch.schema.names == list(row) for batch, _, _ in parts)
    assert [text for _, prompts, _ in parts for text in prompts] == ["p"] * 5
    assert [text for _, _, responses in parts for text in responses] == ["x"] * 5


def test_pairs_need_a_text_in_every_row(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [*[{"prompt": "p", "response": ""}] * 3, {"prompt": "p", "response": None}]
    path = write_lines(tmp_path / "a.jsonl", *rows)
    with pytest.raises(DataError, match=r"a\.jsonl, row 4: no response\. Allowed: a prompt and a response"):
        list(iter_pairs(path, batch_rows=2))
    with pytest.raises(DataError, match=r"v\.jsonl: holds votes \(plain table\), but one response in a row"):
        list(iter_pairs(write_lines(tmp_path / "v.jsonl", VOTE)))


def test_shards_of_pairs_must_agree(tmp_path: Path) -> None:
    write_lines(tmp_path / "a.jsonl", {"prompt": "p", "response": "x"})
    write_lines(tmp_path / "b.jsonl", {"prompt": "p", "response": "x", "extra": 1})
    with pytest.raises(DataError, match=r"b\.jsonl: its columns differ from those of the files before it"):
        list(iter_pairs(tmp_path))


@needs_shared
@pytest.mark.parametrize(
    ("name", "known", "used"),
    [
        ("alpaca_eval_annotations.json", "AlpacaEval annotations", 186),
        ("arena_human_preference_55k.csv", "Kaggle 55k", 195),
        ("arena_human_preference_100k.parquet", "arena conversations", 200),
        ("arena_human_preference_140k.parquet", "arena conversations", 200),
        ("chatbot_arena_conversations.parquet", "arena conversations", 200),
    ],
)
def test_published_votes(name: str, known: str, used: int) -> None:
    data, report = load_votes(FORMATS / name)
    assert report.sources[0].format == known
    assert (report.sources[0].used, len(data)) == (used, used)
    pairs = data.pairs
    assert (pairs.prompt_index[data.pair_a] == pairs.prompt_index[data.pair_b]).all()
    assert (pairs.model_index[data.pair_a] != pairs.model_index[data.pair_b]).all()


@needs_shared
def test_the_same_votes_in_all_formats_are_the_same() -> None:
    files = [SHARED / f"votes_{name}.parquet" for name in ("alpaca", "graded", "human")]
    original = set(read_votes(load_votes(*files)[0]))
    for path in sorted(FORMATS.iterdir()):
        try:
            votes = read_votes(load_votes(path)[0])
        except DataError as error:
            assert "holds responses" in str(error)
            continue
        for vote in votes:
            bad_is_tie = (*vote[:5], "both_bad")
            assert vote in original or (vote[5] == "tie" and bad_is_tie in original), path.name


@needs_shared
@pytest.mark.parametrize(
    ("name", "model"),
    [("alpaca_eval_model_outputs.json", None), ("arena_hard_answers.jsonl", None), ("chat_log.jsonl", "mine")],
)
def test_published_responses(name: str, model: str | None) -> None:
    pairs, report = load_responses(FORMATS / name, model=model)
    assert report.sources[0].used == 200
    assert (pairs.models == ("mine",)) == (model is not None)
    texts = [text for _, _, responses in iter_pairs(FORMATS / name) for text in responses]
    assert set(texts) == set(pairs.responses.to_pylist())


@needs_shared
@pytest.mark.parametrize(("name", "load"), [("votes_graded.parquet", load_votes), ("votes_human.parquet", load_votes)])
def test_real_votes(name: str, load: Callable[..., Any]) -> None:
    data, report = load(SHARED / name)
    assert len(data) == report.sources[0].rows == report.sources[0].used
    table = pq.read_table(SHARED / name).to_pylist()
    keys = ("prompt", "model_a", "response_a", "model_b", "response_b", "winner")
    assert read_votes(data) == [tuple(row[key] for key in keys) for row in table]
