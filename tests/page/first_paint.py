"""Measures how soon the page is there with many models: python -m tests.page.first_paint ARTIFACT OUTPUT.md [MODELS]"""

from __future__ import annotations

import shutil
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from playwright.sync_api import Browser, Page, sync_playwright

from model_behavior.artifact import Artifact
from model_behavior.serving.service import Service
from model_behavior.serving.static_page import write_full_page
from tests.page.conftest import DESKTOP, serving
from tests.page.many_models import enlarge

N_MODELS = 300
_TIMES = 7
_DRAWN = "n => document.querySelectorAll('.point').length === n && performance.now()"
_FIRST = "() => performance.getEntriesByName('first-contentful-paint')[0].startTime"


@dataclass(frozen=True)
class Paint:
    """Milliseconds from the start of the navigation to the first paint with content, and to a map with all models."""

    first: float
    drawn: float


def measure_paint(page: Page, address: str, n: int) -> Paint:
    """Opens the page anew and waits until it shows `n` models."""
    page.goto("about:blank")
    page.goto(address)
    drawn = float(page.wait_for_function(_DRAWN, arg=n, timeout=60_000).json_value())
    return Paint(float(page.evaluate(_FIRST)), drawn)


def measure_cold(browser: Browser, address: str, n: int) -> list[Paint]:
    """Several times, each with nothing cached."""
    found = []
    for _ in range(_TIMES):
        context = browser.new_context(viewport={"width": DESKTOP["width"], "height": DESKTOP["height"]})
        found.append(measure_paint(context.new_page(), address, n))
        context.close()
    return found


def write_report(paints: dict[str, list[Paint]], n: int, made: tuple[float, float]) -> str:
    """Markdown; `made` is how long the static page took, seconds, and its size, MiB."""
    rows = []
    for where, found in paints.items():
        kinds = [each.first for each in found], [each.drawn for each in found]
        figures = " | ".join(f"{np.median(values):.0f} | {max(values):.0f}" for values in kinds)
        rows.append(f"| {where} | {figures} |")
    table = "\n".join(rows)
    return f"""# How soon the page is there

Measured by

```sh
python -m tests.page.first_paint arena_encoder docs/benchmarks/page.md {n}
```

{n} models: those of an artifact and others like them. Debian's Chromium on the same machine, with nothing cached,
{_TIMES} times; milliseconds from the start of the navigation. The first paint is the first with content (First
Contentful Paint): the frame of the page, and that it reads the models. It is drawn when the map shows all of them.

| | first paint, median | slowest | drawn, median | slowest |
|---|---|---|---|---|
{table}

`map --full` took {made[0]:.0f} seconds to compare all pairs of models, and the file has {made[1]:.1f} MiB.
"""


def main(folder: str, output: str, models: str = str(N_MODELS)) -> None:
    """Measures the served page and the page as one file."""
    n = int(models)
    with tempfile.TemporaryDirectory() as place, sync_playwright() as playwright:
        many, static = Path(place) / "many", Path(place) / "models.html"
        enlarge(Artifact.load(Path(folder)), n, seed=0).save(many)
        service = Service(many)
        started = time.perf_counter()
        write_full_page(static, service.snapshot)
        made = (time.perf_counter() - started, static.stat().st_size / 2**20)
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        with serving(service) as address:
            paints = {"served on loopback": measure_cold(browser, address, n)}
        paints["one file"] = measure_cold(browser, static.as_uri(), n)
        browser.close()
    Path(output).write_text(write_report(paints, n, made), "utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
