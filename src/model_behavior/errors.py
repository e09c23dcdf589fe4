"""The errors that a caller is expected to see: each says what failed, where, what is allowed, and the fix."""

from __future__ import annotations


class ModelBehaviorError(Exception):
    """Base of every error that this library raises on purpose. Exit code 1 on the command line."""


class UsageError(ModelBehaviorError):
    """An argument or option that cannot be meant. Exit code 2 on the command line."""


class DataError(ModelBehaviorError):
    """Input data that cannot be used. Exit code 3 on the command line."""


class ArtifactError(ModelBehaviorError):
    """A saved folder or state that is missing, altered, incomplete, or of a version that this release does not read."""


class CollapseError(ModelBehaviorError):
    """Training stopped because every pair is mapped to the same point."""


class MissingExtraError(ModelBehaviorError):
    """An optional dependency that is not installed."""

    def __init__(self, feature: str, extra: str) -> None:
        super().__init__(f"{feature} needs an optional dependency. Fix: pip install 'model-behavior[{extra}]'")


def check_version(what: str, found: object, supported: int) -> None:
    """Refuses what another release has saved in another way.

    Args:
        what: name of what was saved, as the message begins.
        found: version that it says it is of.
        supported: version that this release reads.

    Raises:
        ArtifactError: the versions differ; a newer one needs a newer release, another one a new training.
    """
    if found != supported:
        newer = isinstance(found, int) and found > supported
        fix = "upgrade model-behavior" if newer else "train again"
        raise ArtifactError(f"{what} version {found!r}; this release reads version {supported}. Fix: {fix}")
