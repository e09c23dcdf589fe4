"""Takes the pictures of the page in docs/images: python -m tests.page.screenshots ARTIFACT CHAT_LOG NAME [COSTS]

With one argument, the map that the demo has written, it takes the picture of that.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path

from playwright.sync_api import Browser, FloatRect, sync_playwright

from model_behavior.routing.costs import load_costs
from model_behavior.serving.service import Service, ServiceConfig
from tests.page.conftest import DESKTOP, PHONE, serving

IMAGES = Path(__file__).parents[2] / "docs" / "images"
PROMPT = "Prove that there are infinitely many primes, then write the proof as a limerick."


def take(browser: Browser, address: str, service: Service, log: Path, name: str) -> None:
    """Six pictures: both themes, both widths, every view that has something to show by itself."""
    best, other = (service.models().models[place].name for place in (0, -1))

    def shoot(file: str, view: str, dark: bool = False, phone: bool = False) -> None:
        size = PHONE if phone else DESKTOP
        context = browser.new_context(
            viewport={"width": size["width"], "height": size["height"]},
            color_scheme="dark" if dark else "light",
            reduced_motion="reduce",
            device_scale_factor=1.5 if phone else 1,
        )
        page = context.new_page()
        page.goto(f"{address}/#/{view}")
        page.wait_for_selector("h1")
        if view == "prompt":
            page.get_by_label("Prompt").fill(PROMPT)
            page.get_by_role("button", name="Predict").click()
            page.wait_for_selector(".verdict")
        if view == "add":
            page.get_by_label("Name of the model").fill(name)
            page.locator("input[type=file]").set_input_files(log)
            page.wait_for_selector(".landing .point", timeout=60_000)
            page.locator(".landing").scroll_into_view_if_needed()
            page.evaluate("scrollTo(0, document.querySelector('.landing').offsetTop - 70)")
        page.wait_for_selector(".loading", state="detached")
        page.screenshot(path=IMAGES / f"page_{file}.png")
        context.close()

    shoot("map", f"map?model={best}")
    shoot("leaderboard", "leaderboard")
    shoot("compare", f"compare?a={best}&b={other}", dark=True)
    shoot("prompt", "prompt")
    shoot("add", "add", dark=True)
    shoot("phone", f"map?model={best}", phone=True)


def take_demo(file: str) -> None:
    """The demo's map with its heading and its legend."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 900, "height": 860}, reduced_motion="reduce")  # the card is below
        page.goto(Path(file).resolve().as_uri())
        page.wait_for_selector(".names text")
        top, bottom = (page.locator(selector).bounding_box() for selector in ("main", ".map-column"))
        assert top is not None and bottom is not None
        height = bottom["y"] + bottom["height"] - top["y"] + 20
        clip = FloatRect(x=0, y=top["y"], width=900, height=height)
        page.screenshot(path=IMAGES / "demo_map.png", clip=clip, full_page=True)
        browser.close()


def take_all(folder: str, log: str, name: str, costs: str | None = None) -> None:
    """Serves a copy of the artifact and takes the pictures."""
    with tempfile.TemporaryDirectory() as place, sync_playwright() as playwright:
        copy = Path(place) / "artifact"
        shutil.copytree(folder, copy)
        service = Service(copy, ServiceConfig(load_costs(costs).per_request if costs else {}))
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        with serving(service) as address:
            take(browser, address, service, Path(log), name)
        browser.close()


if __name__ == "__main__":
    take_demo(sys.argv[1]) if len(sys.argv) == 2 else take_all(*sys.argv[1:])
