"""`config.json`, which makes a folder an artifact: format and version, and the SHA-256 of every other file.

Whoever reads a folder reads the config of the state that counts: `.next`, once that is complete, see `exchange`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from model_behavior.errors import ArtifactError, check_version
from model_behavior.preprocessing.entry_file import digest_of

FORMAT = "model-behavior"
FORMAT_VERSION = 3
BEFORE_SEGMENTS = 2  # all samples in one file; read, and written as the present version

CONFIG, NEXT = "config.json", ".next"
_SELF = "config_digest"


def current(path: Path) -> Path:
    """The folder to read: the one itself, or its next state once that is complete."""
    return path / NEXT if (path / NEXT).is_dir() else path


def read_config(path: Path) -> dict[str, Any]:
    """The verified content of `config.json`."""
    if not path.is_dir():
        if "hf:" in path.parts:
            raise ArtifactError(
                f"{path} is not a folder. A Hub address must be passed to Artifact.load as a string. Fix: "
                "Artifact.load('hf://owner/name').save(FOLDER), then name that folder"
            )
        raise ArtifactError(
            f"{path} is not a folder. An artifact is a folder with {CONFIG}, as written by train or train-encoder"
        )
    try:
        config: dict[str, Any] = json.loads((current(path) / CONFIG).read_text("utf-8"))
        written_by, version = config["format"], config["format_version"]
    except FileNotFoundError as error:
        raise ArtifactError(f"{path} has no {CONFIG}, so it is not a model-behavior artifact") from error
    except (ValueError, KeyError, TypeError) as error:
        raise ArtifactError(f"{path / CONFIG} is damaged ({error}). Fix: restore it, or train again") from error
    if written_by != FORMAT:
        raise ArtifactError(f"{path / CONFIG} has format {written_by!r}; expected {FORMAT!r}")
    if version != BEFORE_SEGMENTS:
        check_version(f"{path}: format", version, FORMAT_VERSION)
    if config.pop(_SELF, None) != digest_of(json.dumps(config, sort_keys=True)):
        raise ArtifactError(f"{path / CONFIG} was altered. Fix: restore the folder from a copy, or train again")
    return config


def write_config(path: Path, config: dict[str, Any]) -> None:
    """Writes `config.json` with a digest of itself."""
    write_json(path / CONFIG, config | {_SELF: digest_of(json.dumps(config, sort_keys=True))})


def read_verified(path: Path, file: IO[bytes] | None, recorded: str | None) -> bytes:
    """Content of an open file; refuses one whose SHA-256 differs from the recorded one."""
    if file is None:
        raise ArtifactError(f"{path} is missing. Fix: restore the folder from a copy, or train again")
    content = file.read()
    if hashlib.sha256(content).hexdigest() != recorded:
        raise ArtifactError(
            f"{path} was altered or truncated: its SHA-256 differs from the one in {CONFIG}. "
            "Fix: restore the folder from a copy, or train again"
        )
    return content


def digest(path: Path) -> str:
    """SHA-256 of a file, hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_json(path: Path, value: Mapping[str, Any] | Sequence[Any]) -> None:
    """Writes JSON, an entry a line, without NaN and infinity, which JSON does not have.

    Python's encoder indents many times slower than it writes lines: with 2,000 models that was most of a save.
    """
    write = json.JSONEncoder(ensure_ascii=False, allow_nan=False).encode
    if isinstance(value, Mapping):
        entries = [f"{write(key)}: {write(entry)}" for key, entry in value.items()]
    else:
        entries = [write(entry) for entry in value]
    opening, closing = "{}" if isinstance(value, Mapping) else "[]"
    path.write_text("\n".join([opening, ",\n".join(entries), closing, ""]), "utf-8")
