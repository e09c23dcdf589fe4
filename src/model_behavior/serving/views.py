"""Answers of the service. Field names are those of the API."""

from __future__ import annotations

from dataclasses import dataclass

from model_behavior.artifact.rating_drivers import RatingDrivers
from model_behavior.catalog import Exemplar, SharedPrompt
from model_behavior.catalog.asking import SuggestedPrompt
from model_behavior.catalog.drift import DriftReport
from model_behavior.catalog.drift_history import PastCheck
from model_behavior.catalog.identification import Candidate
from model_behavior.catalog.neighbours import Neighbour
from model_behavior.catalog.places import Ellipse
from model_behavior.catalog.revisions import Revision
from model_behavior.catalog.style_drivers import StyleDriver
from model_behavior.data_models.scoring_types import RankedModel, ScaleName
from model_behavior.routing.router import Alternative


@dataclass(frozen=True)
class ModelRow:
    """One model. Ratings are Elo, None without a scorer.

    Attributes:
        enrolled: True for a model without votes and without a published rating, which is rated by its answers.
        group: number from 1, the best first; no two models of a group can be told apart.
        beyond: 1 where an enrolled model's answers look better than those of every known one, -1 where they look worse,
            0 otherwise.
        cost: cost of a request, in the currency of the cost file; None where none is configured.
        upstream: True where chat completions can reach it.
    """

    name: str
    family: str
    count: int
    spread: float
    votes: int
    enrolled: bool
    group: int | None
    beyond: int
    rating: float | None
    low: float | None
    high: float | None
    cost: float | None
    upstream: bool


@dataclass(frozen=True)
class ListedModel:
    """A model in a list, in OpenAI's format."""

    id: str
    object: str = "model"
    created: int = 0
    owned_by: str = "model-behavior"


@dataclass(frozen=True)
class ModelList:
    """All models, best rating first, by name without ratings; `data` is what chat completions accept as `model`."""

    version: str
    models: tuple[ModelRow, ...]
    data: tuple[ListedModel, ...]
    object: str = "list"


@dataclass(frozen=True)
class MapPoint:
    """A model on the map."""

    name: str
    family: str
    x: float
    y: float
    ellipse: Ellipse
    count: int
    votes: int
    enrolled: bool
    rating: float | None


@dataclass(frozen=True)
class ModelMap:
    """The map; `axes` are shares of the variance on x and y."""

    version: str
    method: str
    axes: tuple[float, float]
    models: tuple[MapPoint, ...]


@dataclass(frozen=True)
class ModelDetails:
    """A model, what sets it apart from the average of the others, typical responses, and its changes, newest first.

    `rating_drivers` is what in its answers raises and lowers its rating, in Elo; None where that is not known. The last
    four fields are those of OpenAI's models.
    """

    version: str
    model: ModelRow
    drivers: tuple[StyleDriver, ...]
    rating_drivers: RatingDrivers | None
    exemplars: tuple[Exemplar, ...]
    revisions: tuple[Revision, ...]
    id: str
    object: str = "model"
    created: int = 0
    owned_by: str = "model-behavior"


@dataclass(frozen=True)
class NeighbourList:
    """A model and those nearest to it, nearest first."""

    version: str
    model: str
    responses: int
    drivers: tuple[StyleDriver, ...]
    exemplars: tuple[Exemplar, ...]
    neighbours: tuple[Neighbour, ...]


@dataclass(frozen=True)
class Prediction:
    """Probabilities of the four outcomes."""

    p_model_a: float
    p_model_b: float
    p_tie: float
    p_both_bad: float


@dataclass(frozen=True)
class Comparison:
    """Two models side by side; `drivers` are differences of a from b, `prediction` is on the average prompt."""

    version: str
    a: ModelRow
    b: ModelRow
    distance: float
    drivers: tuple[StyleDriver, ...]
    prediction: Prediction | None
    shared: tuple[SharedPrompt, ...]
    exemplars_a: tuple[Exemplar, ...]
    exemplars_b: tuple[Exemplar, ...]


@dataclass(frozen=True)
class Ranking:
    """Models, best first, and the scale of their ratings."""

    version: str
    prompt_used: bool
    scale: ScaleName
    models: tuple[RankedModel, ...]


@dataclass(frozen=True)
class PromptList:
    """Prompts that tell most about a new model, in the order to ask them."""

    version: str
    prompts: tuple[SuggestedPrompt, ...]


@dataclass(frozen=True)
class Predictions:
    """One prediction per vote, in order."""

    version: str
    predictions: tuple[Prediction, ...]


@dataclass(frozen=True)
class Route:
    """The model chosen for a prompt, why, and the other candidates, best first.

    Attributes:
        win_rate: expected win rate against the reference.
        low: lower end of its 95 % interval, from those of both ratings.
        high: upper end of that interval.
        runner_up: best of the other candidates; None where there is none.
    """

    version: str
    model: str
    win_rate: float
    low: float
    high: float
    cost: float
    reason: str
    runner_up: str | None
    reference: str
    threshold: float
    floor: float | None
    alternatives: tuple[Alternative, ...]


@dataclass(frozen=True)
class Embeddings:
    """One unit vector per pair, in order."""

    version: str
    dim: int
    embeddings: list[list[float]]


@dataclass(frozen=True)
class IdentifiedModel:
    """Result of identification; `likeliest` is None where the likeliest author is no known model."""

    version: str
    likeliest: str | None
    none: float
    n_responses: int
    candidates: tuple[Candidate, ...]


@dataclass(frozen=True)
class NearModel:
    """A model and its cosine distance."""

    model: str
    distance: float


@dataclass(frozen=True)
class MoreResponses:
    """Number of further responses that narrow the rating's 95 % interval to about +- `half_width` Elo."""

    responses: int
    half_width: float


@dataclass(frozen=True)
class PlacedModel(MapPoint):
    """A model placed by an upload, in the coordinates of the map before the upload.

    `more` is empty where more responses would hardly help, or the model has no rating. `beyond` and `rating_drivers`
    are those of `ModelRow` and `ModelDetails`.
    """

    spread: float
    low: float | None
    high: float | None
    beyond: int
    rating_drivers: RatingDrivers | None
    neighbours: tuple[NearModel, ...]
    more: tuple[MoreResponses, ...]


@dataclass(frozen=True)
class Upload:
    """Result of an upload: counts of rows, and the models in the file."""

    version: str
    dry_run: bool
    rows: int
    used: int
    skipped: dict[str, int]
    format: str
    models: tuple[PlacedModel, ...]


@dataclass(frozen=True)
class Removal:
    """Result of a removal."""

    version: str
    removed: str


@dataclass(frozen=True, kw_only=True)
class DriftCheck(DriftReport):
    """A drift report with its time, ISO 8601 in UTC; `recorded` tells whether the history in the folder has it."""

    version: str
    checked_at: str
    recorded: bool


@dataclass(frozen=True)
class DriftChecks:
    """The latest check of each model since the service started, and the latest 1,000 of the history; newest first."""

    version: str
    checks: tuple[DriftCheck, ...]
    history: tuple[PastCheck, ...]


@dataclass(frozen=True)
class Readiness:
    """Whether requests can be answered."""

    status: str
    models: int
    version: str


@dataclass(frozen=True)
class SessionLimits:
    """Limits of one request."""

    body_bytes: int
    upload_bytes: int
    batch: int
    tokens: int


@dataclass(frozen=True)
class Session:
    """Scopes and limits of the caller."""

    scopes: tuple[str, ...]
    keys_needed: bool
    chat: bool
    version: str
    limits: SessionLimits
