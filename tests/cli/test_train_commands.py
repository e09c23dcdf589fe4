"""train-encoder as a user runs it: output, configuration, interruption."""

from __future__ import annotations

import re
import signal
import time
from pathlib import Path

import pytest

from model_behavior.artifact import Artifact
from model_behavior.cli.app import run
from model_behavior.data.arena import build_arena, write_votes
from tests.cli.conftest import said, start
from tests.conftest import one_thread


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODEL_BEHAVIOR_CACHE", str(tmp_path / "cache"))


def test_train_encoder_prints_a_table_and_json(
    votes: Path, fast: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["train-encoder", str(votes), "--output", str(tmp_path / "e"), "--epochs", "2", *fast, "--json"]
    assert run(arguments) == 0
    value, log = said(capsys)
    assert value["models"] == 18 and len(value["history"]) == 2
    assert value["triplet_accuracy"] == max(entry["triplet_accuracy"] for entry in value["history"])
    assert "plain table" in log and "votes kept" in log and "split:" in log
    rows = [line for line in log.splitlines() if line.strip()[:1].isdigit() and len(line.split()) == 10]
    assert [row.split()[0] for row in rows] == ["1", "2"]
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["cache", "e"]
    assert run(arguments) == 2
    assert "--overwrite" in capsys.readouterr().err
    assert run([*arguments, "--overwrite"]) == 0


def test_options_and_settings_reach_the_encoder(votes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "config.toml").write_text(
        """
        epochs = 2
        seed = 4
        validation-fraction = 0.25
        min_comparisons = 3
        [text]
        encoders = ["style"]
        [split]
        by = "random"
        [encoder]
        seed = 6
        [encoder.preprocessing.filters]
        min_comparisons = 5
        mask-self-naming = false
        [encoder.preprocessing.triplets]
        identity = 1
        performance = 0
        [encoder.objectives]
        distance = "euclidean"
        margin = 0.2
        proxy = 0.3
        vote = 0.4
        kl = 0.02
        compactness = 0.03
        contrastive = 0.05
        temperature = 0.3
        [encoder.projection]
        dim = 16
        [encoder.optimisation]
        learning_rate = 0.002
        """
    )
    monkeypatch.setenv("MODEL_BEHAVIOR_TRAIN_ENCODER_EPOCHS", "3")
    monkeypatch.setenv("MODEL_BEHAVIOR_TRAIN_ENCODER_VALIDATION_FRACTION", "0.5")
    arguments = ["train-encoder", str(votes), "--output", str(tmp_path / "e"), "--epochs", "1"]
    assert run([*arguments, "--config", str(tmp_path / "config.toml"), "--hold-out", "amber-xl"]) == 0
    loaded = Artifact.load(tmp_path / "e")
    config, training = loaded.encoder.config, loaded.training
    assert len(loaded.encoder.history) == 1, "a flag goes before the environment"
    assert training is not None and training.split.fraction == 0.5, "the environment goes before the file"
    assert config.preprocessing.filters.min_comparisons == 5, "a table goes before an option in the file"
    assert (config.seed, training.split.seed) == (6, 4), "a seed is that of all that no table names"
    assert training.split.by == "random"
    objectives = config.objectives
    assert (objectives.kl, objectives.margin, objectives.compactness) == (0.02, 0.2, 0.03)
    assert (objectives.distance, objectives.proxy, objectives.vote) == ("euclidean", 0.3, 0.4)
    assert (objectives.contrastive, objectives.temperature) == (0.05, 0.3)
    assert (config.preprocessing.triplets.identity, config.preprocessing.triplets.performance) == (1, 0)
    assert not config.preprocessing.filters.mask_self_naming
    assert (config.projection.dim, config.optimisation.learning_rate) == (16, 0.002)
    assert "amber-xl" not in loaded.models.names


def test_a_training_that_diverges_is_not_saved(votes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "wild.toml").write_text("[encoder.optimisation]\nlearning_rate = 1e30\n")
    arguments = ["train-encoder", str(votes), "--output", str(tmp_path / "e"), "--epochs", "1", "--encoder", "style"]
    assert run([*arguments, "--config", str(tmp_path / "wild.toml"), "--batch-size", "100000"]) == 1
    assert "Lower the learning rate" in capsys.readouterr().err
    assert not (tmp_path / "e").exists()


@pytest.mark.filterwarnings("always")
def test_nothing_to_resume_is_said(
    votes: Path, fast: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["train-encoder", str(votes), "--output", str(tmp_path / "e"), "--epochs", "1", *fast]
    assert run([*arguments, "--resume"]) == 0
    assert re.search(r"warning: there is no checkpoint \S*\.e\.checkpoint to resume from", capsys.readouterr().err)


def _long_training(folder: Path, output: Path, fast: list[str]) -> list[str]:
    """Many short epochs, so that it is interrupted between the first and the last."""
    votes, cache = str(folder / "votes.parquet"), str(folder / "cache")
    return ["train-encoder", votes, "--output", str(output), "--cache", cache, "--epochs", "20", *fast]


@pytest.fixture(scope="module")
def uninterrupted(fast: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """votes.parquet of a tiny arena, and `whole`, trained on it in one go."""
    folder = tmp_path_factory.mktemp("uninterrupted")
    write_votes(build_arena(seed=3, n_prompts=16), folder / "votes.parquet")
    with one_thread():
        assert run(_long_training(folder, folder / "whole", fast)) == 0
    return folder


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_a_killed_training_resumes_to_the_same_result(
    uninterrupted: Path, fast: list[str], tmp_path: Path, how: signal.Signals
) -> None:
    arguments = _long_training(uninterrupted, tmp_path / "killed", fast)
    # A test run that a script has started in the background ignores interrupts, and so would what it starts.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    killed = start(arguments, uninterrupted / "cache")
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
