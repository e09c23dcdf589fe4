"""Leaderboard, comparison, prompt, placing a model, drift: what they show is what the library says."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import pytest
from playwright.sync_api import Page, Route, expect

from model_behavior.serving.answers import RouteQuery
from model_behavior.serving.service import Service
from tests.page.conftest import KEY, OpenPage, serving

COST_UNIT = "per request, in the currency of the cost file"
PROMPT = "Explain to a ten-year-old why the sky is blue."


def names_of(page: Page) -> list[str]:
    return page.locator(".board tbody th a").all_inner_texts()


def test_the_leaderboard_is_in_order_with_intervals_and_marks(
    open_page: OpenPage, arena_server: str, arena_service: Service
) -> None:
    page = open_page(f"{arena_server}/#/leaderboard")
    rows = arena_service.models().models
    assert names_of(page) == [row.name for row in rows]
    assert page.locator("tr.enrolled th a").all_inner_texts() == [row.name for row in rows if row.enrolled]
    drawn = page.eval_on_selector_all(
        ".interval",
        """all => all.map(e => e.querySelector('.span'))
                     .map(line => [line.x1, line.x2].map(v => v.baseVal.valueInSpecifiedUnits))""",
    )
    widths = [right - left for left, right in drawn]
    expected = [row.high - row.low for row in rows if row.high is not None and row.low is not None]
    assert widths == pytest.approx([widths[0] / expected[0] * each for each in expected], rel=1e-3)


def test_the_leaderboard_sorts_filters_and_remembers_it_in_its_address(
    open_page: OpenPage, arena_server: str, arena_service: Service
) -> None:
    page = open_page(f"{arena_server}/#/leaderboard")
    page.get_by_role("button", name="Votes").click()
    votes = {row.name: row.votes for row in arena_service.models().models}
    assert [votes[name] for name in names_of(page)] == sorted(votes.values(), reverse=True)
    expect(page.get_by_role("columnheader", name="Votes")).to_have_attribute("aria-sort", "descending")
    page.get_by_role("searchbox").fill("amber x")
    assert names_of(page) == ["amber-xl"]
    page.reload()
    expect(page.get_by_role("searchbox")).to_have_value("amber x")
    assert names_of(page) == ["amber-xl"]
    page.get_by_role("searchbox").fill("no such model")
    expect(page.get_by_text("No model matches.")).to_be_visible()


def test_the_leaderboard_is_saved_as_csv(
    open_page: OpenPage, arena_server: str, arena_service: Service, tmp_path: Path
) -> None:
    page = open_page(f"{arena_server}/#/leaderboard")
    with page.expect_download() as download:
        page.get_by_role("button", name="CSV").click()
    download.value.save_as(tmp_path / "board.csv")
    with (tmp_path / "board.csv").open(newline="", encoding="utf-8") as file:
        read = list(csv.DictReader(file))
    rows = arena_service.models().models
    assert [(row["name"], float(row["rating"]), int(row["votes"])) for row in read] == [
        (row.name, row.rating, row.votes) for row in rows
    ]


def test_costs_have_a_unit_wherever_they_are_shown(
    open_page: OpenPage, arena_server: str, arena_service: Service
) -> None:
    page = open_page(f"{arena_server}/#/leaderboard")
    expect(page.get_by_role("columnheader", name="Cost per request")).to_be_visible()
    expect(page.get_by_text(f"Costs are {COST_UNIT}.")).to_be_visible()
    best = arena_service.models().models[0]
    page.goto(f"{arena_server}/#/map?model={best.name}")
    fact = page.locator(".facts div", has_text="Cost")
    expect(fact.locator("dd")).to_have_text(f"{best.cost:g} {COST_UNIT}")


def test_two_models_are_compared_in_words_bars_and_texts(
    open_page: OpenPage, arena_server: str, arena_service: Service
) -> None:
    a, b = "amber-xl", "ebony-nano"
    page = open_page(f"{arena_server}/#/compare?a={a}&b={b}")
    told = arena_service.compare(a, b)
    expect(page.locator(".drivers li")).to_have_count(len(told.drivers))
    assert told.drivers
    assert page.locator(".drivers li > p").all_text_contents() == [each.text for each in told.drivers]
    bars = page.eval_on_selector_all(".drivers .meter i", "all => all.map(e => parseFloat(e.style.inlineSize))")
    for driver, first, second in zip(told.drivers, bars[::2], bars[1::2], strict=True):
        most = max(driver.value, driver.reference)
        assert (first, second) == pytest.approx((100 * driver.value / most, 100 * driver.reference / most), abs=0.06)
    assert told.prediction is not None
    shares = page.eval_on_selector_all(".stack i", "all => all.map(e => Number(getComputedStyle(e).flexGrow))")
    assert shares == pytest.approx(
        [told.prediction.p_model_a, told.prediction.p_tie, told.prediction.p_both_bad, told.prediction.p_model_b],
        abs=1e-3,
    )
    expected = [each.response for each in (*told.exemplars_a, *told.exemplars_b)]
    assert told.shared
    expected += [text for each in told.shared for text in (each.response_a, each.response_b)]
    assert sorted(page.locator(".beside blockquote").all_text_contents()) == sorted(expected)
    page.get_by_role("button", name="Swap the models").click()
    expect(page.locator(".side strong").first).to_have_text(b)


def test_a_prompt_shows_order_costs_and_route_and_the_floor_changes_it(
    open_page: OpenPage, arena_server: str, arena_service: Service
) -> None:
    page = open_page(f"{arena_server}/#/prompt")
    page.get_by_label("Prompt").fill(PROMPT)
    page.get_by_role("button", name="Predict").click()
    best = arena_service.route(RouteQuery(PROMPT))
    expect(page.locator(".verdict strong")).to_have_text(best.model)
    order = sorted([(best.win_rate, best.model), *((each.win_rate, each.model) for each in best.alternatives)])[::-1]
    assert names_of(page) == [name for _, name in order]
    costs = {row.name: row.cost for row in arena_service.models().models}
    shown = page.locator(".board tbody td:last-child").all_inner_texts()
    assert [float(cost) for cost in shown] == pytest.approx([costs[name] for _, name in order], rel=0.01)
    expect(page.get_by_role("columnheader", name="Cost per request")).to_be_visible()
    expect(page.get_by_text(COST_UNIT)).to_be_visible()
    page.get_by_label("Win rate against the best model").fill("0.1")
    page.get_by_role("button", name="Predict").click()
    cheap = arena_service.route(RouteQuery(PROMPT, floor=0.1))
    assert cheap.model != best.model and cheap.cost < best.cost
    expect(page.locator(".verdict strong")).to_have_text(cheap.model)
    expect(page.locator("tr.chosen th a")).to_have_text(cheap.model)


def test_a_chat_log_lands_is_kept_drifts_and_is_removed(
    open_page: OpenPage, arena_folder: Path, chat_logs: dict[str, Path], tmp_path: Path
) -> None:
    shutil.copytree(arena_folder, tmp_path / "arena")
    service = Service(tmp_path / "arena")
    name, log = list(chat_logs.items())[1]
    with serving(service) as address:
        page = open_page(f"{address}/#/add")
        page.get_by_label("Name of the model").fill(name)
        page.locator("input[type=file]").set_input_files(log)
        expect(page.locator(".landing .point.fresh")).to_have_count(1, timeout=20_000)
        tried = service.upload(log, name, dry_run=True).models[0]
        assert page.locator(".landing .nearest a").all_inner_texts() == [near.model for near in tried.neighbours]
        assert name not in service.snapshot.rows
        page.get_by_role("button", name="Keep this model").click()
        expect(page.locator(".card h2")).to_have_text(name, timeout=20_000)
        expect(page.locator(".point.fresh")).to_have_count(1)
        assert name in service.snapshot.rows

        page.goto(f"{address}/#/drift?model={name}")
        page.locator("input[type=file]").set_input_files(chat_logs[list(chat_logs)[2]])
        expect(page.locator(".check")).to_have_count(1, timeout=20_000)
        (check,) = service.drift_checks().checks
        assert check.changed
        expect(page.locator(".check h2")).to_contain_text("changed")
        expect(page.locator("nav .badge")).to_contain_text("1")
        expect(page.locator(".history tbody tr")).to_have_count(1)
        expect(page.locator(".history tbody tr")).to_contain_text("changed")

        page.on("dialog", lambda dialog: dialog.accept())
        page.goto(f"{address}/#/map?model={name}")
        page.get_by_role("button", name="Remove this model").click()
        expect(page.locator(".point.fresh")).to_have_count(0, timeout=20_000)
        assert name not in service.snapshot.rows


def test_a_file_can_be_dropped_and_what_is_wrong_with_it_is_said(open_page: OpenPage, arena_server: str) -> None:
    page = open_page(f"{arena_server}/#/add")
    page.evaluate(
        """() => {
          const data = new DataTransfer();
          data.items.add(new File(["no responses at all"], "letter.txt"));
          const drop = new DragEvent("drop", {dataTransfer: data, bubbles: true, cancelable: true});
          document.querySelector(".drop").dispatchEvent(drop);
        }"""
    )
    expect(page.get_by_role("alert")).to_be_visible(timeout=20_000)
    assert len(page.get_by_role("alert").inner_text()) > 30
    open_page.complaints.clear()  # type: ignore[attr-defined]  # the browser reports the refusal, as it should


def test_a_server_with_keys_asks_for_one(open_page: OpenPage, arena_folder: Path) -> None:
    with serving(Service(arena_folder), KEY) as address:
        page = open_page(address)
        page.get_by_label("Key").fill("not the key")
        page.get_by_role("button", name="Go on").click()
        expect(page.get_by_role("alert")).to_be_visible()
        page.get_by_label("Key").fill(KEY)
        page.get_by_role("button", name="Go on").click()
        expect(page.locator(".point").first).to_be_visible()
        assert KEY not in page.url
    open_page.complaints.clear()  # type: ignore[attr-defined]  # the two refusals


def test_a_server_that_is_gone_is_said_and_asked_again(open_page: OpenPage, arena_server: str) -> None:
    page = open_page(f"{arena_server}/#/leaderboard")
    page.route("**/v1/**", lambda route: route.abort())
    page.goto(f"{arena_server}/#/map?model=amber-xl")
    expect(page.get_by_role("alert")).to_contain_text("The server does not answer")
    page.unroute("**/v1/**")
    page.get_by_role("button", name="Try again").click()
    expect(page.locator(".card h2")).to_have_text("amber-xl")
    open_page.complaints.clear()  # type: ignore[attr-defined]  # the requests that were cut off


def test_prompts_worth_asking_are_shown_to_copy(
    open_page: OpenPage, arena_server: str, arena_service: Service, tmp_path: Path
) -> None:
    page = open_page(f"{arena_server}/#/add")
    page.get_by_label("Prompts", exact=True).fill("3")
    page.get_by_role("button", name="Show prompts").click()
    expect(page.locator(".asked li")).to_have_count(3)
    chosen = [each.prompt for each in arena_service.prompts(3).prompts]
    assert [text.strip() for text in page.locator(".asked pre").all_inner_texts()] == [each.strip() for each in chosen]
    with page.expect_download() as download:
        page.get_by_role("button", name="Save as JSONL").click()
    download.value.save_as(tmp_path / "prompts.jsonl")
    rows = [json.loads(line) for line in (tmp_path / "prompts.jsonl").read_text("utf-8").splitlines()]
    assert [row["messages"][0]["content"] for row in rows] == chosen


def test_what_raises_a_rating_and_what_is_beyond_the_known_field_is_said_in_words(
    open_page: OpenPage, arena_server: str, arena_service: Service
) -> None:
    (name,) = [row.name for row in arena_service.models().models if row.enrolled]
    told = arena_service.describe(name).rating_drivers
    assert told is not None
    shown = [*told.raising, *told.lowering]
    page = open_page(f"{arena_server}/#/map?model={name}")
    lines = page.locator(".rating-drivers li")
    expect(lines).to_have_count(len(shown) + 1)
    for line, driver in zip(lines.all_text_contents(), shown, strict=False):
        assert line.endswith(driver.text) and f"{abs(driver.effect):.0f}" in line
    assert lines.all_text_contents()[-1].endswith("all other features of its answers")

    def as_beyond(route: Route) -> None:
        value = route.fetch().json()
        for row in value["models"]:
            row["beyond"] = 1 if row["name"] == name else 0
        route.fulfill(json=value)

    expect(page.get_by_text("beyond the known field")).to_have_count(0)
    page.route("**/v1/models", as_beyond)
    page.goto(f"{arena_server}/#/leaderboard")
    page.reload()
    expect(page.locator("tr.enrolled").get_by_text("beyond the known field")).to_have_count(1)
    expect(page.get_by_text("its rating is a guess")).to_be_visible()
