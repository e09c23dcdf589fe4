"""The documentation says what the code does: every claim that a program can check.

Decision records and the changelog are history: their links are checked, the names in them may be gone.
"""

from __future__ import annotations

import ast
import inspect
import json
import re
import shlex
import tomllib
from collections.abc import Iterator
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import typer

from model_behavior.artifact import config_file
from model_behavior.cli.app import app, run
from model_behavior.data.arena import Arena, write_votes
from tests import reference
from tests.conftest import held_out_rows

ROOT = Path(__file__).parents[1]
DOCS, SOURCE = ROOT / "docs", ROOT / "src" / "model_behavior"
LINKED = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *DOCS.rglob("*.md")])
HISTORY = [ROOT / "CHANGELOG.md", *(DOCS / "decisions").glob("0*.md")]
PAGES = [page for page in LINKED if page not in HISTORY]
README = (ROOT / "README.md").read_text("utf-8")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))

FOREIGN = {"OPENAI_API_KEY", "RAY_AUTH_MODE", "df", "to_dict", "vX"}
"""Names of other programs, and parts of patterns."""


FILE_ENDINGS = (".py", ".js", ".md", ".json", ".toml", ".safetensors", ".jsonl", ".parquet", ".csv", ".tsv", ".txt")


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


def fences(text: str) -> list[tuple[str, str]]:
    """Language and content of each fenced block."""
    return re.findall(r"^```(\w*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def prose(text: str) -> str:
    return re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)


def spans(page: Path) -> list[str]:
    """Code spans outside fenced blocks."""
    text = prose(page.read_text("utf-8"))
    return [span.replace("\n", " ").strip() for span in re.findall(r"(?<!`)`([^`]+)`(?!`)", text)]


each_page = pytest.mark.parametrize("page", PAGES, ids=name_of)


# Links


@pytest.mark.parametrize("page", LINKED, ids=name_of)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)", page.read_text("utf-8")):
        if target.startswith(("http://", "https://")):
            continue
        path, _, anchor = target.partition("#")
        to = page.parent / path if path else page
        assert to.exists(), f"{page.name}: {target}"
        assert not anchor or anchor in anchors_of(to), f"{page.name}: {target}"


def anchors_of(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.*)$", prose(page.read_text("utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_every_page_is_on_the_map() -> None:
    index = (DOCS / "index.md").read_text("utf-8")
    listed = {(DOCS / target).resolve() for target in re.findall(r"\]\(([^)#\s]+)", index)}
    decisions = set((DOCS / "decisions").glob("0*.md"))
    assert set(DOCS.rglob("*.md")) - decisions - {DOCS / "index.md"} == listed


def test_every_decision_is_in_the_index() -> None:
    index = (DOCS / "decisions" / "README.md").read_text("utf-8")
    records = {path.name for path in (DOCS / "decisions").glob("0*.md")}
    assert set(re.findall(r"\]\((0[^)]*)\)", index)) == records


# Paths and names


@each_page
def test_files_that_are_named_exist(page: Path) -> None:
    places = (ROOT, SOURCE, SOURCE / "serving" / "page", page.parent)
    for span in spans(page):
        if re.fullmatch(r"[\w/.-]*\w\.(py|js)|[\w.-]+(/[\w.-]+)*/", span) and not span.startswith("."):
            found = any((place / span).exists() for place in places) or any(SOURCE.rglob(span.removesuffix("/")))
            assert found, f"{page.name}: {span}"


@each_page
def test_what_is_said_to_be_in_a_file_is_there(page: Path) -> None:
    for name, path in re.findall(r"`([\w.]+)`\s+in\s+`([\w/]+\.(?:py|js))`", page.read_text("utf-8")):
        (file, *_) = [place / path for place in (SOURCE, SOURCE / "serving" / "page") if (place / path).exists()]
        assert re.search(rf"\b{name.split('.')[-1]}\b", file.read_text("utf-8")), f"{page.name}: {name} in {path}"


@cache
def known_names() -> frozenset[str]:
    """Identifiers in the code, and strings in it that could be one: names of columns, variables, options."""
    found: set[str] = set()
    for path in (*SOURCE.rglob("*.py"), *(ROOT / "tests").rglob("*.py"), *(ROOT / "integrations").rglob("*.py")):
        if path == Path(__file__):
            continue
        found.update(path.relative_to(ROOT).with_suffix("").parts)
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            found.update(_names_in(node))
    for path in (*(SOURCE / "serving" / "page").glob("*.js"), ROOT / "pyproject.toml"):
        found.update(re.findall(r"\w+", path.read_text("utf-8")))
    for command, each in reference.commands().items():
        found.update(re.sub(r"\W", "_", f"MODEL_BEHAVIOR_{command}_{p.name}").upper() for p in each.params)
    return frozenset(found)


def _names_in(node: ast.AST) -> Iterator[str]:
    match node:
        case ast.Name(id=name) | ast.Attribute(attr=name) | ast.arg(arg=name) | ast.alias(name=name):
            yield from name.split(".")
        case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
            yield name
        case ast.keyword(arg=str(name)):
            yield name
        case ast.Constant(value=str(text)) if len(text) < 100 and "\n" not in text:
            yield from re.findall(r"[\w-]+", text)


@each_page
def test_names_of_the_code_exist(page: Path) -> None:
    for span in spans(page):
        call = re.fullmatch(r"\$?([A-Za-z_][\w.]{2,}\w)(\(.*\))?", span)
        if call and (call[2] or re.search(r"_|\.|[a-z][A-Z]", call[1])) and not span.endswith(FILE_ENDINGS):
            unknown = {part for part in call[1].split(".") if part} - known_names() - FOREIGN
            assert not unknown, f"{page.name}: `{span}` names {', '.join(sorted(unknown))}"


def test_python_on_the_pages_imports_and_calls_what_exists() -> None:
    for page in PAGES:
        for language, text in fences(page.read_text("utf-8")):
            if language != "python" or re.search(r"\) -> |: \.\.\.$", text, re.MULTILINE):
                continue
            tree = ast.parse(text)
            for node in ast.walk(tree):
                if isinstance(node, ast.ImportFrom) and str(node.module).startswith("model_behavior"):
                    module = import_module(str(node.module))
                    assert all(hasattr(module, alias.name) for alias in node.names), f"{page.name}: {node.module}"
                unknown = set(_names_in(node)) - known_names() if isinstance(node, ast.Attribute) else set()
                assert not unknown, f"{page.name}: {unknown}"


@each_page
def test_extras_variables_and_make_targets_exist(page: Path) -> None:
    text = page.read_text("utf-8")
    extras = PROJECT["project"]["optional-dependencies"]
    for names in re.findall(r"(?:model-behavior|\.)\[([\w,]+)\]", text):
        assert set(names.split(",")) <= set(extras), f"{page.name}: [{names}]"
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    named = {span.split()[1] for span in spans(page) if re.match(r"make \w", span)}
    named |= {line.split()[1] for _, block in fences(text) for line in block.splitlines() if line.startswith("make ")}
    assert named <= targets, f"{page.name}: make {named - targets}"


def test_the_layers_are_those_of_the_import_contract() -> None:
    page = (DOCS / "explanation" / "architecture.md").read_text("utf-8")
    (table,) = [rows for _, header, rows in tables(page) if header[0] == "layer"]
    contract = PROJECT["tool"]["importlinter"]["contracts"][0]["layers"]
    assert [row[0].strip("`") for row in table] == [layer.removeprefix("model_behavior.") for layer in contract]


def test_the_files_of_an_artifact_are_those_that_are_written() -> None:
    page = (DOCS / "reference" / "artifact.md").read_text("utf-8")
    (table,) = [rows for _, header, rows in tables(page) if header[0] == "file"]
    written = "".join(path.read_text("utf-8") for path in (SOURCE / "artifact").glob("*.py"))
    listed = {row[0].strip("`") for row in table} - {"samples/*"}
    assert listed == set(re.findall(r'"([\w.-]+\.(?:json|safetensors|md))"', written))
    assert f"`format_version` {config_file.FORMAT_VERSION} " in page


# Commands

# Until the option is there, what two pages say of it cannot be true.
_CONFIGURED = (DOCS / "how-to" / "own-votes.md", DOCS / "reference" / "python.md")
with_configuration = pytest.mark.xfail(
    not any(each.name == "show_config" for each in reference.commands()["train-encoder"].params),
    reason="train-encoder has no --show-config yet",
    strict=True,
)


def command_lines(page: Path) -> Iterator[list[str]]:
    """The arguments of each call of the command on a page; of a span that begins with a command's name, too."""
    group = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    for language, block in fences(page.read_text("utf-8")):
        for line in block.splitlines() if language in {"", "sh"} else ():
            call = re.search(r"(?:^|-m )model[-_]behavior (\w.*)", line)
            if call and "[OPTIONS]" not in line:
                yield shlex.split(call[1], comments=True)
    for span in spans(page):
        words = span.removeprefix("model-behavior ")
        if words != span or (" --" in span and span.split()[0] in group):
            yield words.split()


@pytest.mark.parametrize(
    "page",
    [pytest.param(page, marks=with_configuration) if page in _CONFIGURED else page for page in PAGES],
    ids=name_of,
)
def test_commands_and_options_that_are_named_exist(page: Path) -> None:
    leaves = reference.commands()
    options = {name: {"--help", *opts_of(command)} for name, command in leaves.items()}
    for arguments in command_lines(page):
        if arguments[0] == "COMMAND":
            continue
        known = [n for n in (2, 1) if any(leaf.split()[:n] == arguments[:n] for leaf in leaves)]
        assert known, f"{page.name}: no command {arguments[0]}"
        command = " ".join(arguments[: known[0]])
        given = {word for word in arguments if word.startswith("--")}
        assert given <= options.get(command, set()), f"{page.name}: {' '.join(arguments)}"
    for span in spans(page):
        option = re.match(r"--[a-z][\w-]+", span)
        if option:
            assert option[0] in set().union(*options.values()), f"{page.name}: {span}"


def opts_of(command: Any) -> set[str]:
    return {option for each in command.params for option in (*each.opts, *each.secondary_opts)}


def test_every_command_is_in_the_readme_and_has_an_example() -> None:
    names = {path.split()[0] for path in reference.commands()}
    assert {"train-encoder", "embed-models", "encode", "map", "cache", "benchmark", "demo"} <= names
    for path, command in reference.commands().items():
        assert f"`{path.split()[0]}`" in README, path
        assert command.help and re.search(rf"`model-behavior {path}[ `]", command.epilog), path


def test_the_reference_of_the_command_line_is_up_to_date() -> None:
    assert reference.COMMAND_LINE.read_text("utf-8") == reference.write_command_line(), "make reference writes it"


# Python


def test_the_reference_of_the_verbs_is_up_to_date() -> None:
    page = reference.PYTHON.read_text("utf-8")
    assert page == reference.with_signatures(page), "make reference writes the signatures"
    sections = dict(re.findall(r"^### (\S+)\n(.*?)(?=^##)", page, re.MULTILINE | re.DOTALL))
    assert set(sections) == set(reference.verbs())
    for name, function in reference.verbs().items():
        assert reference.describe_signature(name, function) in sections[name], name
        for parameter in reference.parameters_of(function):
            assert f"`{parameter}`" in sections[name], f"{name}: {parameter}"


def test_the_readmes_python_runs_as_it_stands(folder: Path) -> None:
    (example,) = [text for language, text in fences(README) if language == "python"]
    names: dict[str, Any] = {}
    exec(compile(example, "README.md", "exec"), names)
    assert names["p"].shape == (1, 4) and names["p"].sum() == pytest.approx(1, abs=1e-5)
    assert [row.model for row in names["arena"].rank()] == [row.model for row in names["ranking"]]
    assert {choice.model for choice in names["choices"]} <= {"new-model", names["best"]}
    assert (folder / "arena" / "config.json").exists()


# The README


def test_the_readme_is_short() -> None:
    assert README.count("\n") <= 150


@pytest.fixture
def folder(arena: Arena, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the files that the examples name."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MODEL_BEHAVIOR_CACHE", str(tmp_path / "cache"))
    write_votes(arena, tmp_path / "votes.parquet")
    rows = held_out_rows(arena)
    answers = [{"prompt": r["prompt"], "response": r["response"]} for r in rows if r["model"] == rows[0]["model"]]
    half = len(answers) // 2
    for name, part in (("new_model", answers[:half]), ("unknown", answers[half:])):
        (tmp_path / f"{name}.jsonl").write_text("\n".join(map(json.dumps, part)))
    pq.write_table(pa.Table.from_pylist(answers), tmp_path / "responses.parquet")
    return tmp_path


def test_the_readmes_commands_run_as_they_stand(folder: Path) -> None:
    (example,) = [block for language, block in fences(README) if "train votes.parquet" in block and not language]
    for line in example.strip().splitlines():
        program, *arguments = shlex.split(line)
        assert program == "model-behavior"
        extra = ["--epochs", "1"] if arguments[0] == "train" else []
        assert run([*arguments, *extra]) == 0, line
    assert pq.read_schema(folder / "predictions.parquet").names[-4:] == [
        "p_model_a",
        "p_model_b",
        "p_tie",
        "p_both_bad",
    ]


# Figures

Table = tuple[str, list[str], list[list[str]]]
"""The text between a heading or table and this table, its header, its rows."""


def tables(text: str) -> Iterator[Table]:
    before, rows = "", []
    for line in (*prose(text).splitlines(), ""):
        if line.startswith("|"):
            rows.append([cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]])
            continue
        if rows:
            yield before, rows[0], rows[2:]
            before, rows = "", []
        before = line if line.startswith("#") else f"{before}\n{line}"


def decimals(text: str) -> set[str]:
    return set(re.findall(r"(?<![\w.])\d+\.\d+", text))


@pytest.mark.parametrize("page", [page for page in PAGES if "benchmarks" not in page.parts], ids=name_of)
def test_figures_of_a_table_under_a_report_are_in_the_report(page: Path) -> None:
    for before, _, rows in tables(page.read_text("utf-8")):
        reports = re.findall(r"\]\(([^)]*benchmarks/[^)]+\.md)\)", before)
        if reports:
            measured = decimals("\n".join((page.parent / report).read_text("utf-8") for report in reports))
            missing = decimals("\n".join(map(" ".join, rows))) - measured
            assert not missing, f"{page.name}: {', '.join(sorted(missing))} not in {', '.join(reports)}"


Figure = tuple[str, ...]


def read_figure(cell: str) -> Figure:
    """Mean, standard deviation and interval, in whatever order they stand."""
    return tuple(
        found[1] if (found := re.search(pattern, cell)) else ""
        for pattern in (r"(\d\.\d+)", r"± ([\d.]+)", r"\[([\d.]+, [\d.]+)\]")
    )


def section_of(report: str, votes: str, heading: str = "") -> str:
    """What a report says of one vote file, or under one heading there."""
    text = (DOCS / "benchmarks" / report).read_text("utf-8")
    text = re.split(r"^## ", text.split(f"\n## {votes}\n")[1], flags=re.MULTILINE)[0]
    return re.split(r"^### ", text.split(f"\n### {heading}\n")[1], flags=re.MULTILINE)[0] if heading else text


def figure_in(section: str, row: str, column: str) -> Figure:
    """The figure of a row, which its first cell names, in the first table that has the column."""
    header, rows = next((header, rows) for _, header, rows in tables(section) if column in header)
    return read_figure(dict(zip(header, next(each for each in rows if each[0] == row), strict=True))[column])


KNOWN, NEW = "New prompt, known LLM", "New prompt, new LLM"
ENROLLED = "New LLMs on new prompts, by responses enrolled"
OURS_1, OURS_2 = "trained, default (style + lexical)", "DenseNetworkModel, behavior"
CITED = {
    "triplet accuracy, chance 0.5": ("stage1.md", "", OURS_1, "triplet acc.", "n = {} triplets of decided votes"),
    "a model recognised from 8 responses": ("stage1.md", "", OURS_1, "ident. @8", "{} draws at k = 8"),
    "votes between known LLMs, accuracy": ("stage2.md", KNOWN, OURS_2, "accuracy", "{} of them decided"),
    "votes between known LLMs, log loss": ("stage2.md", KNOWN, OURS_2, "log loss", "n = {} votes"),
    "votes on a new LLM, accuracy": ("stage2.md", NEW, OURS_2, "accuracy", "{} of them decided"),
    "ratings of new LLMs, Spearman": ("stage2.md", ENROLLED, "32", "Spearman of ratings", ""),
}


def test_the_readmes_results_are_those_of_the_reports() -> None:
    (table,) = [rows for _, header, rows in tables(README) if header[0] == "figure"]
    assert {row[0] for row in table} == set(CITED) and len(table) == 3 * len(CITED)
    for label, quoted, n, ours, beside in table:
        file, heading, row, column, size = CITED[label]
        votes = quoted.strip("`")
        section = section_of(file, votes, heading)
        assert read_figure(ours) == figure_in(section, row, column), (label, votes)
        if beside:
            assert read_figure(beside) == figure_in(section, re.sub(r" \d\.\d+ .*", "", beside), column), (label, votes)
        if size:
            assert size.format(n) in section, (label, votes, n)
        else:
            assert f"New LLMs: {n.removesuffix(' LLMs a seed')}," in section_of("stage1.md", votes), (label, votes, n)


# The service


@cache
def schema() -> dict[str, Any]:
    """The service's OpenAPI document, without a service."""
    fastapi = import_module("fastapi")
    routes, feedback = (import_module(f"model_behavior.serving.{name}") for name in ("routes", "feedback"))
    application = fastapi.FastAPI()
    for name, make in sorted({**vars(routes), **vars(feedback)}.items()):
        if name.startswith("make_") and name.endswith("_router"):
            application.include_router(make(*(MagicMock() for _ in inspect.signature(make).parameters)))
    document: dict[str, Any] = application.openapi()
    return document


def fields(node: Any) -> set[str]:
    """The fields of a JSON schema, or of the object that it refers to."""
    if "$ref" in node:
        node = schema()["components"]["schemas"][node["$ref"].rsplit("/", 1)[1]]
    return set(node.get("properties", {}))


def test_the_reference_of_the_api_has_every_route_and_field() -> None:
    page = (DOCS / "reference" / "api.md").read_text("utf-8")
    rows = {row[0].split("`")[1]: row for _, header, part in tables(page) if header[0] == "route" for row in part}
    routes = {f"{m.upper()} {path}": each for path, ways in schema()["paths"].items() for m, each in ways.items()}
    assert set(rows) == set(routes)
    for name, route in routes.items():
        _, request, answer = rows[name]
        asked = {each["name"] for each in route.get("parameters", []) if each["in"] == "query"}
        body = route.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema", {})
        assert all(f"`{each}`" in request or f"`?{each}=`" in request for each in asked | fields(body)), name
        content = next(each for status, each in route["responses"].items() if status < "300").get("content", {})
        given = fields(content.get("application/json", {}).get("schema", {}))
        assert all(f"`{each}`" in answer for each in given), (name, given)


def test_the_objects_of_the_api_have_their_fields() -> None:
    page = (DOCS / "reference" / "api.md").read_text("utf-8")
    (table,) = [rows for _, header, rows in tables(page) if header[0] == "object"]
    for name, told in table:
        shape = {"$ref": f"/{name.strip('`')}"}
        assert fields(shape) and fields(shape) <= set(re.findall(r"`(\w+)`", told)), name
