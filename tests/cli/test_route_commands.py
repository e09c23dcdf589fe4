"""route and calibrate-threshold, as a user runs them."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from model_behavior.artifact import Artifact
from model_behavior.cli.app import run
from model_behavior.data.arena import Arena
from model_behavior.data.split import hash_prompts
from model_behavior.models.behavior.text.style import StyleEncoder


@pytest.fixture(scope="module")
def folder(arena: Arena, scored_arena: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trained artifact `a`, its votes, prompts.txt, and costs.json, where the n-th model costs n."""
    path = Path(shutil.copytree(scored_arena, tmp_path_factory.mktemp("routing") / "files"))
    (path / "costs.json").write_text(json.dumps(costs_of(arena)))
    prompts = list(dict.fromkeys(" ".join(text.split()) for text in arena.votes.pairs.prompts.to_pylist()))
    (path / "prompts.txt").write_text("\n".join(prompts), "utf-8")
    return path


def costs_of(arena: Arena) -> dict[str, int]:
    return {name: 1 + row for row, name in enumerate(arena.votes.pairs.models)}


def answer(capsys: pytest.CaptureFixture[str], folder: Path, command: str, *arguments: object) -> Any:
    capsys.readouterr()
    assert run([command, str(folder / "a"), *map(str, arguments), "--costs", str(folder / "costs.json"), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_one_prompt_goes_to_the_best_model(folder: Path, arena: Arena, capsys: pytest.CaptureFixture[str]) -> None:
    (choice,) = answer(capsys, folder, "route", "--prompt", "Write a haiku.")["choices"]
    rates = [choice["win_rate"], *(each["win_rate"] for each in choice["alternatives"])]
    assert rates == sorted(rates, reverse=True) and all(0 <= rate <= 1 for rate in rates)
    named = {choice["model"]: choice["cost"], **{each["model"]: each["cost"] for each in choice["alternatives"]}}
    assert named == costs_of(arena)
    assert run(["route", str(folder / "a"), "--prompt", "Hi", "--costs", str(folder / "costs.json")]) == 0
    text = capsys.readouterr().out
    assert "expected win rate" in text and "instead of" in text


def test_a_budget_is_kept_and_used(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked, output = ["--prompts", folder / "prompts.txt"], tmp_path / "out.parquet"
    best = answer(capsys, folder, "route", *asked)
    cheapest = answer(capsys, folder, "route", *asked, "--budget", 1)
    assert cheapest["mean_cost"] == 1 and best["mean_cost"] > 1
    budget = (1 + best["mean_cost"]) / 2
    value = answer(capsys, folder, "route", *asked, "--budget", budget, "--output", output)
    assert value["mean_cost"] <= budget and value["threshold"] > 0
    assert cheapest["win_rate"] <= value["win_rate"] <= best["win_rate"]
    table = pq.read_table(output)
    assert table["prompt"].to_pylist() == (folder / "prompts.txt").read_text("utf-8").split("\n")
    assert table["model"].to_pylist() == [choice["model"] for choice in value["choices"]]
    assert sum(table["cost"].to_pylist()) / table.num_rows == pytest.approx(value["mean_cost"])


def test_a_lower_floor_is_cheaper(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    floors = (0, 0.3, 0.45, 0.5)
    values = [answer(capsys, folder, "route", "--prompts", folder / "prompts.txt", "--floor", each) for each in floors]
    assert [value["mean_cost"] for value in values] == sorted(value["mean_cost"] for value in values)
    assert values[0]["mean_cost"] == 1 and all(value["threshold"] is None for value in values)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ([], "none of them given"),
        (["--prompt", "a", "--prompts", "b"], "--prompt and --prompts given"),
        (["--prompt", "a", "--budget", "2", "--floor", "0.4"], "--budget and --floor given"),
        (["--prompt", "a", "--floor", "0.7"], "floor 0.7"),
        (["--prompt", "a", "--budget", "0.5"], "the cheapest candidate costs 1"),
        (["--prompt", "a", "--budget", "nan"], "budget nan"),
        (["--prompt", "a", "--threshold", "nan"], "threshold nan"),
    ],
)
def test_options_that_make_no_sense(
    folder: Path, options: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["route", str(folder / "a"), "--costs", str(folder / "costs.json"), *options]) == 2
    assert said in " ".join(capsys.readouterr().err.split())


def test_costs_of_an_unknown_model(
    folder: Path, arena: Arena, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name = arena.votes.pairs.models[0]
    (tmp_path / "c.json").write_text(json.dumps({f"{name}x": 1, name: 1}))
    assert run(["route", str(folder / "a"), "--prompt", "Hi", "--costs", str(tmp_path / "c.json")]) == 2
    said = capsys.readouterr().err
    assert f"cost table: unknown model '{name}x'" in said and name in said.split("nearest")[1]


@pytest.mark.parametrize("cost", ["-1", "NaN"])
def test_a_cost_that_is_none(
    folder: Path, arena: Arena, tmp_path: Path, cost: str, capsys: pytest.CaptureFixture[str]
) -> None:
    name = arena.votes.pairs.models[0]
    (tmp_path / "c.json").write_text(f'{{"{name}": {cost}}}')
    assert run(["route", str(folder / "a"), "--prompt", "Hi", "--costs", str(tmp_path / "c.json")]) != 0
    said = " ".join(capsys.readouterr().err.split())
    assert f"{name}: {cost.lower()} is not a cost" in said and "0 or more" in said


@pytest.mark.parametrize("extension", ["html", "json", "csv"])
def test_a_calibration_with_its_curve(
    folder: Path, tmp_path: Path, extension: str, capsys: pytest.CaptureFixture[str]
) -> None:
    curve = tmp_path / f"curve.{extension}"
    prompts = folder / "prompts.txt"
    value = answer(capsys, folder, "calibrate-threshold", prompts, "--budget", 2, "--curve", curve)
    assert value["mean_cost"] <= 2 and sum(value["shares"].values()) == pytest.approx(1)
    routed = answer(capsys, folder, "route", "--prompts", prompts, "--threshold", value["threshold"])
    assert routed["mean_cost"] == pytest.approx(value["mean_cost"])
    assert routed["win_rate"] == pytest.approx(value["win_rate"])
    text = curve.read_text("utf-8")
    if extension == "html":
        assert "<html" in text and value["reference"] in text and "<script" not in text
        plotted = ElementTree.fromstring(text[text.index("<svg") : text.index("</svg>") + 6])
        titles = [each.text or "" for each in plotted.findall(".//{*}title")]
        assert len(titles) == 2 * len(value["curve"]) + 1, "a point of each line, and the star"
        assert f"threshold {value['threshold']:.4g}: cost {value['mean_cost']:.4g}" in titles[-1]
        assert text.count('<th scope="row">') == len(value["curve"])
    elif extension == "csv":
        assert len(list(csv.DictReader(text.splitlines()))) == len(value["curve"])
    else:
        assert json.loads(text)


def test_two_models_share_the_calls_as_asked(folder: Path, arena: Arena, capsys: pytest.CaptureFixture[str]) -> None:
    names = arena.votes.pairs.models
    weak = next(name for name in names if name.endswith("-nano"))
    strong = next(name for name in reversed(names) if name.endswith("-xl"))
    prices, got = costs_of(arena), []
    for share in (0.0, 0.5, 1.0):
        asked = ["--strong-share", share, "--models", weak, "--models", strong]
        value = answer(capsys, folder, "calibrate-threshold", folder / "prompts.txt", *asked)
        assert set(value["shares"]) <= {weak, strong} and sum(value["shares"].values()) == pytest.approx(1)
        got.append(value["shares"].get(strong, 0))
        assert value["mean_cost"] == pytest.approx(prices[weak] + got[-1] * (prices[strong] - prices[weak]))
    assert got[0] == 0 and got[2] == 1 and got[1] <= 0.5


def test_a_chosen_reference_is_the_one_to_beat(folder: Path, arena: Arena, capsys: pytest.CaptureFixture[str]) -> None:
    names = arena.votes.pairs.models
    value = answer(capsys, folder, "route", "--prompt", "Hi", "--reference", names[2], "--models", names[2])
    assert value["reference"] == names[2] == value["choices"][0]["model"] and value["win_rate"] == pytest.approx(0.5)


def test_a_threshold_is_measured_on_votes(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    prompts, votes = folder / "prompts.txt", folder / "votes.parquet"
    plain = answer(capsys, folder, "calibrate-threshold", prompts, "--budget", 2)
    value = answer(capsys, folder, "calibrate-threshold", prompts, "--budget", 2, "--votes", votes)
    assert [key for key in plain if plain[key] is None and value[key] is not None]
    assert all(plain[key] == value[key] for key in ("threshold", "mean_cost", "shares"))
    rows = pq.read_table(votes).to_pylist()
    known = set(Artifact.load(folder / "a").training.prompts.tolist())  # type: ignore[union-attr]
    fresh = [row for row in rows if hash_prompts([row["prompt"]])[0] not in known]
    assert 0 < len(fresh) < len(rows)
    assert 0 < value["measured"]["apgr"]["n"] <= len(fresh)
    seen = folder / "seen.jsonl"
    seen.write_text("".join(json.dumps(row) + "\n" for row in rows if row not in fresh))
    arguments = [folder / "a", prompts, "--costs", folder / "costs.json", "--budget", 2, "--votes", seen]
    assert run(["calibrate-threshold", *map(str, arguments)]) == 3
    assert "on prompts that the encoder was trained on" in capsys.readouterr().err


def test_columns_of_prompts_are_named(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "asked.jsonl"
    path.write_text(json.dumps({"ask": "Is 7 prime?"}))
    value = answer(capsys, folder, "route", "--prompts", path, "--columns", "prompt=ask")
    assert [choice["prompt"] for choice in value["choices"]] == ["Is 7 prime?"]
    value = answer(capsys, folder, "calibrate-threshold", path, "--budget", 2, "--columns", "prompt=ask")
    assert value["prompts"] == 1
    arguments = [folder / "a", "--costs", folder / "costs.json", "--prompts", path, "--output", tmp_path / "x.csv"]
    assert run(["route", *map(str, arguments)]) == 2
    assert f"Fix: --output {tmp_path / 'x.parquet'}" in " ".join(capsys.readouterr().err.split())


def test_rows_without_a_prompt_keep_their_place(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [{"prompt": "Is 7 prime?"}, {"prompt": None}, {"prompt": " "}, {"prompt": "Name a river."}]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "asked.parquet")
    output = tmp_path / "out.parquet"
    value = answer(capsys, folder, "route", "--prompts", tmp_path / "asked.parquet", "--output", output)
    table = pq.read_table(output)
    assert [model is not None for model in table["model"].to_pylist()] == [True, False, False, True]
    assert [text for text in table["prompt"].to_pylist() if text] == ["Is 7 prime?", "Name a river."]
    assert [choice["prompt"] for choice in value["choices"]] == ["Is 7 prime?", "Name a river."]


def test_every_command_that_scores_prompts_takes_a_backend(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    monkeypatch.setattr(StyleEncoder, "use_backend", lambda encoder, backend: asked.append(backend))
    artifact, costs = str(folder / "a"), ["--costs", str(folder / "costs.json")]
    votes, prompts = str(folder / "votes.parquet"), str(folder / "prompts.txt")
    for command, encoders in (
        (["rank", artifact, "--prompt", "Hi"], 3),  # the encoder's, the scorer's, and those of the scorer in training
        (["predict", artifact, votes, "--output", str(tmp_path / "p.parquet")], 3),
        (["route", artifact, "--prompt", "Hi", *costs], 3),
        (["calibrate-threshold", artifact, prompts, "--budget", "9", *costs], 3),
        (
            ["train-scorer", artifact, votes, "--output", str(tmp_path / "b"), "--epochs", "1"],
            4,
        ),
    ):
        assert run([*command, "--backend", "torch", "--cache", str(tmp_path / "cache")]) == 0
        assert asked == ["torch"] * encoders, command
        asked.clear()
