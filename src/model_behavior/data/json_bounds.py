"""Bounds on JSON that hold before a parser sees it: digits of a number, nesting, length of a key.

Native parsers trust their input: an integer of 4,301 digits ends the process inside ijson's C back-end, and nested
brackets cost memory with the square of their depth. The scan below needs no parser: quoted strings are cut out, and
what is left (brackets, commas, numbers) is looked at as a whole by functions that run over bytes at once.
"""

from __future__ import annotations

from typing import Final, final

import numpy as np

from model_behavior.errors import DataError

MAX_DIGITS: Final = 1_000
MAX_DEPTH: Final = 128
MAX_KEY_BYTES: Final = 10_000

_NUMBERS = bytes(0x30 if chr(byte) in "0123456789+-.eE" else 0x20 for byte in range(256))
_STEP = np.zeros(256, np.int8)
_STEP[list(b"[{")], _STEP[list(b"]}")] = 1, -1
_NO_BRACKETS = bytes(byte for byte in range(256) if byte not in b"[]{}")


@final
class JsonBounds:
    """Checks JSON that arrives in pieces, cut anywhere.

    Args:
        name: name of the file, for messages.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._inside = False
        self._held = b""
        self._depth = 0
        self._number = b""
        self._string_bytes = 0
        self._after_long = 0

    def check(self, data: bytes) -> None:
        """Checks the next piece; an empty one is the end.

        Raises:
            DataError: a number, the nesting or a key is beyond its bound.
        """
        data = self._held + data
        # An escape may go on in the next piece, so an odd number of backslashes at the end waits for it.
        odd = (len(data) - len(data.rstrip(b"\\"))) % 2
        data, self._held = (data[:-1], b"\\") if odd else (data, b"")
        if b"\\" in data:
            data = data.replace(b"\\\\", b"__").replace(b'\\"', b"__")
        pieces = data.split(b'"')
        began_inside = self._inside
        self._inside ^= len(pieces) % 2 == 0
        outside, strings = (pieces[1::2], pieces[0::2]) if began_inside else (pieces[0::2], pieces[1::2])
        self._check_keys(pieces, strings, began_inside)
        structure = b'"'.join(outside)
        self._check_numbers(structure, began_inside or len(pieces) > 1)
        self._check_depth(structure)

    def _check_numbers(self, structure: bytes, has_string: bool) -> None:
        digits = (self._number + structure).translate(_NUMBERS) if structure else self._number
        if b"0" in digits and max(map(len, digits.split())) > MAX_DIGITS:
            raise DataError(
                f"{self._name}: a number of more than {MAX_DIGITS:,} digits. Allowed: {MAX_DIGITS:,} digits"
            )
        self._number = b"" if has_string and self._inside else digits[digits.rfind(b" ") + 1 :]

    def _check_depth(self, structure: bytes) -> None:
        brackets = structure.translate(None, _NO_BRACKETS)
        if not brackets:
            return
        depths = np.cumsum(_STEP[np.frombuffer(brackets, np.uint8)], dtype=np.int64)
        if self._depth + int(depths.max()) > MAX_DEPTH:
            raise DataError(f"{self._name}: nested deeper than {MAX_DEPTH} levels. Allowed: {MAX_DEPTH} levels")
        self._depth += int(depths[-1])

    def _check_keys(self, pieces: list[bytes], strings: list[bytes], began_inside: bool) -> None:
        """A long string is a key where a colon follows it; most pieces have no long string at all."""
        pending, self._after_long = self._after_long, 0
        first = self._string_bytes + len(pieces[0]) if began_inside else 0
        self._string_bytes = 0
        if pending and self._ends_key(pieces[0]):
            raise self._key_error()
        if pending and not began_inside and not pieces[0].strip() and len(pieces) == 1:
            self._after_long = pending
        if self._inside:
            self._string_bytes = first if len(pieces) == 1 else len(pieces[-1])
        if first <= MAX_KEY_BYTES and (not strings or max(map(len, strings)) <= MAX_KEY_BYTES):
            return
        for place in range(0 if began_inside else 1, len(pieces) - 1, 2):
            if max(len(pieces[place]), 0 if place else first) > MAX_KEY_BYTES:
                if self._ends_key(pieces[place + 1]):
                    raise self._key_error()
                if place == len(pieces) - 2 and not pieces[-1].strip():
                    self._after_long = 1

    @staticmethod
    def _ends_key(after: bytes) -> bool:
        return after.lstrip().startswith(b":")

    def _key_error(self) -> DataError:
        return DataError(f"{self._name}: a key of more than {MAX_KEY_BYTES:,} bytes. Allowed: {MAX_KEY_BYTES:,} bytes")


def check_depth(text: str, name: str) -> None:
    """Checks the nesting of one JSON value, for Python's own parser, which bounds digits itself.

    Raises:
        DataError: nested too deeply.
    """
    if text.count("[") + text.count("{") > MAX_DEPTH:
        JsonBounds(name).check(text.encode("utf-8", "replace"))
