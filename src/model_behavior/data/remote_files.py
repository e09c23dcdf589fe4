"""Files in a bucket or behind another address, such as s3://bucket/votes/: listed, read in place, or fetched whole.

S3, Google Cloud Storage and Azure are read by Arrow itself, every other scheme by fsspec and its package for it.
Credentials come from where each provider's own tools look for them: environment, configuration files, the machine's
role. An address may carry options of Arrow, as in s3://bucket/votes?endpoint_override=localhost:9000&scheme=http.
"""

from __future__ import annotations

import atexit
import hashlib
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Any

import pyarrow as pa
from pyarrow import fs

from model_behavior.data.byte_streams import shorten
from model_behavior.data.hub_rows import HUB_PREFIX
from model_behavior.errors import DataError, UsageError

_SCHEME = re.compile(r"([a-z][a-z0-9+.-]+)://", re.IGNORECASE)
_OF_ARROW = ("s3", "gs", "gcs", "abfs", "abfss")
_ATTEMPTS = 6
_BLOCK_BYTES = 1 << 20
_KEYS = {
    "s3": "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, `aws configure`, or ?anonymous=true for a public bucket",
    "gs": "GOOGLE_APPLICATION_CREDENTIALS or `gcloud auth application-default login`",
    "gcs": "GOOGLE_APPLICATION_CREDENTIALS or `gcloud auth application-default login`",
}
_REFUSED = ("ACCESS_DENIED", "INVALID_ACCESS_KEY_ID", "SIGNATURE_DOES_NOT_MATCH", "INVALID_CLIENT_TOKEN_ID", "EXPIRED")
_REFUSED_CODES = ("HTTP status 401", "HTTP status 403", "code: 401", "code: 403", "no credentials", "Unauthenticated")
_MISSING = ("NO_SUCH_BUCKET", "NO_SUCH_KEY", "HTTP status 404", "RESOURCE_NOT_FOUND")


def is_remote(address: str) -> bool:
    """Tells if an address names a file system; `hf://` names a dataset, and a letter before a colon a drive."""
    return not address.startswith(HUB_PREFIX) and _SCHEME.match(address) is not None


def name_of(address: str) -> PurePosixPath:
    """The path of an address without its options, of which the ending says the format."""
    return PurePosixPath(address.partition("?")[0].partition("://")[2])


def list_files(address: str) -> list[str]:
    """Addresses of all files below a folder, sorted; of a file, the address itself. Hidden ones are left out.

    Raises:
        DataError: nothing is there, or it cannot be reached.
        UsageError: the package for the scheme is not installed.
    """
    system, path = _open_system(address)
    with _told(address):
        info = system.get_file_info(path)
        if info.type == fs.FileType.File:
            return [address]
        below = [] if info.type == fs.FileType.NotFound else system.get_file_info(fs.FileSelector(path, recursive=True))
    if info.type == fs.FileType.NotFound:
        raise DataError(f"{address}: there is nothing there. Fix: check bucket and path.")
    start, _, options = address.partition("?")
    root = PurePosixPath(path)
    found = []
    for each in below:
        inside = PurePosixPath(each.path).relative_to(root)
        if each.type == fs.FileType.File and not any(part.startswith((".", "_")) for part in inside.parts):
            found.append(f"{start.rstrip('/')}/{inside}{'?' if options else ''}{options}")
    return sorted(found)


def digest_of_file(address: str) -> str:
    """A value that differs once the file is written again: of its size and the time of its last change."""
    system, path = _open_system(address)
    with _told(address):
        info = system.get_file_info(path)
    return hashlib.sha256(f"{address} {info.size} {info.mtime_ns}".encode()).hexdigest()


@contextmanager
def opened(address: str) -> Iterator[pa.NativeFile]:
    """The file, to be read in any order; only what is asked for is sent.

    Raises:
        DataError: it cannot be read, also while it is.
    """
    system, path = _open_system(address)
    with _told(address), system.open_input_file(path) as file:
        yield file


@lru_cache(maxsize=4096)
def fetch(address: str) -> Path:
    """A copy of the file on this machine, which stays until the process ends."""
    system, path = _open_system(address)
    folder = Path(tempfile.mkdtemp(dir=_downloads()))
    target = folder / name_of(address).name
    with _told(address), system.open_input_stream(path, buffer_size=_BLOCK_BYTES) as source, target.open("wb") as copy:
        shutil.copyfileobj(source, copy, _BLOCK_BYTES)
    return target


@lru_cache(maxsize=1)
def _downloads() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="model-behavior-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def _open_system(address: str) -> tuple[Any, str]:
    found = _SCHEME.match(address)
    scheme = found[1].lower() if found is not None else ""
    with _told(address):
        if scheme == "s3" and "?" not in address:
            retries = fs.AwsStandardS3RetryStrategy(max_attempts=_ATTEMPTS)
            return fs.S3FileSystem(retry_strategy=retries), address.partition("://")[2].rstrip("/")
        if scheme in _OF_ARROW:
            start, mark, options = address.partition("?")
            system, path = fs.FileSystem.from_uri(start.rstrip("/") + mark + options)
            return system, path
    return _open_fsspec(address, scheme)


def _open_fsspec(address: str, scheme: str) -> tuple[Any, str]:
    import fsspec

    if scheme not in fsspec.available_protocols():
        known = ", ".join((*_OF_ARROW, "hf"))
        raise UsageError(f"{address}: unknown scheme {scheme!r}. Allowed: {known}, and those that fsspec knows")
    try:
        system, path = fsspec.core.url_to_fs(address)
    except ImportError as error:
        raise UsageError(f"{address}: {scheme}:// needs a package. Fix: {error}") from None
    except (OSError, ValueError) as error:
        raise _as_error(address, error) from error
    return fs.PyFileSystem(fs.FSSpecHandler(system)), str(path)


@contextmanager
def _told(address: str) -> Iterator[None]:
    """Turns errors of a file system into one of one line that says what to do."""
    try:
        yield
    except (OSError, pa.ArrowException) as error:
        raise _as_error(address, error) from error


def _as_error(address: str, error: Exception) -> DataError:
    text = str(error)
    scheme = address.partition("://")[0].lower()
    keys = _KEYS.get(scheme, "the credentials of its provider")
    if any(mark in text for mark in _MISSING):
        return DataError(f"{address}: there is no such bucket or file. Fix: check bucket and path.")
    if any(mark in text for mark in (*_REFUSED, *_REFUSED_CODES)):
        return DataError(f"{address}: access was refused. Fix: give {keys}.")
    why = shorten(text.partition(": ")[2] or text, 200)
    return DataError(f"{address}: cannot be read ({why}). Fix: check the address and the connection; give {keys}.")
