"""Files of the page: by name for the server, and bundled as one HTML file that loads nothing.

The server reads them once, at the start, so no path of a client ever reaches the file system.

The bundled file contains style sheets, modules and data. Browsers import modules from servers only, so modules become
functions of one script, each with its own scope. A content security policy allows that script alone, by its hash.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from importlib import resources
from importlib.resources.abc import Traversable
from typing import Any, Final

INDEX = "index.html"
_MEDIA_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".ico": "image/x-icon",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".png": "image/png",
    ".svg": "image/svg+xml",
    ".woff2": "font/woff2",
}
_PLAIN = b"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Model Behavior</title></head>
<body><main><h1>Model Behavior</h1><p>The service is running. <a href="/v1/models">Models</a> &middot;
<a href="/v1/map">map</a> &middot; <a href="/openapi.json">API</a></p></main></body></html>
"""
_ENTRY: Final = "main.js"
_IMPORT: Final = re.compile(r'^import \{ ([^}]+) \} from "\./([\w.]+)";\n', re.MULTILINE)
_EXPORT: Final = re.compile(r"^export (?=(?:async function|function|class|const) (\w+))", re.MULTILINE)
_OTHER_FORMS: Final = re.compile(r"^(?:import|export)\b.*", re.MULTILINE)
_STYLE: Final = re.compile(r'<link rel="stylesheet" href="/static/([\w.]+)">\n')
_SCRIPT: Final = f'<script type="module" src="/static/{_ENTRY}"></script>\n'
_ICON: Final = "/static/icon.svg"


@dataclass(frozen=True)
class StaticFile:
    """A file of the page, with its media type and a tag of its content."""

    content: bytes
    media_type: str
    etag: str


def load_static_files(folder: Traversable | None = None) -> Mapping[str, StaticFile]:
    """All files of the page's folder by name; a plain index where the page is not installed."""
    where = folder if folder is not None else resources.files("model_behavior.serving") / "page"
    files = {INDEX: _make_file(INDEX, _PLAIN)}
    if where.is_dir():
        for entry in where.iterdir():
            suffix = entry.name[entry.name.rfind(".") :]
            if entry.is_file() and suffix in _MEDIA_TYPES:
                files[entry.name] = _make_file(entry.name, entry.read_bytes())
    return files


def fill_static_page(data: Mapping[str, Any]) -> str:
    """The page with the answers that it would ask a server for; `data` holds JSON values."""
    files = {name: file.content.decode() for name, file in load_static_files().items()}
    page = files[INDEX]
    style = "\n".join(files[name] for name in _STYLE.findall(page))
    script = bundle_modules({name: text for name, text in files.items() if name.endswith(".js")}, _ENTRY)
    icon = f"data:image/svg+xml;base64,{base64.b64encode(files['icon.svg'].encode()).decode()}"
    page = _STYLE.sub("", page).replace(_SCRIPT, "").replace(_ICON, icon)
    policy = f'<meta http-equiv="Content-Security-Policy" content="{_policy(script, style)}">'
    head = f"{policy}\n<style>{style}</style>\n</head>"
    body = f'<script type="application/json" id="page-data">{_embed(data)}</script>\n<script>{script}</script>\n</body>'
    return page.replace("</head>", head, 1).replace("</body>", body, 1)


def bundle_modules(modules: Mapping[str, str], entry: str) -> str:
    """Bundles modules into one script that does what the entry module does.

    Args:
        modules: source by file name; imports are `import { a, b } from "./file.js";`, one a line; `export` stands
            before a declaration.
        entry: name of the entry module.

    Raises:
        ValueError: an import or export has another form, or modules import each other in a circle.
    """
    parts: dict[str, str] = {}

    def add(name: str, importers: tuple[str, ...]) -> None:
        if name in importers:
            raise ValueError(f"modules import each other in a circle: {' -> '.join([*importers, name])}")
        if name in parts:
            return
        for _, imported in _IMPORT.findall(modules[name]):
            add(imported, (*importers, name))
        parts[name] = _as_function(name, modules[name])

    add(entry, ())
    return "\n".join(['"use strict";', "const modules = {};", *parts.values()])


def _make_file(name: str, content: bytes) -> StaticFile:
    media_type = _MEDIA_TYPES[name[name.rfind(".") :]]
    return StaticFile(content, media_type, f'"{sha256(content).hexdigest()[:16]}"')


def _as_function(name: str, source: str) -> str:
    exported = _EXPORT.findall(source)
    body = _IMPORT.sub(lambda found: f'const {{ {found[1].replace(" as ", ": ")} }} = modules["{found[2]}"];\n', source)
    body = _EXPORT.sub("", body)
    unknown = _OTHER_FORMS.search(body)
    if unknown:
        raise ValueError(f"{name}: {unknown[0]!r} is not a form of import or export that can be put into one script")
    return f'modules["{name}"] = (() => {{\n{body}return {{ {", ".join(exported)} }};\n}})();'


def _policy(script: str, style: str) -> str:
    script_hash, style_hash = (base64.b64encode(sha256(text.encode()).digest()).decode() for text in (script, style))
    return (
        f"default-src 'none'; script-src 'sha256-{script_hash}'; style-src 'sha256-{style_hash}'; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )


def _embed(data: Mapping[str, Any]) -> str:
    """JSON, escaped so that no text in it can end the script element."""
    return json.dumps(data, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")
