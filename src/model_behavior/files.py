"""Writing a file so that it is there whole or not at all."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def name_aside(path: Path) -> Path:
    """A hidden name beside `path` that no other process uses."""
    return path.with_name(f".{path.name}.{uuid.uuid4().hex}.part")


@contextmanager
def written_aside(path: Path) -> Iterator[Path]:
    """Gives a name to write to, and renames it to `path` when the block ends well.

    Whatever was at `path` before stays until then, and stays for good when the block fails. The folder is made.

    Raises:
        OSError: the folder cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = name_aside(path)
    try:
        yield aside
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)
