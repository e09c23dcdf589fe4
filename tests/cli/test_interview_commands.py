"""`prompts` and `ask`, against a real server on this machine."""

from __future__ import annotations

import json
import shutil
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from model_behavior import Artifact, TrainingConfig, ValidationSplit, train
from model_behavior.cli.app import run
from model_behavior.data.arena import Arena
from model_behavior.data.loading import load_responses
from model_behavior.errors import UsageError
from model_behavior.interview import AnswerFile, Endpoint, EndpointError, Interview, open_client
from model_behavior.models.behavior.text.registry import TextConfig
from model_behavior.models.scoring.dense_network_config import DenseNetworkConfig
from model_behavior.models.scoring.dense_network_training import ScoringSchedule
from tests.conftest import MakeOnce, answer

CONFIG = TrainingConfig(
    TextConfig(("style",)),
    split=ValidationSplit(0.3),
    epochs=1,
    scorer=DenseNetworkConfig(schedule=ScoringSchedule(epochs=1, folds=2)),
)


class Server(ThreadingHTTPServer):
    """Answers chat completions as the held-out model of the arena would; fails as the test says."""

    daemon_threads = True

    def __init__(self, failures: list[tuple[int, dict[str, str]]]) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.failures, self.seen = failures, list[dict[str, Any]]()
        self.headers_seen: list[str] = []
        self.lock, self.pause = threading.Lock(), 0.0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        with self.server.lock:
            self.server.seen.append(body)
            self.server.headers_seen.append(self.headers.get("authorization", ""))
            failure = self.server.failures.pop(0) if self.server.failures else None
        time.sleep(self.server.pause)
        if failure is not None:
            self._send(failure[0], {"error": {"message": "not now"}}, failure[1])
            return
        text = f"Certainly. {body['messages'][-1]['content']} is a good question; **first**, let us see."
        reply = {"choices": [{"message": {"role": "assistant", "content": text}, "finish_reason": "stop"}]}
        self._send(200, reply, {})

    def _send(self, status: int, value: dict[str, Any], headers: dict[str, str]) -> None:
        content = json.dumps(value).encode()
        self.send_response(status)
        for name, each in {**headers, "content-type": "application/json", "content-length": str(len(content))}.items():
            self.send_header(name, each)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *arguments: object) -> None:
        del arguments


@pytest.fixture
def server() -> Iterator[Server]:
    running = Server([])
    thread = threading.Thread(target=running.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    yield running
    running.shutdown()
    running.server_close()
    thread.join()


@pytest.fixture(scope="module")
def folder(arena: Arena, make_once: MakeOnce) -> Path:
    """A scored artifact, which no test may change."""
    return make_once("interviewed", lambda path: train(arena.votes, CONFIG).save(path / "a")) / "a"


@pytest.fixture(scope="module")
def loaded(folder: Path) -> Artifact:
    return Artifact.load(folder)


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def test_prompts_are_chat_messages(
    folder: Path, arena: Arena, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["prompts", str(folder), "--number", "5", "--output", str(tmp_path / "p.jsonl")]) == 0
    rows = lines(tmp_path / "p.jsonl")
    texts = [row["messages"][0]["content"] for row in rows]
    assert len(set(texts)) == 5 and set(texts) <= set(arena.votes.pairs.prompts.to_pylist())
    assert run(["prompts", str(folder), "--number", "5"]) == 0
    assert capsys.readouterr().out == (tmp_path / "p.jsonl").read_text("utf-8")
    found = answer(capsys, "prompts", folder, "--number", 5)
    assert [row["prompt"] for row in found] == texts
    assert all(a["left"] > b["left"] for a, b in pairwise(found))


def test_prompts_as_a_batch(folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "b.jsonl"
    assert run(["prompts", str(folder), "--number", "3", "--batch", "--model", "m", "--output", str(path)]) == 0
    rows = lines(path)
    assert {row["method"] for row in rows} == {"POST"} and {row["url"] for row in rows} == {"/v1/chat/completions"}
    assert [row["body"]["model"] for row in rows] == ["m"] * 3 and len({row["custom_id"] for row in rows}) == 3


def test_prompts_go_on_from_what_a_model_answered(loaded: Artifact, arena: Arena, tmp_path: Path) -> None:
    first = loaded.prompts(4)
    answered = [{"prompt": each.prompt, "response": f"Well: {each.prompt}"} for each in first]
    grown = loaded.onboard(answered, "new")
    assert not {each.key for each in grown.prompts(6, "new")} & {each.key for each in first}
    with pytest.raises(UsageError, match="unknown model 'newer'"):
        grown.prompts(6, "newer")
    with pytest.raises(UsageError, match="has votes"):
        grown.prompts(6, arena.votes.pairs.models[0])
    grown.save(tmp_path / "bare", texts=False)
    with pytest.raises(UsageError, match="keeps no prompts to ask"):
        Artifact.load(tmp_path / "bare").prompts()
    grown.save(tmp_path / "full")
    assert Artifact.load(tmp_path / "full").prompts(6, "new") == grown.prompts(6, "new")


def test_ask_records_how_it_asked_and_ends_with_the_rating(
    folder: Path, server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = Path(shutil.copytree(folder, tmp_path / "a"))
    monkeypatch.setenv("OPENAI_API_KEY", "sesame")
    output = tmp_path / "answers.jsonl"
    asked = ["ask", copy, "--base-url", server.url, "--model", "new-llm", "--output", output, "--number", 6]
    how = ["--temperature", 0.7, "--system", "Be brief."]
    value = answer(capsys, *asked, *how, "--onboard")
    rows = lines(output)
    assert len(rows) == value["answers"] == 6 and value["rating"]["half_width"] > 0 and value["onboarded"]
    assert {row["temperature"] for row in rows} == {0.7} and {row["system"] for row in rows} == {"Be brief."}
    assert server.seen[0]["messages"][0] == {"role": "system", "content": "Be brief."}
    assert server.seen[0]["temperature"] == 0.7 and set(server.headers_seen) == {"Bearer sesame"}
    chosen = [each.prompt for each in Artifact.load(folder).prompts(6)]
    assert {body["messages"][1]["content"] for body in server.seen} == set(chosen)
    assert "new-llm" in [row["model"] for row in answer(capsys, "rank", copy)]
    pairs, report = load_responses(output)  # the file is one that `onboard` reads
    assert pairs.models == ("new-llm",) and len(pairs) == 6 and not report.sources[0].skipped
    # The same command again asks nothing, and one that asks otherwise is refused.
    assert answer(capsys, *asked, *how)["answers"] == 6 and len(server.seen) == 6
    assert run([*map(str, asked)]) == 2
    assert "temperature=0.7, not None" in capsys.readouterr().err


def interview(loaded: Artifact, server: Server, path: Path, number: int = 6, **settings: Any) -> Interview:
    endpoint = Endpoint(server.url, "m", first_pause=0.01, **settings)
    return Interview(loaded, endpoint, AnswerFile(path, "m", endpoint), "m", number)


def test_failures_that_pass_are_tried_again(loaded: Artifact, server: Server, tmp_path: Path) -> None:
    server.failures += [(503, {}), (429, {"retry-after": "0.05"}), (500, {})]
    interview(loaded, server, tmp_path / "a.jsonl").run()
    assert len(lines(tmp_path / "a.jsonl")) == 6 and len(server.seen) == 9


def test_the_pause_that_the_server_asks_for(server: Server) -> None:
    server.failures += [(429, {"retry-after": "0.4"})]
    started = time.monotonic()
    with open_client(Endpoint(server.url, "m", first_pause=0.001)) as client:
        client.answer("Hello?")
    assert time.monotonic() - started >= 0.4


def test_a_refusal_stops_at_once_and_loses_nothing(loaded: Artifact, server: Server, tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    interview(loaded, server, path, number=2).run()
    server.failures += [(401, {})] * 8
    with pytest.raises(EndpointError, match="401 Unauthorized.*not now"):
        interview(loaded, server, path, concurrency=1).run()
    assert len(lines(path)) == 2
    server.failures.clear()
    interview(loaded, server, path).run()
    assert len({row["prompt_id"] for row in lines(path)}) == 6


def test_what_stays_unanswered_is_said_and_asked_again(loaded: Artifact, server: Server, tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    server.failures += [(503, {})] * 4
    with pytest.raises(EndpointError, match=r"2 of 6 prompts are unanswered.*run the same command again"):
        interview(loaded, server, path, attempts=2, concurrency=1).run()
    assert len(lines(path)) == 4
    interview(loaded, server, path).run()
    assert len(lines(path)) == 6


def test_an_interrupt_keeps_what_is_under_way(loaded: Artifact, server: Server, tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    server.pause = 0.2

    def interrupt(done: int, total: int) -> None:
        del total
        if done == 1:
            raise KeyboardInterrupt

    started = replace(interview(loaded, server, path, concurrency=2), progress=interrupt)
    with pytest.raises(KeyboardInterrupt):
        started.run()
    assert len(lines(path)) == len(server.seen) < 6
    interview(loaded, server, path).run()
    assert len(lines(path)) == 6 and len(server.seen) == 6


def test_a_line_that_was_cut_off_is_asked_again(loaded: Artifact, server: Server, tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    interview(loaded, server, path, number=2).run()
    whole = path.read_text("utf-8")
    path.write_text(whole[:-20], "utf-8")
    interview(loaded, server, path, number=2).run()
    assert len(lines(path)) == 2 and len(server.seen) == 3


def test_it_stops_where_the_rating_is_certain_enough(loaded: Artifact, server: Server, tmp_path: Path) -> None:
    full = interview(loaded, server, tmp_path / "full.jsonl", number=12)
    full.run()
    (sure,) = full.rated().certainty(["m"])
    assert sure.rating is not None
    path = tmp_path / "a.jsonl"
    replace(interview(loaded, server, path, number=12), half_width=10 * sure.rating.half_width).run()
    assert len(lines(path)) == 4  # one round
    replace(interview(loaded, server, path, number=12), half_width=0.001).run()
    assert len(lines(path)) == 12


def test_no_server(loaded: Artifact, tmp_path: Path) -> None:
    endpoint = Endpoint("http://127.0.0.1:9/v1", "m", attempts=1)
    with pytest.raises(EndpointError, match="ConnectError"):
        Interview(loaded, endpoint, AnswerFile(tmp_path / "a.jsonl", "m", endpoint), "m", 2).run()
    with pytest.raises(UsageError, match=r"not an http\(s\) URL"):
        Endpoint("localhost:8000", "m")
