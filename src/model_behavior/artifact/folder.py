"""Files of an artifact's folder: verified when read, written aside, the user's own files kept."""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import json
import os
import shutil
from collections.abc import Collection
from pathlib import Path
from typing import Any

from model_behavior.errors import ArtifactError, check_version
from model_behavior.preprocessing.entry_file import digest_of

FORMAT = "model-behavior"
FORMAT_VERSION = 2

CONFIG, CARD, ENCODER = "config.json", "README.md", "encoder.safetensors"
_SELF = "config_digest"
_HERE, _EXCHANGE = -100, 2  # AT_FDCWD, RENAME_EXCHANGE


def write_config(path: Path, config: dict[str, Any]) -> None:
    """Writes `config.json` with a digest of itself."""
    write_json(path / CONFIG, config | {_SELF: digest_of(json.dumps(config, sort_keys=True))})


def keep_what_is_the_users(old: Path, new: Path, ours: Collection[str]) -> None:
    """Carries over what a user put into the folder, and an edited card where the encoder stays the same.

    Args:
        old: the folder that is replaced.
        new: the one that takes its place.
        ours: names of files that are not the user's.
    """
    if not old.exists():
        return
    for path in old.iterdir():
        if path.name not in ours:
            if path.is_dir() and not path.is_symlink():
                shutil.copytree(path, new / path.name, symlinks=True)
            elif path.is_file() or path.is_symlink():
                shutil.copy2(path, new / path.name, follow_symlinks=False)
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        recorded = json.loads((old / CONFIG).read_text("utf-8"))["files"]
        if recorded[CARD] != digest(old / CARD) and recorded[ENCODER] == digest(new / ENCODER):
            shutil.copy2(old / CARD, new / CARD)


def swap(aside: Path, path: Path) -> None:
    """Puts the new folder `aside` in the place of `path`, in one step where the system can exchange two folders.

    Where it cannot, the old folder steps aside under a name that `restore` finds if the process is killed in between.
    """
    if not path.exists():
        aside.rename(path)
        return
    if exchange(aside, path):
        shutil.rmtree(aside, ignore_errors=True)
        return
    old = _parked(path)
    shutil.rmtree(old, ignore_errors=True)
    try:
        path.rename(old)
        aside.rename(path)
    except BaseException:  # an interrupt, too, at any point
        if old.exists() and not path.exists():
            old.rename(path)
        raise
    shutil.rmtree(old, ignore_errors=True)


def restore(path: Path) -> None:
    """Puts an old folder back that a killed `swap` has left parked; nothing where a folder is in its place."""
    if not path.exists() and _parked(path).is_dir():
        _parked(path).rename(path)


def _parked(path: Path) -> Path:
    return path.with_name(f".{path.name[:100]}.previous")


def exchange(one: Path, other: Path) -> bool:
    """Exchanges two names atomically; False where system or file system cannot (renameat2, Linux 3.15)."""
    try:
        renameat2 = ctypes.CDLL(None, use_errno=True).renameat2
    except (OSError, AttributeError, TypeError):
        return False
    return bool(renameat2(_HERE, os.fsencode(one), _HERE, os.fsencode(other), _EXCHANGE) == 0)


def read_config(path: Path) -> dict[str, Any]:
    """The verified content of `config.json`."""
    if not path.is_dir():
        raise ArtifactError(
            f"{path} is not a folder. A trained encoder is a folder with {CONFIG}, as train-encoder writes"
        )
    try:
        config: dict[str, Any] = json.loads((path / CONFIG).read_text("utf-8"))
        written_by, version = config["format"], config["format_version"]
    except FileNotFoundError as error:
        raise ArtifactError(f"{path} has no {CONFIG}, so it is no model-behavior artifact") from error
    except (ValueError, KeyError, TypeError) as error:
        raise ArtifactError(f"{path / CONFIG} is damaged ({error}). Fix: restore it, or train again") from error
    if written_by != FORMAT:
        raise ArtifactError(f"{path / CONFIG} is of format {written_by!r}, not {FORMAT!r}")
    check_version(f"{path}: format", version, FORMAT_VERSION)
    if config.pop(_SELF, None) != digest_of(json.dumps(config, sort_keys=True)):
        raise ArtifactError(f"{path / CONFIG} was altered. Fix: restore the folder from a copy, or train again")
    return config


def verify(path: Path, recorded: str | None) -> None:
    """Refuses a file whose SHA-256 is not the recorded one."""
    if not path.is_file():
        raise ArtifactError(f"{path} is missing. Fix: restore the folder from a copy, or train again")
    if digest(path) != recorded:
        raise ArtifactError(
            f"{path} was altered or cut off: its SHA-256 is not the one in {CONFIG}. "
            "Fix: restore the folder from a copy, or train again"
        )


def digest(path: Path) -> str:
    """SHA-256 of a file, hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_json(path: Path, value: Any) -> None:
    """Writes JSON, indented."""
    path.write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n", "utf-8")
