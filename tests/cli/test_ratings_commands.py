"""`train --ratings`, as a user runs it: ratings alone, beside votes, and names that do not match."""

from __future__ import annotations

import csv
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from model_behavior import Artifact
from model_behavior.cli.app import run
from model_behavior.data.arena import Arena, write_votes
from tests.cli.conftest import said
from tests.conftest import MakeOnce, answer

FAST = ["--encoder", "style", "--epochs", "1", "--scorer-epochs", "1"]


def write_files(arena: Arena, folder: Path) -> None:
    """leaderboard.csv of 17 of the 18 voted models and one that is unknown; answers.parquet of all 18 and a new one."""
    names = arena.votes.pairs.models
    with (folder / "leaderboard.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["model", "rating", "low", "high", "coding"])
        for name in names[:-1]:
            elo = 1100 + 150 * arena.quality[name]
            coding = "" if name == names[0] else 1000 + 180 * arena.quality[name]
            rows.writerow([name, elo, elo - 6, elo + 9, coding])
        rows.writerow([f"{names[-1]}-v2", 1300, 1290, 1310, ""])
    tables = []
    for pairs in (arena.votes.pairs, arena.held_out_responses):
        columns = {
            "prompt": pairs.prompts.take(pa.array(pairs.prompt_index)),
            "model": pa.array(pairs.models).take(pa.array(pairs.model_index)).cast(pa.large_string()),
            "response": pairs.responses,
        }
        tables.append(pa.table(columns))
    pq.write_table(pa.concat_tables(tables), folder / "answers.parquet")


@pytest.fixture(scope="module")
def files(arena: Arena, make_once: MakeOnce) -> Path:
    return make_once("ratings-files", lambda folder: write_files(arena, folder))


@pytest.fixture(scope="module")
def reference(files: Path, make_once: MakeOnce) -> Path:
    """An artifact from ratings alone; the responses come without an option, as a shell's pattern gives them."""

    def make(folder: Path) -> None:
        given = ["--ratings", str(files / "leaderboard.csv"), str(files / "answers.parquet")]
        assert run(["train", *given, "--output", str(folder / "a"), *FAST]) == 0

    return make_once("ratings-artifact", make) / "a"


def test_known_models_keep_their_ratings(
    reference: Path, files: Path, arena: Arena, capsys: pytest.CaptureFixture[str]
) -> None:
    ranked = {row["model"]: row for row in answer(capsys, "rank", reference)}
    with (files / "leaderboard.csv").open() as file:
        board = {row["model"]: row for row in csv.DictReader(file)}
    for name in arena.votes.pairs.models[:-1]:
        for column in ("rating", "low", "high"):
            assert ranked[name][column] == pytest.approx(float(board[name][column]), abs=1e-6)
        assert ranked[name]["votes"] == 0
    assert set(ranked) == {*arena.votes.pairs.models, *arena.held_out}
    new = ranked[arena.held_out[0]]
    assert new["high"] - new["low"] > 30
    groups = [row["group"] for row in answer(capsys, "rank", reference)]
    assert groups == sorted(groups)


def test_categories_and_the_other_scale(reference: Path, arena: Arena, capsys: pytest.CaptureFixture[str]) -> None:
    coding = {row["model"]: row for row in answer(capsys, "rank", reference, "--category", "coding")}
    names = arena.votes.pairs.models
    assert coding[names[1]]["rating"] == pytest.approx(1000 + 180 * arena.quality[names[1]])
    assert coding[names[0]]["rating"] == pytest.approx(1000 + 180 * arena.quality[names[0]], abs=1)  # on the line
    assert run(["rank", str(reference), "--category", "cooking"]) == 2
    assert "unknown category 'cooking'. Allowed: coding" in capsys.readouterr().err
    elo, odds = (answer(capsys, "rank", reference, "--scale", scale) for scale in ("elo", "log-odds"))
    assert [row["model"] for row in elo] == [row["model"] for row in odds]
    wide = elo[0]["rating"] - elo[-1]["rating"]
    assert wide / (odds[0]["rating"] - odds[-1]["rating"]) == pytest.approx(173.7, abs=0.1)
    assert run(["rank", str(reference)]) == 0
    text = capsys.readouterr().out
    assert f"{arena.held_out[0]} *" in text and f"{names[0]} *" not in text and "400 points are odds of 10 to 1" in text


def test_the_card_says_what_it_rests_on(reference: Path) -> None:
    card = (reference / "README.md").read_text("utf-8")
    assert "published ratings of 17 models" in card and "nobody cast them" in card
    assert Artifact.load(reference).trained_scorer.ratings.votes.sum() == 0


def test_names_that_do_not_match_are_listed(
    files: Path, arena: Arena, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["--ratings", str(files / "leaderboard.csv"), "--responses", str(files / "answers.parquet")]
    votes = tmp_path / "votes.parquet"
    write_votes(arena, votes)
    assert run(["train", str(votes), *given, "--output", str(tmp_path / "a"), *FAST, "--json"]) == 0
    value, notes = said(capsys)
    assert f"rated, but without a response: {arena.votes.pairs.models[-1]}-v2 (nearest: " in notes
    assert f"without a rating, so rated from their responses: {arena.held_out[0]}" in notes
    assert value["scorer"]["published_ratings"] == 17 and value["scorer"]["voted_models"] == 18
    last = arena.votes.pairs.models[-1]
    ranked = {row["model"]: row for row in answer(capsys, "rank", tmp_path / "a")}
    assert sum(row["votes"] for row in ranked.values()) == 2 * len(arena.votes)  # drawn votes are not counted
    # The one that has votes alone is on the published scale.
    assert ranked[last]["rating"] == pytest.approx(1100 + 150 * arena.quality[last], abs=90)
    assert ranked[last]["high"] - ranked[last]["low"] > 15


def test_names_of_which_none_matches_are_told_with_the_nearest(
    files: Path, arena: Arena, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = arena.votes.pairs.models
    (tmp_path / "board.csv").write_text(
        "".join(["model,rating\n", *(f"{n.upper()},{i}\n" for i, n in enumerate(names))])
    )
    given = ["--ratings", str(tmp_path / "board.csv"), "--responses", str(files / "answers.parquet")]
    assert run(["train", *given, "--output", str(tmp_path / "a")]) == 3
    error = capsys.readouterr().err
    assert "no response is of a rated model" in error and f"{names[0].upper()} (nearest: {names[0]}" in error


def test_what_is_needed(files: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for given, why in (
        ([], "nothing to train on"),
        (["--ratings", str(files / "leaderboard.csv")], "ratings without responses"),
        (["--responses", str(files / "answers.parquet")], "responses without ratings"),
    ):
        assert run(["train", *given, "--output", str(tmp_path / "a")]) == 2
        assert why in capsys.readouterr().err
