"""Text encoders as JSON values and arrays, and back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy.typing as npt

from model_behavior.errors import ArtifactError
from model_behavior.models.behavior.encoder_base import TextEncoderBase
from model_behavior.models.behavior.registry import check_registered, make_text_encoder
from model_behavior.preprocessing.entry_file import Arrays, inside


def text_encoders_to_state(encoders: Sequence[TextEncoderBase]) -> tuple[list[dict[str, Any]], Arrays]:
    """Name, configuration and fingerprint of each, and what they learned from votes, by their place.

    Raises:
        UsageError: an encoder that could not be loaded again.
    """
    entries: list[dict[str, Any]] = []
    arrays: Arrays = {}
    for place, encoder in enumerate(encoders):
        check_registered(encoder)
        entries.append({"name": encoder.name, "config": dict(encoder.config), "fingerprint": encoder.fingerprint})
        arrays |= {f"{place}.{name}": value for name, value in encoder.tensors().items()}
    return entries, arrays


def text_encoders_from_state(
    entries: Sequence[Mapping[str, Any]], arrays: Mapping[str, npt.NDArray[Any]]
) -> list[TextEncoderBase]:
    """The inverse of `text_encoders_to_state`.

    Raises:
        ArtifactError: an encoder gives other vectors here (another backbone under the same name, say).
        UsageError: an unknown encoder, or one that cannot take what was learned.
    """
    encoders = []
    for place, entry in enumerate(entries):
        encoder = make_text_encoder(entry["name"], entry["config"]).with_tensors(inside(arrays, f"{place}."))
        if encoder.fingerprint != entry["fingerprint"]:
            raise ArtifactError(
                f"text encoder {encoder.name!r} {dict(encoder.config)} is not the one that this encoder "
                "was trained with. Fix: install the same weights and release, or train again."
            )
        encoders.append(encoder)
    return encoders
