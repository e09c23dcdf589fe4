"""Writes the generated parts of docs/reference: python -m tests.reference

`command-line.md` is written whole, from the commands themselves. In `python.md` the signatures of the verbs are.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import typer

import model_behavior
from model_behavior import Artifact
from model_behavior.cli.app import app

FOLDER = Path(__file__).parents[1] / "docs" / "reference"
COMMAND_LINE, PYTHON = FOLDER / "command-line.md", FOLDER / "python.md"

_OPENING = """# Command line

Written by `make reference` from the commands' own help; `model-behavior COMMAND --help` shows the same.

- The value of an option comes from the flag, else from the environment variable `MODEL_BEHAVIOR_<COMMAND>_<OPTION>`
  (as in `MODEL_BEHAVIOR_TRAIN_SEED`), else from the file given as `--config` where a command has it, else it is the
  default.
- `--json` prints the result as JSON on stdout. Progress, warnings and errors go to stderr.
- Exit codes: 0 success, 1 failure, 2 wrong usage, 3 unusable data, 130 interrupted.
"""
_WIDTH = 110
_SIGNATURE = re.compile(r"^```python\n((?:Artifact\.)?(\w+))\(.*?\n```$", re.MULTILINE | re.DOTALL)


@cache
def commands() -> dict[str, Any]:
    """Every command that does something, by what is typed: `train`, `benchmark stage1`."""
    return dict(_leaves(typer.main.get_command(app), ""))


def _leaves(command: Any, path: str) -> Iterator[tuple[str, Any]]:
    if not hasattr(command, "commands"):
        yield path, command
    for name, each in getattr(command, "commands", {}).items():
        yield from _leaves(each, f"{path} {name}".strip())


def write_command_line() -> str:
    """The page of the commands, in their groups."""
    groups: dict[str, list[str]] = {}
    for path, command in commands().items():
        groups.setdefault(_group_of(path, command), []).append(_describe(path, command))
    parts = [_OPENING]
    for group, described in groups.items():
        parts += [f"## {group}\n", *described]
    return "\n".join(parts)


def _group_of(path: str, command: Any) -> str:
    if " " in path:
        command = typer.main.get_command(app).commands[path.split()[0]]  # type: ignore[attr-defined]
    panel = command.rich_help_panel
    return panel if isinstance(panel, str) else "Commands"


def _describe(path: str, command: Any) -> str:
    context = typer.Context(command)
    arguments = [each for each in command.params if each.param_type_name == "argument"]
    usage = " ".join([f"model-behavior {path}", *map(_argument, arguments), "[OPTIONS]"])
    shown = [each for each in command.params if each.name != "help" and not getattr(each, "hidden", False)]
    rows = []
    for each in shown:
        told = re.fullmatch(r"(.*?)(?:\s*\[default: (.*)\])?", each.help or "", re.DOTALL)
        meaning, default = told.groups() if told else (each.help, None)
        rows.append(f"| {_name(each, context)} | {_cell(default or _default(each))} | {_cell(meaning)} |")
    table = ["| argument or option | default | meaning |", "|---|---|---|", *rows]
    examples = re.findall(r"`(model-behavior [^`]+)`", command.epilog)
    lines = ["For example:" if len(examples) == 1 else "Examples:", "", "```", *examples, "```"]
    return "\n".join([f"### {path}\n", f"{command.help}\n", f"```\n{usage}\n```\n", *table, "", *lines, ""])


def _argument(parameter: Any) -> str:
    name = str(parameter.metavar or parameter.name.upper()).removesuffix("...")
    return f"{name}..." if parameter.nargs == -1 else name


def _name(parameter: Any, context: typer.Context) -> str:
    if parameter.param_type_name == "argument":
        return f"`{_argument(parameter)}`"
    names = ", ".join(f"`{option}`" for option in (*parameter.opts, *parameter.secondary_opts))
    if parameter.is_flag:
        return names
    kind = parameter.display_type(context).strip("<>").replace(" range", "")
    kind = re.sub(r"^list\[(.+)\]$", r"\1, repeatable", kind)
    return f"{names} {_cell(kind)}"


def _default(parameter: Any) -> str:
    if parameter.required:
        return "required"
    value = parameter.default
    if value is None or value is False or callable(value):
        return "off" if getattr(parameter, "is_flag", False) else ""
    return "on" if value is True else f"`{value}`"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def verbs() -> Mapping[str, Callable[..., Any]]:
    """The functions of the library and the public methods of `Artifact`, by how the page names them."""
    functions = {name: getattr(model_behavior, name) for name in model_behavior.__all__}
    methods = {
        f"Artifact.{name}": getattr(Artifact, name)
        for name, member in vars(Artifact).items()
        if not name.startswith(("_", "with_")) and (inspect.isfunction(member) or isinstance(member, classmethod))
    }
    return {**{name: each for name, each in functions.items() if inspect.isfunction(each)}, **methods}


def parameters_of(function: Callable[..., Any]) -> Mapping[str, inspect.Parameter]:
    """What a caller gives: all parameters but `self`."""
    return {name: each for name, each in inspect.signature(function).parameters.items() if name != "self"}


def describe_signature(name: str, function: Callable[..., Any]) -> str:
    """The call with its types and defaults, on one line where it fits."""
    signature = inspect.signature(function)
    parts: list[str] = []
    for each in parameters_of(function).values():
        if each.kind is each.KEYWORD_ONLY and not any(part.startswith("*") for part in parts):
            parts.append("*")
        parts.append(str(each).replace(f"'{each.annotation}'", str(each.annotation)))
    returned = f" -> {signature.return_annotation}" if signature.return_annotation is not signature.empty else ""
    line = f"{name}({', '.join(parts)}){returned}"
    if len(line) <= _WIDTH:
        return line
    return "\n".join([f"{name}(", *(f"    {part}," for part in parts), f"){returned}"])


def with_signatures(page: str) -> str:
    """The page of the verbs with their signatures as they are."""
    known = verbs()

    def write(block: re.Match[str]) -> str:
        name = block[1]
        return f"```python\n{describe_signature(name, known[name])}\n```" if name in known else block[0]

    return _SIGNATURE.sub(write, page)


if __name__ == "__main__":
    COMMAND_LINE.write_text(write_command_line(), "utf-8")
    PYTHON.write_text(with_signatures(PYTHON.read_text("utf-8")), "utf-8")
