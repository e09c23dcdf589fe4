"""A small trained artifact, the service over it, and clients."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from model_behavior.data.arena import Arena
from model_behavior.serving.app import build_app
from model_behavior.serving.backend import build_backend
from model_behavior.serving.keys import KeyRing, key_of_secret, make_key
from model_behavior.serving.service import Service
from model_behavior.serving.settings import ServeSettings
from tests.conftest import held_out_rows

MakeClient = Callable[..., TestClient]


@pytest.fixture(scope="session")
def trained(scored_arena: Path) -> Path:
    """An artifact of both stages, not to be changed."""
    return scored_arena / "a"


@pytest.fixture
def folder(trained: Path, tmp_path: Path) -> Path:
    """A copy that a test may change."""
    return Path(shutil.copytree(trained, tmp_path / "arena"))


@pytest.fixture(scope="session")
def chat_log(arena: Arena) -> bytes:
    """Responses of one model without its name, as JSON lines."""
    rows = [row for row in held_out_rows(arena) if row["model"] == arena.held_out[0]]
    return "\n".join(json.dumps({"prompt": row["prompt"], "response": row["response"]}) for row in rows).encode()


@pytest.fixture(scope="session")
def log_file(chat_log: bytes, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same in a file."""
    path = tmp_path_factory.mktemp("log") / "log"
    path.write_bytes(chat_log)
    return path


@pytest.fixture(scope="session")
def shared_service(trained: Path) -> Service:
    """For tests that only read."""
    return Service(trained)


@pytest.fixture
def make_client() -> Iterator[MakeClient]:
    """Starts applications, and ends them after the test."""
    with ExitStack() as stack:

        def make(service: Service, **settings: object) -> TestClient:
            backend = build_backend(service, ServeSettings(**settings))  # type: ignore[arg-type]
            return stack.enter_context(
                TestClient(build_app(backend), base_url="http://127.0.0.1", raise_server_exceptions=False)
            )

        yield make


@pytest.fixture(scope="session")
def client(shared_service: Service) -> Iterator[TestClient]:
    """Of the service that is only read."""
    with TestClient(build_app(build_backend(shared_service, ServeSettings())), base_url="http://127.0.0.1") as started:
        yield started


READ, ADMIN = make_key("reader", "read"), "an-admin-key-of-the-tests"


@pytest.fixture
def keys() -> KeyRing:
    """One key of each scope."""
    return KeyRing([READ[1], key_of_secret(ADMIN)])
