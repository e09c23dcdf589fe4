"""API keys: random, stored as SHA-256 only, compared in constant time.

A key has 256 random bits, so a fast hash is enough: unlike a password, it cannot be guessed.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, final

from model_behavior.errors import UsageError
from model_behavior.files import written_aside

SCOPES: Final = ("read", "admin")
_PREFIX = "mb_"
_LEAST_LENGTH = 16


@dataclass(frozen=True)
class Key:
    """The stored record of a key.

    Attributes:
        name: name of its holder; appears in logs.
        scopes: scopes that it grants: "read", or "read" and "admin".
        digest: SHA-256 of the key, hexadecimal.
    """

    name: str
    scopes: tuple[str, ...]
    digest: str


@final
class KeyRing:
    """The keys that a service accepts; without keys, everything is allowed."""

    def __init__(self, keys: Iterable[Key] = ()) -> None:
        self._keys = tuple(keys)

    def __len__(self) -> int:
        return len(self._keys)

    def find(self, secret: str) -> Key | None:
        """The key with this secret. All keys are compared, so that the time taken reveals nothing."""
        asked = _digest(secret)
        found = None
        for key in self._keys:
            if hmac.compare_digest(key.digest, asked):
                found = key
        return found


def make_key(name: str, scope: str) -> tuple[str, Key]:
    """A new secret, and its record to store."""
    if scope not in SCOPES:
        raise UsageError(f"scope {scope!r}: unknown. Allowed: {', '.join(SCOPES)}")
    secret = _PREFIX + secrets.token_urlsafe(32)
    return secret, Key(name, _scopes(scope), _digest(secret))


def key_of_secret(secret: str) -> Key:
    """An admin key from a secret that the operator chose.

    Raises:
        UsageError: the secret is too short to be safe.
    """
    if len(secret) < _LEAST_LENGTH:
        raise UsageError(f"an API key of {len(secret)} characters is too short. Allowed: {_LEAST_LENGTH} or more")
    return Key("operator", SCOPES, _digest(secret))


def load_keys(path: Path) -> list[Key]:
    """The keys in a TOML file of tables `[name]` with `scope` and `sha256`.

    Raises:
        UsageError: the file cannot be read or is invalid.
    """
    try:
        tables = tomllib.loads(path.read_text("utf-8"))
        keys = [Key(name, _scopes(table["scope"]), _check_digest(table["sha256"])) for name, table in tables.items()]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UsageError(
            f'{path}: not a file of keys ({error!r}). Allowed: tables [name] with scope = "read" or "admin" and '
            "sha256. Fix: model-behavior create-key"
        ) from error
    return keys


def add_key(path: Path, key: Key) -> None:
    """Adds a key to a file, which is created if missing.

    Raises:
        UsageError: the file is not a file of keys, or has a key of that name.
    """
    known = load_keys(path) if path.exists() else []
    if any(each.name == key.name for each in known):
        raise UsageError(f"{path} has a key {key.name!r} already. Fix: choose another name, or remove it from the file")
    if not key.name or not all(letter.isascii() and (letter.isalnum() or letter in "-_") for letter in key.name):
        raise UsageError(f"key name {key.name!r}. Allowed: letters, digits, - and _")
    with written_aside(path) as aside:
        lines = [f'[{each.name}]\nscope = "{each.scopes[-1]}"\nsha256 = "{each.digest}"\n' for each in (*known, key)]
        aside.write_text("\n".join(lines), "utf-8")


def _scopes(scope: str) -> tuple[str, ...]:
    return SCOPES[: SCOPES.index(scope) + 1]


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode("utf-8", "replace")).hexdigest()


def _check_digest(value: str) -> str:
    if len(value) != 64 or not set(value) <= set("0123456789abcdef"):
        raise ValueError("sha256 is not 64 hexadecimal digits")
    return value
