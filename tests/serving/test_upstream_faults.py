"""Faulty upstreams, each a real server on loopback: the next one answers, or the client is told what happened."""

from __future__ import annotations

import json
import logging
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from model_behavior.artifact import Artifact
from model_behavior.catalog import enrol
from model_behavior.data.loading import load_responses
from model_behavior.serving.answers import RouteQuery
from model_behavior.serving.chat import CONVERSATION_HEADER, MODEL_HEADER, RESPONSE_HEADER
from model_behavior.serving.service import Service, ServiceConfig
from model_behavior.serving.settings import ServeSettings
from model_behavior.serving.upstreams import AUTO, Alias, Upstream, Upstreams
from tests.page.conftest import serving
from tests.serving.upstream_faults import BEFORE, WHOLE, WITHIN, PreparedUpstream, respond

PROMPT = "Explain recursion to a child."


@pytest.fixture(scope="module")
def best(shared_service: Service) -> tuple[str, str]:
    found = shared_service.route(RouteQuery(PROMPT))
    return found.model, found.alternatives[0].model


@contextmanager
def chatting(folder: Path, servers: dict[str, PreparedUpstream]) -> Iterator[httpx.Client]:
    """A client of a served artifact with these upstreams."""
    models = {name: Upstream(name, server.url, name) for name, server in servers.items()}
    upstreams = Upstreams(models, {AUTO: Alias(AUTO)})
    service = Service(folder, ServiceConfig({}, frozenset(models), upstreams.accepted))
    settings = ServeSettings(port=0, upstreams=upstreams)
    with serving(service, settings=settings) as address, httpx.Client(base_url=address, timeout=30) as client:
        yield client


def ask(client: httpx.Client, *, stream: bool = False, **more: Any) -> httpx.Response:
    body = {"model": "auto", "messages": [{"role": "user", "content": PROMPT}], "stream": stream, **more}
    return client.post("/v1/chat/completions", json=body)


@pytest.fixture(scope="module")
def pair(trained: Path, best: tuple[str, str]) -> Iterator[tuple[httpx.Client, dict[str, PreparedUpstream]]]:
    """Two upstreams, of the best model and of the next, and a client."""
    with ExitStack() as stack:
        servers = {name: stack.enter_context(PreparedUpstream(b"")) for name in best}
        yield stack.enter_context(chatting(trained, servers)), servers


def test_a_faulty_answer_is_followed_by_the_next_best_upstream(
    pair: tuple[httpx.Client, dict[str, PreparedUpstream]], best: tuple[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    client, servers = pair
    for what, (stream, faulty) in BEFORE.items():
        for faulty_one, fine_one in (
            best,
            best[::-1],
        ):  # the one that failed is asked last
            servers[faulty_one].answer, servers[fine_one].answer = faulty, WHOLE[stream]
            answer = ask(client, stream=stream)
            assert answer.status_code == 200 and answer.headers[MODEL_HEADER] == fine_one, what
            assert "fine" in answer.text or "[DONE]" in answer.text, what
            assert answer.headers[RESPONSE_HEADER] in answer.text, what
    assert all(server.seen.requests >= len(BEFORE) for server in servers.values())
    lines = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert any("answered 500" in line for line in lines) and not any(PROMPT in line for line in lines)


def test_a_stream_that_breaks_off_ends_in_an_error_event(
    pair: tuple[httpx.Client, dict[str, PreparedUpstream]],
) -> None:
    client, servers = pair
    for what, faulty in WITHIN.items():
        for server in servers.values():
            server.answer = faulty
        answer = ask(client, stream=True)
        assert answer.status_code == 200 and "one " in answer.text, what
        events = [line for line in answer.text.splitlines() if line.startswith("data: ")]
        assert json.loads(events[-1][6:])["error"]["type"] == "upstream_failed", what
        assert "[DONE]" not in answer.text, what


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        ("429 Too Many Requests", 429),
        ("401 Unauthorized", 401),
        ("404 Not Found", 404),
        ("503 Busy", 503),
        ("500 Oh", 502),
    ],
)
def test_the_status_of_an_upstream_reaches_the_client(
    pair: tuple[httpx.Client, dict[str, PreparedUpstream]], status: str, expected: int
) -> None:
    client, servers = pair
    for server in servers.values():
        server.answer = respond(b"secret details", status=status, more="Retry-After: 17\r\n")
    answer = ask(client)
    assert answer.status_code == expected and "secret" not in answer.text
    assert answer.json()["error"]["type"] == "upstream_failed"
    assert answer.headers.get("Retry-After") == (None if expected == 502 else "17")


def test_a_client_that_leaves_takes_its_call_with_it(
    pair: tuple[httpx.Client, dict[str, PreparedUpstream]], caplog: pytest.LogCaptureFixture
) -> None:
    client, servers = pair
    for server in servers.values():
        server.answer, server.seen.left_after = None, None
    body = json.dumps({"model": "auto", "messages": [{"role": "user", "content": PROMPT}]}).encode()
    with socket.create_connection((client.base_url.host, client.base_url.port or 80)) as leaving:
        head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {len(body)}\r\n"
        leaving.sendall(f"{head}Content-Type: application/json\r\n\r\n".encode() + body)
        time.sleep(0.5)
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline and all(server.seen.left_after is None for server in servers.values()):
        time.sleep(0.02)
    (left,) = [server.seen.left_after for server in servers.values() if server.seen.left_after is not None]
    assert left < 2
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


def test_what_no_upstream_could_read_is_refused(pair: tuple[httpx.Client, dict[str, PreparedUpstream]]) -> None:
    client, servers = pair
    for server in servers.values():
        server.answer = WHOLE[False]
    for value in ("NaN", "1e400", '"\\ud800"', "-Infinity", "[" * 3000 + "]" * 3000, "1" * 5000):
        for field in ("temperature", "metadata"):
            text = f'{{"model": "auto", "{field}": {value}, "messages": [{{"role": "user", "content": "Hi"}}]}}'
            answer = client.post("/v1/chat/completions", content=text, headers={"Content-Type": "application/json"})
            assert 400 <= answer.status_code < 500, (value, answer.text)
        text = f'{{"model": "auto", "messages": [{{"role": "user", "content": {value}}}]}}'
        answer = client.post("/v1/chat/completions", content=text, headers={"Content-Type": "application/json"})
        assert 400 <= answer.status_code < 500, (value, answer.text)


def test_an_answer_says_why(pair: tuple[httpx.Client, dict[str, PreparedUpstream]], best: tuple[str, str]) -> None:
    client, servers = pair
    for server in servers.values():
        server.answer = WHOLE[False]
    answer = ask(client)
    why = answer.json()["model_behavior"]
    assert why["model"] in best and why["runner_up"] in best and why["runner_up"] != why["model"]
    assert 0 <= why["low"] <= why["win_rate"] <= why["high"] <= 1 and why["reason"] and why["attempts"] == 1
    assert answer.headers["X-Model-Behavior-Reason"] == why["reason"].replace("%", "%25")
    assert float(answer.headers["X-Model-Behavior-Win-Rate"]) == pytest.approx(why["win_rate"], abs=1e-3)
    route = client.post("/v1/route", json={"prompt": PROMPT}).json()
    assert route["reason"] == "the best expected win rate" and route["runner_up"] == route["alternatives"][0]["model"]
    assert route["low"] <= route["win_rate"] <= route["high"]


def test_a_conversation_stays_with_its_model(
    pair: tuple[httpx.Client, dict[str, PreparedUpstream]], best: tuple[str, str]
) -> None:
    client, servers = pair
    for server in servers.values():
        server.answer = WHOLE[False]
    first = [{"role": "user", "content": "A conversation of its own about rivers."}]
    model = ask(client, messages=first).headers[MODEL_HEADER]
    turns = [*first, {"role": "assistant", "content": "fine"}, {"role": "user", "content": "Go on."}]
    second = ask(client, messages=turns).json()["model_behavior"]
    assert second["model"] == model and second["reason"] == "stays within its conversation"
    servers[model].answer = b""
    moved = ask(client, messages=turns).json()["model_behavior"]
    assert moved["model"] != model and moved["reason"].startswith("after 1 failed")
    servers[model].answer = WHOLE[False]
    third = ask(client, messages=[*turns, *turns[1:]]).json()["model_behavior"]
    assert third["model"] == moved["model"] and third["reason"] == "stays within its conversation"
    body = {"model": "auto", "messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]}
    named = client.post("/v1/chat/completions", json=body, headers={CONVERSATION_HEADER: "x" * 201})
    assert named.status_code == 422


def test_names_of_any_script_and_the_names_of_models(trained: Path, tmp_path: Path) -> None:
    name, rows = "通义千问 100%", [{"prompt": f"Name river {i}.", "response": f"River {i}."} for i in range(8)]
    artifact = Artifact.load(trained)
    pairs, _ = load_responses(rows, model=name)
    artifact.with_models(enrol(artifact.encoder, pairs, 64)).save(tmp_path / "named")
    with PreparedUpstream(WHOLE[False]) as server, chatting(tmp_path / "named", {name: server}) as client:
        answer = ask(client)
        assert answer.status_code == 200 and answer.json()["model_behavior"]["model"] == name
        assert answer.headers[MODEL_HEADER] == "%E9%80%9A%E4%B9%89%E5%8D%83%E9%97%AE 100%25"
        with openai.OpenAI(base_url=f"{str(client.base_url).rstrip('/')}/v1", api_key="none") as theirs:
            assert theirs.models.retrieve("auto").id == "auto"
            assert theirs.models.retrieve(name).id == name
            assert {model.id for model in theirs.models.list()} == {"auto", name}
