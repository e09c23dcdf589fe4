"""A trained artifact: the encoder, the models that it has embedded, what predicts votes between them."""

from model_behavior.artifact.artifact import (
    Artifact,
    check_output,
    fingerprint,
    load,
    locked,
    save,
)

__all__ = ["Artifact", "check_output", "fingerprint", "load", "locked", "save"]
