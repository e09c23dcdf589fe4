"""The catalog over time, without HTTP."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from model_behavior.artifact import Artifact
from model_behavior.catalog.places import fit_axes, measure_ellipses
from model_behavior.cli.app import run
from model_behavior.errors import DataError, UsageError
from model_behavior.serving.answers import RouteQuery
from model_behavior.serving.service import Service, ServiceConfig
from model_behavior.serving.snapshot import ChangedMeanwhileError, NotPossibleError, UnknownModelError
from model_behavior.serving.uploads import read_upload


def test_a_route_is_what_the_command_says(trained: Path, shared_service: Service, tmp_path: Path) -> None:
    (tmp_path / "costs.json").write_text(json.dumps(dict.fromkeys(shared_service.snapshot.rows, 0)))
    prompt = "Explain recursion to a child.\n- briefly\n- with an example"
    router = shared_service.snapshot.make_router(None, None)
    (expected,) = router.route([prompt])
    found = shared_service.route(RouteQuery(prompt))
    assert (found.model, found.win_rate, found.alternatives) == (
        expected.model,
        expected.win_rate,
        expected.alternatives,
    )
    best = Artifact.load(trained).scorer
    assert best is not None
    ranked = best.rate(prompt=prompt)
    assert found.model == ranked.models[int(ranked.rating.argmax())]


def test_routes_together_are_the_routes_alone(shared_service: Service) -> None:
    names = tuple(shared_service.snapshot.rows)[:3]
    queries = [
        RouteQuery("Name a river."),
        RouteQuery("Name a river.", models=names, costs={name: 1.0 + row for row, name in enumerate(names)}, floor=0.1),
        RouteQuery("Name a lake.", models=("nobody",)),
        RouteQuery("Prove that 7 is prime.", threshold=2.0),
        RouteQuery("Write a poem about rain, please."),
    ]
    together = shared_service.route_together(queries)
    assert isinstance(together[2], UnknownModelError)
    for query, found in zip(queries, together, strict=True):
        if not isinstance(found, Exception):
            alone = shared_service.route(query)
            assert found.model == alone.model and found.win_rate == pytest.approx(alone.win_rate, abs=1e-6)
    with pytest.raises(UsageError, match="one of them"):
        shared_service.route(RouteQuery("Hi", threshold=1.0, floor=0.2))


def test_an_upload_lands_where_a_dry_run_said_and_can_be_removed(folder: Path, log_file: Path) -> None:
    service = Service(folder)
    before, version = service.models(), service.snapshot.version
    dry = service.upload(log_file, "newcomer", dry_run=True)
    assert dry.version == version and service.models() == before
    kept = service.upload(log_file, "newcomer", dry_run=False)
    assert kept.version != version and kept.models == dry.models
    (placed,) = kept.models
    assert placed.enrolled and placed.votes == 0 and placed.low is not None and placed.rating is not None
    assert placed.low < placed.rating and len(placed.neighbours) == 5
    driven = service.describe("newcomer").rating_drivers
    assert driven is not None and driven == placed.rating_drivers and driven.weight is not None
    assert [each.effect for each in driven.raising] == sorted((each.effect for each in driven.raising), reverse=True)
    assert all(each.effect < 0 for each in driven.lowering) and len(driven.lowering) <= 3
    again = Service(folder)
    assert "newcomer" in again.snapshot.rows and again.snapshot.version == kept.version
    assert again.route(RouteQuery("Hi", models=("newcomer",))).model == "newcomer"
    removed = service.remove("newcomer")
    assert service.models().models == before.models and removed.version == Service(folder).snapshot.version
    with pytest.raises(UnknownModelError):
        service.describe("newcomer")
    with pytest.raises(NotPossibleError, match="voted"):
        service.remove(before.models[0].name)


def test_few_responses_say_how_many_more_would_narrow_the_interval(
    shared_service: Service, chat_log: bytes, log_file: Path, tmp_path: Path
) -> None:
    (tmp_path / "one").write_bytes(chat_log.splitlines()[0])
    (few,) = shared_service.upload(tmp_path / "one", "newcomer", dry_run=True).models
    assert few.high is not None and few.rating is not None
    for planned in few.more:
        assert planned.responses > 0 and planned.half_width < few.high - few.rating
    (many,) = shared_service.upload(log_file, "newcomer", dry_run=True).models
    assert len(few.more) == 1 and len(many.more) <= 1
    assert all(planned.responses < few.more[0].responses for planned in many.more)


def test_what_another_process_changes_is_taken_over(
    folder: Path, chat_log: bytes, log_file: Path, tmp_path: Path
) -> None:
    service = Service(folder)
    assert not service.refresh()
    (tmp_path / "log.jsonl").write_bytes(chat_log)
    assert run(["onboard", str(folder), str(tmp_path / "log.jsonl"), "--model", "from-outside"]) == 0
    old = service.snapshot
    service.upload(log_file, "from-here", dry_run=False)
    assert {"from-outside", "from-here"} <= set(Service(folder).snapshot.rows)
    assert "from-outside" not in old.rows and old.artifact.scorer is not None
    assert "from-here" not in old.artifact.scorer.models


def test_drift_is_found_and_kept(folder: Path, chat_log: bytes, log_file: Path, tmp_path: Path) -> None:
    service = Service(folder)
    service.upload(log_file, "newcomer", dry_run=False)
    same = service.check_drift(log_file, "newcomer")
    rows = [json.loads(line) for line in chat_log.splitlines()]
    shouted = "\n".join(json.dumps({**row, "response": row["response"].upper() + "!!!"}) for row in rows)
    (tmp_path / "shouted").write_text(shouted, "utf-8")
    changed = service.check_drift(tmp_path / "shouted", "newcomer")
    assert not same.changed and changed.changed and changed.drivers
    told = service.drift_checks()
    assert told.checks == (changed,) and changed.recorded
    assert [(check.model, check.changed) for check in told.history] == [("newcomer", True), ("newcomer", False)]
    again = Service(folder).drift_checks()
    assert not again.checks and again.history == told.history  # the history outlasts the service


def test_an_upload_of_any_format_gives_the_same_model(chat_log: bytes, log_file: Path, tmp_path: Path) -> None:
    rows = [json.loads(line) for line in chat_log.splitlines()]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "parquet")
    csv = "prompt,response\n" + "".join(
        ",".join('"' + row[name].replace('"', '""') + '"' for name in ("prompt", "response")) + "\n" for row in rows
    )
    texts = {
        "array": json.dumps(rows),
        "csv": csv,
        "document": json.dumps({"responses": rows}),
        "named": json.dumps({"model": "m", "responses": rows}, indent=2),
        "named last": json.dumps({"responses": rows, "model": "m"}),
    }
    expected, _ = read_upload(log_file, "m", 1000)
    for name, text in texts.items():
        (tmp_path / name).write_text(text, "utf-8")
    for name in ("parquet", *texts):
        found, report = read_upload(tmp_path / name, None if "named" in name else "m", 1000)
        assert found.responses.equals(expected.responses) and found.prompts.equals(expected.prompts), name
        assert report.used == len(rows) and found.models == ("m",)


@pytest.mark.parametrize(
    ("body", "model", "message"),
    [
        (b"", "m", "empty"),
        (b"PAR1 and no more", "m", "Parquet"),
        (b'{"prompt": "p", "response": "r"}', None, "model="),
        (b'{"prompt": "p", "response": "r"}', "a\nb", "printable"),
        (b'{"prompt": "p", "response": "r"}', "x" * 300, "printable"),
        (b'{"prompt": "p", "response": "r"}\n' * 30, "m", "rows"),
        (b'{"prompt": 1}', "m", "prompt"),
        (b"/etc/passwd", "m", "header"),
        (b'{"model": "n", "responses": [{"prompt": "p", "response": "r"}]}', "m", "'m' and 'n'"),
        (b'{"model": "a\\nb", "responses": [{"prompt": "p", "response": "r"}]}', None, "printable"),
        (b'{"responses": [{"prompt": "p", "response": "r"}], "path": "/etc/passwd"}', "m", "field 'path'"),
        (b'{"responses": [{"prompt": "p", "response": "r"}', "m", "not valid JSON"),
        (b'{"responses": ["/etc/passwd"]}', "m", "not an object"),
        (b'{"responses": []}', "m", "no rows"),
    ],
)
def test_uploads_that_cannot_be_used(body: bytes, model: str | None, message: str, tmp_path: Path) -> None:
    (tmp_path / "body").write_bytes(body)
    with pytest.raises((DataError, UsageError), match=message) as caught:
        read_upload(tmp_path / "body", model, 20)
    assert str(tmp_path) not in str(caught.value) and "/tmp" not in str(caught.value)


def test_changes_are_numbered_and_may_be_conditional(folder: Path, log_file: Path) -> None:
    service = Service(folder)
    start = service.snapshot.version
    service.upload(log_file, "newcomer", False, {start})
    with pytest.raises(ChangedMeanwhileError, match=f"version is {service.snapshot.version}"):
        service.upload(log_file, "another", False, {start, "older"})
    (first,) = service.describe("newcomer").revisions
    assert (first.number, first.change) == (1, "enrolled") and first.changed_at is not None
    (trained,) = service.describe(next(iter(service.snapshot.rows))).revisions
    assert (trained.number, trained.changed_at) == (1, None)
    with pytest.raises(ChangedMeanwhileError, match="'newcomer' has changed"):
        service.remove("newcomer", {trained.tag})
    service.remove("newcomer", {first.tag})
    service.upload(log_file, "newcomer", False)
    found = Service(folder).describe("newcomer").revisions
    assert [(each.number, each.change) for each in found] == [(3, "enrolled"), (2, "removed"), (1, "enrolled")]
    assert found[0].digest == first.digest and found[0].tag != first.tag


def test_ellipses_are_the_covariance_of_the_mean(trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    catalog = Artifact.load(trained).catalog
    axes = fit_axes(catalog.models.mean)
    sample = catalog.samples.embedded
    scatter, total, freedom = np.zeros((2, 2)), 0.0, 0
    for model in range(len(catalog.models)):
        own = sample.vectors[sample.rows_of(model)].astype(np.float64)
        around = own - own.mean(axis=0)
        plane = around @ axes.directions
        scatter, total, freedom = scatter + plane.T @ plane, total + (around**2).sum(), freedom + max(len(own) - 1, 0)
    every = measure_ellipses(catalog, axes, catalog.models)
    for row, ellipse in enumerate(every):
        n, spread = int(catalog.models.count[row]), float(catalog.models.spread[row])
        covariance = scatter / total * spread**2 / (n - 1)
        rotation = np.array(
            [[np.cos(ellipse.angle), -np.sin(ellipse.angle)], [np.sin(ellipse.angle), np.cos(ellipse.angle)]]
        )
        axes_squared = np.diag([ellipse.major**2, ellipse.minor**2]) / 5.991464547107979  # 95 % of chi-square with 2
        np.testing.assert_allclose(rotation @ axes_squared @ rotation.T, covariance, rtol=1e-6, atol=1e-12)
        assert ellipse.major >= ellipse.minor > 0
    monkeypatch.setattr("model_behavior.catalog.places._POOLED", len(sample.vectors) // 3)
    some = measure_ellipses(catalog, axes, catalog.models)  # of every third model, or every fourth
    np.testing.assert_allclose([each.major for each in some], [each.major for each in every], rtol=0.2)
    assert some != every


def test_costs_are_the_configured_ones_and_an_unknown_model_is_only_warned_of(trained: Path) -> None:
    names = list(Service(trained).snapshot.rows)
    with pytest.warns(UserWarning, match=r"cost of 'elsewhere': .*nearest of the 18 known: \w+"):
        service = Service(trained, ServiceConfig(costs={names[0]: 3.0, names[1]: 1.0, "elsewhere": 0.0}))
    found = service.route(RouteQuery("Name a river.", threshold=1e6))
    assert (found.model, found.cost) == (names[1], 1.0)
    assert {found.model, *(each.model for each in found.alternatives)} == set(names[:2])
    assert service.models().models[0].cost == 3.0
    with pytest.raises(UsageError, match=f"no cost of {names[2]}"):
        service.route(RouteQuery("Name a river.", models=(names[2],)))


def test_costs_of_unknown_models_alone_make_no_model_free(folder: Path, trained: Path, log_file: Path) -> None:
    names = list(Service(trained).snapshot.rows)
    misspelt = {names[0].replace("-", " ").upper(): 3.0, f"{names[1]}x": 1.0}
    with pytest.raises(UsageError, match=rf"none of its 2 models.*\(nearest: {names[0]},.*\(nearest: {names[1]},.*Fix"):
        Service(trained, ServiceConfig(costs=misspelt))
    Service(folder).upload(log_file, "newcomer", dry_run=False)
    service = Service(folder, ServiceConfig(costs={"newcomer": 2.0}))
    assert service.route(RouteQuery("Hi")).model == "newcomer" and not service.route(RouteQuery("Hi")).alternatives
    service.remove("newcomer")  # now no model is left that has a cost
    found = service.route_together([RouteQuery("Hi"), RouteQuery("Hi", costs={names[0]: 1.0})])
    assert isinstance(found[0], NotPossibleError) and not isinstance(found[1], Exception)
    service.upload(log_file, "newcomer", dry_run=False)
    assert service.route(RouteQuery("Hi")).model == "newcomer"


def test_a_model_without_a_cost_is_said_once_whenever_it_comes(
    folder: Path, log_file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    names = list(Service(folder).snapshot.rows)
    assert not caplog.text
    service = Service(folder, ServiceConfig(costs=dict.fromkeys(names[1:], 1.0)))
    assert caplog.messages == [f"no cost, so nothing is routed to: {names[0]}"]
    service.upload(log_file, "one", dry_run=False)
    Service(folder).upload(log_file, "two", dry_run=False)
    assert service.refresh() and not {"one", "two", names[0]} & set(service.snapshot.prices)
    service.upload(log_file, "one", dry_run=False)
    assert [line.split(": ")[1] for line in caplog.messages] == [names[0], "one", "two"]


def test_prompts_worth_asking(shared_service: Service) -> None:
    found = shared_service.prompts(3)
    assert [each.prompt for each in found.prompts] == [
        each.prompt for each in shared_service.snapshot.artifact.prompts(3)
    ]
    known = next(name for name, row in shared_service.snapshot.rows.items() if not row.enrolled)
    with pytest.raises(NotPossibleError, match="has votes"):
        shared_service.prompts(3, known)
    with pytest.raises(UnknownModelError):
        shared_service.prompts(3, "no such model")


def test_ranks_have_a_scale_and_groups(shared_service: Service) -> None:
    elo, odds = shared_service.rank(), shared_service.rank(scale="log-odds")
    assert (elo.scale, odds.scale) == ("elo", "log-odds")
    assert [row.model for row in elo.models] == [row.model for row in odds.models]
    assert np.mean([row.rating for row in elo.models if row.votes]) == pytest.approx(1000)
    assert [row.group for row in elo.models] == [row.group for row in odds.models]
    assert shared_service.snapshot.rows[elo.models[0].model].group == 1
