"""The text encoders by name, for configurations and the command line.

Text encoders as JSON values and arrays, and back.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from model_behavior.arrays import AnyArray, Arrays
from model_behavior.errors import ArtifactError, UsageError
from model_behavior.models.behavior.encoder_base import TextEncoderBase
from model_behavior.models.behavior.text.execution import Backend
from model_behavior.models.behavior.text.fine_tuning import FineTuningConfig
from model_behavior.models.behavior.text.lexical import LexicalEncoder
from model_behavior.models.behavior.text.style import StyleEncoder
from model_behavior.models.behavior.text.transformer import ReadingConfig
from model_behavior.models.behavior.text.transformer_encoders import FineTunedEncoder, SentenceTransformerEncoder
from model_behavior.names import nearest
from model_behavior.preprocessing.entry_file import inside

TEXT_ENCODERS: dict[str, type[TextEncoderBase]] = {
    encoder.name: encoder for encoder in (StyleEncoder, LexicalEncoder, SentenceTransformerEncoder, FineTunedEncoder)
}
DEFAULT_ENCODERS = ("style", "lexical")


def register_text_encoder(encoder: type[TextEncoderBase]) -> type[TextEncoderBase]:
    """Makes an encoder of your own known by its name, so that what was trained with it can be loaded.

    A class decorator; call it before loading, too.
    """
    if TEXT_ENCODERS.get(encoder.name, encoder) is not encoder:
        raise UsageError(f"a text encoder is registered as {encoder.name!r} already. Fix: choose another name")
    TEXT_ENCODERS[encoder.name] = encoder
    return encoder


def check_registered(encoder: TextEncoderBase) -> None:
    """Refuses an encoder that could be saved but not loaded.

    Raises:
        UsageError: its class is not registered.
    """
    if TEXT_ENCODERS.get(encoder.name) is not type(encoder):
        raise UsageError(
            f"text encoder {encoder.name!r} could not be loaded again. Fix: @register_text_encoder on "
            f"{type(encoder).__name__}"
        )


@dataclass(frozen=True)
class TextConfig:
    """Which text encoders describe a pair, and how the transformers among them read it.

    Attributes:
        encoders: names, in the order of their columns.
        reading: weights, token budgets, pooling and precision of `semantic` and `finetuned`.
        tuning: what is tuned of `finetuned`, and how.
    """

    encoders: tuple[str, ...] = DEFAULT_ENCODERS
    reading: ReadingConfig = field(default_factory=ReadingConfig)
    tuning: FineTuningConfig = field(default_factory=FineTuningConfig)

    def make(self, backend: Backend = "auto") -> tuple[TextEncoderBase, ...]:
        """The encoders; `backend` runs the transformers among them."""
        reading = {**asdict(self.reading), "backend": backend}
        configs = {"semantic": reading, "finetuned": {**reading, "tuning": self.tuning}}
        return make_text_encoders(self.encoders, configs)


def make_text_encoder(name: str, config: Mapping[str, Any] | None = None) -> TextEncoderBase:
    """The text encoder of that name.

    Raises:
        UsageError: an unknown name, or an argument that the encoder does not have.
    """
    if name not in TEXT_ENCODERS:
        near = nearest(TEXT_ENCODERS, name, 1, 0.6)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise UsageError(f"unknown text encoder {name!r}; allowed: {', '.join(TEXT_ENCODERS)}.{hint}")
    try:
        return TEXT_ENCODERS[name](**(config or {}))
    except (TypeError, ValueError) as error:
        raise UsageError(f"text encoder {name!r}: {error}") from error


def make_text_encoders(
    names: Sequence[str] = DEFAULT_ENCODERS, configs: Mapping[str, Mapping[str, Any]] | None = None
) -> tuple[TextEncoderBase, ...]:
    """Several text encoders, whose features are used side by side.

    Args:
        names: which.
        configs: settings by name, where they are not the default ones.
    """
    if not names or len(set(names)) < len(names):
        raise UsageError(f"text encoders {list(names)}: at least one is needed, and each only once")
    return tuple(make_text_encoder(name, (configs or {}).get(name)) for name in names)


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
    entries: Sequence[Mapping[str, Any]], arrays: Mapping[str, AnyArray]
) -> list[TextEncoderBase]:
    """The inverse of `text_encoders_to_state`.

    Raises:
        ArtifactError: an encoder gives other vectors here (another backbone under the same name, say).
        UsageError: an unknown encoder, or one that cannot take what was learned.
    """
    encoders = []
    for place, entry in enumerate(entries):
        encoder = make_text_encoder(entry["name"], entry["config"]).with_tensors(inside(arrays, f"{place}."))
        # What was saved may have settings that are gone; the encoder was made from the rest.
        if encoder.fingerprint_with(entry["config"]) != entry["fingerprint"]:
            raise ArtifactError(
                f"text encoder {encoder.name!r} {dict(encoder.config)} is not the one that this encoder "
                "was trained with. Fix: install the same weights and release, or train again."
            )
        encoders.append(encoder)
    return encoders
