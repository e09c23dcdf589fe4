"""What the package needs: nothing draws with plotly, and the lock holds what the constraints pin."""

from __future__ import annotations

import ast
import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]


def imports_of(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module.split(".")[0])
    return names


def test_plotly_is_neither_imported_nor_required() -> None:
    sources = [path for folder in ("src", "tests", "integrations") for path in (ROOT / folder).rglob("*.py")]
    assert len(sources) > 200
    assert not [path for path in sources if "plotly" in imports_of(path)]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    required = [
        *project["dependencies"],
        *(name for extra in project["optional-dependencies"].values() for name in extra),
    ]
    pinned = (ROOT / "constraints.txt").read_text("utf-8").splitlines()
    assert not [name for name in (*required, *pinned) if name.startswith("plotly")]


def test_the_lock_has_every_requirement_in_the_pinned_version_with_hashes() -> None:
    def canonical(name: str) -> str:
        return re.sub(r"[-_.]+", "-", name).lower()

    pins = dict(line.split("==") for line in (ROOT / "constraints.txt").read_text("utf-8").splitlines() if "==" in line)
    pinned = {canonical(name): version for name, version in pins.items()}
    entries = re.split(r"\n(?=\S)", (ROOT / "requirements.lock").read_text("utf-8").strip())
    locked = {}
    for entry in entries:
        name, version = entry.split(" ", 1)[0].split("==")
        assert "--hash=sha256:" in entry, name
        locked[canonical(name)] = version
    assert not {name: version for name, version in locked.items() if pinned.get(name, version) != version}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    extras = project["optional-dependencies"]
    wanted = [*project["dependencies"], *(each for name in extras if name != "dev" for each in extras[name])]
    names = {canonical(re.split(r"[\[<>=]", each)[0]) for each in wanted} - {"torch", "model-behavior"}
    assert not names - locked.keys()
