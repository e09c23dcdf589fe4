"""Votes that arrive later: once on the disk, once in the ratings, wherever a process is killed."""

from __future__ import annotations

import json
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from starlette.testclient import TestClient

from model_behavior.artifact import Artifact, fingerprint
from model_behavior.catalog.drift_history import HISTORY, read_checks
from model_behavior.cli.app import run
from model_behavior.data.arena import Arena, write_votes
from model_behavior.data.split import hash_text, normalise_prompt
from model_behavior.data.vote_log import LOG, LoggedThumb, LoggedVote, VoteLog, ledger_of_log
from model_behavior.data_models.votes import TrainingData
from model_behavior.errors import ArtifactError, UsageError
from model_behavior.models.scoring.bradley_terry import BradleyTerry
from model_behavior.pipeline import as_ledger, update_ratings
from model_behavior.preprocessing.scoring_votes import to_scoring_votes
from model_behavior.serving.service import Service
from tests.conftest import FAST, MakeOnce, answer
from tests.faults.power_loss import recorded

VOTE = LoggedVote("v1", hash_text("p"), "a", "b", "model_a")


def some_of(votes: TrainingData, rows: slice) -> TrainingData:
    return replace(votes, pair_a=votes.pair_a[rows], pair_b=votes.pair_b[rows], outcome=votes.outcome[rows])


@pytest.fixture(scope="module")
def trained(arena: Arena, make_once: MakeOnce) -> Path:
    """Trained on the first votes of an arena; `later.parquet` has the last."""

    def make(folder: Path) -> None:
        n = len(arena.votes) * 3 // 4
        write_votes(replace(arena, votes=some_of(arena.votes, slice(0, n))), folder / "first.parquet")
        write_votes(replace(arena, votes=some_of(arena.votes, slice(n, None))), folder / "later.parquet")
        write_votes(arena, folder / "all.parquet")
        assert run(["train", str(folder / "first.parquet"), "--output", str(folder / "arena"), *FAST]) == 0

    return make_once("update", make)


@pytest.fixture
def folder(trained: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(trained / "arena", tmp_path / "arena"))


def test_ratings_after_an_update_are_those_of_all_votes(
    folder: Path, trained: Path, arena: Arena, capsys: pytest.CaptureFixture[str]
) -> None:
    before = Artifact.load(folder)
    said = answer(capsys, "update", folder, trained / "later.parquet")
    n_later = len(arena.votes) - len(arena.votes) * 3 // 4
    assert said["new_votes"] == n_later and said["votes"] == len(arena.votes) and said["counted_before"] == 0
    updated = Artifact.load(folder)
    oracle = BradleyTerry(before.trained_scorer.config.offset)
    oracle.fit(to_scoring_votes(arena.votes))
    names = oracle.models
    found, expected = updated.trained_scorer.rate(names), oracle.rate(names)
    np.testing.assert_allclose(found.rating, expected.rating, atol=1e-6)
    np.testing.assert_allclose(found.high - found.low, expected.high - expected.low, rtol=1e-6)
    np.testing.assert_array_equal(found.votes, expected.votes)
    assert not np.allclose(before.trained_scorer.rate(names).rating, expected.rating, atol=0.01)
    a, b = np.array(before.encoder.encode(["p"], ["r"], 1)), np.array(updated.encoder.encode(["p"], ["r"], 1))
    np.testing.assert_array_equal(a, b)
    for votes in ("later.parquet", "first.parquet", "all.parquet"):  # nothing is counted twice
        version = fingerprint(folder)
        said = answer(capsys, "update", folder, trained / votes)
        assert said["new_votes"] == 0 and said["counted_before"] > 0 and fingerprint(folder) == version


def test_a_model_that_was_only_enrolled_is_rated_by_its_votes(trained: Path, arena: Arena) -> None:
    grown = Artifact.load(trained / "arena").onboard(arena.held_out_responses)
    new, strong = arena.held_out[0], max(arena.quality, key=lambda name: arena.quality[name])
    votes = [LoggedVote(f"v{n}", hash_text(f"prompt {n}"), new, strong, "model_a") for n in range(200)]
    updated = update_ratings(grown, ledger_of_log([*votes, LoggedThumb("r", 1, new, True)]))
    assert updated.trained_scorer.rate([new]).votes.tolist() == [200]
    rank = [each.model for each in updated.rank()]
    assert rank.index(new) < rank.index(strong) and updated.models.names == grown.models.names
    probabilities = updated.predict(["a prompt"], [new], [strong])
    assert probabilities[0, 0] > grown.predict(["a prompt"], [new], [strong])[0, 0]
    unknown = replace(votes[0], model_a="nobody", id="other")
    assert update_ratings(grown, ledger_of_log([unknown])) is grown
    with pytest.raises(ArtifactError, match="does not have the votes"):
        update_ratings(replace(grown, votes=None), ledger_of_log(list(votes)))
    assert len(as_ledger(grown, arena.votes)) == len(arena.votes)


def test_a_vote_is_in_the_log_once_and_only_what_is_whole_counts(tmp_path: Path) -> None:
    log = VoteLog(tmp_path / LOG)
    assert log.append(VOTE) and not log.append(VOTE) and not VoteLog(log.path).append(VOTE)
    with pytest.raises(UsageError, match="other content"):
        log.append(replace(VOTE, outcome="tie"))
    thumb = LoggedThumb("r1", 3, "a", True)
    assert log.append(thumb) and log.append(replace(thumb, up=False)) and not log.append(replace(thumb, up=False))
    with log.path.open("ab") as file:
        file.write(b'{"kind": "vote", "id": "v2", "pro')  # a process is killed here
    assert VoteLog(log.path).entries() == [VOTE, replace(thumb, up=False)]
    other = VoteLog(log.path)
    assert other.append(replace(VOTE, id="v2")) and not log.append(replace(VOTE, id="v2"))
    assert [each.id for each in VoteLog(log.path).entries()] == ["v1", "r1", "v2"] and other.damaged == 0
    assert log.path.read_bytes().count(b"\n") == 4


def test_a_vote_that_was_answered_outlasts_a_power_loss(tmp_path: Path) -> None:
    log = VoteLog(tmp_path / "disk" / LOG)
    (tmp_path / "disk").mkdir()
    with recorded(tmp_path / "disk") as recorder:
        log.append(VOTE)
        log.append(replace(VOTE, id="v2"))
    for state in recorder.moments[-1].states(random.Random(0)):
        assert state[LOG].count(b"\n") == 2
    for moment in recorder.moments:
        for state in moment.states(random.Random(0)):
            assert state.get(LOG, b"").endswith((b"\n", b""))


SEND = """
import sys
from pathlib import Path
from model_behavior.data.vote_log import LoggedVote, VoteLog
log, start = VoteLog(Path(sys.argv[1])), int(sys.argv[2])
for number in range(start, 100_000):
    log.append(LoggedVote(f"v{number}", number, "a", "b", "tie"))
    print(number, flush=True)
"""


def test_killed_writers_lose_and_repeat_nothing(tmp_path: Path) -> None:
    path, acknowledged = tmp_path / LOG, -1
    for kill in range(4):
        # Sends again what was answered last, as a client does that has not heard.
        command = [sys.executable, "-c", SEND, str(path), str(max(acknowledged, 0))]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            acknowledged = int(process.stdout.readline())
            time.sleep(0.03 * kill)
            process.send_signal(signal.SIGKILL)
            rest = process.stdout.read().splitlines()
            acknowledged = int(rest[-1]) if rest and rest[-1] else acknowledged
    ids = [json.loads(line)["id"] for line in path.read_bytes().splitlines() if line.endswith(b"}")]
    assert len(ids) == len(set(ids)) and {f"v{n}" for n in range(acknowledged + 1)} <= set(ids)


def test_the_service_takes_votes_and_thumbs(
    folder: Path, make_client: Callable[..., TestClient], capsys: pytest.CaptureFixture[str]
) -> None:
    service = Service(folder)
    client = make_client(service)
    a, b = list(service.snapshot.rows)[:2]
    body = {"id": "vote-1", "prompt": "Is 7 prime?", "model_a": b, "model_b": a, "outcome": "model_a"}
    first, again = client.post("/v1/votes", json=body), client.post("/v1/votes", json=body)
    assert (first.status_code, again.status_code) == (201, 200) and not again.json()["added"]
    assert client.post("/v1/votes", json={**body, "outcome": "tie"}).status_code == 409
    assert client.post("/v1/votes", json={**body, "model_a": "nobody"}).status_code == 404
    assert client.post("/v1/votes", json={**body, "outcome": "win"}).status_code == 422
    routed = client.post("/v1/route", json={"prompt": "Is 7 prime?"})
    response_id = routed.headers["X-Model-Behavior-Response"]
    thumb = {"response_id": response_id, "rating": "down"}
    assert client.post("/v1/feedback", json=thumb).status_code == 201
    assert client.post("/v1/feedback", json={**thumb, "rating": -1}).status_code == 200
    assert client.post("/v1/feedback", json={**thumb, "rating": 1}).status_code == 201
    assert client.post("/v1/feedback", json={**thumb, "response_id": "mb-" + 48 * "0"}).status_code == 404
    prompt = hash_text(normalise_prompt("Is 7 prime?"))
    model = routed.json()["model"]
    assert VoteLog(folder / LOG).entries() == [
        LoggedVote("vote-1", prompt, b, a, "model_a"),
        LoggedThumb(response_id, prompt, model, True),
    ]
    before = {name: row.votes for name, row in service.snapshot.rows.items()}
    assert answer(capsys, "update", folder)["new_votes"] == 1
    assert answer(capsys, "update", folder)["new_votes"] == 0
    assert service.refresh()
    after = {name: row.votes for name, row in service.snapshot.rows.items()}
    assert {name for name in after if after[name] != before[name]} == {a, b}


def test_votes_that_say_something_else_are_told_and_others_are_not(
    folder: Path, arena: Arena, capsys: pytest.CaptureFixture[str]
) -> None:
    assert answer(capsys, "drift", folder) == []
    scorer, rng = Artifact.load(folder).trained_scorer, np.random.default_rng(0)
    names, log = scorer.voted_models, VoteLog(folder / LOG)
    fallen = max(names, key=lambda name: arena.quality[name])
    labels = ("model_a", "model_b", "tie", "both_bad")
    pairs = [rng.choice(len(names), 2, replace=False) for _ in range(600)]
    sides = [[names[pair[side]] for pair in pairs] for side in (0, 1)]
    probabilities = scorer.predict_on_average(*sides).astype(np.float64)
    rows = []
    for number, (a, b) in enumerate(zip(*sides, strict=True)):
        drawn = labels[rng.choice(4, p=probabilities[number] / probabilities[number].sum())]
        outcome = "model_b" if a == fallen else "model_a" if b == fallen else drawn
        rows.append(LoggedVote(f"v{number}", hash_text(str(number)), a, b, outcome))
    log.path.write_text("".join(json.dumps({"kind": "vote", **vars(row)}) + "\n" for row in rows))
    found = answer(capsys, "drift", folder)
    assert found[0]["model"] == fallen and found[0]["changed"] and found[0]["observed"] == 0
    assert [each["model"] for each in found if each["changed"]] == [fallen]
    assert run(["update", str(folder)]) == 0
    assert answer(capsys, "drift", folder) == []  # they are counted now
    for number in range(80):
        assert log.append(LoggedThumb(f"mb-{number}", number, names[0], up=number < 40))
    log.append(LoggedThumb("mb-x", 1, "nobody", up=True))
    (thumbs,) = answer(capsys, "drift", folder)
    assert (thumbs["kind"], thumbs["model"], thumbs["before"], thumbs["observed"]) == ("thumbs", names[0], 1, 0)
    assert thumbs["changed"] and read_checks(folder / HISTORY)[-1].kind == "thumbs"
    assert run(["drift", str(folder), "--fail-on-change"]) == 1
    assert run(["drift", str(folder), "some.jsonl"]) == 2
