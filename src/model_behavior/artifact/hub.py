"""Artifacts on the Hugging Face Hub. Needs the extra `hub`.

Only the files of the artifact format are uploaded and downloaded, and each upload is one commit. Other files in the
repository stay unchanged and are never downloaded.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import ModuleType
from typing import Any

from model_behavior.artifact.config_file import CONFIG, FORMAT
from model_behavior.artifact.exchange import is_segment
from model_behavior.artifact.folder import CARD, WRITTEN, Contents, read_folder, write_folder
from model_behavior.artifact.segments import FOLDER as SEGMENTS
from model_behavior.errors import ArtifactError, MissingExtraError, UsageError
from model_behavior.models.behavior.monitor import Runtime

HUB_PREFIX = "hf://"


def read_from_hub(address: str, runtime: Runtime | None = None) -> Contents:
    """Downloads an artifact to the cache of `huggingface_hub`, and reads it.

    Args:
        address: `hf://owner/name`, or `hf://owner/name@revision`.
        runtime: cache and monitor; see `read_folder`.

    Raises:
        UsageError: the address has another form.
        ArtifactError: the repository does not exist or cannot be reached; or see `read_folder`.
    """
    name, _, revision = address.removeprefix(HUB_PREFIX).partition("@")
    _check_name(name, f"{HUB_PREFIX}owner/name or {HUB_PREFIX}owner/name@revision")
    hub = _import_hub("Artifact.load")
    with _one_error(hub, f"{address} cannot be downloaded", "for a private repository, `hf auth login`"):
        wanted = [*WRITTEN, f"{SEGMENTS}/*"]
        path = Path(hub.snapshot_download(name, revision=revision or None, allow_patterns=wanted, library_name=FORMAT))
    if not (path / CONFIG).is_file():
        raise ArtifactError(f"{address} has no {CONFIG}, so it is not a model-behavior artifact. Fix: check the name")
    try:
        return read_folder(path, runtime)
    except ArtifactError as error:
        raise ArtifactError(f"{address}: {error}") from error


def upload_artifact(contents: Contents, name: str, *, texts: bool, private: bool, token: str | None) -> str:
    """Uploads an artifact, deletes files of an earlier one that it lacks, and returns the URL of the commit.

    Args:
        contents: artifact to upload.
        name: repository, as `owner/name`; created if it does not exist.
        texts: include the sampled responses as text.
        private: create a new repository as private.
        token: access token with write permission; the stored one by default.

    Raises:
        UsageError: the name has another form, or the repository holds something else.
        ArtifactError: the Hub refuses the upload, or cannot be reached.
    """
    _check_name(name, "owner/name")
    hub = _import_hub("push_to_hub")
    api = hub.HfApi(token=token, library_name=FORMAT)
    failed, fix = f"{name} cannot be uploaded", "`hf auth login` with a token that has write access"
    with tempfile.TemporaryDirectory() as parent, _one_error(hub, failed, fix):
        folder = Path(parent) / "artifact"
        api.create_repo(name, private=private, exist_ok=True)
        there = api.repo_info(name)
        old = {file.rfilename for file in there.siblings or () if _is_ours(file.rfilename)}
        if CONFIG in old:  # `write_folder` keeps an edited card
            for each in sorted(old & {CONFIG, CARD}):
                api.hf_hub_download(name, each, revision=there.sha, local_dir=folder)
            _check_config(folder / CONFIG, name)
        write_folder(contents, folder, texts)
        paths = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
        new = set(filter(_is_ours, paths))
        changes = [hub.CommitOperationDelete(each) for each in sorted(old - new)]
        changes += [hub.CommitOperationAdd(each, folder / each) for each in sorted(new)]
        # One commit on top of the revision that was read: a download never mixes two artifacts.
        done = api.create_commit(name, changes, commit_message="Artifact of model-behavior", parent_commit=there.sha)
    return str(done.commit_url)


def _is_ours(name: str) -> bool:
    return name in WRITTEN or is_segment(name)


def _check_name(name: str, allowed: str) -> None:
    owner, slash, rest = name.partition("/")
    if not (owner and slash and rest) or "/" in rest:
        raise UsageError(f"{name!r} is not the name of a Hub repository. Allowed: {allowed}")


def _check_config(path: Path, name: str) -> None:
    config: Any = None
    with suppress(ValueError):
        config = json.loads(path.read_text("utf-8"))
    if not isinstance(config, dict) or config.get("format") != FORMAT:
        raise UsageError(
            f"{name} has a {CONFIG} of another library, which would be overwritten. Fix: choose another name"
        )


def _import_hub(verb: str) -> ModuleType:
    try:
        import huggingface_hub
        import huggingface_hub.errors
    except ImportError as error:
        raise MissingExtraError(verb, "hub") from error
    hub: ModuleType = huggingface_hub
    return hub


@contextmanager
def _one_error(hub: ModuleType, failed: str, fix: str) -> Iterator[None]:
    """Turns errors of the Hub, its client, the network and the disk into one `ArtifactError` of one line."""
    try:
        yield
    except (OSError, ValueError, RuntimeError, hub.errors.HTTPError) as error:
        missing = isinstance(error, hub.errors.RepositoryNotFoundError)
        # The Hub does not tell a private repository from none.
        reason = "no such repository, or the token has no access to it" if missing else _first_line(error)
        raise ArtifactError(f"{failed}: {reason}. Fix: check the name, the network, and, {fix}") from error


def _first_line(error: Exception) -> str:
    """First line of the server's message, or of the client's error without advice about its arguments."""
    said = getattr(error, "server_message", None) or str(error.__cause__ or error)
    return next(iter(said.strip().splitlines()), type(error).__name__).rstrip(".")
