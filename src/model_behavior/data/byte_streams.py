"""The bytes of one file: decompressed, checked, and decoded line by line."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import cast

import pyarrow as pa

from model_behavior.errors import DataError

COMPRESSIONS = {".gz": "gzip", ".zst": "zstd"}
"""Compressed endings and pyarrow's name for the codec."""

_BOM = b"\xef\xbb\xbf"
_SIGNATURES = {
    b"\xff\xfe\0\0": "a UTF-32 text file. Fix: iconv -f UTF-32 -t UTF-8 FILE > NEW_FILE",
    b"\0\0\xfe\xff": "a UTF-32 text file. Fix: iconv -f UTF-32 -t UTF-8 FILE > NEW_FILE",
    b"\xff\xfe": "a UTF-16 text file. Fix: iconv -f UTF-16 -t UTF-8 FILE > NEW_FILE",
    b"\xfe\xff": "a UTF-16 text file. Fix: iconv -f UTF-16 -t UTF-8 FILE > NEW_FILE",
    b"\x1f\x8b": "compressed with gzip. Fix: add .gz to the file name",
    b"\x28\xb5\x2f\xfd": "compressed with Zstandard. Fix: add .zst to the file name",
    b"PAR1": "a Parquet file. Fix: rename it to end in .parquet",
    b"PK\x03\x04": "a ZIP archive or a spreadsheet. Fix: name it .zip, or export it as CSV",
    b"version https://git-lfs": "a Git LFS pointer, not the data. Fix: run git lfs pull",
}


class NothingToReadError(DataError):
    """A source that has no row, or columns of no known format: one file of a folder may be such a file.

    Attributes:
        reason: the reason in a few words.
    """

    def __init__(self, message: str, reason: str) -> None:
        super().__init__(message)
        self.reason = reason


def shorten(value: object, limit: int = 80) -> str:
    """A value for an error message: quoted, on one line, at most about `limit` characters."""
    text = (str(value) if isinstance(value, Decimal) else repr(value)).replace("\n", " ")
    return text if len(text) <= limit else f"{text[: limit - 10]}… ({len(text):,} characters)"


def replace_surrogates(text: str) -> str:
    """The text with lone surrogates, which JSON may hold but UTF-8 may not, replaced by U+FFFD."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text


@contextmanager
def open_bytes(path: Path) -> Iterator[io.BufferedReader]:
    """The decompressed bytes of `path` as a buffered stream.

    Raises:
        DataError: the file cannot be read or decompressed, also while the stream is read.
    """
    codec = COMPRESSIONS.get(path.suffix.lower())
    archive = find_archive(path)
    try:
        if archive is not None:
            with _open_member(path, archive) as stream:
                yield stream
        elif codec is None:
            with path.open("rb") as stream:
                yield stream
        else:
            with pa.OSFile(str(path)) as file, pa.CompressedInputStream(file, codec) as packed:
                yield io.BufferedReader(packed, 1 << 18)
    except OSError as error:
        if codec is None:
            raise DataError(f"{path}: cannot be read ({error.strerror or error}).") from error
        raise DataError(
            f"{path}: cannot be decompressed as {codec} ({error}). "
            "Fix: the file is cut off or damaged; copy or download it again."
        ) from error


def find_archive(path: Path) -> Path | None:
    """The .zip file that a path leads into, as votes.zip/a.csv does; None where it leads into none."""
    if ".zip" not in str(path).lower():
        return None
    return next((each for each in path.parents if each.suffix.lower() == ".zip" and each.is_file()), None)


def list_members(archive: Path) -> list[Path]:
    """The files in a .zip file, as paths that lead into it, sorted.

    Raises:
        DataError: it is no readable .zip file.
    """
    try:
        with zipfile.ZipFile(archive) as packed:
            names = sorted(info.filename for info in packed.infolist() if not info.is_dir())
    except (zipfile.BadZipFile, OSError) as error:
        raise _archive_error(archive, error) from None
    return [archive / name for name in names]


@contextmanager
def _open_member(path: Path, archive: Path) -> Iterator[io.BufferedReader]:
    codec = COMPRESSIONS.get(path.suffix.lower())
    try:
        with zipfile.ZipFile(archive) as packed, packed.open(path.relative_to(archive).as_posix()) as member:
            if codec is None:
                yield io.BufferedReader(cast(io.RawIOBase, member), 1 << 18)
            else:
                with pa.PythonFile(member) as file, pa.CompressedInputStream(file, codec) as inner:
                    yield io.BufferedReader(inner, 1 << 18)
    except (zipfile.BadZipFile, KeyError, RuntimeError, NotImplementedError, EOFError) as error:
        raise _archive_error(path, error) from None


def _archive_error(path: Path, error: Exception) -> DataError:
    return DataError(
        f"{path}: cannot be read from the .zip file ({error}). Fix: unpack it, or copy or download it again."
    )


def without_bom(head: bytes, name: str) -> bytes:
    """The first bytes of a text file without the UTF-8 byte order mark.

    Raises:
        DataError: the bytes are the start of a known binary file or of UTF-16.
    """
    for signature, meaning in _SIGNATURES.items():
        if head.startswith(signature):
            raise DataError(f"{name}: this is {meaning}. Allowed here: text in UTF-8.")
    return head.removeprefix(_BOM)


def iterate_lines(stream: Iterable[bytes], name: str) -> Iterator[str]:
    """Decoded lines with their ends.

    Raises:
        DataError: a line is not UTF-8 or holds a null byte; the message names both.
    """
    for number, line in enumerate(stream, 1):
        content = without_bom(line, name) if number == 1 else line
        if b"\0" in content:
            raise null_byte_error(name, f"line {number}")
        try:
            text = content.decode()
        except UnicodeDecodeError as error:
            raise encoding_error(name, f"line {number}", error) from None
        yield text


def null_byte_error(name: str, place: str) -> DataError:
    """The error for a raw null byte, which no text format allows."""
    return DataError(
        f"{name}, {place}: holds a null byte (0x00). Allowed: text in UTF-8. Fix: where the file is UTF-16, "
        "run iconv -f UTF-16 -t UTF-8 FILE > NEW_FILE; otherwise remove the null bytes: tr -d '\\000'."
    )


def encoding_error(name: str, place: str, error: UnicodeDecodeError) -> DataError:
    """The error for bytes that are not UTF-8."""
    around = error.object[max(0, error.start - 20) : error.start + 10]
    return DataError(
        f"{name}, {place}: the byte 0x{error.object[error.start]:02x} is not UTF-8 "
        f"(near {around!r}). Allowed: UTF-8. Fix, where the file is Latin-1: "
        "iconv -f LATIN1 -t UTF-8 FILE > NEW_FILE."
    )
