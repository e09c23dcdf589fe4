"""API keys: random, stored as SHA-256 only, compared in constant time.

A key has 256 random bits, so a fast hash is enough: unlike a password, it cannot be guessed.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import secrets
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, final

from model_behavior.errors import UsageError
from model_behavior.files import locked_file, written_aside

SCOPES: Final = ("read", "admin")
_PREFIX = "mb_"
_LEAST_LENGTH = 16
_log = logging.getLogger("model_behavior.serving")


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
    """The keys that a service accepts; without keys and without a file of keys, everything is allowed.

    The file is read again whenever it has changed, so that a key that is removed from it stops at once. While it cannot
    be read, the keys that it had last are accepted, and the log says so; an empty file accepts no key.

    Args:
        keys: keys that are accepted whatever the file says.
        file: file of keys, as `load_keys` reads it.

    Raises:
        UsageError: the file cannot be read or is invalid.
    """

    def __init__(self, keys: Iterable[Key] = (), file: Path | None = None) -> None:
        self._always = tuple(keys)
        self._file = file
        self._state = None if file is None else _state_of(file)
        self._keys = self._always if file is None else (*self._always, *load_keys(file))

    def __bool__(self) -> bool:
        return self._file is not None or bool(self._always)

    def __len__(self) -> int:
        self._read_again()
        return len(self._keys)

    def find(self, secret: str) -> Key | None:
        """The key with this secret. All keys are compared, so that the time taken reveals nothing."""
        self._read_again()
        asked = _digest(secret)
        found = None
        for key in self._keys:
            if hmac.compare_digest(key.digest, asked):
                found = key
        return found

    def _read_again(self) -> None:
        if self._file is None or (state := _state_of(self._file)) == self._state:
            return
        self._state = state
        try:
            self._keys = (*self._always, *load_keys(self._file))
        except UsageError as error:
            _log.error("%s; the keys that it had before stay valid", error)


def _state_of(file: Path) -> tuple[int, int, int] | None:
    """Differs after every change; None where there is no file."""
    try:
        status = file.stat()
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns, status.st_size


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
    if not key.name or not all(letter.isascii() and (letter.isalnum() or letter in "-_") for letter in key.name):
        raise UsageError(f"key name {key.name!r}. Allowed: letters, digits, - and _")
    with locked_file(path):
        _add_key(path, key)


def _add_key(path: Path, key: Key) -> None:
    known = load_keys(path) if path.exists() else []
    if any(each.name == key.name for each in known):
        raise UsageError(f"{path} has a key {key.name!r} already. Fix: choose another name, or remove it from the file")
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
