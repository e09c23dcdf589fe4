"""Connections that say nothing, too little, or too much, to a served artifact in a process of its own."""

from __future__ import annotations

import json
import resource
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from model_behavior.serving import connections
from model_behavior.serving.service import Service
from model_behavior.serving.settings import Limits, ServeSettings
from tests.page.conftest import serving

QUICK = Limits(header_seconds=0.5, body_seconds=0.5, connections=40, requests_per_second=100_000)


@pytest.fixture(autouse=True)
def often_swept(monkeypatch: pytest.MonkeyPatch) -> None:
    """Servers of this process look for late connections ten times as often, so that nobody waits for the second."""
    monkeypatch.setattr(connections, "_SWEEP_SECONDS", 0.1)


@dataclass(frozen=True)
class Served:
    """A service in a process: its address, and the process."""

    address: tuple[str, int]
    process: subprocess.Popen[bytes]
    log: Path

    def memory(self) -> int:
        """The most memory that it has had in use, in bytes."""
        status = Path(f"/proc/{self.process.pid}/status").read_text("ascii")
        return int(status.split("VmHWM:")[1].split()[0]) << 10

    def is_healthy(self, seconds: float = 5.0) -> bool:
        """Whether /healthz answers in time."""
        try:
            url = f"http://{self.address[0]}:{self.address[1]}/healthz"
            with urllib.request.urlopen(url, timeout=seconds) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False


@contextmanager
def served(folder: Path, log: Path, *options: str, files: int = 1024) -> Iterator[Served]:
    """`model-behavior serve` in a process that may open so many files."""
    command = [sys.executable, "-m", "model_behavior", "serve", str(folder), "--port", "0", *options]
    with log.open("wb") as errors:
        process = subprocess.Popen(command, stderr=errors)
    resource.prlimit(process.pid, resource.RLIMIT_NOFILE, (files, files))
    try:
        while b"http://" not in log.read_bytes():
            assert process.poll() is None, log.read_text()
            time.sleep(0.05)
        host, port = log.read_text().split("http://")[1].split("/")[0].split(":")
        yield Served((host, int(port)), process, log)
    finally:
        process.kill()
        process.wait()


def wait_for_end(connection: socket.socket, seconds: float) -> bytes:
    """What a server says before it closes the connection."""
    connection.settimeout(seconds)
    received = b""
    while piece := connection.recv(1 << 16):
        received += piece
    return received


@pytest.mark.parametrize(
    ("sent", "answer"),
    [
        (b"", b""),
        (b"GET /healthz HT", b"408"),
        (b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n", b"408"),
        (b"POST /v1/route HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 100\r\n\r\n{", b"408"),
        (b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\nX: " + b"x" * ((1 << 16) + 100), b"431"),
        (b"\x16\x03\x01 nonsense\r\n\r\n", b"400"),
    ],
)
def test_late_and_endless_requests_are_closed(
    shared_service: Service, sent: bytes, answer: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    with serving(shared_service, settings=ServeSettings(port=0, limits=QUICK)) as address:
        host, port = address.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port))) as connection:
            connection.sendall(sent)
            started = time.monotonic()
            said = wait_for_end(connection, 10)
        assert time.monotonic() - started < 6
        assert said[9:12] == answer
    assert not [record for record in caplog.records if record.name.startswith("model_behavior")]


def test_a_slow_body_that_keeps_coming_is_not_late(shared_service: Service) -> None:
    body = json.dumps({"prompt": "Name a river. " * 5000}).encode()
    limits = Limits(header_seconds=1.0, body_seconds=1.0, tokens=100_000)
    with serving(shared_service, settings=ServeSettings(port=0, limits=limits)) as address:
        host, port = address.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port))) as connection:
            head = f"POST /v1/route HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {len(body)}\r\n"
            connection.sendall(f"{head}Content-Type: application/json\r\nConnection: close\r\n\r\n".encode())
            for start in range(0, len(body), len(body) // 10 + 1):
                connection.sendall(body[start : start + len(body) // 10 + 1])
                time.sleep(0.15)
            assert b" 200 OK" in wait_for_end(connection, 20)[:20]


def test_silent_connections_make_room(shared_service: Service) -> None:
    with serving(shared_service, settings=ServeSettings(port=0, limits=QUICK)) as address, ExitStack() as stack:
        host, port = address.removeprefix("http://").split(":")
        for _ in range(100):
            stack.enter_context(socket.create_connection((host, int(port))))
        with urllib.request.urlopen(f"{address}/healthz", timeout=5) as answer:
            assert answer.status == 200


def test_a_client_that_leaves_is_no_fault(shared_service: Service, caplog: pytest.LogCaptureFixture) -> None:
    with serving(shared_service) as address:
        host, port = address.removeprefix("http://").split(":")
        for path in ("/v1/models?model=m&dry_run=true", "/v1/route", "/v1/drift?model=m"):
            with socket.create_connection((host, int(port))) as connection:
                head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 1000\r\n"
                connection.sendall(f"{head}Content-Type: application/json\r\n\r\n{{".encode())
                time.sleep(0.2)
        time.sleep(0.3)
        with urllib.request.urlopen(f"{address}/metrics", timeout=5) as answer:
            metrics = answer.read().decode()
    assert 'status="500"' not in metrics and 'status="499"' in metrics
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


@pytest.mark.skipif(sys.platform != "linux", reason="sets the limits of another process")
def test_a_service_bears_silent_connections_and_ends_in_time(trained: Path, tmp_path: Path) -> None:
    """More of them than it may open files; and then work that would take longer than its grace period."""
    with served(trained, tmp_path / "log", "--shutdown-seconds", "1") as service:
        before = len(service.log.read_bytes())
        with ExitStack() as stack:
            for number in range(1500):
                stack.enter_context(socket.create_connection(service.address))
                if number % 500 == 499:
                    assert service.is_healthy()
            assert len(service.log.read_bytes()) - before < 1000
        with ExitStack() as stack:
            body = json.dumps({"pairs": [{"prompt": "p", "response": "word " * 120}] * 250}).encode()
            for _ in range(4):
                connection = stack.enter_context(socket.create_connection(service.address))
                head = f"POST /v1/encode HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {len(body)}\r\n"
                connection.sendall(f"{head}Content-Type: application/json\r\n\r\n".encode() + body)
            time.sleep(0.1)
            started = time.monotonic()
            service.process.send_signal(signal.SIGTERM)
            service.process.wait(30)
        assert time.monotonic() - started < 1 + 2 * 2 + 3
        assert "Traceback" not in service.log.read_text()
