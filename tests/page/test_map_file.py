"""`map`: the page with the map alone. It shows what the served page shows, asks for nothing, and holds no texts."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import Page, expect

from model_behavior.artifact import Artifact
from model_behavior.catalog import ModelEmbeddings
from model_behavior.catalog.places import project
from model_behavior.cli.app import run
from model_behavior.errors import UsageError
from model_behavior.models.behavior.model_behavior_encoder import ModelBehaviorEncoder
from model_behavior.serving import static_page
from model_behavior.serving.service import Service
from model_behavior.serving.snapshot import Snapshot
from model_behavior.serving.static_page import MapLook, write_full_page, write_map_page
from tests.conftest import answer
from tests.page.conftest import OpenPage, data_in, places
from tests.page.many_models import enlarge

SERVE_EXTRA = ("fastapi", "starlette", "httptools", "httpx", "prometheus_client", "python_multipart", "uvicorn")
N_STEPS = 7  # of the scale of ratings


def snapshot_of(names: tuple[str, ...], embeddings: list[list[float]]) -> Snapshot:
    """Models of which nothing is known but their embeddings."""
    n = len(names)
    models = ModelEmbeddings(
        names, np.array(embeddings, np.float32), np.arange(20, 20 + n), np.full(n, 0.25, np.float32)
    )
    return Snapshot(Artifact(ModelBehaviorEncoder(), models), "0123456789ab", {}, frozenset())


def shares_of(snapshot: Snapshot) -> np.ndarray:
    """Of the variance, by principal axis."""
    vectors = snapshot.artifact.models.mean.astype(np.float64)
    singular = np.linalg.svd(vectors - vectors.mean(0), compute_uv=False)
    shares: np.ndarray = singular**2 / (singular**2).sum()
    return shares


@pytest.fixture
def four() -> Snapshot:
    # By cosine: a-b .8, b-c .6, c-d .96, b-d .576.
    vectors = [[1.0, 0.0, 0.0], [0.8, 0.6, 0.0], [0.0, 1.0, 0.0], [0.0, 0.96, 0.28]]
    return snapshot_of(("red-a", "red-b", "blue-c", "blue-d"), vectors)


@pytest.fixture
def map_file(arena_folder: Path, tmp_path: Path) -> Path:
    """What the command writes of the arena."""
    path = tmp_path / "map.html"
    assert run(["map", str(arena_folder), "--output", str(path)]) == 0
    return path


def looks(page: Page) -> dict[str, tuple[str, str]]:
    """What each point says of itself, and its colour, by name."""
    found = page.eval_on_selector_all(
        ".point", "all => all.map(p => [p.getAttribute('aria-label'), getComputedStyle(p).color])"
    )
    return {label.split(",")[0]: (label, colour) for label, colour in found}


@pytest.mark.parametrize("colour", ["family", "rating"])
def test_it_shows_the_places_colours_and_ratings_of_the_served_page(
    colour: str, open_page: OpenPage, arena_server: str, map_file: Path
) -> None:
    served = open_page(f"{arena_server}/#/map?colour={colour}")
    written = open_page(f"{map_file.as_uri()}#/map?colour={colour}")
    assert looks(written) == looks(served)
    assert len({shown for _, shown in looks(written).values()}) > 3
    drawn, there = places(written), places(served)
    np.testing.assert_allclose([drawn[name] for name in there], list(there.values()), atol=0.05)
    for selector in (".legend-box", ".grid text"):
        assert written.locator(selector).all_inner_texts() == served.locator(selector).all_inner_texts()


def test_ratings_and_their_colours_are_those_of_rank(
    open_page: OpenPage, map_file: Path, arena_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ranked = {row["model"]: row for row in answer(capsys, "rank", arena_folder)}
    data = data_in(map_file.read_text("utf-8"))
    for row in data["catalog"]["models"]:
        told = ranked[row["name"]]
        assert {key: row[key] for key in ("rating", "low", "high", "votes")} == pytest.approx(
            {key: told[key] for key in ("rating", "low", "high", "votes")}, abs=1e-6
        )
    page = open_page(map_file.as_uri())
    page.get_by_label("Colour").select_option("rating")
    assert page.url.endswith("#/map?colour=rating")
    steps = page.eval_on_selector_all(
        ".point", "all => all.map(p => [p.getAttribute('aria-label').split(',')[0], p.className.baseVal])"
    )
    least, most = (pick(row["rating"] for row in ranked.values()) for pick in (min, max))
    for name, classes in steps:
        step = min(int(N_STEPS * (ranked[name]["rating"] - least) / (most - least)), N_STEPS - 1)
        assert f"rating-{step}" in classes.split()
    for name, (label, _) in looks(page).items():
        assert f"rating {ranked[name]['rating']:,.0f}" in label
    colours = page.eval_on_selector_all(".rating-scale .swatch", "all => all.map(e => getComputedStyle(e).color)")
    assert len(set(colours)) == N_STEPS


def test_it_is_the_map_alone_and_asks_for_nothing(open_page: OpenPage, map_file: Path, arena_service: Service) -> None:
    page = open_page(map_file.as_uri())
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    assert page.locator("#views a").count() == 0
    page.goto(f"{map_file.as_uri()}#/leaderboard")  # is not in it, so the map is shown
    expect(page.locator(".point").first).to_be_visible()
    asked.clear()
    name = "amber-small"
    page.evaluate(f"location.hash = '#/map?model={name}'")
    card = page.locator(".card")
    expect(card.get_by_role("heading", name=name)).to_be_visible()
    near = arena_service.neighbours(name).neighbours
    assert card.locator(".nearest a").all_inner_texts() == [each.model for each in near]
    told = arena_service.describe(name)
    assert card.locator(".drivers li > p").all_text_contents() == [each.text for each in told.drivers]
    expect(card.get_by_text("Compare with")).to_have_count(0)
    assert not asked


def test_it_holds_no_texts_and_loads_nothing(map_file: Path, arena_service: Service) -> None:
    text = map_file.read_text("utf-8")
    assert not re.search(r"""(?:src|href)=["'](?!data:|#)""", text)
    assert "default-src 'none'" in text and "unsafe-inline" not in text
    samples = arena_service.snapshot.artifact.catalog.samples
    texts = [each.response for exemplars in samples.exemplars for each in exemplars]
    assert texts and not [each for each in texts if each in text]
    assert "pairs" not in data_in(text)


def test_neighbours_distances_and_shares_are_those_computed_by_hand(four: Snapshot, tmp_path: Path) -> None:
    write_map_page(tmp_path / "map.html", four, MapLook(marked=("blue-d",), title="A map"))
    data = data_in((tmp_path / "map.html").read_text("utf-8"))
    near = {
        name: [(each["model"], each["distance"]) for each in details["neighbours"]]
        for name, details in data["details"].items()
    }
    assert [name for name, _ in near["red-a"]][:2] == ["red-b", "blue-c"]
    assert near["red-b"][0] == ("red-a", pytest.approx(0.2, abs=1e-6))
    assert near["blue-d"] == [
        ("blue-c", pytest.approx(0.04, abs=1e-6)),
        ("red-b", pytest.approx(0.424, abs=1e-6)),
        ("red-a", pytest.approx(1.0, abs=1e-6)),
    ]
    assert [row["count"] for row in data["catalog"]["models"]] == [22, 23, 20, 21]  # by name, as nothing is rated
    np.testing.assert_allclose(data["catalog"]["map"]["axes"], shares_of(four)[:2], rtol=1e-5)
    assert (data["fresh"], data["title"]) == (["blue-d"], "A map")


def test_names_families_stars_and_shares_are_seen(open_page: OpenPage, four: Snapshot, tmp_path: Path) -> None:
    write_map_page(tmp_path / "map.html", four, MapLook(marked=("blue-d",), title="A map", note="Made up."))
    page = open_page((tmp_path / "map.html").as_uri())
    expect(page.locator("h1")).to_have_text("A map")
    expect(page.locator(".heading p")).to_contain_text("Made up.")
    assert sorted(page.locator(".names text").all_text_contents()) == ["blue-c", "blue-d", "red-a", "red-b"]
    assert [text.split() for text in page.locator(".legend button").all_inner_texts()] == [["blue", "2"], ["red", "2"]]
    expect(page.locator(".point.fresh")).to_have_attribute("aria-label", re.compile("^blue-d, new"))
    expect(page.locator(".key")).to_contain_text("★")
    shares = shares_of(four)
    texts = " ".join(page.locator(".grid text").all_text_contents())
    assert f"→ {100 * shares[0]:.0f} % of the variance" in texts and f"↑ {100 * shares[1]:.0f} %" in texts


def test_without_a_scorer_colours_are_families_and_the_page_says_so(
    open_page: OpenPage, four: Snapshot, tmp_path: Path
) -> None:
    write_map_page(tmp_path / "map.html", four)
    page = open_page(f"{(tmp_path / 'map.html').as_uri()}#/map?colour=rating&model=red-a")
    expect(page.locator(".heading p")).to_contain_text("no ratings")
    expect(page.get_by_label("Colour")).to_have_count(0)
    assert len({colour for _, colour in looks(page).values()}) == 2
    assert page.locator(".card dt").all_inner_texts() == ["Responses"]
    assert not [label for label, _ in looks(page).values() if "rating" in label or "vote" in label]


@pytest.mark.parametrize("full", [False, True])
def test_tsne_draws_places_without_axes_and_regions(
    full: bool, open_page: OpenPage, arena_folder: Path, tmp_path: Path
) -> None:
    path = tmp_path / "map.html"
    options = ["--method", "tsne", "--seed", "1", *(["--full"] if full else [])]
    assert run(["map", str(arena_folder), "--output", str(path), *options]) == 0
    page = open_page(path.as_uri())
    assert page.locator(".region").count() == 0 and page.locator(".grid *").count() == 0
    expect(page.locator(".heading p")).to_contain_text("t-SNE")
    expect(page.locator(".key")).not_to_contain_text("may lie")
    models = Artifact.load(arena_folder).models
    units = project(models.mean.astype(np.float64), "tsne", 1) * [1, -1]  # y points down on a screen
    drawn = places(page)
    screen = np.array([drawn[name] for name in models.names])
    offset, around = screen - screen.mean(0), units - units.mean(0)
    np.testing.assert_allclose(offset, (offset * around).sum() / (around**2).sum() * around, atol=0.05)


def test_three_models_are_enough_and_two_are_not(open_page: OpenPage, tmp_path: Path) -> None:
    vectors = [[1.0, 0.0], [0.8, 0.6], [0.0, 1.0]]
    write_map_page(tmp_path / "map.html", snapshot_of(("a-1", "b-1", "c-1"), vectors))
    expect(open_page((tmp_path / "map.html").as_uri()).locator(".point")).to_have_count(3)
    for write in (write_map_page, write_full_page):
        with pytest.raises(UsageError, match="at least 3 models, and there are 2"):
            write(tmp_path / "two.html", snapshot_of(("a-1", "b-1"), vectors[:2]))
    with pytest.raises(UsageError, match="NaN"):
        write_map_page(tmp_path / "nan.html", snapshot_of(("a-1", "b-1", "c-1"), [*vectors[:2], [np.nan, 0.0]]))
    assert [path.name for path in tmp_path.iterdir()] == ["map.html"]


def test_three_hundred_models_take_no_comparisons_and_little_room(
    arena_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> object:
        raise AssertionError("two models were compared")

    many = Snapshot(enlarge(Artifact.load(arena_folder), 300, seed=0), "0", {}, frozenset())
    monkeypatch.setattr(static_page, "compare_models", fail)
    write_map_page(tmp_path / "map.html", many)
    assert (tmp_path / "map.html").stat().st_size < 2_000_000
    with pytest.raises(AssertionError, match="compared"):
        write_full_page(tmp_path / "full.html", many)


def test_texts_cannot_inject(open_page: OpenPage, four: Snapshot, tmp_path: Path) -> None:
    evil = "</script><script>document.title='taken'</script><img src=x onerror=alert(1)>"
    models = replace(four.artifact.models, names=(evil, "b", "c", "d"))
    hostile = replace(four, artifact=replace(four.artifact, models=models))
    path = tmp_path / "map.html"
    write_map_page(path, hostile, MapLook(marked=(evil,), title=evil, note=evil))
    assert "<script>document.title='taken'" not in path.read_text("utf-8")
    page = open_page(path.as_uri())
    expect(page.locator("h1")).to_have_text(evil)
    expect(page).to_have_title(f"Map · {evil}")
    row = hostile.row_of(evil)
    said = f"{evil}, new, {row.family}, {row.count} responses"
    assert page.locator(".point.fresh").get_attribute("aria-label") == said


def test_the_same_models_give_the_same_file(four: Snapshot, tmp_path: Path) -> None:
    for method in ("pca", "tsne"):
        for name in ("one.html", "two.html"):
            write_map_page(tmp_path / name, four, MapLook(method, seed=1))
        assert (tmp_path / "one.html").read_bytes() == (tmp_path / "two.html").read_bytes()


def test_a_failed_write_leaves_the_old_file_and_nothing_else(
    four: Snapshot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "map.html"
    path.write_text("old", encoding="utf-8")

    def fail(*_: object) -> str:
        raise OSError("disk full")

    for where, what in ((Path, "replace"), (static_page, "fill_static_page")):
        with monkeypatch.context() as patch:
            patch.setattr(where, what, fail)
            with pytest.raises(OSError, match="disk full"):
                write_map_page(path, four)
    assert path.read_text(encoding="utf-8") == "old"
    assert [each.name for each in tmp_path.iterdir()] == ["map.html"]
    write_map_page(path, four)
    assert "red-a" in path.read_text(encoding="utf-8")


def test_the_command_needs_no_extra(arena_folder: Path, tmp_path: Path) -> None:
    plain, full = (["map", str(arena_folder), "--output", str(tmp_path / name)] for name in ("map.html", "full.html"))
    code = (
        f"import sys\nfor name in {SERVE_EXTRA!r}: sys.modules[name] = None\n"
        "from model_behavior.cli.app import run\n"
        f"sys.exit(run({plain!r}) or run({[*full, '--full']!r}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert {path.name for path in tmp_path.iterdir()} == {"map.html", "full.html"}
