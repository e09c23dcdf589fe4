"""The registry of text encoders: finds them by name, and saves and loads them.

Configurations and the command line name text encoders; a saved encoder has their names, settings and learned weights.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from model_behavior.arrays import AnyArray, Arrays
from model_behavior.errors import ArtifactError, UsageError
from model_behavior.models.behavior.encoder_base import TextEncoderBase
from model_behavior.models.behavior.text.causal import CausalReadingConfig
from model_behavior.models.behavior.text.execution import Backend
from model_behavior.models.behavior.text.fine_tuning import FineTuningConfig
from model_behavior.models.behavior.text.lexical import LexicalEncoder
from model_behavior.models.behavior.text.likelihood import LikelihoodEncoder
from model_behavior.models.behavior.text.static import StaticConfig, StaticEncoder
from model_behavior.models.behavior.text.style import StyleEncoder
from model_behavior.models.behavior.text.transformer import ReadingConfig
from model_behavior.models.behavior.text.transformer_encoders import FineTunedEncoder, SentenceTransformerEncoder
from model_behavior.names import nearest
from model_behavior.preprocessing.entry_file import inside

TEXT_ENCODERS: dict[str, type[TextEncoderBase]] = {
    encoder.name: encoder
    for encoder in (
        StyleEncoder,
        LexicalEncoder,
        StaticEncoder,
        SentenceTransformerEncoder,
        FineTunedEncoder,
        LikelihoodEncoder,
    )
}
DEFAULT_ENCODERS = ("style", "lexical")


def register_text_encoder(encoder: type[TextEncoderBase]) -> type[TextEncoderBase]:
    """Registers a text encoder of your own under its `name`, so that artifacts trained with it can be loaded.

    Use it as a class decorator; the class must also be registered before an artifact is loaded.

    Raises:
        UsageError: another text encoder has that name.
    """
    if TEXT_ENCODERS.get(encoder.name, encoder) is not encoder:
        raise UsageError(f"a text encoder named {encoder.name!r} is registered already. Fix: choose another name")
    TEXT_ENCODERS[encoder.name] = encoder
    return encoder


def check_registered(encoder: TextEncoderBase) -> None:
    """Refuses an encoder that could be saved but not loaded.

    Raises:
        UsageError: the encoder's class is not registered.
    """
    if TEXT_ENCODERS.get(encoder.name) is not type(encoder):
        raise UsageError(
            f"text encoder {encoder.name!r} could not be loaded again. Fix: @register_text_encoder on "
            f"{type(encoder).__name__}"
        )


@dataclass(frozen=True)
class TextConfig:
    """The text encoders that describe a pair, and the settings of the transformers among them.

    Attributes:
        encoders: names of the text encoders, in the order of their columns.
        reading: weights, token budgets, pooling and precision of `semantic` and `finetuned`.
        tuning: settings of the fine-tuning of `finetuned`.
        likelihood: language model, token budgets and precision of `likelihood`.
        static: table and token budget of `static`.
    """

    encoders: tuple[str, ...] = DEFAULT_ENCODERS
    reading: ReadingConfig = field(default_factory=ReadingConfig)
    tuning: FineTuningConfig = field(default_factory=FineTuningConfig)
    likelihood: CausalReadingConfig = field(default_factory=CausalReadingConfig)
    static: StaticConfig = field(default_factory=StaticConfig)

    def make(self, backend: Backend = "auto") -> tuple[TextEncoderBase, ...]:
        """Makes the encoders; `backend` runs the transformers among them."""
        reading = {**asdict(self.reading), "backend": backend}
        configs = {
            "semantic": reading,
            "finetuned": {**reading, "tuning": self.tuning},
            "likelihood": asdict(self.likelihood),
            "static": asdict(self.static),
        }
        return make_text_encoders(self.encoders, configs)


def make_text_encoder(name: str, config: Mapping[str, Any] | None = None) -> TextEncoderBase:
    """Makes the text encoder of a name.

    Raises:
        UsageError: the name is unknown, or the encoder does not take the settings.
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
    """Makes several text encoders, whose features are used side by side.

    Args:
        names: names of the text encoders.
        configs: settings by name; default settings for names that are missing.
    """
    if not names or len(set(names)) < len(names):
        raise UsageError(f"text encoders {list(names)}: at least one is needed, and each only once")
    return tuple(make_text_encoder(name, (configs or {}).get(name)) for name in names)


def text_encoders_to_state(encoders: Sequence[TextEncoderBase]) -> tuple[list[dict[str, Any]], Arrays]:
    """Saves encoders: name, configuration and fingerprint of each, and their learned weights by position.

    Raises:
        UsageError: an encoder is not registered, so that it could not be loaded again.
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
        ArtifactError: an encoder gives other vectors here, such as another backbone of the same name.
        UsageError: an encoder is unknown, or cannot take the saved weights.
    """
    encoders = []
    for place, entry in enumerate(entries):
        encoder = make_text_encoder(entry["name"], entry["config"]).with_tensors(inside(arrays, f"{place}."))
        # Saved settings may include some that this release no longer has; the encoder was made from the others.
        if encoder.fingerprint_with(entry["config"]) != entry["fingerprint"]:
            raise ArtifactError(
                f"text encoder {encoder.name!r} {dict(encoder.config)} differs from the one that this encoder "
                "was trained with. Fix: install the same weights and release, or train again."
            )
        encoders.append(encoder)
    return encoders
