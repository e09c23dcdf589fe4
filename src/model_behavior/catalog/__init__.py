"""The catalog of models: their embeddings, what is kept of their responses, and what can be asked of both.

embeddings.py       one row per model: mean, count, spread
samples.py          beside it: sampled vectors, style profiles, typical responses, answers to prompts that others share
enrolment.py        responses -> both; more responses of a known model, merge, remove
revisions.py        what became of each model since the training: numbered changes
neighbours.py       nearest models
style_drivers.py    what sets two models apart, in words
places.py           where models lie on the map
placement.py        where a model lies in the space of embeddings, and how sure that is
agreement.py        whom the answers of a model agree with on the same prompts
identification.py   which model wrote these, or none of them (two_covariance.py, calibration.py)
drift.py            have the responses under a name changed
"""

from model_behavior.catalog.embeddings import EncodedPart, ModelEmbeddings, merge
from model_behavior.catalog.enrolment import (
    Catalog,
    EnrolmentConfig,
    enrol,
    enrol_encoded,
    extend_catalog,
    merge_catalogs,
    remove,
)
from model_behavior.catalog.samples import Exemplar, ModelSamples, SharedPrompt
from model_behavior.names import find_model

__all__ = [
    "Catalog",
    "EncodedPart",
    "EnrolmentConfig",
    "Exemplar",
    "ModelEmbeddings",
    "ModelSamples",
    "SharedPrompt",
    "enrol",
    "enrol_encoded",
    "extend_catalog",
    "find_model",
    "merge",
    "merge_catalogs",
    "remove",
]
