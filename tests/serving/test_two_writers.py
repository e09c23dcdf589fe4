"""Two writers of every kind at one time: what each has added is there at the end, or it says that it is not."""

from __future__ import annotations

import json
import pwd
import shutil
import subprocess
import sys
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from model_behavior.artifact import Artifact, locked
from model_behavior.cli.app import run
from model_behavior.cli.options import Change
from model_behavior.data.arena import Arena, write_votes
from model_behavior.errors import UsageError
from model_behavior.serving.keys import KeyRing, add_key, load_keys, make_key
from model_behavior.serving.service import Service
from tests.conftest import FAST, MakeOnce


def start(*arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "model_behavior", *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def finish(processes: Sequence[subprocess.Popen[str]]) -> list[tuple[int, str]]:
    said = [process.communicate()[1] for process in processes]
    return [(process.returncode, text) for process, text in zip(processes, said, strict=True)]


@pytest.fixture(scope="module")
def other_encoder(arena: Arena, make_once: MakeOnce) -> Path:
    """An artifact of the same votes with another encoder, and the votes."""

    def make(folder: Path) -> None:
        write_votes(arena, folder / "votes.parquet")
        command = ["train", str(folder / "votes.parquet"), "--output", str(folder / "arena"), *FAST, "--seed", "9"]
        assert run(command) == 0

    return make_once("other-encoder", make)


def test_twelve_processes_at_one_time_make_twelve_keys(tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from model_behavior.serving.keys import add_key, make_key\n"
        "sys.stdin.readline()\n"
        "for n in range(3): add_key(Path(sys.argv[1]), make_key(f'{sys.argv[2]}-{n}', 'read')[1])"
    )
    path = tmp_path / "keys.toml"
    started = [
        subprocess.Popen([sys.executable, "-c", program, str(path), str(n)], stdin=subprocess.PIPE, text=True)
        for n in range(12)
    ]
    for process in started:
        process.communicate("go\n")
    assert [process.returncode for process in started] == [0] * 12
    assert {key.name for key in load_keys(path)} == {f"{n}-{k}" for n in range(12) for k in range(3)}


def test_a_key_that_is_removed_stops_at_once_and_a_new_one_works(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "keys.toml"
    secret, key = make_key("one", "admin")
    path.touch(0o600)
    add_key(path, key)
    assert path.stat().st_mode & 0o777 == 0o600
    ring = KeyRing(file=path)
    assert ring.find(secret) == key
    other, second = make_key("two", "read")
    add_key(path, second)
    assert ring.find(secret) == key and ring.find(other) == second
    text = path.read_text()
    path.write_text(text[text.index("[two]") :])
    assert ring.find(secret) is None and ring.find(other) == second
    path.write_text("[two\nscope =")
    assert ring.find(other) == second and "stay valid" in caplog.text
    path.write_text("")
    assert ring.find(other) is None and ring and not len(ring)


def test_two_changes_of_one_folder_are_both_there(folder: Path, log_file: Path) -> None:
    log = log_file.with_suffix(".jsonl")
    shutil.copyfile(log_file, log)
    assert run(["onboard", str(folder), str(log), "--model", "old"]) == 0
    service = Service(folder)
    processes = [
        start("onboard", folder, log, "--model", "one"),
        start("onboard", folder, log, "--model", "two"),
        start("remove", folder, "old"),
    ]
    for number in range(3):
        service.upload(log_file, f"uploaded{number}", dry_run=False)
    ended = finish(processes)
    assert [code for code, _ in ended] == [0, 0, 0], ended
    found = set(Artifact.load(folder).models.names)
    assert {"one", "two", "uploaded0", "uploaded1", "uploaded2"} <= found and "old" not in found


def test_a_training_leaves_what_was_added_meanwhile_and_is_kept_itself(
    folder: Path, other_encoder: Path, log_file: Path
) -> None:
    with start("train", other_encoder / "votes.parquet", "--output", folder, "--overwrite", *FAST) as training:
        assert training.stderr is not None
        with locked(folder):  # the training waits here at its end
            for line in training.stderr:  # it has seen the folder as it was
                if "votes kept" in line:
                    break
            grown = Artifact.load(folder).onboard([{"prompt": f"p{n}", "response": f"r{n}"} for n in range(9)], "new")
            grown.save(folder)
        text = training.stderr.read()
    assert training.returncode == 1 and "was changed by another process" in text and "Traceback" not in text
    assert "new" in Artifact.load(folder).models.names
    beside = folder.with_name("arena-2")
    assert len(Artifact.load(beside).models) == len(grown.models) - 1
    assert not folder.with_name(".arena.checkpoint").exists()


def test_an_upload_into_a_folder_with_another_encoder_is_encoded_again(
    folder: Path, other_encoder: Path, log_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = Service(folder)
    before = service.snapshot.encoder_version
    enrol, exchanged = service._current, threading.Event()

    def exchange() -> object:
        if not exchanged.is_set():
            exchanged.set()
            Artifact.load(other_encoder / "arena").save(folder)
        return enrol()

    monkeypatch.setattr(service, "_current", exchange)
    placed = service.upload(log_file, "newcomer", dry_run=False)
    assert service.snapshot.encoder_version != before and len(placed.models) == 1
    rows = [json.loads(line) for line in log_file.read_text().splitlines()]
    expected = service.snapshot.artifact.encoder.compute_model_embedding(
        [row["prompt"] for row in rows], [row["response"] for row in rows], 64
    )
    found = Artifact.load(folder).models
    np.testing.assert_allclose(found.mean[found.names.index("newcomer")], expected, atol=1e-4)


def test_other_processes_may_write_while_the_service_computes(
    folder: Path, log_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = Service(folder)
    with_models, calls = Artifact.with_models, []

    def slow(self: Artifact, new: object) -> Artifact:
        calls.append(self)
        if len(calls) == 1:  # another process changes the folder meanwhile, and need not wait
            other = Artifact.load(folder).onboard([{"prompt": "p", "response": "r"}], "other")
            with ThreadPoolExecutor(1) as pool:
                pool.submit(other.save, folder).result(30)
        return with_models(self, new)  # type: ignore[arg-type]

    monkeypatch.setattr(Artifact, "with_models", slow)
    service.upload(log_file, "newcomer", dry_run=False)
    assert {"other", "newcomer"} <= set(Artifact.load(folder).models.names) and len(calls) >= 2


def test_two_outputs_of_one_name_are_not_written_over(folder: Path) -> None:
    target = folder.with_name("arena2")
    one, two = (Change(folder, target, lambda: Artifact.load(folder)) for _ in range(2))
    one.apply(lambda loaded: loaded.onboard([{"prompt": "p", "response": "r"}], "one"))
    with pytest.raises(UsageError, match="holds an artifact already"):
        two.apply(lambda loaded: loaded.onboard([{"prompt": "p", "response": "r"}], "two"))
    assert set(Artifact.load(target).models.names) & {"one", "two"} == {"one"}


@pytest.mark.filterwarnings("always")
def test_without_a_home_and_with_a_cache_that_cannot_be_written_work_goes_on(
    folder: Path, log_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    log = log_file.with_suffix(".jsonl")
    shutil.copyfile(log_file, log)
    (tmp_path / "file").touch()
    monkeypatch.setenv("MODEL_BEHAVIOR_CACHE", str(tmp_path / "file"))
    assert run(["onboard", str(folder), str(log), "--model", "one"]) == 0
    assert "cannot write to the cache" in capsys.readouterr().err
    for name in ("MODEL_BEHAVIOR_CACHE", "XDG_CACHE_HOME", "HOME"):
        monkeypatch.delenv(name, raising=False)

    def nobody(_: int) -> object:
        raise KeyError("no such user")

    monkeypatch.setattr(pwd, "getpwuid", nobody)  # as in a container that runs as a number
    assert run(["onboard", str(folder), str(log), "--model", "two"]) == 0
    assert "there is no home folder for the cache" in capsys.readouterr().err
    assert {"one", "two"} <= set(Artifact.load(folder).models.names)
