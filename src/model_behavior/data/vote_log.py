"""The log of votes and thumbs that a service receives: one JSON object a line, appended, never changed.

What `append` has returned from is on the disk. A vote has an id and is there once, however often it is sent, whoever
else appends, and wherever a process is killed: a line without its end was never answered, and the next one takes its
place. Prompts are kept as hashes only.
"""

from __future__ import annotations

import json
import os
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias, final

import numpy as np

from model_behavior.data.split import hash_text
from model_behavior.data_models.vote_ledger import VoteLedger
from model_behavior.data_models.votes import Outcome
from model_behavior.errors import DataError, UsageError
from model_behavior.files import locked_file, sync

LOG: Final = "votes.jsonl"
"""Name of the log in the folder of an artifact."""

Kind: TypeAlias = Literal["vote", "thumb"]
_OUTCOMES = {outcome.name.lower(): outcome for outcome in Outcome}


@dataclass(frozen=True)
class LoggedVote:
    """A vote between two models.

    Attributes:
        id: id that the sender gave it.
        prompt: hash of the normalised prompt.
        outcome: name of the `Outcome`.
    """

    id: str
    prompt: int
    model_a: str
    model_b: str
    outcome: str


@dataclass(frozen=True)
class LoggedThumb:
    """A thumb up or down for one response; the last one for a response counts.

    Attributes:
        id: id of the response.
        prompt: hash of the normalised prompt.
        model: model that answered.
        up: True for a thumb up.
    """

    id: str
    prompt: int
    model: str
    up: bool


Entry: TypeAlias = LoggedVote | LoggedThumb


@final
class VoteLog:
    """The log in a file, which other processes may append to, too.

    Args:
        path: file; it is made by the first `append`.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._entries: dict[tuple[Kind, str], Entry] = {}
        self._read_to = 0
        self._inode = -1
        self.damaged = 0

    def entries(self) -> list[Entry]:
        """All entries, the last thumb for each response only.

        Raises:
            DataError: the file cannot be read.
        """
        with self._lock:
            self._catch_up()
            return list(self._entries.values())

    def append(self, entry: Entry) -> bool:
        """Appends an entry, and returns once it is on the disk; False where it was there already.

        Raises:
            UsageError: a vote of this id, but with other content, is there.
            OSError: the file cannot be written.
        """
        key = (_kind(entry), entry.id)
        with self._lock, locked_file(self.path):
            self._catch_up()
            known = self._entries.get(key)
            if known == entry:
                return False
            if known is not None and isinstance(entry, LoggedVote):
                raise UsageError(f"vote {entry.id!r} is there with other content. Fix: give each vote an id of its own")
            self._write(json.dumps({"kind": key[0], **vars(entry)}) + "\n")
            self._entries[key] = entry
        return True

    def _write(self, line: str) -> None:
        new = not self.path.exists()
        descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            if os.fstat(descriptor).st_size > self._read_to:
                os.ftruncate(descriptor, self._read_to)  # a line that a killed process has begun
            content = line.encode()
            try:
                written = os.pwrite(descriptor, content, self._read_to)
                if written < len(content):
                    raise OSError(f"{self.path} cannot be written: the disk is full")
                os.fsync(descriptor)
            except OSError:
                os.ftruncate(descriptor, self._read_to)
                raise
            self._read_to += len(content)
            self._inode = os.fstat(descriptor).st_ino
        finally:
            os.close(descriptor)
        if new:
            sync(self.path.parent)

    def _catch_up(self) -> None:
        """Reads what is new in the file, whole lines only."""
        try:
            with self.path.open("rb") as file:
                status = os.fstat(file.fileno())
                if status.st_ino != self._inode or status.st_size < self._read_to:
                    self._entries, self._read_to, self._inode, self.damaged = {}, 0, status.st_ino, 0
                file.seek(self._read_to)
                content = file.read()
        except FileNotFoundError:
            self._entries, self._read_to, self._inode = {}, 0, -1
            return
        except OSError as error:
            raise DataError(f"{self.path} cannot be read: {error.strerror}") from error
        content = content[: content.rfind(b"\n") + 1]
        for line in content.splitlines():
            entry = _entry_of(line)
            if entry is None:
                self.damaged += 1
            else:
                self._entries[_kind(entry), entry.id] = entry
        self._read_to += len(content)


def ledger_of_log(entries: list[Entry]) -> VoteLedger:
    """The votes of a log, without its thumbs."""
    votes = [each for each in entries if isinstance(each, LoggedVote)]
    names = tuple(sorted({name for each in votes for name in (each.model_a, each.model_b)}))
    place = {name: index for index, name in enumerate(names)}
    ledger = VoteLedger(
        names,
        np.array([hash_text(f"id {each.id}") for each in votes], np.uint64),
        np.array([each.prompt for each in votes], np.uint64),
        np.array([place[each.model_a] for each in votes], np.int32),
        np.array([place[each.model_b] for each in votes], np.int32),
        np.array([_OUTCOMES[each.outcome] for each in votes], np.int8),
    )
    return ledger.joined(ledger)


def _kind(entry: Entry) -> Kind:
    return "vote" if isinstance(entry, LoggedVote) else "thumb"


def _entry_of(line: bytes) -> Entry | None:
    try:
        value: dict[str, Any] = json.loads(line)
        kind = value.pop("kind")
        entry: Entry = LoggedVote(**value) if kind == "vote" else LoggedThumb(**value)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None
    return entry if _is_whole(entry) else None


def _is_whole(entry: Entry) -> bool:
    """True where the fields have the types and ranges that `append` wrote."""
    if not isinstance(entry.id, str) or type(entry.prompt) is not int or not 0 <= entry.prompt < 1 << 64:
        return False
    if isinstance(entry, LoggedThumb):
        return isinstance(entry.model, str) and isinstance(entry.up, bool)
    sides = isinstance(entry.model_a, str) and isinstance(entry.model_b, str)
    return sides and isinstance(entry.outcome, str) and entry.outcome in _OUTCOMES
