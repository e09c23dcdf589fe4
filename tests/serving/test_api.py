"""The service over HTTP: answers, refusals, limits."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.testclient import TestClient

from model_behavior.errors import UsageError
from model_behavior.serving.answers import RouteQuery
from model_behavior.serving.guard import Pulse
from model_behavior.serving.keys import KeyRing
from model_behavior.serving.lanes import Batcher, Lane
from model_behavior.serving.problems import RefusalError
from model_behavior.serving.routes import is_known, read_if_match
from model_behavior.serving.service import Service
from model_behavior.serving.settings import Limits, RateLimiter, ServeSettings
from tests.serving.conftest import ADMIN, READ, MakeClient

SECRET_TEXT = "my-very-private-text"


def plain(view: Any) -> Any:
    return json.loads(json.dumps(asdict(view)))


def test_reading_gives_what_the_service_says(client: TestClient, shared_service: Service) -> None:
    a, b = list(shared_service.snapshot.rows)[:2]
    expected = {
        "/v1/models": shared_service.models(),
        "/v1/map": shared_service.map(),
        f"/v1/models/{a}": shared_service.describe(a),
        f"/v1/models/{a}/neighbours?n=2": shared_service.neighbours(a, 2),
        f"/v1/compare?a={a}&b={b}": shared_service.compare(a, b),
        "/v1/drift": shared_service.drift_checks(),
    }
    for path, view in expected.items():
        answer = client.get(path)
        assert answer.status_code == 200 and answer.json() == plain(view), path
    assert client.get("/readyz").json() == {"status": "ready", "models": 18, "version": shared_service.snapshot.version}
    assert client.get("/healthz").json() == {"status": "ok"}
    session = client.get("/v1/session").json()
    assert session["scopes"] == ["read", "admin"] and not session["keys_needed"] and not session["chat"]


def test_scoring_gives_what_the_service_says(client: TestClient, shared_service: Service) -> None:
    a, b = list(shared_service.snapshot.rows)[:2]
    route = client.post("/v1/route", json={"prompt": "Name a river."}).json()
    assert route["model"] and len(route["alternatives"]) == 17
    said = [{"role": "user", "content": "Name a river."}, {"role": "assistant", "content": "The Rhine."}]
    asked = {"messages": [*said, {"role": "user", "content": [{"type": "text", "text": "Prove that 7 is prime."}]}]}
    whole = shared_service.route(RouteQuery("Prove that 7 is prime.", ("Name a river.",)))
    assert client.post("/v1/route", json=asked).json() == plain(whole)
    single = [shared_service.route(RouteQuery(text)) for text in ("Name a river.", "Prove that 7 is prime.")]
    rates = [
        {found.model: found.win_rate, **{each.model: each.win_rate for each in found.alternatives}}
        for found in (whole, *single)
    ]
    for name in rates[0]:
        assert rates[0][name] == pytest.approx((rates[1][name] + rates[2][name]) / 2, abs=1e-6)
    assert client.post("/v1/route", json={"messages": said[:1]}).json() == plain(single[0])
    refused: list[dict[str, Any]] = [{"models": [a]}, {**asked, "prompt": "Name a river."}, {"messages": []}]
    for wrong in refused:
        assert client.post("/v1/route", json=wrong).status_code == 422
    assert client.post("/v1/rank", json={}).json() == plain(shared_service.rank())
    ranked = client.post("/v1/rank", json={"prompt": "Name a river.", "models": [b, a]}).json()
    assert ranked["prompt_used"] and {row["model"] for row in ranked["models"]} == {a, b}
    votes = [{"prompt": "Name a river.", "model_a": a, "model_b": b}, {"prompt": "Hi", "model_a": b, "model_b": a}]
    found = client.post("/v1/predict", json={"votes": votes}).json()["predictions"]
    assert found == plain(shared_service.predict(["Name a river.", "Hi"], [a, b], [b, a]))["predictions"]
    pairs = [{"prompt": "Name a river.", "response": "The Loire."}]
    encoded = client.post("/v1/encode", json={"pairs": pairs}).json()
    assert len(encoded["embeddings"][0]) == encoded["dim"]
    identified = client.post("/v1/identify", json={"responses": pairs, "prior_none": 0.2}).json()
    total = identified["none"] + sum(each["probability"] for each in identified["candidates"])
    assert total == pytest.approx(1)


def test_uploads_over_http(make_client: MakeClient, folder: Path, chat_log: bytes) -> None:
    service = Service(folder)
    client = make_client(service)
    dry = client.post("/v1/models", params={"model": "a/b c", "dry_run": "true"}, content=chat_log)
    assert dry.status_code == 200 and len(client.get("/v1/models").json()["models"]) == 18
    kept = client.post("/v1/models", params={"model": "a/b c"}, content=chat_log)
    assert kept.status_code == 201 and kept.json()["models"] == dry.json()["models"]
    assert client.get("/v1/models/a%2Fb%20c").json()["model"]["name"] == "a/b c"
    checked = client.post("/v1/drift", params={"model": "a/b c"}, content=chat_log).json()
    assert not checked["changed"] and client.get("/v1/drift").json()["checks"] == [checked]
    assert client.delete("/v1/models/a%2Fb%20c").json()["removed"] == "a/b c"
    assert client.delete("/v1/models/a%2Fb%20c").status_code == 404
    voted = next(iter(service.snapshot.rows))
    assert client.delete(f"/v1/models/{voted}").status_code == 409


def test_an_upload_is_a_body_a_document_or_a_form(make_client: MakeClient, folder: Path, chat_log: bytes) -> None:
    client = make_client(Service(folder))
    rows = [json.loads(line) for line in chat_log.splitlines()]
    dry = {"dry_run": "true"}
    expected = client.post("/v1/models", params={**dry, "model": "m"}, content=chat_log).json()
    file = {"file": ("/etc/passwd", chat_log, "text/plain")}
    found = [
        client.post("/v1/models", params=dry, json={"model": "m", "responses": rows}),
        client.post("/v1/models", params={**dry, "model": "m"}, files=file),
        client.post("/v1/models", params=dry, files=file, data={"model": "m"}),
    ]
    for answer in found:
        assert answer.status_code == 200 and answer.json() == expected
    assert client.post("/v1/models", params={"model": "m"}, files=file).status_code == 201
    assert not client.post("/v1/drift", params={"model": "m"}, files=file).json()["changed"]
    refused = [
        client.post("/v1/models", params={**dry, "model": "n"}, files=file, data={"model": "m"}),
        client.post("/v1/models", params=dry, files={"log": chat_log}),
        client.post("/v1/models", params=dry, files=file, data={"model": "m", "colour": "red"}),
        client.post("/v1/models", params=dry, files={"file": chat_log, "other": chat_log}),
        client.post("/v1/models", params=dry, data={"file": "text"}, files={"model": b"m"}),
        client.post("/v1/models", content=b"--x", headers={"Content-Type": "multipart/form-data"}),
        client.post("/v1/models", content=b"y" * 99, headers={"Content-Type": "multipart/form-data; boundary=x"}),
    ]
    for answer in refused:
        assert answer.status_code in (400, 422) and answer.json()["error"]["type"] == "invalid_request", answer.text


def test_changes_may_depend_on_what_was_seen(make_client: MakeClient, folder: Path, chat_log: bytes) -> None:
    client = make_client(Service(folder))
    models = client.get("/v1/models")
    assert models.headers["ETag"] == f'"{models.json()["version"]}"'

    def put(name: str, tag: str) -> Any:
        return client.post("/v1/models", params={"model": name}, content=chat_log, headers={"If-Match": tag})

    kept = put("one", f'"older", {models.headers["ETag"]}')
    assert kept.status_code == 201 and kept.headers["ETag"] == f'"{kept.json()["version"]}"'
    for stale in (models.headers["ETag"], f"W/{kept.headers['ETag']}", "nonsense", '"'):
        refused = put("two", stale)
        assert refused.status_code == 412 and refused.json()["error"]["type"] == "changed_meanwhile"
    assert put("two", "*").status_code == 201
    one = client.get("/v1/models/one")
    assert one.json()["revisions"][0]["number"] == 1 and one.json()["revisions"][0]["change"] == "enrolled"
    assert client.post("/v1/models", params={"model": "one"}, content=chat_log.splitlines()[0]).status_code == 201
    changed = client.get("/v1/models/one")
    assert [each["number"] for each in changed.json()["revisions"]] == [2, 1]
    assert client.delete("/v1/models/one", headers={"If-Match": one.headers["ETag"]}).status_code == 412
    assert client.delete("/v1/models/one", headers={"If-Match": changed.headers["ETag"]}).status_code == 200


def test_a_copy_that_a_proxy_has_compressed_is_known(client: TestClient) -> None:
    tag = client.get("/").headers["ETag"]
    for known in (tag, f"W/{tag}", f'"other", W/"another" , W/{tag}', "*", f'"x",{tag}'):
        answer = client.get("/", headers={"If-None-Match": known})
        assert answer.status_code == 304 and not answer.content and answer.headers["ETag"] == tag, known
    two_lines = httpx.Headers([("If-None-Match", '"other"'), ("If-None-Match", f"W/{tag}")])
    assert client.get("/", headers=two_lines).status_code == 304
    for unknown in ('"other"', tag.strip('"'), f"x{tag}", f"w/{tag}", "", '"', 'W/"'):
        assert client.get("/", headers={"If-None-Match": unknown}).status_code == 200, unknown
    script = client.get("/static/main.js")
    assert client.get("/static/main.js", headers={"If-None-Match": f"W/{script.headers['ETag']}"}).status_code == 304
    assert client.get("/static/main.js", headers={"If-None-Match": f"W/{tag}"}).status_code == 200


def test_conditions_by_hand() -> None:
    """The table of RFC 9110, section 8.8.3.2: a weak tag equals its strong one for If-None-Match alone."""
    assert is_known('W/"1"', '"1"') and is_known('"1"', '"1"') and not is_known('W/"2"', '"1"')
    assert not is_known("", '"1"') and not is_known('"2"', '"1"')
    assert read_if_match('W/"1"') == frozenset() and read_if_match('W/"1", "2","3"') == frozenset({"2", "3"})
    assert read_if_match(None) is None and read_if_match(" * ") is None
    assert read_if_match("nonsense") == read_if_match('x"1"') == read_if_match("") == frozenset()


@pytest.mark.parametrize(
    ("body", "status", "word"),
    [
        ({"prompt": "x", "colour": "red"}, 422, "colour"),
        ({"prompt": 3}, 422, "prompt"),
        ({"prompt": ""}, 422, "prompt"),
        ({}, 422, "prompt"),
        ({"prompt": "x", "models": ["nobody"]}, 404, "nearest"),
        ({"prompt": "x", "threshold": 1, "floor": 0.1}, 400, "one of them"),
        ({"prompt": "x", "floor": 0.7}, 422, "floor"),
        ({"prompt": "a " * 40_000}, 413, "tokens"),
    ],
)
def test_requests_that_cannot_be_meant(client: TestClient, body: dict[str, Any], status: int, word: str) -> None:
    answer = client.post("/v1/route", json=body)
    error = answer.json()["error"]
    assert answer.status_code == status and error["type"] == "invalid_request" and word in json.dumps(error)


def test_refusals_never_repeat_what_was_sent(client: TestClient) -> None:
    for body in ({"prompt": "x", SECRET_TEXT[:3]: 1}, {"prompt": [SECRET_TEXT]}, {"pairs": SECRET_TEXT}):
        for path in ("/v1/route", "/v1/encode"):
            assert SECRET_TEXT not in client.post(path, json=body).text
    assert client.post("/v1/route", content=b'{"prompt": ').status_code == 422
    assert client.get("/v1/nothing").json()["error"]["type"] == "invalid_request"
    assert client.put("/v1/route").status_code == 405


def test_keys_and_scopes(make_client: MakeClient, shared_service: Service, keys: KeyRing, chat_log: bytes) -> None:
    client = make_client(shared_service, keys=keys)
    reader, admin = ({"Authorization": f"Bearer {secret}"} for secret in (READ[0], ADMIN))
    for path in ("/", "/healthz", "/readyz"):
        assert client.get(path).status_code == 200
    for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": f"Basic {ADMIN}"}):
        refused = client.get("/v1/models", headers=headers)
        assert refused.status_code == 401 and refused.headers["WWW-Authenticate"] == "Bearer"
    assert client.get("/metrics").status_code == 401
    assert client.get("/v1/session", headers=reader).json()["scopes"] == ["read"]
    assert client.get("/v1/session", headers=admin).json()["scopes"] == ["read", "admin"]
    assert client.post("/v1/models", params={"model": "m"}, content=chat_log, headers=reader).status_code == 403
    dry = client.post("/v1/models", params={"model": "m", "dry_run": "1"}, content=chat_log, headers=reader)
    assert dry.status_code == 200
    assert client.delete("/v1/models/x", headers=reader).status_code == 403
    assert client.delete("/v1/models/x", headers=admin).status_code == 404
    assert keys.find(READ[0]) == READ[1] and keys.find(READ[1].digest) is None
    assert READ[0] not in repr(READ[1])


def test_without_keys_only_this_machine_may_ask(make_client: MakeClient, shared_service: Service) -> None:
    with pytest.raises(UsageError, match="no API key"):
        ServeSettings(host="0.0.0.0")
    client = make_client(shared_service)
    assert client.get("/v1/models", headers={"Host": "evil.example"}).status_code == 403
    assert client.get("/v1/models", headers={"Host": "localhost:8000"}).status_code == 200
    assert client.get("/v1/models", headers={"Host": "[::1]:8000"}).status_code == 200
    assert client.post("/v1/rank", json={}, headers={"Origin": "https://evil.example"}).status_code == 403
    assert client.post("/v1/rank", json={}, headers={"Origin": "http://127.0.0.1"}).status_code == 200


def test_every_answer_has_the_security_headers(client: TestClient) -> None:
    for path in ("/", "/v1/models", "/v1/nothing", "/static/../app.py", "/static/%2e%2e%2fapp.py"):
        headers = client.get(path).headers
        assert (
            "script-src 'self'" in headers["Content-Security-Policy"]
            and "unsafe" not in headers["Content-Security-Policy"]
        )
        assert headers["X-Content-Type-Options"] == "nosniff" and headers["X-Frame-Options"] == "DENY"
    assert client.get("/static/..%2fapp.py").status_code == 404
    page = client.get("/")
    assert client.get("/", headers={"If-None-Match": page.headers["ETag"]}).status_code == 304


def test_texts_are_never_logged(
    make_client: MakeClient, shared_service: Service, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = make_client(shared_service)
    caplog.set_level(logging.DEBUG)
    assert client.post("/v1/route", json={"prompt": SECRET_TEXT}).status_code == 200

    def fail(*_: object) -> None:
        raise RuntimeError(SECRET_TEXT)

    monkeypatch.setattr(shared_service, "rank", fail)
    answer = client.post("/v1/rank", json={"prompt": SECRET_TEXT})
    assert answer.status_code == 500 and answer.json()["error"]["type"] == "internal"
    ours = [record.getMessage() for record in caplog.records if record.name.startswith("model_behavior")]
    assert any("/v1/route 200" in line for line in ours) and any("RuntimeError" in line for line in ours)
    assert SECRET_TEXT not in caplog.text


def test_bodies_batches_and_rates_are_bounded(make_client: MakeClient, shared_service: Service) -> None:
    limits = Limits(body_bytes=2000, upload_bytes=3000, batch=2, requests_per_second=4)
    client = make_client(shared_service, limits=limits)
    assert client.post("/v1/route", json={"prompt": "x" * 3000}).status_code == 413
    chunks = client.post("/v1/route", content=iter([b'{"prompt": "'] + [b"x" * 500] * 9))
    assert chunks.status_code == 413
    assert client.post("/v1/models", params={"model": "m"}, content=b"x" * 4000).status_code == 413
    form = client.post("/v1/models", params={"model": "m"}, files={"file": b"x" * 4000})
    assert form.status_code == 413 and form.json()["error"]["type"] == "invalid_request"
    pair = {"prompt": "p", "response": "r"}
    assert client.post("/v1/encode", json={"pairs": [pair] * 3}).status_code == 413
    statuses = [client.get("/healthz") for _ in range(12)]
    assert statuses[-1].status_code == 429 and int(statuses[-1].headers["Retry-After"]) >= 1


def test_rates_by_hand() -> None:
    now = [0.0]
    limiter = RateLimiter(2.0, lambda: now[0])
    for _ in range(4):
        limiter.spend("a")
    with pytest.raises(RefusalError):
        limiter.spend("a")
    limiter.spend("b")
    now[0] = 0.5
    limiter.spend("a")
    with pytest.raises(RefusalError):
        limiter.spend("a")
    for client in range(10_000):
        limiter.spend(str(client))
    assert len(limiter) == 4096


def test_full_queues_refuse_and_recover() -> None:
    async def crowd() -> list[object]:
        lane = Lane("test", 2)
        batcher: Batcher[int, int] = Batcher(lane, 4, lambda asked: [-each for each in asked])
        answers = await asyncio.gather(*(batcher.ask(each) for each in range(10)), return_exceptions=True)
        again = await batcher.ask(99)
        lane.close()
        return [*answers, again]

    answers = asyncio.run(crowd())
    assert answers[:4] == [0, -1, -2, -3] and answers[-1] == -99
    for refused in answers[4:-1]:
        assert isinstance(refused, RefusalError) and refused.status == 503 and refused.headers["Retry-After"] == "1"


def test_who_would_wait_too_long_is_refused_at_once_and_told_for_how_long() -> None:
    async def crowd() -> tuple[Sequence[object], Sequence[object]]:
        lane = Lane("test", 100, wait_seconds=0.1)

        def work(asked: Sequence[int]) -> list[int]:
            time.sleep(0.4 if 0 in asked else 0.0)
            return [-each for each in asked]

        batcher: Batcher[int, int] = Batcher(lane, 100, work)
        slow = await batcher.ask(0)
        busy = asyncio.create_task(batcher.ask(1))  # a free lane takes one, however slow the last one was
        await asyncio.sleep(0)
        answers = await asyncio.gather(*(batcher.ask(each) for each in range(2, 5)), return_exceptions=True)
        again = [slow, await busy, *[await batcher.ask(each) for each in (5, 6)]]
        lane.close()
        return answers, again

    refused, answers = asyncio.run(crowd())
    assert answers == [0, -1, -5, -6]
    for each in refused:
        assert isinstance(each, RefusalError) and each.status == 503 and each.headers["Retry-After"] == "1"


def test_a_lane_refuses_by_what_it_has_taken_lately() -> None:
    async def crowd() -> Sequence[object]:
        lane = Lane("test", 100, wait_seconds=0.15)
        await lane.run(lambda: time.sleep(1.0))
        answers = await asyncio.gather(*(lane.run(lambda: 1) for _ in range(4)), return_exceptions=True)
        lane.close()
        return answers

    *taken, third, fourth = asyncio.run(crowd())  # a tenth of the one second is what one is expected to take
    assert taken == [1, 1]
    assert isinstance(third, RefusalError) and isinstance(fourth, RefusalError) and fourth.status == 503


def test_a_late_loop_is_seen_while_it_lasts_and_one_turn_after() -> None:
    now = [10.0]
    pulse = Pulse(lambda: now[0])
    assert pulse.late == 0
    pulse.beat()
    now[0] += 0.03
    assert pulse.late == 0
    now[0] += 0.72
    assert pulse.late == pytest.approx(0.7)
    pulse.beat()
    assert pulse.late == pytest.approx(0.7)
    now[0] += 0.05
    pulse.beat()
    assert pulse.late == 0


def test_a_late_loop_refuses_a_crowd_but_neither_a_few_nor_the_question_whether_it_lives(
    make_client: MakeClient, shared_service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = make_client(shared_service, limits=Limits(wait_seconds=0.25))
    guard: Any = client.app
    monkeypatch.setattr(Pulse, "late", property(lambda _: 0.3))
    assert client.get("/v1/models").status_code == 200
    monkeypatch.setattr(guard, "_under_way", 16)
    refused = client.get("/v1/models")
    assert refused.status_code == 503 and refused.headers["Retry-After"] == "1"
    assert client.get("/readyz").status_code == 503 and client.get("/healthz").status_code == 200
    monkeypatch.setattr(Pulse, "late", property(lambda _: 0.2))
    assert client.get("/v1/models").status_code == 200


def test_metrics_have_no_labels_of_clients(client: TestClient) -> None:
    client.get(f"/v1/models/{SECRET_TEXT}")
    client.request(SECRET_TEXT.upper(), "/healthz")
    text = client.get("/metrics").text
    assert 'route="/v1/models/{name:path}"' in text and "model_behavior_models 18.0" in text
    assert SECRET_TEXT not in text and SECRET_TEXT.upper() not in text
