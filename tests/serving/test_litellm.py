"""The LiteLLM plugin in LiteLLM's own environment, against a real service and real upstreams on loopback."""

from __future__ import annotations

import json
import os
import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from model_behavior.serving.answers import RouteQuery
from model_behavior.serving.service import Service
from tests.page.conftest import serving
from tests.serving.test_chat import Upstream

VENV = Path(__file__).parents[2] / ".venv-litellm"
PYTHON = VENV / "bin" / "python"
CALLS = Path(__file__).with_name("litellm_calls.py")
KEY = "a-key-of-the-tests-0123456789-abcdef"
PROMPTS = ["Explain recursion to a child.", "Name a river.", "Prove that 7 is prime.\n- briefly", "Write a poem."]
EARLIER = "Hello."
IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,"}}

pytestmark = pytest.mark.skipif(not (VENV / ".installed").exists(), reason=f"no LiteLLM in {VENV}. Fix: make litellm")


@dataclass(frozen=True)
class Told:
    """What came of all calls: answers and log lines by scenario, and the servers of a scenario by model."""

    answers: dict[str, list[dict[str, Any]]]
    lines: dict[str, list[str]]
    servers: dict[str, dict[str, Upstream]]


def chat(prompt: object, **more: object) -> dict[str, Any]:
    earlier = [{"role": "user", "content": EARLIER}, {"role": "assistant", "content": "Good day!"}]
    return {"messages": [*earlier, {"role": "user", "content": prompt}], **more}


def routed(service: Service, prompt: str, names: tuple[str, ...]) -> str:
    """The model for the conversation of `chat`."""
    return service.route(RouteQuery(prompt, (EARLIER,), names)).model


def scenarios(address: str, nobody: str) -> dict[str, dict[str, Any]]:
    """What is asked: of the service at `address`, and of something at `nobody` that never answers."""
    plain = [chat(prompt) for prompt in PROMPTS]
    mixed = [*plain, chat(PROMPTS[1], stream=True), chat([{"type": "text", "text": PROMPTS[0]}, IMAGE])]
    return {
        "routed": {"address": address, "key": KEY, "bodies": mixed},
        "failing": {"address": address, "key": KEY, "bodies": plain[:1] * 2, "retries": 1},
        "silent": {"address": nobody, "key": KEY, "bodies": plain[:2], "timeout": 0.2},
        "unnamed": {"address": address, "key": KEY, "bodies": plain, "named": False},
        "refused": {"address": address, "key": "another-key", "bodies": plain[:1]},
    }


@pytest.fixture(scope="module")
def told(shared_service: Service) -> Iterator[Told]:
    """All calls in one process of LiteLLM's environment, which takes seconds to start."""
    names = list(shared_service.snapshot.rows)[:3]
    with ExitStack() as stack:
        address = stack.enter_context(serving(shared_service, KEY))
        silent = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        asked = scenarios(address, f"http://127.0.0.1:{silent.getsockname()[1]}")
        servers = {kind: {name: Upstream() for name in names} for kind in asked}
        for kind, scenario in asked.items():
            scenario["models"] = {name: server.url for name, server in servers[kind].items()}
        servers["failing"][routed(shared_service, PROMPTS[0], tuple(names))].fails = True
        environment = {"PATH": os.environ["PATH"], "LITELLM_LOCAL_MODEL_COST_MAP": "True"}
        command, text = [str(PYTHON), str(CALLS)], json.dumps(asked)
        done = subprocess.run(command, input=text, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    answers, lines = ({kind: each[key] for kind, each in found.items()} for key in ("answers", "lines"))
    yield Told(answers, lines, servers)
    for server in (each for kind in servers.values() for each in kind.values()):
        server.shutdown()
        server.server_close()


def test_requests_go_where_the_service_routes_them(told: Told, shared_service: Service) -> None:
    names = tuple(told.servers["routed"])
    expected = [routed(shared_service, prompt, names) for prompt in (*PROMPTS, PROMPTS[1], PROMPTS[0])]
    answers = told.answers["routed"]
    assert [each["text"] for each in answers[:4]] == [f"I am {name}" for name in expected[:4]]
    assert answers[4] == {"text": "one two three", "model": expected[4]}
    assert answers[5] == {"text": f"I am {expected[5]}"}
    assert not told.lines["routed"]
    for name, server in told.servers["routed"].items():
        assert len(server.seen) == expected.count(name)


def test_a_model_that_fails_is_followed_by_the_next_best(told: Told, shared_service: Service) -> None:
    (failing,) = [name for name, server in told.servers["failing"].items() if server.fails]
    rest = tuple(name for name in told.servers["failing"] if name != failing)
    expected = routed(shared_service, PROMPTS[0], rest)
    assert told.answers["failing"] == [{"text": f"I am {expected}"}] * 2
    assert told.servers["failing"][failing].seen and len(told.servers["failing"][expected].seen) == 2


def test_a_silent_service_changes_nothing_and_is_asked_once(told: Told) -> None:
    assert {each["text"] for each in told.answers["silent"]} <= {f"I am {name}" for name in told.servers["silent"]}
    (line,) = told.lines["silent"]
    assert line.startswith("not routed for 60 seconds") and "TimeoutError" in line


def test_deployments_without_names_are_found_in_the_catalog(told: Told, shared_service: Service) -> None:
    names = tuple(told.servers["unnamed"])
    expected = [routed(shared_service, prompt, names) for prompt in PROMPTS]
    assert [each["text"] for each in told.answers["unnamed"]] == [f"I am {name}" for name in expected]
    assert not told.lines["unnamed"]


def test_a_refusal_changes_nothing_and_is_said(told: Told) -> None:
    assert {each["text"] for each in told.answers["refused"]} <= {f"I am {name}" for name in told.servers["refused"]}
    (line,) = told.lines["refused"]
    assert "answers 401" in line and PROMPTS[0] not in line
