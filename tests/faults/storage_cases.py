"""Kills and two writers, over everything that writes."""

from __future__ import annotations

import http.client
import json
import os
import random
import shutil
import signal
import socket
import threading
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path

import pyarrow.parquet as pq

from model_behavior.arrays import AnyArray
from model_behavior.artifact import Artifact
from model_behavior.data.arena import build_arena, write_votes
from model_behavior.data.vote_log import LOG, LoggedVote, VoteLog
from model_behavior.errors import ModelBehaviorError
from model_behavior.preprocessing.entry_file import digest_of
from model_behavior.serving.keys import load_keys
from tests.conftest import held_out_rows
from tests.faults.campaign import (
    Case,
    Outcome,
    command,
    copy_at_every_call,
    end_process,
    kill_at,
    kill_process,
    start_process,
)

_FAST = ("--encoder", "style", "--epochs", "1", "--scorer-epochs", "2", "--validation-fraction", "0.3")
_MOST_CALLS = 400  # of a process, before it is taken for one that writes without end
N_LATER = 60
"""Number of votes that the artifact has not seen."""

_SERVICES, _MOMENTS = 10, 8
_READERS, _PAUSE_SECONDS = 2, 0.02
_START_SECONDS = 120.0


@dataclass(frozen=True)
class Material:
    """A trained artifact, with what is needed to change it.

    Attributes:
        folder: folder with `arena`, its `votes.parquet`, `few.parquet` with later votes, and `log.jsonl`.
    """

    folder: Path

    @classmethod
    def make(cls, folder: Path) -> Material:
        """Trains the artifact."""
        arena = build_arena(seed=3, n_prompts=40)
        write_votes(arena, folder / "votes.parquet")
        votes = pq.read_table(folder / "votes.parquet")
        pq.write_table(votes.slice(0, len(votes) - N_LATER), folder / "votes.parquet")
        pq.write_table(votes.slice(len(votes) - N_LATER), folder / "few.parquet")
        rows = [row for row in held_out_rows(arena) if row["model"] == arena.held_out[0]][:30]
        text = "".join(json.dumps({"prompt": row["prompt"], "response": row["response"]}) + "\n" for row in rows)
        (folder / "log.jsonl").write_text(text)
        train = command("train", folder / "votes.parquet", "--output", folder / "arena", *_FAST)
        assert end_process(start_process(train)) == 0
        onboard = command("onboard", folder / "arena", folder / "log.jsonl", "--model", "known")
        assert end_process(start_process(onboard)) == 0
        return cls(folder)

    @cached_property
    def n_votes(self) -> int:
        """Number of votes that the artifact has counted."""
        votes = Artifact.load(self.folder / "arena").votes
        return 0 if votes is None else len(votes)

    def copy(self, place: Path) -> Path:
        """A copy of the artifact."""
        place.parent.mkdir(exist_ok=True)
        shutil.rmtree(place, ignore_errors=True)
        return Path(shutil.copytree(self.folder / "arena", place))


def _version(folder: Path) -> str | None:
    """Hash of what an artifact knows, whenever it was written; None where there is none."""
    if not folder.exists():
        return None
    loaded = Artifact.load(folder)
    scorer = loaded.trained_scorer.get_state_dict()["tensors"]
    parts: list[str | AnyArray] = [
        *loaded.models.names,
        loaded.models.mean,
        loaded.models.count,
        loaded.encoder.fingerprint,
    ]
    parts += [scorer[name] for name in sorted(scorer)]
    return digest_of(*parts)


def _left(target: Path) -> list[str]:
    return [path.name for path in target.iterdir() if path.name.endswith(".part") or path.name == ".next"]


def _check_state(target: Path, allowed: Collection[str | None], when: str, found: Outcome) -> None:
    found.faults += 1
    try:
        state = _version(target)
    except ModelBehaviorError as error:
        found.blame("wrong", f"{when}: {error}")
        return
    if state not in allowed:
        found.blame("wrong", f"{when}: neither state")


def _check_every_call(place: Path, work: Callable[[], int], target: Path, found: Outcome) -> tuple[str | None, int]:
    """Does the work and loads what a kill before each of its file calls would leave; the state after it, and calls."""
    before, states = _version(target), place.with_name("states")
    assert end_process(start_process(work, copy_at_every_call(place, states))) == 0
    after = _version(target)
    if before == after:
        found.blame("wrong", f"{place}: the work changed nothing")
    copies = list(states.iterdir())
    for each in copies:
        _check_state(each / target.name, (before, after), f"before call {each.name}", found)
    shutil.rmtree(states)
    return after, len(copies)


def _kill_changes(material: Material, words: Sequence[object], step: int) -> Callable[[Path, random.Random], Outcome]:
    """Kills a change before its first file call and each `step`-th after it; now and then does it again."""

    def run(place: Path, rng: random.Random) -> Outcome:
        found, target = Outcome(), place / "work" / "arena"
        work = command(words[0], target, *words[1:])
        material.copy(target)
        before = _version(target)
        after, n_calls = _check_every_call(target.parent, work, target, found)
        for number in range(1, n_calls + 1, step):
            material.copy(target)
            ended = end_process(start_process(work, kill_at(number)))
            if ended == 0:  # it made fewer calls than the first run
                break
            if ended != -signal.SIGKILL:
                found.blame("wrong", f"killed at call {number}: it ended with {ended}")
            found.kills += 1
            _check_state(target, (before, after), f"killed at call {number}", found)
            if number % (5 * step) != 1:
                continue
            again = end_process(start_process(work))
            if again not in (0, 2):  # 2: what was asked for is done already
                found.blame("wrong", f"killed at call {number}: the work cannot be done again")
            elif again == 0 and _left(target):
                found.blame("wrong", f"killed at call {number}: something is left")
        return found

    return run


def _kill_trainings(material: Material) -> Callable[[Path, random.Random], Outcome]:
    """Into a new folder and over an old one: before every file call, and killed at random moments."""

    def run(place: Path, rng: random.Random) -> Outcome:
        found, target = Outcome(), place / "work" / "arena"
        target.parent.mkdir()
        work = command("train", material.folder / "votes.parquet", "--output", target, "--overwrite", *_FAST)
        started = time.monotonic()
        trained, _ = _check_every_call(target.parent, work, target, found)
        took = time.monotonic() - started
        material.copy(target)
        _check_every_call(target.parent, work, target, found)
        for number in range(20):
            material.copy(target) if number % 2 else shutil.rmtree(target, ignore_errors=True)
            before = _version(target)
            if kill_process(start_process(work), rng.uniform(0.1, 1.0) * took):
                found.kills += 1
            _check_state(target, (before, trained), "killed", found)
        return found

    return run


def _kill_encodings(material: Material) -> Callable[[Path, random.Random], Outcome]:
    def run(place: Path, rng: random.Random) -> Outcome:
        found, output = Outcome(), place / "vectors.parquet"
        work = command("encode", material.folder / "arena", material.folder / "log.jsonl", "--output", output)
        assert end_process(start_process(work)) == 0
        whole = output.read_bytes()
        for number in range(1, _MOST_CALLS):
            output.unlink(missing_ok=True)
            if end_process(start_process(work, kill_at(number))) == 0:
                break
            found.faults += 1
            found.kills += 1
            if output.exists() and output.read_bytes() != whole:
                found.blame("wrong", f"killed at call {number}: a part of the file")
        return found

    return run


@dataclass
class _Client:
    """Sends votes and uploads to a service until it is told to stop, and remembers what was acknowledged."""

    port: int
    models: tuple[str, str]
    upload: bytes
    first: int
    votes: list[str] = field(default_factory=list)
    uploads: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    stop: threading.Event = field(default_factory=threading.Event)

    @contextmanager
    def sending(self) -> Iterator[None]:
        """Sends both while the block runs."""
        threads = [threading.Thread(target=work) for work in (self.send_votes, self.send_uploads)]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self.stop.set()
            for thread in threads:
                thread.join()

    def wait_for_upload(self, seconds: float) -> bool:
        """Waits until an upload was acknowledged; False where none was in time."""
        until = time.monotonic() + seconds
        while not self.uploads and time.monotonic() < until:
            time.sleep(0.01)
        return bool(self.uploads)

    def send_votes(self) -> None:
        number = self.first
        while not self.stop.is_set():
            body = {"id": f"v{number}", "prompt": f"p{number % 50}", "outcome": "model_a"}
            sides = {"model_a": self.models[0], "model_b": self.models[1]}
            status = self._post("/v1/votes", json.dumps({**body, **sides}).encode(), "application/json")
            if status in (200, 201):
                self.votes.append(f"v{number}")
                number += 1

    def send_uploads(self) -> None:
        number = self.first
        while not self.stop.is_set():
            if self._post(f"/v1/models?model=up{number % 3}", self.upload, "application/octet-stream") == 201:
                self.uploads.append(f"up{number % 3}")
                number += 1

    def _post(self, path: str, body: bytes, media_type: str) -> int:
        try:
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
            connection.request("POST", path, body, {"Content-Type": media_type})
            status = connection.getresponse().status
            connection.close()
        except (OSError, http.client.HTTPException):
            time.sleep(0.02)
            return 0
        if status >= 500 and status != 503:
            self.errors.append(f"{path.partition('?')[0]}: {status}")
        return status


def _kill_services(material: Material) -> Callable[[Path, random.Random], Outcome]:
    """Kills services, each of which was stopped at some moments before, and its folder copied as a kill leaves it."""

    def run(place: Path, rng: random.Random) -> Outcome:
        found, target = Outcome(), material.copy(place / "arena")
        names = Artifact.load(target).trained_scorer.voted_models
        votes: list[str] = []
        uploads: set[str] = set()
        for number in range(_SERVICES):
            port = _free_port()
            service = start_process(command("serve", target, "--port", port))
            first = max(len(votes) - 1, 0)  # the last one again, as a client does that has not heard
            client = _Client(port, (names[0], names[1]), (material.folder / "log.jsonl").read_bytes(), first)
            with client.sending():
                if not client.wait_for_upload(_START_SECONDS):
                    found.blame("unanswered", f"service {number} took no upload")
                for _ in range(_MOMENTS):
                    time.sleep(rng.uniform(0.0, 0.1))
                    known = [*votes, *client.votes], uploads | set(client.uploads)
                    os.kill(service, signal.SIGSTOP)
                    os.waitid(os.P_PID, service, os.WSTOPPED)
                    copy = Path(shutil.copytree(target, place / "copy"))
                    os.kill(service, signal.SIGCONT)
                    found.faults += 1
                    _check_service(copy, *known, found)
                    shutil.rmtree(copy)
                if kill_process(service, rng.uniform(0.0, 0.3)):
                    found.kills += 1
            found.faults += 1
            votes = list(dict.fromkeys([*votes, *client.votes]))
            uploads |= set(client.uploads)
            for error in client.errors:
                found.blame("errors", error)
            _check_service(target, votes, uploads, found)
        _check_counting(material, target, found)
        return found

    return run


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def _check_counting(material: Material, target: Path, found: Outcome) -> None:
    """Counts the logged votes twice, of which the second time must add nothing."""
    logged = sum(isinstance(each, LoggedVote) for each in VoteLog(target / LOG).entries())
    before = Artifact.load(material.folder / "arena").votes
    codes = [end_process(start_process(command("update", target))) for _ in range(2)]
    after = Artifact.load(target).votes
    if any(codes) or before is None or after is None or len(after) != len(before) + logged:
        found.blame("wrong", f"{logged} votes were logged, and another number was counted")


def _check_service(target: Path, votes: list[str], uploads: set[str], found: Outcome) -> None:
    ids = [json.loads(line)["id"] for line in (target / LOG).read_bytes().splitlines(True) if line.endswith(b"\n")]
    for _ in range(len(ids) - len(set(ids))):
        found.blame("wrong", "a vote is in the log twice")
    for missing in set(votes) - set(ids):
        found.blame("lost", f"vote {missing}")
    try:
        here = set(Artifact.load(target).models.names)
    except ModelBehaviorError as error:
        found.blame("wrong", str(error))
        return
    for missing in uploads - here:
        found.blame("lost", f"model {missing}")


@dataclass(frozen=True)
class _Writers:
    """Commands that change one folder, by kind."""

    material: Material
    target: Path

    def words(self, kind: str) -> tuple[object, ...]:
        """The command line of a kind."""
        log, votes = self.material.folder / "log.jsonl", self.material.folder / "votes.parquet"
        words: dict[str, tuple[object, ...]] = {
            "onboard": ("onboard", self.target, log, "--model", "one"),
            "onboard another": ("onboard", self.target, log, "--model", "two"),
            "remove": ("remove", self.target, "known"),
            "train-scorer": ("train-scorer", self.target, votes, "--epochs", "2"),
            "update": ("update", self.target, self.material.folder / "few.parquet"),
            "train": ("train", votes, "--output", self.target, "--overwrite", *_FAST),
        }
        return words[kind]

    def start(self, kind: str) -> int:
        """Starts a command."""
        return start_process(command(*self.words(kind)))

    def check(self, codes: Sequence[tuple[str, int]], found: Outcome) -> None:
        """What each command has done must be there, or it must have said that it is not."""
        kinds, what = {kind for kind, _ in codes}, " beside ".join(kind for kind, _ in codes)
        found.faults += 1
        overwritten = ("train", 0) in codes
        for kind, code in codes:
            # A training that comes second is kept beside; a removal after it finds that nothing is left to remove.
            allowed = {"train": (0, 1), "remove": (0, 2) if overwritten else (0,)}.get(kind, (0,))
            if code not in allowed:
                found.blame("wrong", f"{what}: exit code {code} of {kind}")
        if ("train", 1) in codes and not self.target.with_name("arena-2").exists():
            found.blame("lost", f"{what}: the training")
        now = Artifact.load(self.target)
        here = set(now.models.names)
        for kind, name in (("onboard", "one"), ("onboard another", "two")):
            if kind in kinds and name not in here:
                found.blame("lost", f"{what}: {name}")
        if ("known" in here) == ("remove" in kinds or overwritten):
            found.blame("lost", f"{what}: the removal")
        n_votes = len(now.votes) if now.votes is not None else 0
        # A scorer that is trained on given votes counts these alone, after an update, too.
        if (
            "update" in kinds
            and "train-scorer" not in kinds
            and not overwritten
            and n_votes != self.material.n_votes + N_LATER
        ):
            found.blame("lost", f"{what}: the update")


def _two_writers(material: Material) -> Callable[[Path, random.Random], Outcome]:
    def run(place: Path, rng: random.Random) -> Outcome:
        found = Outcome()
        kinds = ("onboard", "onboard another", "remove", "train-scorer", "update", "train")
        repeated = ("onboard", "update", "train")
        pairs = [(a, b) for i, a in enumerate(kinds) for b in kinds[i:] if a != b or a in repeated]
        for number, pair in enumerate(pairs):
            writers = _Writers(material, material.copy(place / str(number) / "arena"))
            children = [writers.start(kind) for kind in pair]
            writers.check([(kind, end_process(child)) for kind, child in zip(pair, children, strict=True)], found)
            shutil.rmtree(place / str(number))
        return found

    return run


@contextmanager
def _reading(target: Path, place: Path) -> Iterator[list[Path]]:
    """Processes that load the artifact over and over while the block runs; each writes what it saw, a line a load."""

    def read(seen: Path) -> int:
        with seen.open("a", encoding="utf-8") as lines:
            while not (place / "stop").exists():
                try:
                    state = _version(target) or "gone"
                except ModelBehaviorError as error:
                    state = f"error: {error}"
                lines.write(" ".join(state.split()) + "\n")
        return 0

    files = [place / f"seen-{number}" for number in range(_READERS)]
    children = [start_process(partial(read, seen)) for seen in files]
    try:
        yield files
    finally:
        (place / "stop").touch()
        codes = [end_process(child) for child in children]
    assert not any(codes), codes


def _read_beside_writers(material: Material) -> Callable[[Path, random.Random], Outcome]:
    """Writers that wait before each file call, so that every state between two calls is there to be read."""

    def run(place: Path, rng: random.Random) -> Outcome:
        found, target = Outcome(), material.copy(place / "arena")
        writers, states = _Writers(material, target), [_version(target)]
        with _reading(target, place) as files:
            for kind in ("onboard", "remove", "onboard another", "update", "train-scorer", "train"):
                work = command(*writers.words(kind))
                if code := end_process(start_process(work, lambda _: time.sleep(_PAUSE_SECONDS))):
                    found.blame("wrong", f"{kind} beside readers: exit code {code}")
                states.append(_version(target))
        for line in (line for seen in files for line in seen.read_text("utf-8").splitlines()):
            found.faults += 1
            if line not in states:
                found.blame("wrong", f"read: {line if line.startswith('error') else 'neither state'}")
        if len(set(states)) < len(states):
            found.blame("wrong", "a writer changed nothing")
        return found

    return run


def _write_beside_a_service(material: Material) -> Callable[[Path, random.Random], Outcome]:
    """Uploads go on while one command after the other changes the folder; the training comes last."""

    def run(place: Path, rng: random.Random) -> Outcome:
        found, target = Outcome(), material.copy(place / "arena")
        names, port = Artifact.load(target).trained_scorer.voted_models, _free_port()
        service = start_process(command("serve", target, "--port", port))
        client = _Client(port, (names[0], names[1]), (material.folder / "log.jsonl").read_bytes(), 0)
        writers = _Writers(material, target)
        with client.sending():
            if not client.wait_for_upload(_START_SECONDS):
                found.blame("unanswered", "the service took no upload")
            done: list[tuple[str, int]] = []
            for kind in ("onboard", "remove", "onboard another", "train-scorer"):
                known = set(client.uploads)
                done.append((kind, end_process(writers.start(kind))))
                writers.check(done, found)
                _check_service(target, [], known, found)
            if end_process(writers.start("update")):
                found.blame("wrong", "an update beside votes")
            training = end_process(writers.start("train"))
            found.faults += 2
            n_replaced = len(client.uploads) if training == 0 else 0  # no upload came while it ran: it may replace all
            if training not in (0, 1) or (training and not target.with_name("arena-2").exists()):
                found.blame("lost", f"a training beside uploads: exit code {training}")
            time.sleep(1)
        kill_process(service, 0)
        for error in client.errors:
            found.blame("errors", error)
        _check_service(target, client.votes, set(client.uploads[n_replaced:]), found)
        return found

    return run


def _write_beside_the_demo(material: Material) -> Callable[[Path, random.Random], Outcome]:
    def run(place: Path, rng: random.Random) -> Outcome:
        found, target = Outcome(faults=2), material.copy(place / "demo" / "arena_encoder")
        demo = start_process(command("demo", "--output", place / "demo"))
        onboard = _Writers(material, target).start("onboard")
        codes = end_process(onboard), end_process(demo)
        if codes != (0, 1) or not target.with_name("arena_encoder-2").exists():
            found.blame("lost", f"the demo: exit codes {codes}")
        if "one" not in Artifact.load(target).models.names:
            found.blame("lost", "the model")
        return found

    return run


def _make_keys(place: Path, rng: random.Random) -> Outcome:
    keys, names = place / "keys.toml", [f"k{number}" for number in range(24)]
    children = [start_process(command("create-key", keys, "--name", name)) for name in names]
    codes = [end_process(child) for child in children]
    found = Outcome(faults=len(children))
    if any(codes):
        found.blame("wrong", f"exit codes {codes}")
    for missing in set(names) - {key.name for key in load_keys(keys)}:
        found.blame("lost", f"key {missing}")
    return found


def storage_cases(folder: Path) -> list[Case]:
    """The cases of storage; trains their artifact in `folder`."""
    material = Material.make(folder)
    log, few = folder / "log.jsonl", folder / "few.parquet"
    changes = {
        "every second call": (("onboard", log, "--model", "new"), 2),
        "every third call": (("train-scorer", few, "--epochs", "2"), 3),
        "every call": (("remove", "known"), 1),
        "each call": (("update", few), 1),
    }
    both = "the old artifact or the new one, and the next writer finishes or clears away"
    kept = "both changes, or the second one is beside and says so"
    served = "every acknowledged upload; every acknowledged vote, once"
    return [
        Case("the demo beside `onboard`", kept, _write_beside_the_demo(material)),
        Case("two commands of every kind at once", kept, _two_writers(material)),
        Case("`kill -9` of `serve` under uploads and votes, and states between", served, _kill_services(material)),
        Case("`train` into a new folder and over an old one", both, _kill_trainings(material)),
        *(
            Case(f"`{words[0]}`: the state before every file call; `kill -9` before {which}", both, run)
            for which, (words, step) in changes.items()
            for run in [_kill_changes(material, words, step)]
        ),
        Case("`encode`: `kill -9` before every file call", "the whole file or none", _kill_encodings(material)),
        Case("readers beside writers of every kind", "one state whole, at every load", _read_beside_writers(material)),
        Case("every command beside uploads and votes", kept, _write_beside_a_service(material)),
        Case("24 `create-key` at once", "all keys", _make_keys),
    ]
