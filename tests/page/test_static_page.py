"""The page as one file: the same answers without a server, from real votes."""

from __future__ import annotations

import itertools
import re
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from model_behavior.catalog.samples import pair_answers
from model_behavior.cli.app import run
from model_behavior.errors import UsageError
from model_behavior.serving.page_files import bundle_modules, fill_static_page
from model_behavior.serving.service import Service
from model_behavior.serving.static_page import MapLook, write_full_page
from tests.conftest import answer
from tests.page.conftest import OpenPage, data_in


def test_it_shows_the_views_that_need_no_server_and_asks_for_nothing(
    open_page: OpenPage, static_page: str, graded_service: Service
) -> None:
    page = open_page(static_page)
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    rows = graded_service.models().models
    expect(page.locator(".point")).to_have_count(len(rows))
    expect(page.locator(".point.fresh")).to_have_attribute(
        "aria-label", re.compile(rf"^{re.escape(rows[0].name)}, new")
    )
    assert page.locator("#views a").all_inner_texts() == ["Map", "Leaderboard", "Compare"]
    page.get_by_role("link", name="Leaderboard").click()
    assert page.locator(".board tbody th a").all_inner_texts() == [row.name for row in rows]
    assert not asked
    page.goto(f"{static_page}#/prompt")  # needs a server, so the map is shown
    expect(page.locator(".point").first).to_be_visible()


@pytest.mark.parametrize("exchanged", [False, True])
def test_comparisons_in_it_are_the_services(
    exchanged: bool, open_page: OpenPage, static_page: str, graded_service: Service
) -> None:
    names = sorted(row.name for row in graded_service.models().models)
    samples = graded_service.snapshot.artifact.catalog.samples
    places = itertools.combinations(range(len(names)), 2)
    a, b = (names[row] for row in max(places, key=lambda rows: len(pair_answers(samples, *rows))))
    page = open_page(f"{static_page}#/compare?a={b if exchanged else a}&b={a if exchanged else b}")
    told = graded_service.compare(a, b)
    shown = page.locator(".comparison .drivers li > p").all_text_contents()
    assert shown and shown == [each.text for each in told.drivers[: len(shown)]]
    expect(page.locator(".side strong").first).to_have_text(b if exchanged else a)
    values = page.locator(".drivers .figure-of").all_inner_texts()
    for driver, first, second in zip(told.drivers, values[::2], values[1::2], strict=False):
        assert float(first) == pytest.approx(driver.value, rel=0.02, abs=0.006)
        assert float(second) == pytest.approx(driver.reference, rel=0.02, abs=0.006)
    assert told.shared
    beside = page.locator(".beside blockquote").all_text_contents()
    for place, each in enumerate(told.shared):
        said = (each.response_b, each.response_a) if exchanged else (each.response_a, each.response_b)
        assert tuple(beside[2 * place : 2 * place + 2]) == said
    texts = {text for each in told.shared for text in (each.response_a, each.response_b)}
    texts |= {each.response for each in (*told.exemplars_a, *told.exemplars_b)}
    assert set(beside) == texts


def test_the_command_writes_it(arena_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = tmp_path / "models.html"
    told = answer(capsys, "map", arena_folder, "--full", "--output", target, "--mark", "amber-xl")
    assert told == {"output": str(target), "models": told["models"]}
    text = target.read_text("utf-8")
    assert not re.search(r"""(?:src|href)=["'](?!data:|#)""", text)
    assert "unsafe-inline" not in text
    data = data_in(text)
    assert len(data["catalog"]["models"]) == told["models"] and data["fresh"] == ["amber-xl"]
    assert run(["map", str(arena_folder), "--full", "--output", str(target), "--mark", "nobody"]) == 2
    with pytest.raises(UsageError, match="nobody"):
        write_full_page(target, Service(arena_folder).snapshot, MapLook(marked=("nobody",)))
    assert target.read_text("utf-8") == text


def test_texts_of_models_cannot_end_the_script(open_page: OpenPage, static_page: str, tmp_path: Path) -> None:
    hostile = "</script><script>document.title='taken'</script><img src=x onerror=alert(1)>"
    text = Path(static_page.removeprefix("file://")).read_text("utf-8")
    data = data_in(text)
    name = data["catalog"]["models"][0]["name"]
    data["details"][name]["exemplars"] = [{"prompt": hostile, "response": hostile}]
    (tmp_path / "hostile.html").write_text(fill_static_page(data), "utf-8")
    page = open_page(f"{(tmp_path / 'hostile.html').as_uri()}#/map?model={name}")
    expect(page.locator(".exemplar blockquote")).to_have_text(hostile)
    expect(page).to_have_title("Map · Model Behavior")


MODULES = {
    "a.js": 'import { twice as two } from "./b.js";\nimport { base } from "./c.js";\nwindow.found = two(base);\n',
    "b.js": 'import { base } from "./c.js";\nconst hidden = 1;\nexport function twice(n) {\n  return base * 2;\n}\n',
    "c.js": "const hidden = 20;\nexport const base = hidden + 1;\n",
}


def test_a_bundle_does_what_its_modules_do(browser: Browser) -> None:
    page = browser.new_page()
    page.add_script_tag(content=bundle_modules(MODULES, "a.js"))
    assert page.evaluate("found") == 42
    page.close()


@pytest.mark.parametrize(
    ("name", "source", "complaint"),
    [
        ("b.js", 'import * as c from "./c.js";\n', "b.js: 'import \\* as c"),
        ("b.js", "export default 3;\n", "b.js: 'export default 3;'"),
        ("c.js", 'import { twice } from "./b.js";\n', "a.js -> b.js -> c.js -> b.js"),
    ],
)
def test_a_bundle_refuses_what_it_cannot_put_together(name: str, source: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        bundle_modules({**MODULES, name: source}, "a.js")
