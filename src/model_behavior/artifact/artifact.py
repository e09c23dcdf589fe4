"""The trained artifact and everything that can be asked of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import TypeAlias, final

from model_behavior.arrays import Float32Array
from model_behavior.artifact.certainty import ModelCertainty, measure_certainty
from model_behavior.artifact.folder import Contents, read_folder, write_folder
from model_behavior.artifact.hub import HUB_PREFIX, read_from_hub, upload_artifact
from model_behavior.catalog import Catalog, EncodedPart, enrol, enrol_encoded, extend_catalog, merge_catalogs, remove
from model_behavior.catalog.agreement import model_table
from model_behavior.catalog.drift import DriftConfig, DriftReport, measure_drift
from model_behavior.catalog.enrolment import EnrolmentConfig
from model_behavior.catalog.identification import Identification, Identifier, fit_identifier
from model_behavior.catalog.neighbours import Neighbourhood, find_neighbours
from model_behavior.catalog.revisions import Revisions, record_changes
from model_behavior.data.loading import UNNAMED, as_anonymous_responses, as_responses, as_votes
from model_behavior.data.sources import Source
from model_behavior.data_models.scoring_types import RankedModel
from model_behavior.data_models.votes import PairTable, TrainingData
from model_behavior.errors import UsageError
from model_behavior.evaluation.evaluate import Evaluation, EvaluationConfig, evaluate
from model_behavior.models.behavior.monitor import Runtime
from model_behavior.models.scoring.dense_network_model import DenseNetworkModel
from model_behavior.models.scoring.model_base import rank_best_first
from model_behavior.names import find_model
from model_behavior.routing.costs import CostTable, load_costs
from model_behavior.routing.router import Choice, Router, make_router
from model_behavior.routing.traffic import RoutingRule, apply_rule

Votes: TypeAlias = TrainingData | Source | Sequence[Source]
Responses: TypeAlias = PairTable | TrainingData | Source | Sequence[Source]

_BATCH = 512


@final
@dataclass(frozen=True, eq=False, repr=False)
class Artifact(Contents):
    """A trained encoder with the models that it has embedded, and what predicts votes between them.

    An artifact never changes: what adds or removes models gives another one. `train` makes the first.

    Responses and votes may be paths of files in any known format, folders, `hf://owner/name`, lists of dictionaries,
    or a DataFrame (pandas, polars, Arrow).
    """

    def __repr__(self) -> str:
        voted = 0 if self.scorer is None else len(self.scorer.voted_models)
        text = " + ".join(encoder.name for encoder in self.encoder.text_encoders)
        return f"Artifact({len(self.models)} models, {voted} of them voted on; {text}, {self.encoder.dim} dimensions)"

    @classmethod
    def load(cls, source: str | Path, runtime: Runtime | None = None) -> Artifact:
        """Reads and verifies an artifact.

        Args:
            source: its folder, or `hf://owner/name` on the Hugging Face Hub (needs the extra `hub`).
            runtime: cache of text features, and who is told of progress.

        Raises:
            ArtifactError: it is missing, no artifact, of another version, or a file in it is missing or altered.
        """
        text = str(source)
        from_hub = text.startswith(HUB_PREFIX)
        return cls(**vars(read_from_hub(text, runtime) if from_hub else read_folder(Path(source), runtime)))

    def save(self, path: str | Path, *, texts: bool = True) -> None:
        """Writes a folder; an artifact that was there is replaced only when the new one is whole.

        Args:
            path: of the folder.
            texts: whether the responses kept for people to read go into it. Without them, `neighbours` and the page
                show no examples; hashes of prompts, hashed word counts and vectors stay.

        Raises:
            UsageError: something is there that is no artifact.
            OSError: the folder cannot be written; what was there before is still there.
        """
        write_folder(self, Path(path), texts)

    def push_to_hub(self, name: str, *, texts: bool = False, private: bool = True, token: str | None = None) -> str:
        """Uploads the artifact to the Hugging Face Hub (needs the extra `hub`).

        Args:
            name: `owner/name` of the repository, which is made where it does not exist.
            texts: whether responses go along; see `save`.
            private: whether a new repository is private.
            token: of an account that may write there; by default the one that `hf auth login` has stored.

        Returns:
            Address of the commit.
        """
        return upload_artifact(self, name, texts=texts, private=private, token=token)

    def onboard(
        self,
        responses: Responses,
        model: str | None = None,
        *,
        add: bool = False,
        config: EnrolmentConfig | None = None,
        parts: Iterable[EncodedPart] | None = None,
    ) -> Artifact:
        """Places models by their responses, without a vote and without training.

        Args:
            responses: of any number of models.
            model: name of the model, where the responses do not say.
            add: the responses of a model that is here already join those behind its embedding; by default it is
                enrolled anew.
            config: how much is kept of the responses.
            parts: the pairs of `responses`, where they are encoded already.

        Returns:
            The artifact with these models.

        Raises:
            DataError: no pair has both a prompt and a response.
        """
        pairs, _ = as_responses(responses, model)
        if add:
            return self.with_catalog(extend_catalog(self.catalog, self.encoder, pairs, _BATCH, parts, config))
        progress = partial(self.encoder.runtime.monitor.on_progress, "model embeddings")
        if parts is None:
            new = enrol(self.encoder, pairs, _BATCH, progress=progress, config=config)
        else:
            new = enrol_encoded(pairs, parts, progress=progress, config=config)
        return self.with_models(new)

    def remove(self, *names: str) -> Artifact:
        """The artifact without some models: neither their embeddings nor anything of their responses is kept.

        Raises:
            UsageError: an unknown model, or one whose votes the scorer was trained on.
        """
        return self.with_catalog(remove(self.catalog, names))

    def rank(self, prompt: str | None = None, models: Sequence[str] | None = None) -> list[RankedModel]:
        """Models by rating, best first, with 95 % intervals; log-odds, the mean of the voted models at 0.

        Args:
            prompt: to rate them on; over all prompts by default.
            models: names, all by default.

        Raises:
            UsageError: there is no scorer, or a model is unknown.
        """
        return rank_best_first(self.trained_scorer.rate(models, prompt=prompt))

    def predict(self, prompts: Sequence[str], models_a: Sequence[str], models_b: Sequence[str]) -> Float32Array:
        """Probabilities that a person prefers model a, model b, neither (a tie), or finds both bad.

        Args:
            prompts: [n].
            models_a: [n], names.
            models_b: [n], names.

        Returns:
            [n, 4], rows sum to 1.

        Raises:
            UsageError: there is no scorer, or a model is unknown.
        """
        return self.trained_scorer.predict(prompts, models_a, models_b)

    def router(
        self,
        costs: CostTable | Mapping[str, float] | str | Path,
        models: Sequence[str] | None = None,
        reference: str | None = None,
    ) -> Router:
        """What chooses models for prompts.

        Args:
            costs: of a request to each model, or the file that says so.
            models: candidates; all with a cost by default.
            reference: model that win rates are against; the best-rated candidate by default.
        """
        table = load_costs(costs) if isinstance(costs, str | Path) else costs
        table = table if isinstance(table, CostTable) else CostTable(table)
        return make_router(self.trained_scorer, table, models, reference)

    def route(
        self,
        prompts: Sequence[str],
        costs: CostTable | Mapping[str, float] | str | Path,
        *,
        budget: float | None = None,
        floor: float | None = None,
        threshold: float | None = None,
    ) -> list[Choice]:
        """A model for each prompt, by expected win rate and cost; the best one where no rule is given.

        Args:
            prompts: [n].
            costs: of a request to each candidate, or the file that says so.
            budget: largest mean cost of a request over these prompts.
            floor: win rate that the cheapest choice must have against the best model, 0 to 0.5.
            threshold: win rate that one unit of cost must add.

        Returns:
            [n].
        """
        router = self.router(costs)
        return apply_rule(router, prompts, RoutingRule(budget, floor, threshold)).route(prompts)

    def identify(self, responses: Responses, prior_none: float = 0.5) -> dict[str | None, Identification]:
        """Which known model wrote these responses, or none of them.

        Args:
            responses: where they name models, each name is judged by itself.
            prior_none: probability, before seeing the responses, of a model that is not known.

        Returns:
            By name in the responses, None where they have none.
        """
        pairs, _ = as_anonymous_responses(responses)
        asked = enrol(self.encoder, pairs, _BATCH)
        styles, embedded = asked.samples.styles, asked.samples.embedded
        return {
            None if name == UNNAMED else name: self.identifier.identify(
                styles.vectors[styles.rows_of(row)], embedded.vectors[embedded.rows_of(row)], prior_none
            )
            for row, name in enumerate(asked.models.names)
        }

    def neighbours(self, name: str, number: int = 5, drivers: int = 5) -> Neighbourhood:
        """The models most like a model, what sets them apart, and what they answer.

        Args:
            name: of a model.
            number: of neighbours.
            drivers: differences of style that are named for each.
        """
        return find_neighbours(self.catalog, name, number, drivers)

    def drift(self, responses: Responses, model: str, config: DriftConfig | None = None) -> DriftReport:
        """Tests whether a model's answers have changed since it was enrolled.

        Args:
            responses: of today.
            model: its name here.
            config: accepted rate of false alarms, number of permutations, seed.
        """
        find_model(self.models.names, model)  # an unknown name is said before the responses are read
        pairs, _ = as_responses(responses, model)
        return measure_drift(self.catalog, model, enrol(self.encoder, pairs, _BATCH), config)

    def certainty(
        self, names: Sequence[str] | None = None, half_width: float | None = None
    ) -> tuple[ModelCertainty, ...]:
        """How sure the artifact is of its models, and what more responses would buy.

        Args:
            names: of the models, all by default.
            half_width: target of the rating's 95 % interval; by default 10 % above the smallest possible.
        """
        return measure_certainty(self, self.models.names if names is None else names, half_width)

    def evaluate(self, votes: Votes, config: EvaluationConfig | None = None) -> Evaluation:
        """Measures both stages on votes, on prompts that they were not trained on.

        Args:
            votes: may be those of the training, of which the validation prompts are measured.
            config: seed and sizes.
        """
        data, _ = as_votes(votes)
        return evaluate(self, data, config)

    def encode(self, prompts: Sequence[str], responses: Sequence[str]) -> Float32Array:
        """Unit vectors of (prompt, response) pairs, [n, dim]."""
        vectors: Float32Array = self.encoder.encode(list(prompts), list(responses), _BATCH)
        return vectors

    @property
    def trained_scorer(self) -> DenseNetworkModel:
        """Stage 2.

        Raises:
            UsageError: it was not trained.
        """
        if self.scorer is None:
            raise UsageError("this artifact has no scorer. Fix: model-behavior train-scorer DIR VOTES")
        return self.scorer

    @cached_property
    def identifier(self) -> Identifier:
        """Fitted to the catalog at the first use, which takes some seconds."""
        return fit_identifier(self.catalog)

    def with_models(self, new: Catalog) -> Artifact:
        """The artifact with other models beside its own; one of the same name is replaced."""
        return self.with_catalog(merge_catalogs(self.catalog, new))

    def with_catalog(self, catalog: Catalog) -> Artifact:
        """The same encoder with another catalog, in which the scorer enrols the models that have no votes.

        What differs is recorded as revisions. This artifact and its scorer stay as they are.

        Raises:
            UsageError: a model that the scorer's votes are about is missing.
        """
        revisions = record_changes(self.revisions, self.catalog, catalog)
        scorer, training_scorer = (
            None if each is None else self._follow_catalog(each, catalog, revisions)
            for each in (self.scorer, self.training_scorer)
        )
        return replace(
            self,
            models=catalog.models,
            samples=catalog.samples,
            scorer=scorer,
            training_scorer=training_scorer,
            revisions=revisions,
        )

    def _follow_catalog(self, scorer: DenseNetworkModel, catalog: Catalog, revisions: Revisions) -> DenseNetworkModel:
        """A scorer that has enrolled what changed and what it did not know, and has forgotten models that are gone."""
        other, names = copy(scorer), catalog.models.names
        other.remove(sorted(set(scorer.models) - set(names)))
        known = set(other.models)
        changed = [name for name in names if name not in known or revisions.get(name) != self.revisions.get(name)]
        if changed:
            other.enrol(model_table(self.encoder, catalog, other.voted_models, changed))
        return other
