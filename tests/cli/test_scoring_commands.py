"""train, train-scorer, predict and rank, as a user runs them, with onboarding in between."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from model_behavior.artifact import Artifact
from model_behavior.cli.app import run
from model_behavior.data.arena import Arena, write_votes
from model_behavior.data.filters import select_votes
from model_behavior.errors import ArtifactError
from model_behavior.sharding.worker import PREDICTION_COLUMNS
from tests.conftest import answer, held_out_rows

FAST = ["--encoder", "style", "--epochs", "2", "--validation-fraction", "0.3"]


@pytest.fixture(scope="module")
def folder(arena: Arena, scored_arena: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """votes.parquet, both stages trained in `a`, and the held-out models' responses."""
    path = Path(shutil.copytree(scored_arena, tmp_path_factory.mktemp("scoring") / "files"))
    rows = held_out_rows(arena)
    pq.write_table(pa.Table.from_pylist(rows), path / "responses.parquet")
    return path


@pytest.fixture
def trained(folder: Path, tmp_path: Path) -> Path:
    """A copy that a test may change."""
    return Path(shutil.copytree(folder / "a", tmp_path / "a"))


def test_rank_lists_every_model_best_first(folder: Path, arena: Arena, capsys: pytest.CaptureFixture[str]) -> None:
    rows = answer(capsys, "rank", folder / "a")
    assert {row["model"] for row in rows} == set(arena.votes.pairs.models)
    assert [row["rating"] for row in rows] == sorted((row["rating"] for row in rows), reverse=True)
    assert all(set(row) == {"model", "rating", "low", "high", "votes", "component", "group", "beyond"} for row in rows)
    assert sum(row["votes"] for row in rows) == 2 * len(arena.votes) and {row["component"] for row in rows} == {0}
    assert all(row["low"] <= row["rating"] <= row["high"] and row["votes"] > 0 for row in rows)
    on_prompt = answer(capsys, "rank", folder / "a", "--prompt", "Write a haiku.")
    assert {row["model"] for row in on_prompt} == {row["model"] for row in rows}


def test_what_raises_and_lowers_a_rating_is_said_in_words(
    trained: Path, folder: Path, arena: Arena, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["onboard", str(trained), str(folder / "responses.parquet")]) == 0
    shown, name = capsys.readouterr().out, arena.held_out[0]
    told = answer(capsys, "neighbours", trained, name)["rating_drivers"]
    assert f"{told['weight']:.0%} of its rating" in shown
    for sign, part in ((1, told["raising"]), (-1, told["lowering"])):
        effects = [sign * each["effect"] for each in part]
        assert len(part) <= 3 and effects == sorted(effects, reverse=True) and all(effect > 0 for effect in effects)
        assert all(f"{each['effect']:+.0f} Elo: {each['text']}" in shown for each in part)
    odds = Artifact.load(trained).rating_drivers(name, scale="log-odds")
    assert odds is not None and 173.7178 * odds.rest == pytest.approx(told["rest"], rel=1e-4)
    # All features together make the same whole, however many are named.
    many = Artifact.load(trained).rating_drivers(name, 1000)
    assert many is not None
    few, all_of_them = (
        sum(each.effect for each in (*found.raising, *found.lowering)) + found.rest for found in (odds, many)
    )
    assert 173.7178 * few == pytest.approx(all_of_them, rel=1e-4)
    voted = answer(capsys, "neighbours", trained, arena.votes.pairs.models[0])["rating_drivers"]
    assert voted["weight"] is None and (voted["raising"] or voted["lowering"])


def test_onboard_says_how_many_more_responses_a_precision_takes(
    folder: Path, trained: Path, arena: Arena, capsys: pytest.CaptureFixture[str]
) -> None:
    value = answer(capsys, "onboard", trained, folder / "responses.parquet")
    ranked = {row["model"]: row for row in answer(capsys, "rank", trained)}
    for row in value["embedded"]:
        rating, planned = row["rating"], row["planned"]
        interval = ranked[row["model"]]
        assert rating["half_width"] == pytest.approx((interval["high"] - interval["low"]) / 2)
        assert row["rating_drivers"]["model"] == row["model"] and 0 <= row["rating_drivers"]["weight"] <= 1
        widths = [planned[k]["half_width"] for k in ("8", "32", "128")]
        assert widths == sorted(widths, reverse=True) and rating["floor"] < widths[-1]
        assert rating["wanted"] == pytest.approx(1.1 * rating["floor"]) and rating["needed"] >= 0
        assert planned["8"]["radius"] > planned["128"]["radius"] and 0 < planned["8"]["recognition"] <= 1
        assert row["radius"]["0.5"] < row["radius"]["0.95"]
    wide, narrow = value["embedded"][0]["rating"]["half_width"] + 0.01, value["embedded"][0]["rating"]["floor"] / 2
    floor = value["embedded"][0]["rating"]["floor"]
    for width, said in (
        (wide, f" now; more responses can bring it to ±{floor:.0f}, votes further"),
        (narrow, f"is out of reach of responses: more responses can bring it to ±{floor:.0f}"),
    ):
        assert run(["onboard", str(trained), str(folder / "responses.parquet"), "--half-width", f"{width:.4f}"]) == 0
        text = capsys.readouterr().out
        assert said in text and "responses: embedding within" in text and "recognised in" in text
    assert run(["onboard", str(trained), str(folder / "responses.parquet"), "--half-width", "-1"]) == 2
    assert "half_width=-1.0: must be above 0" in capsys.readouterr().err


def test_an_onboarded_model_is_ranked_and_marked(
    folder: Path, trained: Path, arena: Arena, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["onboard", str(trained), str(folder / "responses.parquet")]) == 0
    rows = {row["model"]: row for row in answer(capsys, "rank", trained)}
    new = [rows[name] for name in arena.held_out]
    assert all(row["votes"] == 0 and row["low"] < row["rating"] < row["high"] for row in new)
    assert run(["rank", str(trained)]) == 0
    text = capsys.readouterr().out
    assert f"{arena.held_out[0]} *" in text and "* no votes" in text
    assert run(["remove", str(trained), arena.held_out[0]]) == 0
    assert arena.held_out[0] not in {row["model"] for row in answer(capsys, "rank", trained)}


def test_a_voted_model_cannot_be_removed(trained: Path, arena: Arena, capsys: pytest.CaptureFixture[str]) -> None:
    before = (trained / "config.json").read_bytes()
    assert run(["remove", str(trained), arena.votes.pairs.models[0]]) == 2
    assert "was voted on" in capsys.readouterr().err
    assert (trained / "config.json").read_bytes() == before


def test_predict_needs_three_columns_and_keeps_all(
    folder: Path, arena: Arena, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    a, b = arena.votes.pairs.models[:2]
    rows = [
        {"note": 1, "prompt": "Write a haiku.", "model_a": a, "model_b": b},
        {"note": 2, "prompt": None, "model_a": a, "model_b": b},
        {"note": 3, "prompt": "Write a haiku.", "model_a": b, "model_b": a},
    ]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "v.parquet")
    value = answer(capsys, "predict", folder / "a", tmp_path / "v.parquet", "--output", tmp_path / "p.parquet")
    assert (value["rows"], value["predicted"]) == (3, 2)
    table = pq.read_table(tmp_path / "p.parquet")
    assert table.column_names == ["note", "prompt", "model_a", "model_b", *PREDICTION_COLUMNS]
    assert table["note"].to_pylist() == [1, 2, 3]
    first, missing, swapped = (
        [table[name][row].as_py() for name in PREDICTION_COLUMNS] for row in range(table.num_rows)
    )
    assert missing == [None] * 4
    np.testing.assert_allclose(sum(first), 1, atol=1e-5)
    np.testing.assert_allclose([first[1], first[0], *first[2:]], swapped, atol=1e-5)
    again = ["predict", str(folder / "a"), str(tmp_path / "p.parquet"), "--output", str(tmp_path / "q.parquet")]
    assert run(again) == 2
    assert "has a column 'p_model_a' already" in capsys.readouterr().err


def test_predict_reads_every_format_of_votes(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "p.parquet"
    value = answer(capsys, "predict", folder / "a", folder / "votes.parquet", "--output", output)
    n_votes = pq.read_metadata(folder / "votes.parquet").num_rows
    assert (value["rows"], value["predicted"]) == (n_votes, n_votes)


def test_unknown_models_are_counted_and_leave_the_other_rows_their_predictions(
    folder: Path, arena: Arena, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    a, b = arena.votes.pairs.models[:2]
    odd = a.upper().replace("-", " ")
    rows = [(a, b), (odd, b), (b, "zzz"), (odd, "zzz"), (b, a)]
    lines = [f"hello,{left},{right}\n" for left, right in rows]
    (tmp_path / "v.csv").write_text("prompt,model_a,model_b\n" + "".join(lines))
    value = answer(capsys, "predict", folder / "a", tmp_path / "v.csv", "--output", tmp_path / "p.parquet")
    assert (value["rows"], value["predicted"]) == (5, 2)
    counts = {name: (found["rows"], found["first"]) for name, found in value["unknown_models"].items()}
    file = tmp_path / "v.csv"
    assert counts == {odd: (2, f"{file}, row 2"), "zzz": (2, f"{file}, row 3")}
    table = pq.read_table(tmp_path / "p.parquet")
    assert [value is not None for value in table["p_tie"].to_pylist()] == [True, False, False, False, True]
    command = ["predict", str(folder / "a"), str(file), "--output", str(tmp_path / "q.parquet")]
    assert run(command) == 0
    assert f"unknown model {odd!r}: 2 rows, first {file}, row 2; nearest known names: {a}," in capsys.readouterr().err


def test_an_unknown_model_is_an_error_with_near_names_where_it_is_strict(
    folder: Path, arena: Arena, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name = arena.votes.pairs.models[0]
    (tmp_path / "v.csv").write_text(f"prompt,model_a,model_b\nhello,{name}x,{name}\n")
    output = tmp_path / "p.parquet"
    command = ["predict", str(folder / "a"), str(tmp_path / "v.csv"), "--output", str(output), "--strict"]
    assert run(command) == 2
    said = capsys.readouterr().err
    assert f"v.csv, row 1: unknown model '{name}x'" in said and name in said.split("Nearest")[1]
    assert not output.exists()


def test_stages_one_by_one_give_what_train_gives(
    folder: Path, arena: Arena, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    votes, alone = str(folder / "votes.parquet"), tmp_path / "e"
    assert run(["train-encoder", votes, "--output", str(alone), *FAST]) == 0
    assert run(["rank", str(alone)]) == 2
    assert f"Fix: model-behavior train-scorer {alone} VOTES" in capsys.readouterr().err
    assert run(["train-scorer", str(alone), votes]) == 0
    assert answer(capsys, "rank", alone) == answer(capsys, "rank", folder / "a")


def test_the_scorer_is_saved_and_verified(folder: Path, trained: Path, arena: Arena) -> None:
    loaded = Artifact.load(trained)
    assert loaded.scorer is not None and loaded.training is not None
    assert loaded.training.split.fraction == 0.3
    assert len(loaded.training.prompts) == round(0.7 * len(set(arena.votes.pairs.prompts.to_pylist())))
    (trained / "scorer.safetensors").write_bytes(b"x")
    with pytest.raises(ArtifactError, match="altered"):
        Artifact.load(trained)


@pytest.mark.filterwarnings("default")
def test_other_votes_than_the_encoders_are_warned_of(
    trained: Path, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pq.write_table(pq.read_table(folder / "votes.parquet")[:-100], tmp_path / "fewer.parquet")
    assert run(["train-scorer", str(trained), str(tmp_path / "fewer.parquet"), "--epochs", "1"]) == 0
    assert "the encoder was trained on other votes" in capsys.readouterr().err


def test_options_reach_the_scorer(folder: Path, trained: Path, tmp_path: Path) -> None:
    votes = str(folder / "votes.parquet")
    short = ["train", votes, "--output", str(tmp_path / "short"), *FAST, "--scorer-epochs", "3"]
    assert run(short) == 0
    scorer = Artifact.load(tmp_path / "short").scorer
    assert scorer is not None and scorer.config.schedule.epochs == 3
    assert run(["train-scorer", str(trained), votes, "--model-source", "id", "--epochs", "2"]) == 0
    scorer = Artifact.load(trained).scorer
    assert scorer is not None and (scorer.config.model_source, scorer.config.schedule.epochs) == ("id", 2)


@pytest.mark.filterwarnings("ignore:no chain of votes")
def test_islands_are_ranked_apart_and_predictions_across_them_are_counted(
    arena: Arena, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = arena.votes
    half = len(data.pairs.models) // 2
    a, b = (data.pairs.model_index[side] for side in (data.pair_a, data.pair_b))
    islands = replace(arena, votes=select_votes(data, np.flatnonzero((a < half) == (b < half))))
    write_votes(islands, tmp_path / "votes.parquet")
    options = [*FAST, "--scorer-epochs", "2"]
    assert run(["train", str(tmp_path / "votes.parquet"), "--output", str(tmp_path / "a"), *options]) == 0
    rows = answer(capsys, "rank", tmp_path / "a")
    groups = [row["component"] for row in rows]
    assert set(groups) == {0, 1} and groups == sorted(groups)
    assert sum(row["votes"] for row in rows) == 2 * len(islands.votes)
    assert run(["rank", str(tmp_path / "a")]) == 0
    shown = capsys.readouterr().out
    assert all(f"island {number}:\n   1  " in shown for number in (0, 1))
    assert "no chain of votes connects the islands" in shown
    one, other = rows[0]["model"], rows[-1]["model"]
    (tmp_path / "v.csv").write_text(f"prompt,model_a,model_b\nhello,{one},{other}\nhello,{one},{rows[1]['model']}\n")
    value = answer(capsys, "predict", tmp_path / "a", tmp_path / "v.csv", "--output", tmp_path / "p.parquet")
    assert (value["predicted"], value["apart"]) == (2, 1)
