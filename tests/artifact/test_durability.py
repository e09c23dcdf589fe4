"""After a power loss, a kill or beside other processes: the old state or the new one, whole, with its rights."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from model_behavior.artifact import Artifact, fingerprint
from model_behavior.cli.app import run
from model_behavior.data.arena import Arena
from model_behavior.errors import ArtifactError
from model_behavior.files import written_aside
from tests.conftest import FAST, MakeOnce
from tests.faults.power_loss import recorded, write_state


@pytest.fixture(scope="module")
def trained(arena: Arena, scored_arena: Path, make_once: MakeOnce) -> Path:
    def make(folder: Path) -> None:
        shutil.copy(scored_arena / "votes.parquet", folder)
        shutil.copytree(scored_arena / "a", folder / "arena")
        Artifact.load(folder / "arena").onboard(arena.held_out_responses).save(folder / "grown")

    return make_once("durability", make)


@pytest.fixture
def folder(trained: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(trained / "arena", tmp_path / "arena"))


@pytest.mark.parametrize("new", [False, True])
def test_after_a_power_loss_at_any_moment_the_folder_is_one_of_two_states(
    new: bool, trained: Path, tmp_path: Path
) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    if not new:
        shutil.copytree(trained / "arena", disk / "arena")
    allowed = {None if new else fingerprint(disk / "arena")}
    grown = Artifact.load(trained / "grown")
    with recorded(disk) as recorder:
        grown.save(disk / "arena")
    after = fingerprint(disk / "arena")
    assert len(recorder.moments) > 20
    rng = random.Random(0)
    seen: dict[int, str | None] = {}
    for number, moment in enumerate(recorder.moments):
        for state in moment.states(rng):
            key = hash(frozenset(state.items()))
            if key not in seen:
                seen[key] = _what_is_found(state, tmp_path / f"found{number}", write=len(seen) % 8 == 0)
                assert seen[key] in {*allowed, after}, f"after call {number}, {moment.call}"
    for state in recorder.moments[-1].states(rng):  # what `save` has returned from is there for good
        assert seen[hash(frozenset(state.items()))] == after
    assert set(seen.values()) == {*allowed, after}


def _what_is_found(state: dict[str, bytes], place: Path, write: bool) -> str | None:
    shutil.rmtree(place, ignore_errors=True)
    write_state(state, place)
    try:
        if not (place / "arena").exists() or not any(each.is_file() for each in (place / "arena").rglob("*")):
            return None
        loaded, found = Artifact.load(place / "arena"), fingerprint(place / "arena")
        if not write:
            return found
        loaded.save(place / "arena")  # whoever comes next can write
        assert not [each for each in (place / "arena").iterdir() if each.name.startswith((".new", ".next"))]
        assert fingerprint(place / "arena") == found
        return found
    finally:
        shutil.rmtree(place, ignore_errors=True)


def test_a_file_is_on_the_disk_before_the_old_one_is_given_up(tmp_path: Path) -> None:
    path = tmp_path / "disk" / "keys.toml"
    path.parent.mkdir()
    path.write_text("old")
    with recorded(path.parent) as recorder, written_aside(path) as aside:
        aside.write_text("new")
    found = {state.get("keys.toml") for moment in recorder.moments for state in moment.states(random.Random(1))}
    assert found == {b"old", b"new"}
    assert {state["keys.toml"] for state in recorder.moments[-1].states(random.Random(1))} == {b"new"}


def test_readers_beside_a_writer_never_see_a_damaged_folder(folder: Path, trained: Path) -> None:
    versions = [Artifact.load(trained / name) for name in ("arena", "grown")]
    names = {each.models.names for each in versions}
    done, errors, reads = threading.Event(), [], []

    def read() -> None:
        while not done.is_set():
            try:
                found = Artifact.load(folder)
                assert found.models.names in names and found.trained_scorer.models == found.models.names
                reads.append(fingerprint(folder))
            except BaseException as error:  # noqa: BLE001  told below
                errors.append(error)
                return

    readers = [threading.Thread(target=read) for _ in range(3)]
    for each in readers:
        each.start()
    for number in range(16):
        versions[number % 2].save(folder)
    done.set()
    for each in readers:
        each.join()
    assert not errors and len(reads) > 10


def test_rights_and_files_of_the_user_stay(folder: Path, trained: Path) -> None:
    folder.chmod(0o2750)
    (folder / "config.json").chmod(0o640)
    (folder / "mine.txt").write_text("mine")
    owner = (1234, 2345) if os.geteuid() == 0 else (os.geteuid(), os.getegid())
    os.chown(folder / "models.json", *owner)
    os.setxattr(folder, "user.label", b"kept")
    before = folder.stat()
    Artifact.load(trained / "grown").save(folder)
    after = folder.stat()
    assert (after.st_ino, stat.S_IMODE(after.st_mode)) == (before.st_ino, 0o2750)
    assert os.getxattr(folder, "user.label") == b"kept" and (folder / "mine.txt").read_text() == "mine"
    status = (folder / "models.json").stat()
    assert (status.st_uid, status.st_gid) == owner
    assert stat.S_IMODE((folder / "config.json").stat().st_mode) == 0o640


@contextmanager
def mounted(place: Path, options: str) -> Iterator[None]:
    """A small file system at this place; skips where this user may not mount one."""
    place.mkdir(exist_ok=True)
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(place)]
    if shutil.which("mount") is None or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("this user may not mount a file system")
    try:
        yield
    finally:
        subprocess.run(["umount", str(place)], check=True)


def test_a_mount_point_is_written_and_a_full_or_read_only_one_is_left_as_it_was(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = tmp_path / "volume"
    size = sum(path.stat().st_size for path in (trained / "arena").rglob("*") if path.is_file())
    grown = Artifact.load(trained / "grown")
    with mounted(place, f"size={4 * size}"):
        Artifact.load(trained / "arena").save(place)
        grown.save(place)
        assert Artifact.load(place).models.names == grown.models.names
        (place / "ballast").write_bytes(bytes(int(2.4 * size)))
        before = fingerprint(place)
        for name in grown.models.names[:1]:
            assert run(["remove", str(place), _unvoted(grown)]) == 1, name
        said = capsys.readouterr().err.strip().splitlines()
        assert len(said) == 1 and said[0].startswith("error: ")
        assert fingerprint(place) == before and Artifact.load(place).models.names == grown.models.names
        assert {path.name for path in place.iterdir() if path.name.startswith(".")} == {".lock"}
        subprocess.run(["mount", "-o", "remount,ro", str(place)], check=True)
        assert run(["rank", str(place)]) == 0
        assert run(["remove", str(place), _unvoted(grown)]) == 1
        said = capsys.readouterr().err.strip().splitlines()
        assert len(said) == 1 and "Read-only file system" in said[0]


def _unvoted(grown: Artifact) -> str:
    return sorted(set(grown.models.names) - set(grown.trained_scorer.voted_models))[0]


def test_a_save_without_space_for_its_files_changes_nothing(folder: Path, trained: Path) -> None:
    program = (
        "import resource, sys; from model_behavior.cli.app import run\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))\n"
        "sys.exit(run(sys.argv[1:]))"
    )
    before = fingerprint(folder)
    responses = folder.parent / "new.jsonl"
    rows = [{"prompt": f"What is {n}?", "response": f"It is {n}, surely. " * 3} for n in range(20)]
    responses.write_text("\n".join(map(json.dumps, rows)))
    command = [sys.executable, "-c", program, "onboard", str(folder), str(responses), "--model", "new-model"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert done.stderr.strip().splitlines()[-1].startswith("error: ")
    assert fingerprint(folder) == before
    assert [path.name for path in folder.iterdir() if path.name.startswith(".n")] == []


def test_what_killed_writers_leave_is_removed_by_the_next(folder: Path) -> None:
    program = (
        "import sys, time; from pathlib import Path; from model_behavior.files import temporary_folder\n"
        "with temporary_folder(Path(sys.argv[1]), '.new.') as part:\n"
        "    (part / 'content').mkdir(); print(part, flush=True); time.sleep(600)"
    )
    with subprocess.Popen([sys.executable, "-c", program, str(folder)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        part = Path(process.stdout.readline().strip())
        Artifact.load(folder).save(folder)
        assert part.is_dir()  # its process lives
        process.send_signal(signal.SIGKILL)
    Artifact.load(folder).save(folder)
    assert not part.exists()


def test_an_altered_file_is_still_told(folder: Path) -> None:
    raw = (folder / "models.safetensors").read_bytes()
    (folder / "models.safetensors").write_bytes(raw[:-1] + bytes([raw[-1] ^ 1]))
    with pytest.raises(ArtifactError, match=r"models\.safetensors was altered"):
        Artifact.load(folder)


def test_two_trainings_with_one_seed_write_the_same_bytes(trained: Path, tmp_path: Path) -> None:
    votes = str(trained / "votes.parquet")
    for name in "ab":
        assert run(["train", votes, "--output", str(tmp_path / name), "--seed", "3", *FAST]) == 0
    folders = [tmp_path / name for name in "ab"]
    a, b = (
        {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()} for folder in folders
    )
    assert a.keys() == b.keys() and {name for name in a if a[name] != b[name]} <= {"times.json"}
    assert all(b"NaN" not in content for name, content in a.items() if name.endswith(".json"))
    assert all(log.seconds > 0 for log in Artifact.load(tmp_path / "a").encoder.history)
