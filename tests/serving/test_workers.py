"""Several worker processes are one service: one address, one catalog, one set of limits and conversations."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest
import yaml
from prometheus_client import values
from prometheus_client.parser import text_string_to_metric_families
from typer.main import get_command

from model_behavior.cli.app import app
from model_behavior.serving.conversations import Conversation, Conversations
from model_behavior.serving.metrics import Metrics
from model_behavior.serving.problems import RefusalError
from model_behavior.serving.settings import MetricFiles, RateLimiter
from model_behavior.serving.shared_table import SharedTable


def test_two_processes_see_one_table(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("model_behavior.serving.shared_table._SETS", 64)
    one = SharedTable()
    other = SharedTable(os.dup(one.descriptor))
    assert one.secret == other.secret and any(one.secret)
    with one.place("client", b"key") as place:
        assert place.stamp is None
        place.stamp, place.value = 3.0, 0.25
    with other.place("client", b"key") as place:
        assert (place.stamp, place.value) == (3.0, 0.25)
    with other.place("conversation", b"key") as place:
        assert place.stamp is None  # of another kind
    with pytest.raises(ValueError, match="in between"), other.place("client", b"key") as place:
        place.value = 9.0
        raise ValueError("in between")
    with one.place("client", b"key") as place:
        assert place.value == 0.25
    for number in range(4000):  # many more than there are places
        with one.place("client", str(number).encode()) as place:
            place.stamp = 4.0 + number
    with other.place("client", b"3999") as place:
        assert place.stamp == 4003.0
    with other.place("client", b"key") as place:
        assert place.stamp is None  # the oldest went


def test_limits_and_conversations_are_those_of_all_processes() -> None:
    one = SharedTable()
    tables, now = (one, SharedTable(os.dup(one.descriptor))), [0.0]
    limiters = [RateLimiter(2.0, lambda: now[0], table) for table in tables]
    for number in range(4):
        limiters[number % 2].spend("client")
    with pytest.raises(RefusalError, match="more than 2 requests a second"):
        limiters[0].spend("client")
    limiters[1].spend("another client")
    now[0] = 0.5
    limiters[1].spend("client")
    names = ("gpt-4o", "llama-3-8b")
    kept, asked = (Conversations(lambda: now[0], table, lambda: names) for table in tables)
    conversation = Conversation(b"k" * 16, ("Hello?",), True)
    assert asked.find(conversation) is None
    kept.keep(conversation, "llama-3-8b")
    assert asked.find(conversation) == "llama-3-8b"
    now[0] = 4000.0
    assert asked.find(conversation) is None


def figures(text: str) -> dict[str, float]:
    """Every sample of metrics in Prometheus's format, by its name and labels."""
    samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    assert len(samples) == len({(each.name, *each.labels.items()) for each in samples})  # none twice
    return {" ".join([each.name, *(value for _, value in sorted(each.labels.items()))]): each.value for each in samples}


def test_metrics_are_those_of_all_workers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path))
    monkeypatch.setattr(values, "ValueClass", values.ValueClass)

    def work(place: int, waiting: float, models: float, *seconds: float) -> Metrics:
        metrics = Metrics(MetricFiles(tmp_path, place))
        metrics.watch("quick", lambda: waiting)
        metrics.watch_models(lambda: models)
        metrics.publish()
        for each in seconds:
            metrics.answered("/v1/route", "POST", 200, each)
        metrics.called_upstream("gpt-4o", "ok")
        return metrics

    one, other = work(0, 3.0, 5.0, 0.002), work(1, 4.0, 6.0, 0.002, 0.2)
    asked = figures(one.render().decode())
    assert asked == {**figures(other.render().decode()), **{name: asked[name] for name in asked if "process" in name}}
    assert asked["model_behavior_requests_total POST /v1/route 200"] == 3
    assert asked["model_behavior_request_seconds_bucket 0.0025 /v1/route"] == 2
    assert asked["model_behavior_request_seconds_count /v1/route"] == 3
    assert asked["model_behavior_upstream_calls_total gpt-4o ok"] == 2
    assert asked["model_behavior_models"] == 6
    assert asked["model_behavior_waiting quick"] == 7
    if sys.platform == "linux":
        own = Path("/proc/self/status").read_text("ascii")
        resident = 1024 * int(own.partition("VmRSS:")[2].split()[0])
        assert 1.8 < asked["process_resident_memory_bytes"] / resident < 2.2  # of two workers
        assert asked["process_cpu_seconds_total"] > 1.8 * time.process_time() - 1
    asked = figures(work(1, 1.0, 5.0, 0.002).render().decode())  # in the place of one that has ended
    assert asked["model_behavior_requests_total POST /v1/route 200"] == 4
    assert asked["model_behavior_waiting quick"] == 4


def children(process: int) -> list[int]:
    return [int(each) for each in Path(f"/proc/{process}/task/{process}/children").read_text().split()]


def ask(address: str) -> int:
    body = json.dumps({"prompt": "Name a river."}).encode()
    request = urllib.request.Request(f"{address}v1/route", body, {"Content-Type": "application/json"}, method="POST")
    try:
        with urllib.request.urlopen(request, timeout=60) as response:
            return int(response.status)
    except urllib.error.HTTPError as error:
        return error.code


def answered_of(address: str) -> dict[int, int]:
    """Posted requests by status, as the metrics of the service count them."""
    named = "model_behavior_requests_total POST "
    while True:
        try:
            with urllib.request.urlopen(f"{address}metrics", timeout=60) as response:
                found = figures(response.read().decode())
        except urllib.error.HTTPError as error:
            assert error.code == 429
            time.sleep(float(error.headers["Retry-After"]))
            continue
        posted = [(name.split()[-1], value) for name, value in found.items() if name.startswith(named)]
        return {status: sum(int(value) for each, value in posted if int(each) == status) for status in (200, 429)}


def test_workers_share_an_address_and_are_replaced(trained: Path) -> None:
    command = [sys.executable, "-m", "model_behavior", "serve", str(trained), "--port", "0", "--workers", "2"]
    command += ["--requests-per-second", "5", "--shutdown-seconds", "2"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr is not None
            line = process.stderr.readline()
            assert ": 2 workers. Ctrl-C stops." in line, line
            address = line.split(": ")[0]
            started, found = time.monotonic(), [ask(address) for _ in range(60)]
            allowed = 10 + 5 * (time.monotonic() - started) + 1
            assert 0 < found.count(200) <= allowed  # not of each worker
            counted = answered_of(address)
            assert counted == {200: found.count(200), 429: found.count(429)}
            assert all(answered_of(address) == counted for _ in range(8))  # whoever is asked
            first, second = children(process.pid)
            os.kill(first, signal.SIGKILL)
            while first in children(process.pid) or len(children(process.pid)) < 2:
                time.sleep(0.2)
            assert second in children(process.pid)
            time.sleep(0.5)
            assert ask(address) == 200
            assert answered_of(address) == {200: counted[200] + 1, 429: counted[429]}  # none is lost
            process.send_signal(signal.SIGINT)
            assert process.wait(60) == 0
            assert "starting another" in process.stderr.read()
        finally:
            process.kill()


def test_the_compose_file_runs_what_there_is() -> None:
    folder = Path(__file__).parents[2] / "deploy"
    services = yaml.safe_load((folder / "compose.yaml").read_text("utf-8"))["services"]
    words = shlex.split(services["one"]["command"])[2].split()
    words = words[words.index("serve") + 1 :]
    options = {option for each in get_command(app).commands["serve"].params for option in each.opts}  # type: ignore[attr-defined]
    assert {word for word in words if word.startswith("--")} <= options
    inside = {each.split(":")[1] for each in services["one"]["volumes"]}
    assert {word for word in words if word.startswith("/srv/")} <= inside
    balancer = (folder / "nginx.conf").read_text("utf-8")
    named = {line.split()[1] for line in balancer.splitlines() if line.strip().startswith("server ") and ":" in line}
    port = words[words.index("--port") + 1]
    assert named == {f"{name}:{port}" for name in services if name != "balancer"}
    assert balancer.count("{") == balancer.count("}") and "proxy_buffering off;" in balancer
