"""The page in a real browser, on a real server or as a file, with what real training has made."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from model_behavior.artifact import Artifact
from model_behavior.cli.app import run
from model_behavior.data.arena import Arena, write_votes
from model_behavior.serving.app import address_of, open_server
from model_behavior.serving.keys import KeyRing, key_of_secret
from model_behavior.serving.service import Service, ServiceConfig
from model_behavior.serving.settings import ServeSettings
from model_behavior.serving.static_page import MapLook, write_full_page
from tests.conftest import MakeOnce, held_out_rows

KEY = "a-key-of-the-tests-0123456789-abcdef"
PHONE = {"width": 360, "height": 740}
DESKTOP = {"width": 1280, "height": 860}
SHORT = ["--epochs", "1", "--scorer-epochs", "2"]
OpenPage = Callable[..., Page]
Serve = Callable[..., str]


def data_in(page: str) -> Any:
    """The answers in the text of a static page."""
    (found,) = re.findall(r'<script type="application/json" id="page-data">(.*?)</script>', page, re.DOTALL)
    return json.loads(found)


def places(page: Page) -> dict[str, tuple[float, float]]:
    """Where the points of the map are, by name, pixels."""
    found = page.eval_on_selector_all(
        ".point",
        """all => all.map(p => [p.getAttribute('aria-label'), p.transform.baseVal[0].matrix])
                     .map(([label, {e, f}]) => [label, e, f])""",
    )
    return {label.split(",")[0]: (x, y) for label, x, y in found}


@contextmanager
def serving(service: Service, key: str | None = None, settings: ServeSettings | None = None) -> Iterator[str]:
    """A server of this process on a free port; its address, without a slash at the end."""
    keys = KeyRing([key_of_secret(key)]) if key else KeyRing()
    settings = ServeSettings(port=0, keys=keys) if settings is None else settings
    server, listener = open_server(service, settings)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    try:
        yield address_of(listener).rstrip("/")
    finally:
        server.should_exit = True
        thread.join(settings.shutdown_seconds + 20)
        assert not thread.is_alive(), f"the server goes on: {asyncio.all_tasks(server.servers[0].get_loop())}"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Debian's Chromium; with it ends Playwright's event loop, beside which no other test could run one."""
    found = shutil.which("chromium")
    if found is None:
        pytest.skip("no chromium on this machine, so the page is not tested. Fix: apt-get install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def serve() -> Iterator[Serve]:
    """`serving` for one test, until its pages are closed: a page that still asked would complain."""
    with ExitStack() as servers:
        yield lambda service, key=None: servers.enter_context(serving(service, key))


@pytest.fixture
def open_page(browser: Browser, serve: Serve) -> Iterator[OpenPage]:
    """Opens an address at a size and in a theme; anything that the browser complains about fails the test."""
    contexts, complaints = [], []

    def opened(address: str, width: int = 1280, height: int = 860, dark: bool = False, still: bool = True) -> Page:
        context = browser.new_context(
            viewport={"width": width, "height": height},
            color_scheme="dark" if dark else "light",
            reduced_motion="reduce" if still else "no-preference",
        )
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(10_000)
        page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.goto(address)
        page.wait_for_selector("h1")
        return page

    opened.complaints = complaints  # type: ignore[attr-defined]
    yield opened
    for context in contexts:
        context.close()
    assert not complaints


@pytest.fixture(scope="session")
def chat_logs(arena: Arena, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Responses of each model that was held out of the arena's votes, a file a model, which does not name it."""
    folder = tmp_path_factory.mktemp("logs")
    files: dict[str, list[str]] = {}
    for row in held_out_rows(arena):
        text = json.dumps({"prompt": row["prompt"], "response": row["response"]})
        files.setdefault(row["model"], []).append(text)
    for name, lines in files.items():
        (folder / f"{name}.jsonl").write_text("\n".join(lines), "utf-8")
    return {name: folder / f"{name}.jsonl" for name in files}


@pytest.fixture(scope="session")
def arena_folder(arena: Arena, chat_logs: dict[str, Path], make_once: MakeOnce) -> Path:
    """What `train` makes of the built-in arena, with the first of its held-out models enrolled."""

    def make(folder: Path) -> None:
        write_votes(arena, folder / "votes.parquet")
        name, log = next(iter(chat_logs.items()))
        assert run(["train", str(folder / "votes.parquet"), "--output", str(folder / "arena"), *SHORT]) == 0
        assert run(["onboard", str(folder / "arena"), str(log), "--model", name]) == 0

    return make_once("page", make) / "arena"


@pytest.fixture(scope="session")
def arena_service(arena_folder: Path, arena: Arena) -> Service:
    """The arena, where better models cost more. Tests may not change it."""
    by_quality = sorted(Artifact.load(arena_folder).models.names, key=arena.quality.__getitem__)
    return Service(arena_folder, ServiceConfig({name: (place + 1) / 1000 for place, name in enumerate(by_quality)}))


@pytest.fixture(scope="session")
def arena_server(arena_service: Service) -> Iterator[str]:
    with serving(arena_service) as address:
        yield address


@pytest.fixture(scope="session")
def graded_service(make_once: MakeOnce) -> Service:
    """Votes by answer keys on answers of 45 models."""
    source = Path(__file__).parents[2].parent / "shared" / "data" / "votes_graded.parquet"
    if not source.is_file():
        pytest.skip(f"real votes are not at {source}")

    def make(folder: Path) -> None:
        votes, output = folder / "votes.parquet", folder / "graded"
        pq.write_table(pq.read_table(source).slice(0, 700), votes)
        assert run(["train", str(votes), "--output", str(output), *SHORT, "--min-comparisons", "5"]) == 0

    return Service(make_once("graded", make) / "graded")


@pytest.fixture(scope="session")
def static_page(graded_service: Service, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The address of the one file."""
    path = tmp_path_factory.mktemp("static") / "models.html"
    write_full_page(path, graded_service.snapshot, MapLook(marked=(graded_service.models().models[0].name,)))
    return path.as_uri()
