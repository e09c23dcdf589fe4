"""The documentation says what the code does: commands, examples, links, output."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import typer

from model_behavior.cli.app import app, run
from model_behavior.data.arena import Arena, write_votes

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text("utf-8")
PAGES = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").rglob("*.md")])


def blocks(language: str) -> list[str]:
    fenced = re.findall(r"^```(\w*)\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
    return [text for name, text in fenced if name == language]


@pytest.fixture
def folder(arena: Arena, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the files that the examples name."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MODEL_BEHAVIOR_CACHE", str(tmp_path / "cache"))
    write_votes(arena, tmp_path / "votes.parquet")
    answers = [{"prompt": f"Question {i}?", "response": f"Answer {i}."} for i in range(30)]
    (tmp_path / "new_model.jsonl").write_text("\n".join(map(json.dumps, answers)))
    pq.write_table(pa.Table.from_pylist(answers), tmp_path / "responses.parquet")
    return tmp_path


def test_every_command_is_in_the_readme_and_has_an_example() -> None:
    group = typer.main.get_command(app)
    names = sorted(group.commands)  # type: ignore[attr-defined]
    assert {"train-encoder", "embed-models", "encode", "map", "cache", "benchmark", "demo"} <= set(names)
    for name in names:
        assert re.search(rf"^\| `{name}\b", README, re.MULTILINE), name
        command = group.commands[name]  # type: ignore[attr-defined]
        for leaf in getattr(command, "commands", {"": command}).values():
            assert leaf.help and "model-behavior" in leaf.epilog and name in leaf.epilog


def test_the_readmes_commands_run_as_they_stand(folder: Path) -> None:
    (example,) = [block for block in blocks("") if "train votes.parquet" in block]
    for line in example.strip().splitlines():
        program, *arguments = shlex.split(line)
        if program == "model-behavior":
            extra = ["--epochs", "1"] if arguments[0] == "train" else []
            assert run([*arguments, *extra]) == 0, line
    assert (folder / "map.html").exists() and (folder / "vectors.parquet").exists()


def test_the_readmes_python_runs_as_it_stands(folder: Path) -> None:
    (example,) = blocks("python")
    names: dict[str, object] = {}
    exec(compile(example.replace("epochs=10", "epochs=1"), "README.md", "exec"), names)
    vectors, same = names["vectors"], names["same"]
    assert getattr(vectors, "shape", None) == (2, 128)
    again = same.encode(names["prompts"], names["responses"], batch_size=128)  # type: ignore[attr-defined]
    assert (again == vectors).all()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#\s]+)", page.read_text("utf-8")):
        if not target.startswith(("http://", "https://")):
            assert (page.parent / target).exists(), f"{page.name}: {target}"
