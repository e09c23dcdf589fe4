"""The errors of the library; each message says what failed, where, what is allowed, and the fix."""

from __future__ import annotations

from typing import Self


class ModelBehaviorError(Exception):
    """Base of every error that this library raises on purpose. Exit code 1 on the command line."""

    def reworded(self, message: str) -> Self:
        """Returns the same error with another message."""
        other = type(self).__new__(type(self))
        other.__dict__.update(self.__dict__)
        other.args = (message,)
        return other


class UsageError(ModelBehaviorError):
    """Invalid argument or option. Exit code 2 on the command line."""


class DataError(ModelBehaviorError):
    """Unusable input data. Exit code 3 on the command line."""


class ArtifactError(ModelBehaviorError):
    """Saved folder or state that is missing, altered, incomplete, or of a version that this release cannot read."""


class CollapseError(ModelBehaviorError):
    """Training that has collapsed (every pair is mapped to the same point) or diverged (the loss is not a number)."""


class MissingExtraError(ModelBehaviorError):
    """Optional dependency that is not installed."""

    def __init__(self, feature: str, extra: str, also: str = "") -> None:
        further = f" and {also}" if also else ""
        super().__init__(f"{feature} needs an optional dependency. Fix: pip install 'model-behavior[{extra}]'{further}")


def check_version(what: str, found: object, supported: int) -> None:
    """Refuses a saved object of another format version.

    Args:
        what: name of the object, the beginning of the message.
        found: version of the object.
        supported: version that this release reads.

    Raises:
        ArtifactError: the versions differ. A newer version needs a newer release, an older one a new training.
    """
    if found != supported:
        newer = isinstance(found, int) and found > supported
        fix = "upgrade model-behavior" if newer else "train again"
        raise ArtifactError(f"{what} version {found!r}; this release reads version {supported}. Fix: {fix}")
