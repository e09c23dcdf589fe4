"""The demo: what the README shows, in time, and true to the arena; for people and for programs.

What it gives to programs is looked at where `tests/test_wheel.py` runs it from the wheel, so that it trains twice here
and not three times.
"""

from __future__ import annotations

import contextlib
import io
import re
import time
from pathlib import Path
from typing import Any

import pytest
from scipy.stats import spearmanr

from model_behavior.artifact import Artifact
from model_behavior.cli.app import run
from model_behavior.cli.demo_command import ENCODER, MAP
from model_behavior.data.arena import build_arena
from model_behavior.models.behavior.text.registry import TextConfig
from model_behavior.pipeline import TrainingConfig, train_encoder
from tests.page.conftest import data_in

README = (Path(__file__).parents[2] / "README.md").read_text("utf-8")


def shape(text: str) -> list[str]:
    """Figures may differ in the last digits from machine to machine; names and the true order may not."""
    lines = [re.sub(r" +", " ", line).strip() for line in text.splitlines() if line.strip()]
    rows = [re.sub(r"^(\d+) \d+ (.*) -?[\d.]+ -?[\d.]+ to -?[\d.]+$", r"\1 \2", line) for line in lines]
    rows = [re.sub(r"^(\D.* \d+) \d+ \d+ to \d+$", r"\1", line) for line in rows]  # of the models that were asked
    return [re.sub(r"\d\.\d+|\d+ s\.", "#", line) for line in rows]


@pytest.mark.timeout(600)
def test_it_prints_what_the_readme_shows_cold_and_in_time(tmp_path: Path) -> None:
    output = io.StringIO()
    started = time.monotonic()
    with contextlib.chdir(tmp_path), contextlib.redirect_stdout(output):
        assert run(["demo", "--output", "demo", "--cache", "cache"]) == 0
    assert time.monotonic() - started < 90  # beside other tests, which can only make it slower
    (shown,) = re.findall(r"^```text\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
    assert shape(shown) == shape(output.getvalue())
    assert "The built-in arena (synthetic)" in (tmp_path / "demo" / MAP).read_text("utf-8")


def write_older_demo(folder: Path) -> None:
    """Something that the demo finds where it will write its encoder, and replaces."""
    votes = build_arena(seed=3, n_prompts=16).votes
    train_encoder(votes, TrainingConfig(text=TextConfig(("style",)), epochs=1)).save(folder)


def check_order(value: dict[str, Any], output: Path) -> None:
    """What it prints for programs, and the folder that it writes, recover the order."""
    assert len(Artifact.load(output / ENCODER).models) == 24
    assert value["synthetic"] and len(value["models"]) == 24
    assert sum(row["held_out"] for row in value["models"]) == 6
    assert value["spearman_all"] > 0.9 and value["spearman_held_out"] > 0.6
    assert value["spearman_asked"] > 0.5 and {row["responses"] for row in value["asked"]} == {8}
    assert sum(row["low"] <= row["quality"] <= row["high"] for row in value["asked"]) >= 5
    drawn = data_in((output / MAP).read_text("utf-8"))
    assert "synthetic" in drawn["title"]
    assert sorted(drawn["fresh"]) == sorted(row["model"] for row in value["models"] if row["held_out"])
    points = drawn["catalog"]["map"]["models"]
    by_rating = sorted(value["models"], key=lambda row: -row["rating"])
    assert [point["name"] for point in points] == [row["model"] for row in by_rating]
    for figure, rows in (
        ("spearman_all", value["models"]),
        ("spearman_held_out", [row for row in value["models"] if row["held_out"]]),
    ):
        quality, rating = ([row[key] for row in rows] for key in ("quality", "rating"))
        assert value[figure] == pytest.approx(spearmanr(quality, rating).statistic, abs=1e-3)
