"""`serve` and `create-key`, as a user runs them."""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from model_behavior.benchmarks.load import LoadFigures, LoadPlan, LoadReport, write_load_report
from model_behavior.cli.app import run
from model_behavior.serving import app as serving_app
from model_behavior.serving.keys import load_keys
from model_behavior.serving.page_files import load_static_files
from model_behavior.serving.service import Service
from model_behavior.serving.settings import ServeSettings
from tests.conftest import answer


def test_a_served_artifact_answers_and_ends_gracefully(trained: Path, tmp_path: Path) -> None:
    (tmp_path / "serve.toml").write_text("port = 1\nqueue = 7\n")
    command = [sys.executable, "-m", "model_behavior", "serve", str(trained), "--config", str(tmp_path / "serve.toml")]
    environment = {**os.environ, "MODEL_BEHAVIOR_SERVE_PORT": "2"}  # a flag goes before both
    with subprocess.Popen([*command, "--port", "0"], stderr=subprocess.PIPE, text=True, env=environment) as process:
        try:
            _ask_and_stop(process)
        finally:
            process.kill()


def _ask_and_stop(process: subprocess.Popen[str]) -> None:
    assert process.stderr is not None
    address = process.stderr.readline().split(": ")[0]
    body = json.dumps({"prompt": "Name a river."}).encode()
    request = urllib.request.Request(f"{address}v1/route", body, {"Content-Type": "application/json"}, method="POST")
    with urllib.request.urlopen(request, timeout=120) as response:
        assert json.load(response)["model"]
    with urllib.request.urlopen(address, timeout=30) as response:
        assert response.headers["Content-Type"].startswith("text/html") and b"<html" in response.read()
    assert min(_seconds_of_answers(address)[20:]) < 0.035
    process.send_signal(signal.SIGINT)
    assert process.wait(60) in (0, 130, -signal.SIGINT)
    assert "Traceback" not in process.stderr.read()


def _seconds_of_answers(address: str) -> list[float]:
    """Of questions one after the other on one connection. What is held back comes 40 ms late, but not at first."""
    connection = http.client.HTTPConnection(address.split("/")[2])
    seconds = []
    for _ in range(50):
        started = time.perf_counter()
        connection.request("GET", "/healthz")
        connection.getresponse().read()
        seconds.append(time.perf_counter() - started)
    connection.close()
    return seconds


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--host", "0.0.0.0"], "no API key"),
        (["--api-key", "short"], "too short"),
        (["--keys", "nothing.toml"], "not a file of keys"),
        (["--upstreams", "nothing.toml"], "nothing.toml"),
        (["--tokens", "0"], "above 0"),
        (["--port", "70000"], "65535"),
    ],
)
def test_what_cannot_be_meant_is_said_at_once(
    trained: Path, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["serve", str(trained), *arguments]) == 2
    assert message in capsys.readouterr().err


def test_every_limit_can_be_set_in_a_file(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    served: list[ServeSettings] = []
    monkeypatch.setattr(serving_app, "run_server", lambda _, settings, *__: served.append(settings))
    config = tmp_path / "serve.toml"
    config.write_text("batch = 5\n[limits]\nheader-seconds = 2\nslow_seconds = 7.5\nqueue = 9\ntokens = 50\n")
    assert run(["serve", str(trained), "--config", str(config), "--tokens", "60"]) == 0
    limits = served[0].limits
    assert (limits.header_seconds, limits.slow_seconds, limits.queue, limits.tokens, limits.batch) == (2, 7.5, 9, 60, 5)
    for text, message in (("heady-seconds = 1", "nearest: header_seconds"), ("body-seconds = 0", "above 0")):
        config.write_text(f"[limits]\n{text}\n")
        assert run(["serve", str(trained), "--config", str(config)]) == 2
        assert message in " ".join(capsys.readouterr().err.split())


@pytest.mark.filterwarnings("always:cost of:UserWarning")
def test_misspelt_costs_are_said_at_the_start(
    trained: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    served: list[Service] = []
    monkeypatch.setattr(serving_app, "run_server", lambda service, *_: served.append(service))
    first, second, *others = Service(trained).snapshot.rows
    costs = tmp_path / "costs.json"
    costs.write_text(json.dumps({first.replace("-", "_"): 1, f"{second}x": 2}))
    assert run(["serve", str(trained), "--costs", str(costs)]) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert "none of its 2 models" in said and f"(nearest: {first}," in said and f"(nearest: {second}," in said
    costs.write_text(json.dumps({first: 1, f"{second}x": 2}))
    assert run(["serve", str(trained), "--costs", str(costs)]) == 0
    said = " ".join(capsys.readouterr().err.split())
    assert f"warning: cost of '{second}x': no such model so far; nearest of the 18 known: {second}, " in said
    assert f"no cost, so nothing is routed to: {', '.join([second, *others])}" in caplog.text
    assert [set(service.snapshot.prices) for service in served] == [{first}]


def test_keys_are_shown_once_and_kept_as_hashes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "keys.toml"
    first = answer(capsys, "create-key", path, "--name", "ci")
    second = answer(capsys, "create-key", path, "--name", "ops", "--scope", "admin")
    text = path.read_text()
    assert first["key"] not in text and second["key"] not in text
    assert [(key.name, key.scopes) for key in load_keys(path)] == [("ci", ("read",)), ("ops", ("read", "admin"))]
    assert run(["create-key", str(path), "--name", "ci"]) == 2
    assert run(["create-key", str(path), "--name", 'x"]']) == 2
    assert path.read_text() == text


def test_only_files_of_known_types_are_served(tmp_path: Path) -> None:
    for name in ("page.js", "secret.py", "index.html"):
        (tmp_path / name).write_text(name)
    (tmp_path / "folder.js").mkdir()
    files = load_static_files(tmp_path)
    assert sorted(files) == ["index.html", "page.js"] and files["index.html"].content == b"index.html"
    assert b"running" in load_static_files(tmp_path / "nothing")["index.html"].content


def test_a_service_under_load_is_described(trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "service.md"
    options = ["--requests", 40, "--clients", 4, "--rate", 20, "--seconds", 1, "--workers", "2"]
    value = answer(capsys, "benchmark", "service", trained, "--output", output, *options)
    (result,) = value["results"]
    loads = {each["name"]: each for each in result["figures"]}
    assert [each["requests"] for each in loads.values()] == [20, 40, 20, 200]
    assert all(each["statuses"] == {"200": each["requests"]} for each in loads.values())
    assert 0.05 < result["cpu_per_request"] < 100 and 0.01 < result["client_per_request"] < 100
    assert sys.platform != "linux" or result["memory_after"] > 200 << 20  # more than the parent's
    steady = loads["20 requests a second"]
    assert steady["per_second"] < 25 and steady["p50"] <= steady["p95"] <= steady["slowest"]
    text = output.read_text()
    assert "over 18 models" in text and value["command"] in text and "| 2 | 20 requests a second | 20 |" in text
    assert run(["benchmark", "service", str(trained), "--output", str(output), "--workers", "1,1"]) == 2


def test_throughput_is_compared_with_the_first_number_of_workers() -> None:
    def report(workers: int, rate: float) -> LoadReport:
        full = LoadFigures("full speed", 40, {200: 40}, rate, 1.0, 2.0, 3.0, 4.0, 0.0, True)
        slow = LoadFigures("slow", 4, {200: 3, 503: 1}, 1.0, 1.0, 2.0, 3.0, 4.0, 0.0, workers == 1)
        return LoadReport(workers, (slow, full, slow, slow), 2**20, 2**21, 1.25, 0.5)

    text = write_load_report([report(1, 200.0), report(4, 500.0)], LoadPlan(), 24, "the command")
    assert "| 1 | 200 | 1.00 | 1.0 | 2.0 | 3.0 | 1.25 | 0.50 | 1 | 2 |" in text
    assert "| 4 | 500 | 2.50 | 1.0 | 2.0 | 3.0 | 1.25 | 0.50 | 1 | 2 |" in text
    assert "- 1 worker: all 3 refusals had a Retry-After\n- 4 workers: of 3 refusals some had no" in text
