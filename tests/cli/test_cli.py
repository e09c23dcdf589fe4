"""The command line as a whole: exit codes, outputs that are refused, a quick start, an interruption."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from model_behavior.artifact import Artifact
from model_behavior.cli.app import app, run
from tests.cli.conftest import said


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODEL_BEHAVIOR_CACHE", str(tmp_path / "cache"))


def test_embed_models_adds_and_map_shows(stage1: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = tmp_path / "chat.jsonl"
    log.write_text("\n".join(json.dumps({"prompt": f"Question {i}?", "response": f"Answer {i}."}) for i in range(30)))
    grown = tmp_path / "grown"
    assert run(["embed-models", str(stage1), str(log), "--model", "newcomer", "--output", str(grown), "--json"]) == 0
    value, _ = said(capsys)
    assert [(row["model"], row["responses"]) for row in value["embedded"]] == [("newcomer", 30)]
    assert len(Artifact.load(grown).models) == len(Artifact.load(stage1).models) + 1
    assert run(["embed-models", str(grown), str(log)]) == 2
    assert "--model" in capsys.readouterr().err
    page = tmp_path / "map.html"
    assert run(["map", str(grown), "--output", str(page), "--mark", "newcomer"]) == 0
    assert "newcomer" in page.read_text()
    capsys.readouterr()
    assert run(["map", str(grown), "--output", str(page), "--mark", "nobody"]) == 2
    assert "unknown model 'nobody'" in " ".join(capsys.readouterr().err.split())


def test_outputs_that_cannot_be_written_are_refused_first(
    stage1: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "folder").mkdir()
    for command in (
        ["encode", str(stage1), "none.jsonl"],
        ["map", str(stage1)],
        ["benchmark", "stage1", "none.csv"],
    ):
        assert run([*command, "--output", str(tmp_path / "folder")]) == 2
        assert "is not a regular file" in capsys.readouterr().err


def test_exit_codes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["train-encoder", str(tmp_path / "none.csv"), "--output", str(tmp_path / "e")]) == 3
    assert "none.csv" in capsys.readouterr().err
    assert run(["train-encoder", "--output", str(tmp_path / "e")]) == 2
    assert run(["no-such-command"]) == 2
    assert run(["map", str(tmp_path / "none"), "--output", str(tmp_path / "m.html")]) == 1
    (tmp_path / "config.toml").write_text("epoch = 3")
    bad = ["train-encoder", "x.csv", "--output", str(tmp_path / "e"), "--config", str(tmp_path / "config.toml")]
    capsys.readouterr()
    assert run(bad) == 2
    assert f"{tmp_path / 'config.toml'}: unknown setting epoch; nearest: epochs" in capsys.readouterr().err
    assert run(["--help"]) == 0
    assert "train-encoder" in capsys.readouterr().out


def test_cache_info_and_clear(stage1: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "p.jsonl").write_text('{"prompt": "p", "response": "r"}')
    assert run(["encode", str(stage1), str(tmp_path / "p.jsonl"), "--output", str(tmp_path / "v.parquet")]) == 0
    capsys.readouterr()
    assert run(["cache", "info", "--json"]) == 0
    assert said(capsys)[0]["entries"] == {"features-style": 2}  # the pair, and its prompt
    assert run(["cache", "clear"]) == 0
    assert run(["cache", "info", "--json"]) == 0
    cleared, info = capsys.readouterr().out.split("{", 1)
    assert "2 entries" in cleared and json.loads("{" + info)["entries"] == {}


def test_the_list_of_commands_is_there_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    look = "import sys; from model_behavior.cli.app import app, run; run(['--help']); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", look], capture_output=True, check=False).returncode == 0
    assert run(["--help"]) == 0
    shown = capsys.readouterr().out
    panels = ["Start here", "Train", "New models", "Ask", "Serve", "Measure"]
    assert [shown.index(f"─ {panel} ─") for panel in panels] == sorted(shown.index(f"─ {panel} ─") for panel in panels)
    assert run(["neighbour"]) == 2
    assert "Did you mean 'neighbours'?" in " ".join(capsys.readouterr().err.split())


def test_every_help_starts_with_what_it_is_or_does() -> None:
    prepositions = {"Of", "At", "By", "For", "From", "In", "On", "So", "That", "To", "Who", "With"}
    commands = dict(typer.main.get_command(app).commands)  # type: ignore[attr-defined]
    for name, command in commands.items():
        for leaf in getattr(command, "commands", {"": command}).values():
            for parameter in (leaf, *leaf.params):
                words = str(parameter.help).split()
                assert words and words[0] not in prepositions, f"{name} {parameter.name}: {words}"


def test_help_names_environment_variables_only_where_they_are_not_the_rule(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["encode", "--help"]) == 0
    shown = capsys.readouterr().out
    assert "MODEL_BEHAVIOR_BACKEND" in shown and "MODEL_BEHAVIOR_ENCODE" not in shown


_INTERRUPT_AT_TORCH = """
import os, signal, sys

class Interrupt:
    def find_spec(self, name, path=None, target=None):
        if name == "torch":
            assert os.environ["OMP_WAIT_POLICY"] == "PASSIVE"
            sys.meta_path.remove(self)
            signal.raise_signal(signal.SIGINT)

os.environ.pop("OMP_WAIT_POLICY", None)
signal.signal(signal.SIGINT, signal.default_int_handler)
sys.meta_path.insert(0, Interrupt())
from model_behavior.cli.entry import main
sys.argv[1:] = ["cache", "info"]
main()
"""


def test_settings_are_made_before_torch_is_loaded_and_an_interrupt_by_then_is_quiet() -> None:
    done = subprocess.run([sys.executable, "-c", _INTERRUPT_AT_TORCH], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (130, "")
