"""What the package needs: nothing draws with plotly."""

from __future__ import annotations

import ast
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
