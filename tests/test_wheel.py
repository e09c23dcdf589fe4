"""What is built for others to install is whole: it runs without the source tree."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import sysconfig
import tarfile
import urllib.request
import venv
import zipfile
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from scipy.stats import spearmanr

from model_behavior.artifact import Artifact
from model_behavior.cli.demo_command import ENCODER, MAP, draw_demo
from tests.conftest import MakeOnce
from tests.page.conftest import data_in

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "src" / "model_behavior" / "serving" / "page"
BUILD_SDIST = "from setuptools import build_meta; build_meta.build_sdist('dist')"


def run(*command: object, cwd: Path) -> str:
    """What a program writes on stdout; it must end well, and knows of no source tree."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    done = subprocess.run(
        [*map(str, command)], cwd=cwd, env=environment, capture_output=True, text=True, timeout=240, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="session")
def dist(make_once: MakeOnce) -> Path:
    """The folder that `make wheel` makes, of a copy of the source tree."""

    def build(folder: Path) -> None:
        unwanted = shutil.ignore_patterns("__pycache__", "*.egg-info")
        for name in ("src", "tests"):
            shutil.copytree(ROOT / name, folder / name, ignore=unwanted)
        for name in ("pyproject.toml", "MANIFEST.in", "README.md", "LICENSE"):
            shutil.copy(ROOT / name, folder)
        run(sys.executable, "-c", BUILD_SDIST, cwd=folder)
        (sdist,) = (folder / "dist").glob("*.tar.gz")
        pip_wheel = (sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--no-index")
        run(*pip_wheel, "--wheel-dir", "dist", sdist, cwd=folder)

    return make_once("wheel", build) / "dist"


def test_both_hold_every_file_of_the_package_and_no_test(dist: Path) -> None:
    source = ROOT / "src"
    expected = {
        path.relative_to(source).as_posix()
        for path in (source / "model_behavior").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert {"model_behavior/py.typed", "model_behavior/serving/page/index.html"} <= expected
    (wheel,), (sdist,) = dist.glob("*.whl"), dist.glob("*.tar.gz")
    with zipfile.ZipFile(wheel) as file:
        packed = {name for name in file.namelist() if ".dist-info/" not in name}
    assert packed == expected
    with tarfile.open(sdist) as file:
        names = {name.partition("/")[2] for name in file.getnames()}
    assert {f"src/{name}" for name in expected} <= names
    assert not any(name.startswith(("tests", "docs")) for name in names)
    assert {"LICENSE", "README.md", "pyproject.toml"} <= names


@pytest.fixture
def installed(dist: Path, tmp_path: Path) -> Path:
    """Folder of the programs of an environment that has nothing but the wheel.

    To install the dependencies again would download gigabytes for each test run. So the environment is made empty, the
    wheel is installed without them, and a .pth file names the folder where this environment has them: after its own,
    and as a mere entry of the path, so that the editable installation that lies there is not taken up.
    """
    home = tmp_path / "environment"
    venv.create(home, symlinks=True)
    python = home / "bin" / "python"
    (wheel,) = dist.glob("*.whl")
    pip = (sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-deps", "--no-index")
    run(*pip, wheel, cwd=tmp_path)
    (own,) = (home / "lib").glob("python3*/site-packages")
    (own / "dependencies.pth").write_text("\n".join({sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}))
    look = "from importlib.util import find_spec; print(find_spec('model_behavior').origin)"
    found = run(python, "-c", look, cwd=tmp_path)
    assert Path(found.strip()) == own / "model_behavior" / "__init__.py"
    return home / "bin"


@pytest.mark.timeout(600)
def test_the_wheel_runs_demo_and_page_in_an_empty_environment(
    installed: Path, scored_arena: Path, tmp_path: Path
) -> None:
    program = installed / "model-behavior"
    artifact = tmp_path / "demo" / ENCODER
    shutil.copytree(scored_arena / "a", artifact)  # something that the demo finds there, and replaces
    told = json.loads(run(program, "demo", "--output", "demo", "--cache", "cache", "--json", cwd=tmp_path))
    check_demo(told, tmp_path / "demo")
    check_readme(draw_demo(told))
    run(program, "map", artifact, "--full", "--output", "page.html", cwd=tmp_path)
    page = (tmp_path / "page.html").read_text("utf-8")
    assert "<html" in page and all(row["model"] in page for row in told["models"])
    if find_spec("fastapi") is None:
        pytest.skip("the service is not installed. Fix: pip install 'model-behavior[serve]'")
    check_service(program, artifact, tmp_path)


def check_readme(printed: str) -> None:
    """The README's block is what was printed, but for the seconds and for what another machine's rounding moves."""
    (shown,) = re.findall(r"^```text\n(.*?)^```$", (ROOT / "README.md").read_text("utf-8"), re.MULTILINE | re.DOTALL)
    number = r"-?\d+(?:\.\d+)?"

    def lines(text: str) -> list[str]:
        return [re.sub(r"^\d+ s\.", "", line) for line in text.splitlines() if line]

    for line, other in zip(lines(shown), lines(printed), strict=True):
        assert re.sub(rf" *{number}", " #", line) == re.sub(rf" *{number}", " #", other)
        for figure, found in zip(re.findall(number, line), re.findall(number, other), strict=True):
            # A share, Elo, or a place in the order.
            most = 0.05 if "." in figure else 25 if len(figure) > 2 else 2
            assert abs(float(figure) - float(found)) <= most, (line, other)


def check_demo(value: dict[str, Any], output: Path) -> None:
    """What it prints for programs, and the folder that it writes, recover the order."""
    assert len(Artifact.load(output / ENCODER).models) == 24
    assert value["synthetic"] and len(value["models"]) == 24
    assert sum(row["held_out"] for row in value["models"]) == 6
    assert value["spearman_all"] > 0.9 and value["spearman_held_out"] > 0.6
    assert value["spearman_asked"] > 0.5 and {row["responses"] for row in value["asked"]} == {8}
    assert sum(row["low"] <= row["quality"] <= row["high"] for row in value["asked"]) >= 5
    assert value["seconds"] < 90  # beside other tests, which can only make it slower
    drawn = data_in((output / MAP).read_text("utf-8"))
    assert drawn["title"] == "The built-in arena (synthetic)"
    assert sorted(drawn["fresh"]) == sorted(row["model"] for row in value["models"] if row["held_out"])
    points = drawn["catalog"]["map"]["models"]
    by_rating = sorted(value["models"], key=lambda row: -row["rating"])
    assert [point["name"] for point in points] == [row["model"] for row in by_rating]
    for figure, rows in (
        ("spearman_all", value["models"]),
        ("spearman_held_out", [row for row in value["models"] if row["held_out"]]),
    ):
        quality, rating = ([row[key] for row in rows] for key in ("quality", "rating"))
        assert value[figure] == pytest.approx(spearmanr(quality, rating).statistic, abs=1e-3)


def fetch(address: str) -> bytes:
    with urllib.request.urlopen(address, timeout=60) as response:
        return bytes(response.read())


def check_service(program: Path, artifact: Path, cwd: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    command = [str(program), "serve", str(artifact), "--port", "0"]
    with subprocess.Popen(command, cwd=cwd, env=environment, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr is not None
            address = process.stderr.readline().split(": ")[0]
            assert fetch(f"{address}readyz")
            page = fetch(address)
            assert b"<html" in page
            names = re.findall(rb'"/static/([^"]+)"', page)
            assert b"main.js" in names and b"page.css" in names
            for name in map(bytes.decode, names):
                assert fetch(f"{address}static/{name}") == (PAGE / name).read_bytes()
            process.send_signal(signal.SIGINT)
            assert process.wait(60) in (0, 130, -signal.SIGINT)
        finally:
            process.kill()
