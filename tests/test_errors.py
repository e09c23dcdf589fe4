"""What the errors say."""

from __future__ import annotations

import pytest

from model_behavior.errors import ArtifactError, check_version


@pytest.mark.parametrize(
    ("found", "fix"), [(3, "upgrade model-behavior"), (1, "train again"), (None, "train again"), ("2", "train again")]
)
def test_a_newer_version_needs_a_newer_release_and_an_older_one_a_new_training(found: object, fix: str) -> None:
    with pytest.raises(ArtifactError) as caught:
        check_version("a: format", found, 2)
    assert str(caught.value) == f"a: format version {found!r}; this release reads version 2. Fix: {fix}"


def test_the_version_that_is_read_passes() -> None:
    check_version("a: format", 2, 2)
