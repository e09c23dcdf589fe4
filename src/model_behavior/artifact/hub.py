"""Artifacts on the Hugging Face Hub. Needs the extra `hub`."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

from model_behavior.errors import ArtifactError, MissingExtraError, UsageError

HUB_PREFIX = "hf://"
_TAG = "model-behavior"


def download_artifact(address: str) -> Path:
    """The folder of a downloaded artifact, in the Hub's own cache.

    Args:
        address: `hf://owner/name`, or `hf://owner/name@revision`.

    Raises:
        UsageError: another form of address.
        ArtifactError: the Hub has no such repository, or cannot be reached.
    """
    name, _, revision = address.removeprefix(HUB_PREFIX).partition("@")
    _check_name(name)
    hub = _import_hub("Artifact.load")
    try:
        return Path(hub.snapshot_download(name, revision=revision or None))
    except (hub.errors.HfHubHTTPError, hub.errors.LocalEntryNotFoundError, OSError) as error:
        raise ArtifactError(
            f"{address} cannot be downloaded: {_first_line(error)}. Fix: check the name, the network, and, for a "
            "private repository, `hf auth login`"
        ) from error


def upload_artifact(write: Callable[[Path], None], name: str, private: bool, token: str | None) -> str:
    """Uploads what `write` writes into a folder; returns the address of the commit.

    Args:
        write: writes the artifact into a folder that does not exist yet.
        name: `owner/name` of the repository, made where it does not exist.
        private: whether a new repository is private.
        token: of an account that may write there; the stored one by default.

    Raises:
        UsageError: another form of name.
        ArtifactError: the Hub refuses, or cannot be reached.
    """
    _check_name(name)
    hub = _import_hub("push_to_hub")
    with tempfile.TemporaryDirectory() as parent:
        folder = Path(parent) / "artifact"
        write(folder)
        api = hub.HfApi(token=token, library_name=_TAG)
        try:
            api.create_repo(name, private=private, exist_ok=True)
            # What an earlier version had and this one lacks goes, so that what is downloaded is one artifact.
            done = api.upload_folder(
                repo_id=name, folder_path=folder, commit_message="Artifact of model-behavior", delete_patterns="*"
            )
        except (hub.errors.HfHubHTTPError, OSError) as error:
            raise ArtifactError(
                f"{name} cannot be uploaded: {_first_line(error)}. Fix: check the name, the network, and "
                "`hf auth login` with a token that may write"
            ) from error
    return str(done.commit_url)


def _check_name(name: str) -> None:
    owner, slash, rest = name.partition("/")
    if not (owner and slash and rest) or "/" in rest:
        raise UsageError(f"{name!r} is no repository of the Hub. Allowed: owner/name")


def _import_hub(verb: str) -> ModuleType:
    try:
        import huggingface_hub
        import huggingface_hub.errors
    except ImportError as error:
        raise MissingExtraError(verb, "hub") from error
    hub: ModuleType = huggingface_hub
    return hub


def _first_line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
