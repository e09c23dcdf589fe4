"""Chat completions against real upstreams on loopback, with OpenAI's own client."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import openai
import pytest
import uvicorn

from model_behavior.errors import UsageError
from model_behavior.serving.answers import RouteQuery
from model_behavior.serving.app import build_app
from model_behavior.serving.backend import build_backend
from model_behavior.serving.chat import ATTEMPTS_HEADER, MODEL_HEADER
from model_behavior.serving.keys import KeyRing
from model_behavior.serving.schemas import ChatRequest
from model_behavior.serving.service import Service, ServiceConfig
from model_behavior.serving.settings import ServeSettings
from model_behavior.serving.snapshot import NotPossibleError
from model_behavior.serving.upstreams import Health, Upstreams, load_upstreams
from tests.serving.conftest import ADMIN

PROMPT = "Explain recursion to a child."


class Upstream(ThreadingHTTPServer):
    """A chat service that says what it was asked; `fails` makes it answer 503, `refuses` 400."""

    daemon_threads = True
    fails = refuses = breaks_off = False

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.seen: list[tuple[str, dict[str, Any]]] = []
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1"


class _Handler(BaseHTTPRequestHandler):
    server: Upstream

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.seen.append((self.headers.get("Authorization", ""), body))
        assert self.path == "/v1/chat/completions"
        if self.server.fails or self.server.refuses:
            self._send(503 if self.server.fails else 400, "application/json", b'{"error": {"message": "no"}}')
        elif body.get("stream"):
            parts = [self._chunk(body, word) for word in ("one ", "two ", "three")]
            parts = parts[:1] if self.server.breaks_off else [*parts, "data: [DONE]\n\n"]
            payload = "".join(parts).encode()
            self._send(200, "text/event-stream", payload, 100 * self.server.breaks_off)
        else:
            message = {"role": "assistant", "content": f"I am {body['model']}"}
            answer = {"id": "1", "object": "chat.completion", "created": 1, "model": body["model"]}
            choices = [{"index": 0, "message": message, "finish_reason": "stop"}]
            self._send(200, "application/json", json.dumps({**answer, "choices": choices}).encode())

    def _chunk(self, body: dict[str, Any], word: str) -> str:
        choice = {"index": 0, "delta": {"content": word}, "finish_reason": None}
        chunk = {"id": "1", "object": "chat.completion.chunk", "created": 1, "model": body["model"]}
        return f"data: {json.dumps({**chunk, 'choices': [choice]})}\n\n"

    def _send(self, status: int, media_type: str, payload: bytes, missing: int = 0) -> None:
        self.send_response(status)
        self.send_header("Content-Type", media_type)
        self.send_header("Content-Length", str(len(payload) + missing))
        self.end_headers()
        self.wfile.write(payload)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        pass


@pytest.fixture
def upstreams() -> Iterator[dict[str, Upstream]]:
    """Two real servers: of the best model, and of the one after it."""
    servers = {"good": Upstream(), "fair": Upstream()}
    yield servers
    for server in servers.values():
        server.shutdown()
        server.server_close()


@pytest.fixture
def names(shared_service: Service) -> dict[str, str]:
    """The models that the two serve."""
    found = shared_service.route(RouteQuery(PROMPT))
    return {"good": found.model, "fair": found.alternatives[0].model}


@pytest.fixture
def configured(upstreams: dict[str, Upstream], names: dict[str, str], tmp_path: Path) -> Upstreams:
    good, fair = (f'[models."{names[which]}"]\nbase_url = "{upstreams[which].url}"\n' for which in ("good", "fair"))
    text = f'{good}api_key_env = "GOOD_KEY"\nmodel = "their-name"\n{fair}cost = 0.5\n'
    text += f'[aliases.cheap]\nthreshold = 1e6\n[aliases.second]\nmodels = ["{names["fair"]}"]\n'
    (tmp_path / "upstreams.toml").write_text(text)
    return load_upstreams(tmp_path / "upstreams.toml", {"GOOD_KEY": "sk-upstream"})


@pytest.fixture
def client(configured: Upstreams, trained: Path, keys: KeyRing, names: dict[str, str]) -> Iterator[openai.OpenAI]:
    """OpenAI's client of a served artifact."""
    config = ServiceConfig({names["good"]: 2.0, **configured.costs}, frozenset(configured.models), configured.accepted)
    settings = ServeSettings(port=0, keys=keys, upstreams=configured)
    app = build_app(build_backend(Service(trained, config), settings))
    server = uvicorn.Server(uvicorn.Config(app, log_level="error", port=0))
    socket = server.config.bind_socket()
    thread = threading.Thread(target=server.run, kwargs={"sockets": [socket]})
    with ExitStack() as stack:
        stack.callback(socket.close)
        thread.start()
        stack.callback(thread.join, 20)
        stack.callback(setattr, server, "should_exit", True)
        url = f"http://127.0.0.1:{socket.getsockname()[1]}/v1"
        yield stack.enter_context(openai.OpenAI(base_url=url, api_key=ADMIN, max_retries=0, timeout=30))


def ask(client: openai.OpenAI, model: str = "auto", **more: Any) -> Any:
    messages: Any = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": PROMPT}]},
    ]
    return client.chat.completions.with_raw_response.create(model=model, messages=messages, **more)


def test_a_prompt_goes_to_the_best_model(
    client: openai.OpenAI, upstreams: dict[str, Upstream], names: dict[str, str]
) -> None:
    raw = ask(client, temperature=0.25)
    assert raw.headers[MODEL_HEADER] == names["good"] and raw.headers[ATTEMPTS_HEADER] == "1"
    assert raw.parse().choices[0].message.content == "I am their-name"
    ((authorization, body),) = upstreams["good"].seen
    assert authorization == "Bearer sk-upstream" and ADMIN not in json.dumps(body)
    assert body["model"] == "their-name" and body["temperature"] == 0.25
    assert body["messages"][1] == {"role": "user", "content": [{"type": "text", "text": PROMPT}]}
    assert ask(client, names["fair"]).headers[MODEL_HEADER] == names["fair"]
    assert ask(client, "second").headers[MODEL_HEADER] == names["fair"]
    assert ask(client, "cheap").headers[MODEL_HEADER] == names["fair"]
    assert upstreams["fair"].seen[0][0] == ""


def test_an_upstream_without_a_cost_is_not_free_beside_one_with_a_cost(
    configured: Upstreams, trained: Path, names: dict[str, str]
) -> None:
    def choose(costs: dict[str, float], model: str) -> list[str]:
        service = Service(trained, ServiceConfig(costs, frozenset(configured.models), configured.accepted))
        chat = build_backend(service, ServeSettings(upstreams=configured)).chat
        messages = [{"role": "user", "content": PROMPT}]
        request = ChatRequest.model_validate({"model": model, "messages": messages})
        return list(chat.choose(model, chat.conversations.read(request, None)).models)

    other = next(name for name in Service(trained).snapshot.rows if name not in names.values())
    assert choose({}, "auto") == [names["good"], names["fair"]]
    assert choose({names["fair"]: 0.5}, "auto") == choose({names["fair"]: 0.5}, "cheap") == [names["fair"]]
    assert choose({names["fair"]: 0.5}, names["good"]) == [names["good"]]
    with pytest.raises(NotPossibleError, match="has a cost, and others have"):
        choose({other: 0.5}, "auto")


def test_a_stream_comes_through(client: openai.OpenAI, names: dict[str, str], upstreams: dict[str, Upstream]) -> None:
    raw = ask(client, stream=True)
    assert raw.headers[MODEL_HEADER] == names["good"]
    words = [chunk.choices[0].delta.content for chunk in raw.parse()]
    assert words == ["one ", "two ", "three"]
    upstreams["good"].breaks_off = True
    with pytest.raises(openai.APIError, match="broke off"):
        list(ask(client, stream=True).parse())


def test_when_an_upstream_fails_the_next_best_answers(
    client: openai.OpenAI, upstreams: dict[str, Upstream], names: dict[str, str]
) -> None:
    upstreams["good"].fails = True
    raw = ask(client, stream=True)
    assert raw.headers[MODEL_HEADER] == names["fair"] and raw.headers[ATTEMPTS_HEADER] == "2"
    assert len(list(raw.parse())) == 3
    assert ask(client).headers[ATTEMPTS_HEADER] == "1"  # the failed one rests
    upstreams["fair"].server_close()
    upstreams["fair"].fails = True
    with pytest.raises(openai.InternalServerError) as caught:
        ask(client)
    assert caught.value.status_code == 503  # as the one that could be reached has said


def test_what_any_model_would_refuse_is_not_tried_again(client: openai.OpenAI, upstreams: dict[str, Upstream]) -> None:
    upstreams["good"].refuses = True
    with pytest.raises(openai.BadRequestError):
        ask(client)
    assert not upstreams["fair"].seen


def test_names_and_keys(client: openai.OpenAI, names: dict[str, str]) -> None:
    assert [model.id for model in client.models.list()] == ["auto", "cheap", "second", names["good"], names["fair"]]
    with pytest.raises(openai.NotFoundError, match="no upstream"):
        ask(client, "gpt-of-nobody")
    with pytest.raises(openai.AuthenticationError):
        ask(client.with_options(api_key="wrong"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no model"),
        ("[models.a]\n", "base_url"),
        ('[models.a]\nbase_url = "file:///etc/passwd"\n', "http"),
        ('[models.a]\nbase_url = "http://x"\nkey = "sk"\n', "unknown key"),
        ('[models.a]\nbase_url = "http://x"\napi_key_env = "UNSET"\n', "UNSET"),
        ('[models.a]\nbase_url = "http://x"\n[aliases.b]\nmodels = ["c"]\n', "alias"),
        ('[models.a]\nbase_url = "http://x"\ncost = -1\n', "cost"),
    ],
)
def test_files_of_upstreams_that_cannot_be_meant(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "u.toml").write_text(text)
    with pytest.raises(UsageError, match=message):
        load_upstreams(tmp_path / "u.toml", {})


def test_health_by_hand() -> None:
    now = [0.0]
    health = Health(10.0, lambda: now[0])
    health.failed("a")
    assert health.order(["a", "b"]) == ["b", "a"]
    now[0] = 11.0
    assert health.order(["a", "b"]) == ["a", "b"]
    health.failed("a")
    health.answered("a")
    assert health.order(["a", "b"]) == ["a", "b"]
