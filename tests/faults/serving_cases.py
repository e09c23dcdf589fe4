"""Faults that a served artifact meets: hostile input, faulty upstreams, silent connections. Each case runs `serve`."""

from __future__ import annotations

import io
import json
import random
import shutil
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pyarrow as pa
import pyarrow.parquet as pq

from model_behavior.artifact import Artifact
from tests.faults.campaign import Case, Outcome
from tests.serving.test_connections import Served, served
from tests.serving.upstream_faults import BEFORE, WHOLE, WITHIN, PreparedUpstream

_MEMORY = 2 << 30
"""Stated bound on the memory of the service, in bytes; the process that reads uploads has its own."""

_HEALTH_SECONDS = 0.2
_ROW = '{"prompt": "p", "response": "r"'


def serving_cases(artifact: Path) -> list[Case]:
    """The cases, over copies of one artifact."""
    within = f"every answer is 2xx, 4xx or 503, /healthz answers, and memory stays below {_MEMORY >> 30} GiB"
    return [
        Case("hostile uploads", within, lambda folder, _: _send_uploads(artifact, folder)),
        Case("hostile questions", within, lambda folder, _: _send_questions(artifact, folder)),
        Case("clients that leave", "no answer is lost to others, no 500", lambda *given: _leave(artifact, *given)),
        Case(
            "faulty upstreams", "the next one answers, or the stream says so", lambda f, _: _ask_upstreams(artifact, f)
        ),
        Case(
            "1,500 silent connections", "/healthz answers, the log stays short", lambda f, _: _stay_silent(artifact, f)
        ),
    ]


def hostile_uploads() -> Mapping[str, bytes]:
    """Uploads that have brought a service down, by what is wrong with them."""
    digits, surrogate = "1" * 4_400, '"\\ud800"'
    bodies = {
        "an integer of 4,400 digits": f'[{_ROW}, "n": {digits}}}]',
        "the same in a line": f'{_ROW}, "n": {digits}}}\n',
        "the same in a document": f'{{"responses": [{_ROW}, "n": {digits}}}]}}',
        "100,000 nested lists": "[" * 100_000 + "]" * 100_000,
        "100,000 nested objects": '{"a":\n' * 100_000 + "1" + "}" * 100_000,
        "lists nested in a document": '{"responses":' + "[" * 100_000,
        "a key of 2 MB": '[{"' + "k" * 2_000_000 + '": 1}]',
        "100,000 columns": json.dumps({**{f"k{i}": 1 for i in range(100_000)}, "prompt": "p", "response": "r"}),
        "NaN": f'{_ROW}, "score": NaN}}',
        "1e400": f'[{_ROW}, "score": 1e400}}]',
        "1e400 for a text": '{"prompt": 1e400, "response": [1e400]}',
        "half a surrogate pair": f'{{"prompt": {surrogate}, "response": {surrogate}}}',
        "half a surrogate pair in an array": '[{"prompt": "p", "response": "\\udfff"}]',
        "a text that names makers 3,000 times": f'{_ROW[:-1]} I was trained by OpenAI{", Google" * 3000}"}}',
        "a text of hyphens": f'{_ROW[:-1]} I am {"A-" * 12_000}! an AI"}}',
        "a quote that never ends": 'prompt,response\n"' + "a," * 3_000_000,
    }
    return {**{name: text.encode() for name, text in bodies.items()}, **_hostile_tables()}


def _hostile_tables() -> Mapping[str, bytes]:
    big, n = pa.array(["x" * 400_000]), 4096
    repeated = pa.DictionaryArray.from_arrays(pa.array([0] * n, pa.int32()), big)
    inner = pa.DictionaryArray.from_arrays(pa.array([0] * 100_000, pa.int32()), big)
    tables = {
        "Parquet whose dictionary unpacks to 3 GB": pa.table({"prompt": repeated, "response": repeated}),
        "Parquet with one list of 40 GB": pa.table(
            {"prompt": ["p"], "response": pa.ListArray.from_arrays(pa.array([0, 100_000]), inner)}
        ),
        "Parquet with one text of 300 MB": pa.table({"prompt": ["a" * 300_000_000], "response": ["r"]}),
    }
    written = {}
    for name, table in tables.items():
        buffer = io.BytesIO()
        pq.write_table(table, buffer, compression="zstd")
        written[name] = buffer.getvalue()
    return {**written, "Parquet that is cut": next(iter(written.values()))[:-20], "no Parquet": b"PAR1" + b"\xff" * 999}


@dataclass
class _Watch:
    """Asks /healthz all the while, and measures memory."""

    service: Served
    outcome: Outcome
    running: bool = True

    def run(self) -> None:
        while self.running:
            if not self.service.is_healthy():
                self.outcome.blame("unanswered", "/healthz did not answer")
            time.sleep(_HEALTH_SECONDS)


@contextmanager
def _watched(artifact: Path, folder: Path, outcome: Outcome, *options: str) -> Iterator[tuple[Served, httpx.Client]]:
    """A served copy of the artifact, whose health is watched, and whose catalog has to be the same in the end."""
    copy = Path(shutil.copytree(artifact, folder / "arena"))
    before = Artifact.load(copy).models.names
    with served(copy, folder / "log", *options) as service:
        watch = _Watch(service, outcome)
        thread = threading.Thread(target=watch.run)
        thread.start()
        try:
            with httpx.Client(base_url=f"http://{service.address[0]}:{service.address[1]}", timeout=60) as client:
                yield service, client
        finally:
            watch.running = False
            thread.join()
        outcome.peak_bytes = service.memory()
        if outcome.peak_bytes > _MEMORY:
            outcome.blame("wrong", f"{outcome.peak_bytes >> 20} MiB of memory")
        if b"Traceback" in service.log.read_bytes():
            outcome.blame("wrong", "a traceback in the log")
    kept = set(Artifact.load(copy).models.names)
    if not set(before) <= kept:
        outcome.blame("lost", f"{len(set(before) - kept)} models")


def _check(outcome: Outcome, what: str, status: int) -> None:
    outcome.faults += 1
    if status >= 500 and status != 503:
        outcome.blame("errors", f"{what}: {status}")


def _send_uploads(artifact: Path, folder: Path) -> Outcome:
    outcome = Outcome()
    with _watched(artifact, folder, outcome) as (_, client):
        for what, body in hostile_uploads().items():
            for path in ("/v1/models?model=hostile", f"/v1/drift?model={Artifact.load(artifact).models.names[0]}"):
                _check(outcome, what, client.post(path, content=body).status_code)
        fine = client.post("/v1/models?model=fine", content=f"{_ROW}}}\n")
        if fine.status_code != 201:
            outcome.blame("lost", f"an upload after all of them: {fine.status_code}")
    return outcome


def _send_questions(artifact: Path, folder: Path) -> Outcome:
    outcome = Outcome()
    values = ("NaN", "1e400", '"\\ud800"', "[" * 50_000, "1" * 5000, '"' + "I am A-" * 3000 + '! an AI"', "{}", "null")
    bodies = {
        "/v1/route": '{{"prompt": {0}}}',
        "/v1/rank": '{{"prompt": {0}, "models": [{0}]}}',
        "/v1/encode": '{{"pairs": [{{"prompt": {0}, "response": {0}}}]}}',
        "/v1/identify": '{{"responses": [{{"prompt": {0}, "response": {0}}}], "prior_none": {0}}}',
        "/v1/chat/completions": '{{"model": "auto", "messages": [{{"role": "user", "content": {0}}}], "n": {0}}}',
    }
    with _watched(artifact, folder, outcome) as (_, client):
        for path, body in bodies.items():
            for value in values:
                headers = {"Content-Type": "application/json"}
                answer = client.post(path, content=body.format(value), headers=headers)
                _check(outcome, f"{path} {value[:20]}", answer.status_code)
    return outcome


def _leave(artifact: Path, folder: Path, chance: random.Random) -> Outcome:
    outcome = Outcome()
    with _watched(artifact, folder, outcome) as (service, client):
        for number in range(60):
            path = ("/v1/models?model=m&dry_run=true", "/v1/route", "/v1/encode")[number % 3]
            with socket.create_connection(service.address) as connection:
                head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
                connection.sendall(f"{head}Content-Length: 1000\r\n\r\n".encode() + b"{" * chance.randrange(999))
                time.sleep(0.02 * chance.random())
            outcome.faults += 1
        for line in client.get("/metrics").text.splitlines():
            if line.startswith("model_behavior_requests_total") and 'status="5' in line and 'status="503"' not in line:
                outcome.blame("errors", line)
    return outcome


def _ask_upstreams(artifact: Path, folder: Path) -> Outcome:
    outcome = Outcome()
    names = Artifact.load(artifact).models.names[:2]
    with ExitStack() as stack:
        servers = [stack.enter_context(PreparedUpstream(b"")) for _ in names]
        pairs = zip(names, servers, strict=True)
        text = "\n".join(f'[models."{name}"]\nbase_url = "{server.url}"' for name, server in pairs)
        (folder / "upstreams.toml").write_text(text)
        options = ("--upstreams", str(folder / "upstreams.toml"))
        _, client = stack.enter_context(_watched(artifact, folder, outcome, *options))

        def ask(what: str, stream: bool) -> str:
            body = {"model": "auto", "messages": [{"role": "user", "content": what}], "stream": stream}
            answer = client.post("/v1/chat/completions", json=body)
            _check(outcome, what, answer.status_code)
            return answer.text

        for what, (stream, faulty) in BEFORE.items():
            for order in (servers, servers[::-1]):  # the one that has failed last is asked last
                order[0].answer, order[1].answer = faulty, WHOLE[stream]
                if "model_behavior" not in ask(what, stream):
                    outcome.blame("lost", f"{what}: no answer")
        for what, faulty in WITHIN.items():
            for server in servers:
                server.answer = faulty
            if "upstream_failed" not in ask(what, True):
                outcome.blame("wrong", f"{what}: taken for whole")
    return outcome


def _stay_silent(artifact: Path, folder: Path) -> Outcome:
    outcome = Outcome()
    with _watched(artifact, folder, outcome) as (service, _), ExitStack() as stack:
        before = len(service.log.read_bytes())
        for _number in range(1500):
            stack.enter_context(socket.create_connection(service.address))
            outcome.faults += 1
        time.sleep(2)
        if len(service.log.read_bytes()) - before > 1000:
            outcome.blame("wrong", "the log is flooded")
    return outcome
