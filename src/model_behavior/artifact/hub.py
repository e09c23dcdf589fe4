"""Artifacts on the Hugging Face Hub. Needs the extra `hub`.

Only the files that an artifact consists of travel, in both directions, and each upload is one commit. What else is in
the repository stays there and is never downloaded.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import ModuleType
from typing import Any

from model_behavior.artifact.folder import CARD, CONFIG, FORMAT, WRITTEN, Contents, read_folder, write_folder
from model_behavior.errors import ArtifactError, MissingExtraError, UsageError
from model_behavior.models.behavior.monitor import Runtime

HUB_PREFIX = "hf://"


def read_from_hub(address: str, runtime: Runtime | None = None) -> Contents:
    """Downloads an artifact into the Hub's own cache, and reads it.

    Args:
        address: `hf://owner/name`, or `hf://owner/name@revision`.
        runtime: as for `read_folder`.

    Raises:
        UsageError: another form of address.
        ArtifactError: the Hub has no such repository, or cannot be reached; or as for `read_folder`.
    """
    name, _, revision = address.removeprefix(HUB_PREFIX).partition("@")
    _check_name(name, f"{HUB_PREFIX}owner/name or {HUB_PREFIX}owner/name@revision")
    hub = _import_hub("Artifact.load")
    with _one_error(hub, f"{address} cannot be downloaded", "for a private repository, `hf auth login`"):
        path = Path(
            hub.snapshot_download(name, revision=revision or None, allow_patterns=list(WRITTEN), library_name=FORMAT)
        )
    if not (path / CONFIG).is_file():
        raise ArtifactError(f"{address} has no {CONFIG}, so it is no model-behavior artifact. Fix: check the name")
    try:
        return read_folder(path, runtime)
    except ArtifactError as error:
        raise ArtifactError(f"{address}: {error}") from error


def upload_artifact(contents: Contents, name: str, *, texts: bool, private: bool, token: str | None) -> str:
    """Uploads an artifact, and removes the files of an earlier one that this one lacks; returns the commit's address.

    Args:
        contents: the artifact.
        name: `owner/name` of the repository, made where it does not exist.
        texts: whether responses go along.
        private: whether a new repository is private.
        token: token of an account that may write there; the stored one by default.

    Raises:
        UsageError: another form of name, or a repository of something else.
        ArtifactError: the Hub refuses, or cannot be reached.
    """
    _check_name(name, "owner/name")
    hub = _import_hub("push_to_hub")
    api = hub.HfApi(token=token, library_name=FORMAT)
    failed, fix = f"{name} cannot be uploaded", "`hf auth login` with a token that may write"
    with tempfile.TemporaryDirectory() as parent, _one_error(hub, failed, fix):
        folder = Path(parent) / "artifact"
        api.create_repo(name, private=private, exist_ok=True)
        there = api.repo_info(name)
        old = {file.rfilename for file in there.siblings or ()} & set(WRITTEN)
        if CONFIG in old:  # written over what is there, an edited card is kept
            for each in sorted(old & {CONFIG, CARD}):
                api.hf_hub_download(name, each, revision=there.sha, local_dir=folder)
            _check_config(folder / CONFIG, name)
        write_folder(contents, folder, texts)
        new = {path.name for path in folder.iterdir()} & set(WRITTEN)
        changes = [hub.CommitOperationDelete(each) for each in sorted(old - new)]
        changes += [hub.CommitOperationAdd(each, folder / each) for each in sorted(new)]
        # One commit on top of what was looked at: whoever downloads gets one artifact, never half of two.
        done = api.create_commit(name, changes, commit_message="Artifact of model-behavior", parent_commit=there.sha)
    return str(done.commit_url)


def _check_name(name: str, allowed: str) -> None:
    owner, slash, rest = name.partition("/")
    if not (owner and slash and rest) or "/" in rest:
        raise UsageError(f"{name!r} is no repository of the Hub. Allowed: {allowed}")


def _check_config(path: Path, name: str) -> None:
    config: Any = None
    with suppress(ValueError):
        config = json.loads(path.read_text("utf-8"))
    if not isinstance(config, dict) or config.get("format") != FORMAT:
        raise UsageError(
            f"{name} holds a {CONFIG} that is not of model-behavior and would be overwritten. Fix: choose another name"
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
    """Says in one line what the Hub, its client, the network or the disk refused."""
    try:
        yield
    except (OSError, ValueError, RuntimeError, hub.errors.HTTPError) as error:
        missing = isinstance(error, hub.errors.RepositoryNotFoundError)
        # The Hub does not tell a private repository from none.
        reason = "no such repository, or one that the token may not see" if missing else _first_line(error)
        raise ArtifactError(f"{failed}: {reason}. Fix: check the name, the network, and, {fix}") from error


def _first_line(error: Exception) -> str:
    """What the server said; else what the client ran into, without its advice about its own arguments."""
    said = getattr(error, "server_message", None) or str(error.__cause__ or error)
    return next(iter(said.strip().splitlines()), type(error).__name__).rstrip(".")
