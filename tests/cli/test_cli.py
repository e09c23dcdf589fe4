"""The commands as a user runs them: output, exit codes, interruption."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from model_behavior.artifact import Artifact
from model_behavior.cli.app import run
from model_behavior.data.arena import Arena, build_arena, write_votes
from tests.conftest import one_thread

FAST = ["--encoder", "style", "--dim", "16", "--batch-size", "128"]


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODEL_BEHAVIOR_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def votes(arena: Arena, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("votes") / "votes.parquet"
    write_votes(arena, path)
    return path


@pytest.fixture(scope="module")
def encoder(votes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("encoder")
    assert run(["train-encoder", str(votes), "--output", str(folder / "e"), "--epochs", "2", *FAST]) == 0
    return folder / "e"


def said(capsys: pytest.CaptureFixture[str]) -> tuple[Any, str]:
    """JSON on stdout, text on stderr."""
    captured = capsys.readouterr()
    return json.loads(captured.out), captured.err


def test_train_encoder_prints_a_table_and_json(votes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["train-encoder", str(votes), "--output", str(tmp_path / "e"), "--epochs", "2", *FAST, "--json"]
    assert run(arguments) == 0
    value, log = said(capsys)
    assert value["models"] == 18 and len(value["history"]) == 2
    assert value["triplet_accuracy"] == max(entry["triplet_accuracy"] for entry in value["history"])
    assert "plain table" in log and "votes kept" in log and "split:" in log
    rows = [line for line in log.splitlines() if line.strip()[:1].isdigit() and len(line.split()) == 9]
    assert [row.split()[0] for row in rows] == ["1", "2"]
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["cache", "e"]
    assert run(arguments) == 2
    assert "--overwrite" in capsys.readouterr().err
    assert run([*arguments, "--overwrite"]) == 0


def test_options_reach_the_encoder(votes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "config.toml").write_text("margin = 0.2\nkl-weight = 0.01\ncompactness_weight = 0.03\nseed = 4\n")
    monkeypatch.setenv("MODEL_BEHAVIOR_TRAIN_ENCODER_KL_WEIGHT", "0.02")
    assert (
        run(
            ["train-encoder", str(votes), "--output", str(tmp_path / "e"), "--epochs", "1", *FAST]
            + ["--config", str(tmp_path / "config.toml"), "--seed", "5", "--distance", "euclidean"]
            + ["--hold-out", "amber-xl", "--identity", "1", "--performance", "0", "--min-comparisons", "3"]
            + ["--no-mask-self-naming", "--proxy-weight", "0.3", "--vote-weight", "0.4", "--learning-rate", "0.002"]
            + ["--contrastive-weight", "0.05", "--temperature", "0.3"]
        )
        == 0
    )
    config = Artifact.load(tmp_path / "e").encoder.config
    assert config.seed == 5, "a flag goes before the file"
    assert config.objectives.kl == 0.02, "the environment goes before the file"
    assert config.objectives.margin == 0.2 and config.objectives.compactness == 0.03
    assert (config.objectives.distance, config.objectives.proxy, config.objectives.vote) == ("euclidean", 0.3, 0.4)
    assert (config.objectives.contrastive, config.objectives.temperature) == (0.05, 0.3)
    assert (config.preprocessing.triplets.identity, config.preprocessing.triplets.performance) == (1, 0)
    assert config.preprocessing.filters.min_comparisons == 3 and not config.preprocessing.filters.mask_self_naming
    assert config.optimisation.learning_rate == 0.002
    assert "amber-xl" not in Artifact.load(tmp_path / "e").models.names


def test_embed_models_adds_and_map_shows(encoder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = tmp_path / "chat.jsonl"
    log.write_text("\n".join(json.dumps({"prompt": f"Question {i}?", "response": f"Answer {i}."}) for i in range(30)))
    grown = tmp_path / "grown"
    assert run(["embed-models", str(encoder), str(log), "--model", "newcomer", "--output", str(grown), "--json"]) == 0
    value, _ = said(capsys)
    assert [(row["model"], row["responses"]) for row in value["embedded"]] == [("newcomer", 30)]
    assert len(Artifact.load(grown).models) == len(Artifact.load(encoder).models) + 1
    assert run(["embed-models", str(grown), str(log)]) == 2
    assert "--model" in capsys.readouterr().err
    page = tmp_path / "map.html"
    assert run(["map", str(grown), "--output", str(page), "--mark", "newcomer"]) == 0
    assert "newcomer" in page.read_text()
    capsys.readouterr()
    assert run(["map", str(grown), "--output", str(page), "--mark", "nobody"]) == 2
    assert "unknown model 'nobody'" in " ".join(capsys.readouterr().err.split())


def test_encode_keeps_columns_and_order(encoder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    n_rows = 2500
    table = pa.table(
        {
            "id": list(range(n_rows)),
            "prompt": [f"Prompt {i % 7}" for i in range(n_rows)],
            "model": ["m"] * n_rows,
            "response": ["" if i == 5 else f"Response number {'x' * (i % 11)} {i}." for i in range(n_rows)],
            "tags": [[1, 2]] * n_rows,
        }
    )
    pq.write_table(table, tmp_path / "pairs.parquet")
    output = tmp_path / "vectors.parquet"
    assert run(["encode", str(encoder), str(tmp_path / "pairs.parquet"), "--output", str(output), "--json"]) == 0
    assert said(capsys)[0] == {"output": str(output), "rows": n_rows, "dim": 16}
    written = pq.read_table(output)
    assert written.schema.names == ["id", "prompt", "model", "response", "tags", "embedding"]
    assert written.schema.field("embedding").type == pa.list_(pa.float32(), 16)
    assert written.drop_columns("embedding").equals(table)
    vectors = np.stack(written["embedding"].to_numpy())
    expected = Artifact.load(encoder).encoder.encode(table["prompt"].to_pylist(), table["response"].to_pylist(), 512)
    np.testing.assert_allclose(vectors, expected, atol=1e-6)
    assert run(["encode", str(encoder), str(output), "--output", str(tmp_path / "again.parquet")]) == 2
    assert "'embedding' already" in capsys.readouterr().err


def test_encode_leaves_nothing_half_written(encoder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = [json.dumps({"prompt": "p", "response": f"r{i}"}) for i in range(3000)]
    (tmp_path / "pairs.jsonl").write_text("\n".join([*lines, "{broken"]))
    output = tmp_path / "out" / "vectors.parquet"
    output.parent.mkdir()
    output.write_text("what was there before")
    assert run(["encode", str(encoder), str(tmp_path / "pairs.jsonl"), "--output", str(output)]) == 3
    assert "3001" in capsys.readouterr().err
    assert output.read_text() == "what was there before"
    assert list(output.parent.iterdir()) == [output]


def test_processes_that_add_models_at_once_lose_none(encoder: Path, tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    shutil.copytree(encoder, shared)
    running = []
    for name in ("new1", "new2"):
        (tmp_path / f"{name}.jsonl").write_text('{"prompt": "p", "response": "I am ' + name + '."}')
        command = ["embed-models", str(shared), str(tmp_path / f"{name}.jsonl"), "--model", name]
        running.append(_start(command, tmp_path / "cache"))
    for process in running:
        _, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors
    assert {"new1", "new2"} <= set(Artifact.load(shared).models.names)


def test_blank_responses_are_reported(encoder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [("amber-xl", " "), ("silent", ""), ("new", "An answer.")]
    lines = [json.dumps({"prompt": "p", "model": model, "response": response}) for model, response in rows]
    (tmp_path / "r.jsonl").write_text("\n".join(lines))
    output = str(tmp_path / "grown")
    assert run(["embed-models", str(encoder), str(tmp_path / "r.jsonl"), "--output", output, "--json"]) == 0
    value, log = said(capsys)
    assert [row["model"] for row in value["embedded"]] == ["new"]
    assert "2 pairs with an empty prompt or response not used; no embedding for amber-xl, silent" in log


def test_a_training_that_diverges_is_not_saved(votes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["train-encoder", str(votes), "--output", str(tmp_path / "e"), "--epochs", "1", *FAST]
    assert run([*arguments, "--learning-rate", "1e30", "--batch-size", "100000"]) == 1
    assert "Lower the learning rate" in capsys.readouterr().err
    assert not (tmp_path / "e").exists()


def test_outputs_that_cannot_be_written_are_refused_first(
    encoder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "folder").mkdir()
    for command in (["encode", str(encoder), "none.jsonl"], ["map", str(encoder)], ["benchmark", "stage1", "none.csv"]):
        assert run([*command, "--output", str(tmp_path / "folder")]) == 2
        assert "is no regular file" in capsys.readouterr().err


@pytest.mark.filterwarnings("always")
def test_nothing_to_resume_is_said(votes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["train-encoder", str(votes), "--output", str(tmp_path / "e"), "--epochs", "1", *FAST]
    assert run([*arguments, "--resume"]) == 0
    assert re.search(r"warning: there is no \S*\.e\.checkpoint to resume from", capsys.readouterr().err)


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
    assert "unknown setting epoch; allowed: " in capsys.readouterr().err
    assert run(["--help"]) == 0
    assert "train-encoder" in capsys.readouterr().out


def test_cache_info_and_clear(encoder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "p.jsonl").write_text('{"prompt": "p", "response": "r"}')
    assert run(["encode", str(encoder), str(tmp_path / "p.jsonl"), "--output", str(tmp_path / "v.parquet")]) == 0
    capsys.readouterr()
    assert run(["cache", "info", "--json"]) == 0
    assert said(capsys)[0]["entries"] == {"features-style": 2}  # the pair, and its prompt
    assert run(["cache", "clear"]) == 0
    assert run(["cache", "info", "--json"]) == 0
    cleared, info = capsys.readouterr().out.split("{", 1)
    assert "2 entries" in cleared and json.loads("{" + info)["entries"] == {}


def _start(arguments: list[str], cache: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "model_behavior", *arguments],
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"MODEL_BEHAVIOR_CACHE": str(cache), "OMP_NUM_THREADS": "1"},
    )


def _long_training(folder: Path, output: Path) -> list[str]:
    """Many short epochs, so that it is interrupted between the first and the last."""
    votes, cache = str(folder / "votes.parquet"), str(folder / "cache")
    return ["train-encoder", votes, "--output", str(output), "--cache", cache, "--epochs", "20", *FAST]


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """votes.parquet of a tiny arena, and `whole`, trained on it in one go."""
    folder = tmp_path_factory.mktemp("uninterrupted")
    write_votes(build_arena(seed=3, n_prompts=16), folder / "votes.parquet")
    with one_thread():
        assert run(_long_training(folder, folder / "whole")) == 0
    return folder


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_a_killed_training_resumes_to_the_same_result(uninterrupted: Path, tmp_path: Path, how: signal.Signals) -> None:
    arguments = _long_training(uninterrupted, tmp_path / "killed")
    # A test run that a script has started in the background ignores interrupts, and so would what it starts.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    killed = _start(arguments, uninterrupted / "cache")
    signal.signal(signal.SIGINT, before)
    checkpoint = tmp_path / ".killed.checkpoint"
    while not checkpoint.exists() and killed.poll() is None:
        time.sleep(0.005)
    assert killed.poll() is None, "it ended before it was interrupted"
    killed.send_signal(how)
    _, killed_err = killed.communicate(timeout=60)
    assert killed.returncode == (-how if how == signal.SIGKILL else 130), killed_err
    assert not (tmp_path / "killed").exists() and checkpoint.exists()
    assert how == signal.SIGKILL or "--resume" in killed_err

    with one_thread():
        assert run([*arguments, "--resume"]) == 0
    for name in ("encoder.safetensors", "models.safetensors", "models.json"):
        assert (tmp_path / "killed" / name).read_bytes() == (uninterrupted / "whole" / name).read_bytes()
    assert not checkpoint.exists()


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
main()
"""


def test_settings_are_made_before_torch_is_loaded_and_an_interrupt_by_then_is_quiet() -> None:
    done = subprocess.run([sys.executable, "-c", _INTERRUPT_AT_TORCH], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (130, "")
