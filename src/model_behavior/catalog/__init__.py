"""The catalog of models: their embeddings, what is kept of their responses, and what can be asked of both.

embeddings.py       one row per model: mean, count, spread
samples.py          beside it: sampled vectors, packed words, style profiles, responses kept as text
enrolment.py        responses -> both; more responses of a model that is there already; merge, remove
revisions.py        what became of each model since the training: numbered changes
neighbours.py       nearest models
style_drivers.py    what sets two models apart in style, in words
two_covariance.py   how responses scatter around their model, and models around their mean
placement.py        where a model lies, and how sure that is
places.py           the same on the two axes of the map
identification.py   which model wrote these responses, or none of them
calibration.py      from its likelihood ratios to probabilities
drift.py            whether the responses under a name have changed, and how many tell
agreement.py        what stage 2 is told of the models: embeddings, and whose answers theirs resemble
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
