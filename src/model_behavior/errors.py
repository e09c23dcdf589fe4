"""The errors that a caller is expected to see: each says what failed, where, what is allowed, and the fix."""

from __future__ import annotations


class ModelBehaviorError(Exception):
    """Base of every error that this library raises on purpose. Exit code 1 on the command line."""


class UsageError(ModelBehaviorError):
    """An argument or option that cannot be meant. Exit code 2 on the command line."""


class DataError(ModelBehaviorError):
    """Input data that cannot be used. Exit code 3 on the command line."""


class ArtifactError(ModelBehaviorError):
    """A saved folder that is missing, altered, or written by a newer version."""


class CollapseError(ModelBehaviorError):
    """Training stopped because every pair is mapped to the same point."""


class MissingExtraError(ModelBehaviorError):
    """An optional dependency that is not installed."""

    def __init__(self, feature: str, extra: str) -> None:
        super().__init__(f"{feature} needs an optional dependency. Fix: pip install 'model-behavior[{extra}]'")
