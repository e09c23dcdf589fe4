"""The tutorials, from their text alone: every block is run in order, and prints what the page shows."""

from __future__ import annotations

import contextlib
import io
import math
import re
import shlex
from pathlib import Path

import pytest

from model_behavior.cli.app import run

DOCS = Path(__file__).parents[1] / "docs"
LEFT_OUT = "…"
_NUMBER = re.compile(r"-?\d[\d,]*(?:\.\d+)?")


def agrees(shown: str, printed: str) -> bool:
    """The same words and whole numbers; decimals and Elo nearly, since another machine changes them; any time.

    Elo are the numbers of three digits or more in lines with an interval; 26 of them are 0.15 log-odds.
    """
    shown, printed = (re.sub(r"\b\d+ s\b", "any s", text) for text in (shown, printed))
    if re.sub(r"\s+", " ", _NUMBER.sub("#", shown)).strip() != re.sub(r"\s+", " ", _NUMBER.sub("#", printed)).strip():
        return False
    rated = " to " in shown or "±" in shown
    for mine, theirs in zip(_NUMBER.findall(shown), _NUMBER.findall(printed), strict=True):
        a, b = (float(text.replace(",", "")) for text in (mine, theirs))
        elo = 26 * (rated and "." not in mine and "," not in mine and a >= 10)
        if not math.isclose(a, b, rel_tol=0.15 * ("." in mine), abs_tol=0.15 * ("." in mine) + elo):
            return False
    return True


def missing(shown: str, printed: str) -> list[str]:
    """Shown lines that are not printed in this order."""
    left = iter(printed.splitlines())
    wanted = [line for line in shown.splitlines() if line.strip() and line.strip() != LEFT_OUT]
    return [line for line in wanted if not any(agrees(line, each) for each in left)]


def run_page(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[int, list[str]]:
    """Runs a page; returns the number of outputs compared, and the commands."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MODEL_BEHAVIOR_CACHE", str(tmp_path / "cache"))
    names: dict[str, object] = {}
    printed, commands, compared = "", [], 0
    for language, text in re.findall(r"^```(\w+)\n(.*?)^```$", page.read_text("utf-8"), re.MULTILINE | re.DOTALL):
        if language == "text":
            assert not missing(text, printed), f"{missing(text, printed)} is not in:\n{printed}"
            compared += 1
            continue
        output = io.StringIO()
        with contextlib.redirect_stdout(output):
            if language == "python":
                exec(compile(text, str(page), "exec"), names)
            for line in text.splitlines() if language == "sh" else ():
                program, *arguments = shlex.split(line)
                assert program == "model-behavior" and run(arguments) == 0, line
                commands.append(arguments[0])
        printed = output.getvalue()
    return compared, commands


def test_the_tutorial_runs_as_it_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compared, commands = run_page(DOCS / "tutorial.md", tmp_path, monkeypatch)
    assert compared >= 10
    assert {"train", "onboard", "rank", "neighbours", "identify", "predict", "route", "drift"} <= set(commands)


def test_the_newcomers_tutorial_runs_as_it_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compared, commands = run_page(DOCS / "where-would-my-model-land.md", tmp_path, monkeypatch)
    assert compared == 4 and commands == ["train", "prompts", "onboard", "rank"]


def test_what_is_shown_must_be_printed() -> None:
    printed = "a  1\n   5  new *   0.99  -0.25 to 2.23   0\nend 0.1%"
    assert missing("5 new * 0.98 -0.2 to 2.2 0\n…\nend 0.1%", printed) == []
    for wrong in ("6 new * 0.98 -0.2 to 2.2 0", "5 new * 0.5 -0.2 to 2.2 0", "5 old * 0.99 -0.25 to 2.23 0", "end\n"):
        assert missing(wrong, printed) == wrong.splitlines()
    assert missing("end 0.1%\na 1", printed) == ["a 1"]
