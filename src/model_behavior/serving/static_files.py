"""The page's files, read at the start: no path of a client ever reaches the file system."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from importlib import resources
from importlib.resources.abc import Traversable

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


def _make_file(name: str, content: bytes) -> StaticFile:
    media_type = _MEDIA_TYPES[name[name.rfind(".") :]]
    return StaticFile(content, media_type, f'"{sha256(content).hexdigest()[:16]}"')
