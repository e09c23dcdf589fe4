"""Which model answers a conversation: it is chosen once and stays, since providers cache what was said before."""

from __future__ import annotations

import hashlib
import json
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import final

from model_behavior.data.split import hash_text
from model_behavior.serving.schemas import ChatMessage, ChatRequest
from model_behavior.serving.shared_table import SharedTable

MOVING_GAIN = 0.1
"""Expected win rate that another model must add, after costs, before a conversation moves to it."""

_MOST = 10_000
_SECONDS = 3600.0
_MOST_TURNS = 8


@dataclass(frozen=True)
class Conversation:
    """What a chat request says of its conversation.

    Attributes:
        key: hash that stays the same from turn to turn; no text can be read from it.
        turns: texts that a route goes by, see `turns_of`; at least one.
        continued: True where something was answered before.
    """

    key: bytes
    turns: tuple[str, ...]
    continued: bool


@final
class Conversations:
    """The models of the latest conversations, by key; in memory, for an hour after the last turn.

    Args:
        clock: seconds; the same in all processes that share conversations.
        shared: table of conversations, where several processes serve.
        names: models that may have answered, by which those of the table are found.
    """

    def __init__(
        self,
        clock: Callable[[], float] = time.monotonic,
        shared: SharedTable | None = None,
        names: Callable[[], Sequence[str]] = tuple,
    ) -> None:
        self._clock = clock
        self._models: OrderedDict[bytes, tuple[str, float]] = OrderedDict()
        self._shared, self._names = shared, names
        self._secret = secrets.token_bytes(16) if shared is None else shared.secret

    def read(self, request: ChatRequest, named: str | None) -> Conversation:
        """The conversation of a request.

        Args:
            request: request whose messages begin with the first ones of the conversation.
            named: name that the client gives the conversation; without one, its first turns identify it: all messages
                up to the user's first one.
        """
        asked = [place for place, message in enumerate(request.messages) if message.role == "user"]
        first = request.messages[: asked[0] + 1] if asked else request.messages[:1]
        said = [named] if named is not None else [each.model_dump() for each in first]
        text = json.dumps([request.model, said]).encode()
        continued = len(asked) > 1 or any(message.role == "assistant" for message in request.messages)
        key = hashlib.blake2b(text, key=self._secret, digest_size=16).digest()
        return Conversation(key, turns_of(request.messages), continued)

    def find(self, conversation: Conversation) -> str | None:
        """The model that has answered it; None for a new or forgotten conversation."""
        model, since = self._kept(conversation.key)
        return model if conversation.continued and self._clock() - since < _SECONDS else None

    def _kept(self, key: bytes) -> tuple[str | None, float]:
        if self._shared is None:
            return self._models.get(key, (None, 0.0))
        with self._shared.place("conversation", key) as place:
            since, number = place.stamp, place.value
        names = {_number_of(name): name for name in self._names()}
        return (None, 0.0) if since is None else (names.get(number), since)

    def keep(self, conversation: Conversation, model: str) -> None:
        """Records who has answered."""
        if self._shared is not None:
            with self._shared.place("conversation", conversation.key) as place:
                place.stamp, place.value = self._clock(), _number_of(model)
            return
        self._models.pop(conversation.key, None)
        self._models[conversation.key] = model, self._clock()
        if len(self._models) > _MOST:
            self._models.popitem(last=False)


def _number_of(model: str) -> float:
    """A number for a name that a float holds exactly, of 53 bits of its hash."""
    return float(hash_text(model) >> 11)


def turns_of(messages: Sequence[ChatMessage]) -> tuple[str, ...]:
    """What a route goes by: different texts of the user's messages, the latest ones and before them the first one.

    Of all messages where the user has none; "" where no message has a text.
    """
    asked = [message for message in messages if message.role == "user"] or messages
    turns = [turn for turn in map(text_of, asked) if turn.strip()] or [""]
    chosen = turns if len(turns) <= _MOST_TURNS else [turns[0], *turns[1 - _MOST_TURNS :]]
    return tuple(dict.fromkeys(chosen[::-1]))[::-1]


def text_of(message: ChatMessage) -> str:
    """The text of a message; parts that are no text are left out."""
    if isinstance(message.content, str):
        return message.content
    parts = [part.get("text") for part in message.content or () if part.get("type") == "text"]
    return "\n".join(part for part in parts if isinstance(part, str))


def texts_of(messages: Sequence[ChatMessage]) -> list[str]:
    """All texts that count towards the limit of tokens."""
    return [
        message.content if isinstance(message.content, str) else json.dumps(message.content, ensure_ascii=False)
        for message in messages
        if message.content is not None
    ]
