"""The demo: what the README shows, in time, and true to the arena. It runs twice, for people and for programs."""

from __future__ import annotations

import contextlib
import io
import re
import time
from pathlib import Path

import pytest

from model_behavior.cli.app import run
from tests.conftest import answer

README = (Path(__file__).parents[1] / "README.md").read_text("utf-8")

pytestmark = pytest.mark.alone


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the demo is run, with an empty cache."""
    return tmp_path_factory.mktemp("demo")


@pytest.fixture(scope="module")
def printed(folder: Path) -> str:
    """What the demo prints, cold; it must be done in time."""
    output = io.StringIO()
    started = time.monotonic()
    with contextlib.chdir(folder), contextlib.redirect_stdout(output):
        assert run(["demo", "--output", "demo", "--cache", "cache"]) == 0
    assert time.monotonic() - started < 90
    return output.getvalue()


def shape(text: str) -> list[str]:
    """Figures may differ in the last digits from machine to machine; names and the true order may not."""
    lines = [re.sub(r" +", " ", line).strip() for line in text.splitlines() if line.strip()]
    rows = [re.sub(r"^(\d+) \d+ (.*) -?[\d.]+ -?[\d.]+ to -?[\d.]+$", r"\1 \2", line) for line in lines]
    return [re.sub(r"\d\.\d+|\d+ s\.", "#", line) for line in rows]


def test_it_prints_what_the_readme_shows(printed: str, folder: Path) -> None:
    (shown,) = re.findall(r"^```text\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
    assert shape(shown) == shape(printed)
    assert (folder / "demo" / "arena_map.html").stat().st_size > 1e6


def test_it_recovers_the_order_and_replaces_its_folder(
    printed: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    value = answer(capsys, "demo", "--output", folder / "demo", "--cache", folder / "cache")
    assert value["synthetic"] and len(value["models"]) == 24
    assert sum(row["held_out"] for row in value["models"]) == 6
    assert value["spearman_all"] > 0.9 and value["spearman_held_out"] > 0.6
    assert f"Spearman {value['spearman_held_out']:.2f}; of all 24: {value['spearman_all']:.2f}" in printed
