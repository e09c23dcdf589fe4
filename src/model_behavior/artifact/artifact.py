"""The trained artifact, with one method for every question and change."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import TypeAlias, final

import numpy as np

from model_behavior.arrays import Float32Array
from model_behavior.artifact.certainty import ModelCertainty, measure_certainty
from model_behavior.artifact.folder import Contents, read_folder, write_folder
from model_behavior.artifact.hub import HUB_PREFIX, read_from_hub, upload_artifact
from model_behavior.artifact.rating_drivers import DRIVERS, RatingDrivers, find_rating_drivers
from model_behavior.catalog import Catalog, EncodedPart, enrol, enrol_encoded, extend_catalog, merge_catalogs, remove
from model_behavior.catalog.agreement import model_table
from model_behavior.catalog.asking import KnownSoFar, SuggestedPrompt, choose_prompts
from model_behavior.catalog.drift import DriftConfig, DriftReport, measure_drift
from model_behavior.catalog.embeddings import count_changes
from model_behavior.catalog.enrolment import EnrolmentConfig
from model_behavior.catalog.identification import Identification, Identifier, fit_identifier
from model_behavior.catalog.neighbours import Neighbourhood, find_neighbours
from model_behavior.catalog.revisions import Revisions, record_changes
from model_behavior.data.loading import UNNAMED, as_anonymous_responses, as_responses, as_votes
from model_behavior.data.sources import Source
from model_behavior.data_models.scoring_types import RankedModel, ScaleName
from model_behavior.data_models.votes import PairTable, TrainingData
from model_behavior.errors import UsageError
from model_behavior.evaluation.evaluate import Evaluation, EvaluationConfig, evaluate
from model_behavior.models.behavior.monitor import Runtime
from model_behavior.models.scoring.dense_network_model import DenseNetworkModel
from model_behavior.models.scoring.model_base import NORMAL_QUANTILE, rank_best_first
from model_behavior.names import find_model
from model_behavior.routing.costs import CostTable, load_costs
from model_behavior.routing.router import Choice, Router, make_router
from model_behavior.routing.traffic import RoutingRule, apply_rule

Votes: TypeAlias = TrainingData | Source | Sequence[Source]
Responses: TypeAlias = PairTable | TrainingData | Source | Sequence[Source]

_BATCH = 512
_MODELS_AT_ONCE = 64


@final
@dataclass(frozen=True, eq=False, repr=False)
class Artifact(Contents):
    """A trained encoder, the embeddings of its models, and, once stage 2 is trained, the scorer that predicts votes.

    An artifact never changes: methods that add or remove models return a new one. `train` makes the first.

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
            source: folder of the artifact, or `hf://owner/name` on the Hugging Face Hub (needs the extra `hub`).
            runtime: cache of text features, and monitor of the progress.

        Raises:
            ArtifactError: the folder is missing, not an artifact, of another version, or incomplete or altered.
        """
        text = str(source)
        from_hub = text.startswith(HUB_PREFIX)
        return cls(**vars(read_from_hub(text, runtime) if from_hub else read_folder(Path(source), runtime)))

    def save(self, path: str | Path, *, texts: bool = True) -> None:
        """Writes the artifact to a folder; an older artifact there is replaced only once the new one is complete.

        Args:
            path: folder to write.
            texts: include the sampled responses as text. Without them, `neighbours` and the page show no examples;
                hashes of prompts, hashed word counts and vectors are always written.

        Raises:
            UsageError: the folder exists and is not an artifact.
            OSError: the folder cannot be written; an older artifact there stays unchanged.
        """
        write_folder(self, Path(path), texts)

    def push_to_hub(self, name: str, *, texts: bool = False, private: bool = True, token: str | None = None) -> str:
        """Uploads the artifact to the Hugging Face Hub (needs the extra `hub`).

        Args:
            name: repository, as `owner/name`; created if it does not exist.
            texts: include the sampled responses as text; see `save`.
            private: create a new repository as private.
            token: access token with write permission; by default the one stored by `hf auth login`.

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
        """Embeds and rates models from their responses, without votes and without training.

        Args:
            responses: prompts and responses of any number of models.
            model: name of the model, if the responses do not name it.
            add: add the responses to those already behind a known model's embedding; by default they replace
                them.
            config: limits on the responses that the artifact keeps.
            parts: `responses`, already encoded.

        Returns:
            A new artifact with these models.

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
        """Returns the artifact without some models; neither their embeddings nor their responses are kept.

        Raises:
            UsageError: a model is unknown, or the scorer was trained on its votes.
        """
        return self.with_catalog(remove(self.catalog, names))

    def rank(
        self,
        prompt: str | None = None,
        models: Sequence[str] | None = None,
        *,
        category: str | None = None,
        scale: ScaleName = "elo",
    ) -> list[RankedModel]:
        """Ranks models by rating, best first, with 95 % intervals and groups of models that cannot be told apart.

        Args:
            prompt: prompt to rank on; by default the ranking is over all prompts.
            models: names of the models to rank; all by default.
            category: category of prompts to rank on, one that the published ratings have.
            scale: "elo", where 400 points are odds of 10 to 1 and the models with votes average 1000 (or are where
                they were published), or "log-odds", where they average 0.

        Raises:
            UsageError: there is no scorer, or a model, category or scale is unknown.
        """
        scorer = self.trained_scorer
        return rank_best_first(scorer.rate(models, prompt=prompt, category=category).on(scorer.scale(scale)))

    def prompts(self, number: int = 8, model: str | None = None) -> list[SuggestedPrompt]:
        """Chooses the prompts that tell most about a new model's rating, in the order to ask them.

        Args:
            number: number of prompts.
            model: name of a model of this artifact that some were asked already, to go on from what it answered; by
                default the prompts are for a model of which nothing is known.

        Returns:
            At most `number` prompts.

        Raises:
            UsageError: no prompts are kept, the model is unknown or has votes, or the number is below 1.
        """
        if self.book is None or self.scorer is None:
            raise UsageError(
                "this artifact keeps no prompts to ask: it has no scorer, was saved without texts, or by an earlier "
                "release. Fix: train again, and save with texts"
            )
        if number < 1:
            raise UsageError(f"number={number}: at least 1 is needed")
        known = None if model is None else self._known_so_far(model)
        ratings = dict(zip(self.scorer.ratings.models, self.scorer.ratings.rating.tolist(), strict=True))
        return choose_prompts(self.book, np.array([ratings[name] for name in self.book.models]), number, known)

    def _known_so_far(self, model: str) -> KnownSoFar:
        row = find_model(self.models.names, model)
        scorer = self.trained_scorer
        if model in scorer.voted_models:
            raise UsageError(f"{model!r} has votes or a published rating, so that no prompt tells more about it")
        words = self.catalog.samples.words
        rated = scorer.rate([model])
        deviation = float(rated.high[0] - rated.low[0]) / (2 * NORMAL_QUANTILE)
        answered = frozenset(words.prompt_keys[words.rows_of(row)].tolist())
        return KnownSoFar(answered, float(rated.rating[0]), deviation)

    def predict(self, prompts: Sequence[str], models_a: Sequence[str], models_b: Sequence[str]) -> Float32Array:
        """Predicts votes: probabilities that a person prefers model a, model b, neither (a tie), or finds both bad.

        Args:
            prompts: prompts, [n].
            models_a: names of the first models, [n].
            models_b: names of the second models, [n].

        Returns:
            Probabilities, [n, 4]; rows sum to 1.

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
        """Makes a router, which chooses a model for each prompt.

        Args:
            costs: cost of a request to each model, or a file with these costs.
            models: candidates; all with a cost by default.
            reference: opponent in all win rates; the best-rated candidate by default.
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
        """Chooses a model for each prompt by expected win rate and cost; without a rule, the best model.

        Args:
            prompts: prompts, [n].
            costs: cost of a request to each candidate, or a file with these costs.
            budget: largest mean cost of a request over these prompts.
            floor: lowest win rate against the best model, 0 to 0.5; the cheapest model above it is chosen.
            threshold: smallest gain in win rate for one unit of cost.

        Returns:
            One choice per prompt, [n].
        """
        router = self.router(costs)
        return apply_rule(router, prompts, RoutingRule(budget, floor, threshold)).route(prompts)

    def identify(self, responses: Responses, prior_none: float = 0.5) -> dict[str | None, Identification]:
        """Identifies which known model wrote these responses, or none of them.

        Args:
            responses: responses of one model, or of several named ones, each of which is judged by itself.
            prior_none: prior probability that an unknown model wrote them.

        Returns:
            Verdicts by the name in the responses; the key is None if they have no names.
        """
        pairs, _ = as_anonymous_responses(responses)
        asked = enrol(self.encoder, pairs, _BATCH)
        styles, embedded = asked.samples.styles, asked.samples.embedded
        found: dict[str | None, Identification] = {}
        for row, name in enumerate(asked.models.names):
            verdict = self.identifier.identify(
                styles.vectors[styles.rows_of(row)], embedded.vectors[embedded.rows_of(row)], prior_none
            )
            changes = count_changes(pairs, pairs.models.index(name))
            found[None if name == UNNAMED else name] = replace(verdict, canonicalised=changes)
        return found

    def neighbours(self, name: str, number: int = 5, drivers: int = 5) -> Neighbourhood:
        """Finds the models most similar to a model, with differences in style and example responses.

        Args:
            name: name of the model.
            number: number of neighbours.
            drivers: number of differences in style named for each neighbour.
        """
        return find_neighbours(self.catalog, name, number, drivers)

    def rating_drivers(self, name: str, number: int = DRIVERS, *, scale: ScaleName = "elo") -> RatingDrivers | None:
        """Finds the features of a model's answers that raise and lower its rating most, and by how much.

        Args:
            name: name of the model; one with votes is described as if it had none.
            number: largest number of features of either kind.
            scale: scale of the effects, "elo" or "log-odds".

        Returns:
            None without a scorer, or where votes have taught nothing about features of answers.
        """
        return find_rating_drivers(self, [name], number, scale)[0]

    def drift(self, responses: Responses, model: str, config: DriftConfig | None = None) -> DriftReport:
        """Tests whether a model's answers have changed since it was enrolled.

        Args:
            responses: new responses of the model.
            model: name of the model in this artifact.
            config: false-alarm rate, number of permutations, seed.
        """
        find_model(self.models.names, model)  # reports an unknown name before the responses are read
        pairs, _ = as_responses(responses, model)
        report = measure_drift(self.catalog, model, enrol(self.encoder, pairs, _BATCH), config)
        return replace(report, canonicalised=count_changes(pairs))

    def certainty(
        self, names: Sequence[str] | None = None, half_width: float | None = None, *, scale: ScaleName = "elo"
    ) -> tuple[ModelCertainty, ...]:
        """Measures how certain embeddings and ratings are, and how much more responses would help.

        Args:
            names: names of the models; all by default.
            half_width: target of the rating's 95 % interval; by default 10 % above the smallest possible.
            scale: scale of ratings and half-widths, "elo" or "log-odds"; see `rank`.
        """
        return measure_certainty(self, self.models.names if names is None else names, half_width, scale)

    def evaluate(self, votes: Votes, config: EvaluationConfig | None = None) -> Evaluation:
        """Evaluates both stages on votes, on prompts that they were not trained on.

        Args:
            votes: votes to evaluate on; of the training votes, only those on validation prompts are used.
            config: seed and sample sizes.
        """
        data, _ = as_votes(votes)
        return evaluate(self, data, config)

    def encode(self, prompts: Sequence[str], responses: Sequence[str]) -> Float32Array:
        """Encodes (prompt, response) pairs as unit vectors, [n, dim]."""
        vectors: Float32Array = self.encoder.encode(list(prompts), list(responses), _BATCH)
        return vectors

    @property
    def trained_scorer(self) -> DenseNetworkModel:
        """The scorer, stage 2.

        Raises:
            UsageError: the artifact has no scorer.
        """
        if self.scorer is None:
            raise UsageError("this artifact has no scorer. Fix: model-behavior train-scorer DIR VOTES")
        return self.scorer

    @cached_property
    def identifier(self) -> Identifier:
        """The model behind `identify`; fitted to the catalog on first use, which takes some seconds."""
        return fit_identifier(self.catalog)

    def with_models(self, new: Catalog) -> Artifact:
        """Returns the artifact with the models of `new` added; models of the same name are replaced."""
        return self.with_catalog(merge_catalogs(self.catalog, new))

    def with_catalog(self, catalog: Catalog) -> Artifact:
        """Returns the artifact with another catalog, whose models without votes are enrolled in the scorer.

        Differences are recorded as revisions. This artifact and its scorer stay unchanged.

        Raises:
            UsageError: a model with votes in the scorer is missing from the catalog.
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
        for start in range(0, len(changed), _MODELS_AT_ONCE):
            some = changed[start : start + _MODELS_AT_ONCE]
            other.enrol(model_table(self.encoder, catalog, other.voted_models, some))
        return other
