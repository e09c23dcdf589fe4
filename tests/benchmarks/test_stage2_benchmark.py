"""`benchmark stage2` as a user runs it, once."""

from __future__ import annotations

import contextlib
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from model_behavior.benchmarks.stage2 import DENSE_NETWORK, METHODS
from model_behavior.cli.app import run
from model_behavior.data.arena import Arena, write_votes
from model_behavior.evaluation.stage2 import CELLS

ANSWERS = ("answers",)


@pytest.fixture(scope="module")
def report(arena: Arena, tmp_path_factory: pytest.TempPathFactory, few_replicates: None) -> tuple[Path, dict[str, Any]]:
    """The page that it writes, pictures beside it, and the seed's figures that it prints."""
    folder = tmp_path_factory.mktemp("stage2")
    write_votes(arena, folder / "votes.parquet")
    output = folder / "report" / "stage2.md"
    arguments = ["--output", str(output), "--seeds", "1", "--epochs", "1", "--draws", "1", "--json"]
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        assert run(["benchmark", "stage2", str(folder / "votes.parquet"), *arguments]) == 0
    (result,) = json.loads(printed.getvalue())["results"]
    (seed,) = result["seeds"]
    return output, {**seed, "cells_of_ratings": result["cells"]}


def test_all_methods_and_cells_are_in_the_report(report: tuple[Path, dict[str, Any]]) -> None:
    text = report[0].read_text("utf-8")
    assert "benchmark stage2 votes.parquet --output stage2.md --seeds 1 --epochs 1 --draws 1`" in text
    assert "length controlled for" in text and all(text.count(f"| {name} |") >= 2 for name in METHODS)
    for cell in CELLS:
        assert cell.label[1:] in text
    assert "Bradley-Terry oracle" in text and "| 32 |" in text
    pictures = list(report[0].parent.glob("*.svg"))
    assert len(pictures) == 3
    assert all(f"![{each.name}]({each.name})" in text and each.read_text().startswith("<svg") for each in pictures)


def test_new_llms_are_rated_in_every_cell(report: tuple[Path, dict[str, Any]]) -> None:
    rows = report[1]["cells_of_ratings"]
    found = {row["cell"] for row in rows}
    for kind in ("", "one vote per prompt, ", "ratings only, ", "beyond the known field, "):
        assert {f"{kind}shared", f"{kind}unshared"} <= found
    text = report[0].read_text("utf-8")
    assert all(f"### New LLMs' ratings: {cell}\n" in text for cell in found)
    at = {(row["cell"], row["responses"], row["method"]): row["figures"] for row in rows}
    assert {key[2] for key in at if key[0] == "unshared"} == {
        "length",
        "embedding",
        *ANSWERS,
        "joined",
        "the known LLMs' mean",
    }
    assert {key[2] for key in at if key[0] == "shared"} >= {"agreement", "joined"}
    joined, mean = at["shared", 32, "joined"], at["shared", 32, "the known LLMs' mean"]
    assert joined["error"]["value"] < mean["error"]["value"] and joined["worth"] > mean["worth"]
    assert 0 <= joined["coverage"]["value"] <= 1 and joined["width"] > 0 and joined["error"]["n"] > 2


def test_published_ratings_are_measured_on_families_left_out(tmp_path: Path, arena: Arena) -> None:
    write_votes(arena, tmp_path / "votes.parquet")
    names = arena.votes.pairs.models
    rows = [f"{name},{1000 + 150 * arena.quality[name]:.1f}" for name in names]
    (tmp_path / "board.csv").write_text("\n".join(["model,rating", *rows]))
    given = ["--ratings", str(tmp_path / "board.csv"), "--responses", str(tmp_path / "votes.parquet")]
    output = tmp_path / "stage2.md"
    few = ["--seeds", "1", "--epochs", "1", "--draws", "1"]
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        assert run(["benchmark", "stage2", *given, "--output", str(output), *few, "--json"]) == 0
    (result,) = json.loads(printed.getvalue())["rated"]
    assert result["n_models"] == len(names)
    assert {row["cell"].split(",")[0] for row in result["cells"]} == {"ratings only", "beyond the known field"}
    text = output.read_text("utf-8")
    assert "--ratings board.csv --responses votes.parquet`" in text
    # Half of the small arena's prompts: where too few are shared, none can be chosen, and no picture is drawn.
    points = {point["name"]: point for point in result["points"]}
    assert set(points) <= set(names) and bool(points) == (tmp_path / "stage2-board-chosen.svg").is_file()
    for name, point in points.items():
        assert point["truth"] == pytest.approx(1000 + 150 * arena.quality[name], abs=0.1)
        assert point["low"] < point["rating"] < point["high"]


def test_what_belongs_together(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = ["--output", str(tmp_path / "stage2.md")]
    assert run(["benchmark", "stage2", *output]) == 2
    assert "nothing to measure" in capsys.readouterr().err
    assert run(["benchmark", "stage2", "--ratings", "board.csv", *output]) == 2
    assert "--ratings, --responses and --beside belong together" in capsys.readouterr().err


def test_new_models_are_predicted_by_the_dense_network_alone(report: tuple[Path, dict[str, Any]]) -> None:
    seed = report[1]
    new = [cell.label for cell in CELLS if not cell.seen_models]
    assert all(cell in seed["cells"][DENSE_NETWORK] for cell in new)
    assert not any(cell in seed["cells"][name] for name in METHODS if name != DENSE_NETWORK for cell in new)
    assert seed["cells"]["Elo"]["new prompt, known LLM"]["accuracy"]["n"] > 0
    assert np.isfinite([figures["accuracy"] for figures in seed["cold_start"].values()]).all()
