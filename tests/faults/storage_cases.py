"""Kills and two writers, over everything that writes."""

from __future__ import annotations

import http.client
import json
import random
import shutil
import socket
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
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
from tests.faults.campaign import Case, Outcome, command, end_process, kill_process, start_process

_FAST = ("--encoder", "style", "--epochs", "1", "--scorer-epochs", "2", "--validation-fraction", "0.3")
_MOST_CALLS = 400  # of a process, before it is taken for one that writes without end


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
        pq.write_table(votes.slice(0, len(votes) - 60), folder / "votes.parquet")
        pq.write_table(votes.slice(len(votes) - 60), folder / "few.parquet")
        rows = [row for row in held_out_rows(arena) if row["model"] == arena.held_out[0]][:30]
        text = "".join(json.dumps({"prompt": row["prompt"], "response": row["response"]}) + "\n" for row in rows)
        (folder / "log.jsonl").write_text(text)
        train = command("train", folder / "votes.parquet", "--output", folder / "arena", *_FAST)
        assert end_process(start_process(train)) == 0
        onboard = command("onboard", folder / "arena", folder / "log.jsonl", "--model", "known")
        assert end_process(start_process(onboard)) == 0
        return cls(folder)

    def copy(self, place: Path) -> Path:
        """A copy of the artifact."""
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


def _kill_at_every_call(
    place: Path, work: Callable[[], int], reset: Callable[[], None], target: Path, found: Outcome, step: int = 1
) -> None:
    """Kills the work before its first file call, its second and so on; the target must be as before or as after."""
    reset()
    before = _version(target)
    assert end_process(start_process(work)) == 0
    after = _version(target)
    if before == after:
        found.blame("wrong", f"{place}: the work changed nothing")
    for number in range(1, _MOST_CALLS, step):
        reset()
        ended = end_process(start_process(work, kill_at_call=number))
        if ended == 0:
            return
        found.faults += 1
        try:
            state = _version(target)
        except ModelBehaviorError as error:
            found.blame("wrong", f"killed at call {number}: {error}")
            continue
        if state not in (before, after):
            found.blame("wrong", f"killed at call {number}: neither state")
        if number % 5:
            continue
        again = end_process(start_process(work))
        if again not in (0, 2):  # 2: what was asked for is done already
            found.blame("wrong", f"killed at call {number}: the work cannot be done again")
        elif again == 0 and [path for path in target.iterdir() if path.name.endswith(".part") or path.name == ".next"]:
            found.blame("wrong", f"killed at call {number}: something is left")


def _kill_changes(material: Material, words: Sequence[object], step: int) -> Callable[[Path, random.Random], Outcome]:
    def run(place: Path, rng: random.Random) -> Outcome:
        found, target = Outcome(), place / "arena"
        work = command(words[0], target, *words[1:])
        _kill_at_every_call(place, work, lambda: (material.copy(target), None)[1], target, found, step)
        return found

    return run


def _kill_trainings(material: Material) -> Callable[[Path, random.Random], Outcome]:
    def run(place: Path, rng: random.Random) -> Outcome:
        found, target = Outcome(), place / "arena"
        work = command("train", material.folder / "votes.parquet", "--output", target, "--overwrite", *_FAST)
        started = time.monotonic()
        assert end_process(start_process(work)) == 0
        took, allowed = time.monotonic() - started, {_version(target)}
        shutil.rmtree(target)
        for number in range(30):
            if number % 2:
                material.copy(target)
                before = _version(target)
            else:
                shutil.rmtree(target, ignore_errors=True)
                before = None
            if kill_process(start_process(work), rng.uniform(0.2, 1.05) * took):
                found.faults += 1
            try:
                state = _version(target)
            except ModelBehaviorError as error:
                found.blame("wrong", str(error))
                continue
            if state not in {before, *allowed}:
                found.blame("wrong", "neither the old artifact nor the trained one")
        return found

    return run


def _kill_encodings(material: Material) -> Callable[[Path, random.Random], Outcome]:
    def run(place: Path, rng: random.Random) -> Outcome:
        found, output = Outcome(), place / "vectors.parquet"
        pairs = material.folder / "log.jsonl"
        work = command("encode", material.folder / "arena", pairs, "--output", output)
        assert end_process(start_process(work)) == 0
        whole = output.read_bytes()
        for number in range(1, _MOST_CALLS):
            output.unlink(missing_ok=True)
            if end_process(start_process(work, kill_at_call=number)) == 0:
                break
            found.faults += 1
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
    def run(place: Path, rng: random.Random) -> Outcome:
        found, target = Outcome(), material.copy(place / "arena")
        names = Artifact.load(target).trained_scorer.voted_models
        votes: list[str] = []
        uploads: set[str] = set()
        for number in range(25):
            with socket.socket() as free:
                free.bind(("127.0.0.1", 0))
                port = int(free.getsockname()[1])
            service = start_process(command("serve", target, "--port", port))
            first = max(len(votes) - 1, 0)  # the last one again, as a client does that has not heard
            client = _Client(port, (names[0], names[1]), (material.folder / "log.jsonl").read_bytes(), first)
            threads = [threading.Thread(target=work) for work in (client.send_votes, client.send_uploads)]
            for thread in threads:
                thread.start()
            until = time.monotonic() + 30
            while not client.uploads and time.monotonic() < until:
                time.sleep(0.01)
            kill_process(service, rng.uniform(0.0, 0.6))
            client.stop.set()
            for thread in threads:
                thread.join()
            found.faults += 1
            votes += [each for each in client.votes if each not in votes[-2:]]
            uploads |= set(client.uploads)
            for error in client.errors:
                found.blame("errors", error)
            if not client.uploads:
                found.blame("unanswered", f"service {number} took no upload")
            _check_service(target, votes, uploads, found)
        update = start_process(command("update", target))
        logged = sum(isinstance(each, LoggedVote) for each in VoteLog(target / LOG).entries())
        before = Artifact.load(material.folder / "arena").votes
        if end_process(update) or end_process(start_process(command("update", target))):
            found.blame("wrong", "the votes cannot be counted")
        after = Artifact.load(target).votes
        if before is None or after is None or len(after) != len(before) + logged:
            found.blame("wrong", f"{logged} votes were logged, and another number was counted")
        return found

    return run


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


def _two_writers(material: Material) -> Callable[[Path, random.Random], Outcome]:
    def run(place: Path, rng: random.Random) -> Outcome:
        found, log = Outcome(), material.folder / "log.jsonl"
        votes = material.folder / "votes.parquet"
        kinds = {
            "onboard": ("onboard", log, "--model", "one"),
            "onboard another": ("onboard", log, "--model", "two"),
            "remove": ("remove", "known"),
            "train-scorer": ("train-scorer", votes, "--epochs", "2"),
            "update": ("update", material.folder / "few.parquet"),
        }
        names = list(kinds)
        pairs = [(a, b) for i, a in enumerate(names) for b in names[i:] if a != b or a in ("onboard", "update")]
        for a, b in pairs:
            target = material.copy(place / "arena")
            children = [start_process(command(kinds[k][0], target, *kinds[k][1:])) for k in (a, b)]
            codes = [end_process(each) for each in children]
            found.faults += 1
            if codes != [0, 0]:
                found.blame("wrong", f"{a} beside {b}: exit codes {codes}")
            here = set(Artifact.load(target).models.names)
            for kind, name in (("onboard", "one"), ("onboard another", "two")):
                if kind in (a, b) and name not in here:
                    found.blame("lost", f"{a} beside {b}: {name}")
            if ("known" in here) == ("remove" in (a, b)):
                found.blame("lost", f"{a} beside {b}: the removal")
        keys = place / "keys.toml"
        children = [start_process(command("create-key", keys, "--name", f"k{n}")) for n in range(12)]
        for child in children:
            end_process(child)
        found.faults += len(children)
        for missing in {f"k{n}" for n in range(12)} - {key.name for key in load_keys(keys)}:
            found.blame("lost", f"key {missing}")
        return found

    return run


def storage_cases(folder: Path) -> list[Case]:
    """The cases of storage; trains their artifact in `folder`."""
    material = Material.make(folder)
    log, few = folder / "log.jsonl", folder / "few.parquet"
    both = "the old artifact or the new one, and the next writer finishes or clears away"
    return [
        Case(
            "`kill -9` before every file call of `onboard`",
            both,
            _kill_changes(material, ("onboard", log, "--model", "new"), 1),
        ),
        Case("`kill -9` before every file call of `remove`", both, _kill_changes(material, ("remove", "known"), 1)),
        Case(
            "`kill -9` before every third file call of `train-scorer`",
            both,
            _kill_changes(material, ("train-scorer", few, "--epochs", "2"), 3),
        ),
        Case(
            "`kill -9` during `train`",
            "the old artifact, the new one, or none where none was",
            _kill_trainings(material),
        ),
        Case("`kill -9` before every file call of `encode`", "the whole file or none", _kill_encodings(material)),
        Case(
            "`kill -9` of `serve` under uploads and votes",
            "every acknowledged upload; every acknowledged vote, once",
            _kill_services(material),
        ),
        Case("two writers of every kind at once", "both changes", _two_writers(material)),
    ]
