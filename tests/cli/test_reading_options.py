"""Columns, outcomes and questions of a file's own, said on the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from model_behavior.cli.app import run
from model_behavior.cli.options import describe_job
from model_behavior.data.arena import Arena
from model_behavior.data.reading import ReadingOptions
from model_behavior.data.sources import Shard
from model_behavior.sharding.worker import PREDICTION_COLUMNS, ShardTask
from tests.conftest import answer, held_out_rows

OUTCOMES = {"model_a": "2", "model_b": "1", "tie": "0", "both_bad": "9"}
SAID = [part for meant, value in OUTCOMES.items() for part in ("--outcome", f"{value}={meant}")]


@pytest.fixture
def responses(arena: Arena) -> list[dict[str, str]]:
    """Responses of one model that has no votes."""
    rows = held_out_rows(arena)
    return [row for row in rows if row["model"] == rows[0]["model"]][:40]


def write_table(path: Path, rows: list[dict[str, str]]) -> Path:
    pq.write_table(pa.Table.from_pylist(rows), path)
    return path


def write_lines(path: Path, rows: list[dict[str, object]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def vectors(path: Path) -> list[list[float]]:
    found: list[list[float]] = pq.read_table(path)["embedding"].to_pylist()
    return found


def test_columns_have_names_of_their_own(
    stage1: Path, responses: list[dict[str, str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plain = write_table(tmp_path / "plain.parquet", responses)
    other = [{"ask": row["prompt"], "said": row["response"], "who": row["model"]} for row in responses]
    named = write_table(tmp_path / "named.parquet", other)
    columns = ["--columns", "prompt=ask,response=said", "--columns", "model=who"]
    for path, said in ((plain, []), (named, columns)):
        answer(capsys, "encode", stage1, path, "--output", tmp_path / f"{path.stem}.out.parquet", *said)
    assert vectors(tmp_path / "named.out.parquet") == vectors(tmp_path / "plain.out.parquet")
    assert pq.read_table(tmp_path / "named.out.parquet").column_names == ["ask", "said", "who", "embedding"]
    expected = answer(capsys, "identify", stage1, plain)
    assert answer(capsys, "identify", stage1, named, *columns) == expected
    assert expected[0]["name"] == responses[0]["model"]
    known = expected[0]["candidates"][0]["model"]
    tested = []
    for rows, said in ((responses, []), (other, columns[:2])):
        nameless = [{key: value for key, value in row.items() if key not in ("model", "who")} for row in rows]
        path = write_table(tmp_path / "nameless.parquet", nameless)
        tested.append(answer(capsys, "drift", stage1, path, "--model", known, *said))
    assert tested[0] == tested[1]
    assert run(["identify", str(stage1), str(named), "--columns", "prompt=nothing"]) == 3
    assert "no such column" in capsys.readouterr().err
    assert run(["identify", str(stage1), str(named), "--columns", "prompt"]) == 2
    assert "KNOWN=NAME" in capsys.readouterr().err


def test_outcomes_have_values_of_their_own(
    stage1: Path, votes: Path, fast: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = pq.read_table(votes).to_pylist()
    named = write_table(tmp_path / "named.parquet", [{**row, "winner": OUTCOMES[row["winner"]]} for row in rows])
    training = ["--output", tmp_path / "a", "--epochs", "1", "--validation-fraction", "0.3", "--overwrite", *fast]
    losses = [
        answer(capsys, "train-encoder", path, *training, *said)["history"][0]["validation_loss"]
        for path, said in ((votes, []), (named, SAID))
    ]
    assert losses[0] == losses[1]
    scored = [
        answer(capsys, "train-scorer", stage1, path, "--output", tmp_path / path.stem, *said)
        for path, said in ((votes, []), (named, SAID))
    ]
    assert scored[0]["validation_loss"] == scored[1]["validation_loss"]
    assert scored[0]["accuracy"] == scored[1]["accuracy"]
    predicted = []
    for path, said in ((votes, []), (named, SAID)):
        output = tmp_path / f"{path.stem}.out.parquet"
        answer(capsys, "predict", tmp_path / "votes", path, "--output", output, *said)
        predicted.append(pq.read_table(output).select(PREDICTION_COLUMNS).to_pylist())
    assert predicted[0] == predicted[1] and None not in predicted[0][0].values()
    assert run(["train-scorer", str(stage1), str(named), "--output", str(tmp_path / "b"), "--outcome", "2=won"]) == 2
    assert "VALUE=OUTCOME" in capsys.readouterr().err
    assert run(["train-scorer", str(stage1), str(named), "--output", str(tmp_path / "b"), *SAID[2:]]) == 3
    assert "'2'" in capsys.readouterr().err


def test_questions_are_in_another_file(
    stage1: Path, responses: list[dict[str, str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "answers").mkdir()
    asked = [{"question_id": place, "turns": [row["prompt"]]} for place, row in enumerate(responses)]
    answers = [
        {"question_id": place, "answer_id": f"a{place}", "model_id": "m", "choices": [{"turns": [row["response"]]}]}
        for place, row in enumerate(responses)
    ]
    questions = write_lines(tmp_path / "asked.jsonl", list(asked))
    file = write_lines(tmp_path / "answers" / "m.jsonl", list(answers))
    assert run(["identify", str(stage1), str(file)]) == 3
    assert "--questions" in capsys.readouterr().err
    plain = write_table(tmp_path / "plain.parquet", [{**row, "model": "m"} for row in responses])
    expected = answer(capsys, "identify", stage1, plain)
    assert answer(capsys, "identify", stage1, file, "--questions", questions) == expected
    for path, said in ((plain, []), (file, ["--questions", questions])):
        answer(capsys, "encode", stage1, path, "--output", tmp_path / f"{path.stem}.out.parquet", *said)
    assert vectors(tmp_path / "m.out.parquet") == vectors(tmp_path / "plain.out.parquet")
    onboarded = [
        answer(capsys, "onboard", stage1, path, "--output", tmp_path / path.stem, *said)["embedded"][0]["spread"]
        for path, said in ((plain, []), (file, ["--questions", questions]))
    ]
    assert onboarded[0] == onboarded[1]


def test_a_shard_that_is_read_otherwise_is_made_again(stage1: Path, tmp_path: Path) -> None:
    questions = write_lines(tmp_path / "asked.jsonl", [{"question_id": 1, "turns": ["Why?"]}])
    shard = Shard("pairs.parquet", None, "digest")

    def fingerprint(reading: ReadingOptions) -> str:
        return ShardTask(describe_job("encode", stage1, None, reading=reading), shard, tmp_path / "o").fingerprint

    plain = fingerprint(ReadingOptions())
    columns = fingerprint(ReadingOptions.parse(["prompt=ask"]))
    asked = fingerprint(ReadingOptions(questions=str(questions)))
    write_lines(questions, [{"question_id": 1, "turns": ["How?"]}])
    changed = fingerprint(ReadingOptions(questions=str(questions)))
    assert len({plain, columns, asked, changed}) == 4
    assert fingerprint(ReadingOptions.parse(["prompt=ask"])) == columns
