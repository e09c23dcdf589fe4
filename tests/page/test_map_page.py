"""The map and the card beside it: where points are, what mouse, keyboard and address do."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from playwright.sync_api import expect

from model_behavior.serving.service import Service
from tests.page.conftest import OpenPage, places

PNG_SIZE = slice(16, 24)


def test_points_lie_where_the_library_puts_them_in_one_scale(
    open_page: OpenPage, arena_server: str, arena_service: Service
) -> None:
    drawn = places(open_page(arena_server))
    points = arena_service.map().models
    assert set(drawn) == {point.name for point in points}
    screen = np.array([drawn[point.name] for point in points])
    units = np.array([(point.x, -point.y) for point in points])  # y points down on a screen
    offset, around = screen - screen.mean(0), units - units.mean(0)
    scale = (offset * around).sum() / (around**2).sum()
    assert scale > 0
    np.testing.assert_allclose(offset, scale * around, atol=0.05)


def test_ellipses_have_the_sizes_and_angles_of_the_library(
    open_page: OpenPage, arena_server: str, arena_service: Service
) -> None:
    page = open_page(arena_server)
    drawn = page.eval_on_selector_all(
        ".regions .region",
        """all => all.map(e => [e.rx.baseVal.value, e.ry.baseVal.value, e.getScreenCTM()])
                     .map(([rx, ry, {a, b}]) => [rx * Math.hypot(a, b), ry * Math.hypot(a, b), Math.atan2(b, a)])""",
    )
    ellipses = [point.ellipse for point in arena_service.map().models]
    sizes = np.array([(each.major, each.minor) for each in ellipses])
    scale = drawn[0][0] / sizes[0, 0]
    np.testing.assert_allclose([row[:2] for row in drawn], scale * sizes, rtol=0.02, atol=0.02)
    np.testing.assert_allclose([row[2] for row in drawn], [-each.angle for each in ellipses], atol=1e-3)


def test_enrolled_models_are_rings_and_families_have_a_legend(
    open_page: OpenPage, arena_server: str, arena_service: Service
) -> None:
    page = open_page(arena_server)
    enrolled = [row.name for row in arena_service.models().models if row.enrolled]
    assert len(enrolled) == 1
    expect(page.locator(".point.enrolled")).to_have_attribute(
        "aria-label", re.compile(rf"^{enrolled[0]},.*never voted on")
    )
    families = {row.family for row in arena_service.models().models}
    assert {text.split()[0] for text in page.locator(".legend button").all_inner_texts()} == families


def test_a_family_is_lit_and_linked_to(open_page: OpenPage, arena_server: str, arena_service: Service) -> None:
    page = open_page(arena_server)
    page.locator(".legend button", has_text="amber").click()
    n_others = sum(row.family != "amber" for row in arena_service.models().models)
    expect(page.locator(".point.dim")).to_have_count(n_others)
    assert page.url.endswith("#/map?family=amber")
    page.reload()
    expect(page.locator(".point.dim")).to_have_count(n_others)


def test_a_click_opens_the_card_with_the_librarys_answers(
    open_page: OpenPage, arena_server: str, arena_service: Service
) -> None:
    page = open_page(arena_server)
    name = "amber-small"
    x, y = places(page)[name]
    page.locator(".figure svg").click(position={"x": x, "y": y})
    card = page.locator(".card")
    expect(card.get_by_role("heading", name=name)).to_be_visible()
    near = [each.model for each in arena_service.neighbours(name).neighbours]
    assert card.locator(".nearest a").all_inner_texts() == near
    assert card.locator(".drivers li > p").all_text_contents() == [
        each.text for each in arena_service.describe(name).drivers
    ]
    assert page.url.endswith(f"#/map?model={name}")
    expect(page.locator(".lines line")).to_have_count(len(near))


def test_hovering_shows_a_tip(open_page: OpenPage, arena_server: str) -> None:
    page = open_page(arena_server)
    box = page.locator(".figure svg").bounding_box()
    assert box is not None
    name, (x, y) = next(iter(places(page).items()))
    page.mouse.move(box["x"] + x + 1, box["y"] + y + 1)
    expect(page.locator(".tip strong")).to_have_text(name)
    page.mouse.move(5, 5)
    expect(page.locator(".tip")).to_be_hidden()


def test_the_keyboard_goes_from_point_to_point_in_the_direction_of_the_arrow(
    open_page: OpenPage, arena_server: str
) -> None:
    page = open_page(arena_server)
    where = places(page)
    assert page.locator(".point[tabindex='0']").count() == 1
    page.locator(".point[tabindex='0']").focus()
    name = "document.activeElement.getAttribute('aria-label').split(',')[0]"
    moved = 0
    for arrow, axis, sign in (("Left", 0, -1), ("Up", 1, -1), ("Right", 0, 1), ("Down", 1, 1)):
        for _ in range(4):
            before = page.evaluate(name)
            page.keyboard.press(f"Arrow{arrow}")
            after = page.evaluate(name)
            if after != before:
                moved += 1
                assert sign * (where[after][axis] - where[before][axis]) > 0
    assert moved > 5
    page.keyboard.press("Enter")
    expect(page.locator(".card h2")).to_have_text(page.evaluate(name))
    page.keyboard.press("Escape")
    expect(page.locator(".card h2")).to_have_count(0)


def test_zoom_keeps_what_is_under_the_pointer_and_zero_shows_all_again(open_page: OpenPage, arena_server: str) -> None:
    page = open_page(arena_server)
    before = places(page)
    (name, (x, y)), (other, _) = list(before.items())[:2]
    box = page.locator(".figure svg").bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + x, box["y"] + y)
    page.mouse.wheel(0, -400)
    page.wait_for_function("document.querySelector('.figure svg').classList.contains('zoomed')")
    zoomed = places(page)
    np.testing.assert_allclose(zoomed[name], (x, y), atol=1.5)
    assert np.hypot(*np.subtract(zoomed[other], zoomed[name])) > 1.5 * np.hypot(
        *np.subtract(before[other], before[name])
    )
    page.mouse.down()
    page.mouse.move(box["x"] + x + 60, box["y"] + y + 40, steps=4)
    page.mouse.up()
    page.wait_for_timeout(50)
    assert np.subtract(places(page)[name], zoomed[name]).min() > 25
    assert "model=" not in page.url  # a drag is no click
    page.locator(".point[tabindex='0']").focus()
    page.keyboard.press("0")
    page.wait_for_timeout(50)
    np.testing.assert_allclose([places(page)[each] for each in before], list(before.values()), atol=0.05)


def test_the_map_is_saved_as_png_in_twice_its_size(open_page: OpenPage, arena_server: str, tmp_path: Path) -> None:
    page = open_page(arena_server)
    with page.expect_download() as download:
        page.get_by_role("button", name="Save the map as PNG").click()
    assert download.value.suggested_filename == "model-map.png"
    download.value.save_as(tmp_path / "map.png")
    content = (tmp_path / "map.png").read_bytes()
    assert content.startswith(b"\x89PNG") and len(content) > 5_000
    size = page.eval_on_selector(".figure svg", "e => [e.width.baseVal.value, e.height.baseVal.value]")
    drawn = np.frombuffer(content[PNG_SIZE], ">u4")
    np.testing.assert_allclose(drawn, 2 * np.array(size), atol=2)


def test_the_models_are_saved_as_parquet_with_their_embeddings(
    open_page: OpenPage, arena_server: str, arena_service: Service, tmp_path: Path
) -> None:
    page = open_page(arena_server)
    with page.expect_download() as download:
        page.get_by_role("button", name="Save for embedding-atlas as Parquet").click()
    download.value.save_as(tmp_path / "models.parquet")
    table = pq.read_table(tmp_path / "models.parquet")
    points = arena_service.map().models
    assert table.column("name").to_pylist() == [point.name for point in points]
    assert table.column("x").to_pylist() == [point.x for point in points]
    models = arena_service.snapshot.artifact.models
    rows = [models.names.index(point.name) for point in points]
    np.testing.assert_array_equal(np.array(table.column("embedding").to_pylist(), np.float32), models.mean[rows])


def test_an_unknown_model_in_the_address_is_said(open_page: OpenPage, arena_server: str) -> None:
    page = open_page(f"{arena_server}/#/map?model=nobody")
    expect(page.locator(".card")).to_contain_text("No model is called “nobody”")
