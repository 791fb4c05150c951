"""The trained encoder of a run beside its start: share of weights, verdict, ``results.json``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

from pytorch_lightning import Trainer

from sciembed_train import distributed
from sciembed_train.config.verdict_settings import ALPHAS, VerdictSettings
from sciembed_train.encoder.encoder import Encoder, EncoderSettings
from sciembed_train.encoder.io.start_model import read_start
from sciembed_train.evaluation.benchmarks.result import NoQueriesError
from sciembed_train.evaluation.cached_embedding import CachedEmbedding
from sciembed_train.evaluation.scoring import Scoring
from sciembed_train.export.export_layout import public_name
from sciembed_train.inference.embedding import NotFiniteError
from sciembed_train.inference.options import Similarity
from sciembed_train.methods.base import Method
from sciembed_train.progress import Progress
from sciembed_train.training import start_scores
from sciembed_train.training.configuration import RunConfiguration
from sciembed_train.training.guard_scores import (
    METRICS,
    TARGET,
    open_guards,
    paired,
)
from sciembed_train.training.interpolation import StartMixture, why_as_trained
from sciembed_train.training.projection_stage import ProjectionStage
from sciembed_train.training.recipe_corpus import recipe_sampling
from sciembed_train.training.results_file import Results
from sciembed_train.training.start_scores import Question, StartScores
from sciembed_train.training.trainer import embedding_precision
from sciembed_train.training.validation_benchmarks import no_vector_of_a_text
from sciembed_train.training.verdict import (
    AlphaChoice,
    Scores,
    TrainingChoices,
    advice,
    choose_alpha,
    judge,
)


@dataclass(frozen=True)
class ChosenShare:
    """The share of trained weights that an encoder has.

    Args:
        alpha: the share.
        choice: how it was chosen; None where it was not.
        note: why it was not chosen.
    """

    alpha: float
    choice: AlphaChoice | None = None
    note: str | None = None


class StartComparison:
    """Scores the start before training, and the trained encoder beside it afterwards.

    Args:
        settings: of the comparison.
        question: what both are compared on.
        folder: of the run.
        trained: settings of the encoder that is trained.
        similarity: by what its vectors are compared.
        projected_alpha: the share of trained weights where no dev queries choose it, if a
            projection is to be learned; None if none is.
    """

    def __init__(
        self,
        settings: VerdictSettings,
        question: Question,
        folder: Path,
        trained: EncoderSettings,
        similarity: Similarity,
        projected_alpha: float | None = None,
    ) -> None:
        self.settings, self.question, self.folder = settings, question, folder
        self.start, self.start_scoring = start_scores.start_settings(trained, similarity)
        self.scoring = Scoring("document", similarity)
        self.alphas = list(settings.alphas or ALPHAS)
        self.as_trained = why_as_trained(trained)  # why no share is chosen
        if self.alphas == [1.0]:
            self.as_trained = "alphas is [1.0]"
        elif settings.alphas is not None and trained.adapters is None:
            self.as_trained = None
        self.choosing = self.as_trained is None
        self.projected_alpha = projected_alpha

    def before(self) -> StartScores | None:
        """The start encoder's scores, from the run's folder where it has them.

        None, with a line, where there is no test query, or the start's vectors are not finite.

        Raises:
            UserError: a guard's folder cannot be used.
        """
        try:
            return start_scores.start_scores(
                self.question,
                self.start,
                self.start_scoring,
                self.folder / start_scores.NAME,
                self.choosing,
            )
        except (NoQueriesError, NotFiniteError) as error:
            Progress(self.question.quiet).print(f"There is no verdict: {error}")
            return None

    def choose(self, encoder: Encoder) -> ChosenShare | None:
        """Choose the share of trained weights, which the encoder then has, on dev queries.

        None where there is nothing to compare with.

        Args:
            encoder: as trained; it is changed, and moved between the host and the device of the
                comparison.
        """
        before = self.before()
        return None if before is None else self._choose(encoder, before)

    def after(
        self,
        encoder: Encoder,
        share: ChosenShare,
        choices: TrainingChoices,
        projection: dict[str, Any] | None = None,
        kept: CachedEmbedding | None = None,
    ) -> Results:
        """The verdict on an encoder as it is to be exported.

        Args:
            encoder: it is moved to the device of the comparison.
            share: of trained weights that it has.
            choices: of the training, for advice.
            projection: record of the learning of its projection, if it was given one.
            kept: embeds texts as the encoder does but for the projection, from what is stored.
        """
        before = self.before()
        assert before is not None
        with Progress(self.question.quiet).stage("scoring the trained encoder"):
            system = self.question.system(encoder, self.scoring, self.question.short, kept)
            after = self.question.test(system)
        scores = paired(before.test.scores, after.scores)
        verdict = judge(
            *scores,
            TARGET,
            METRICS[TARGET],
            share.alpha,
            self.settings.verdict_seed,
            self.settings.resamples,
        )
        queries = {
            name: {query: [score, after.scores[name][query]] for query, score in rows.items()}
            for name, rows in before.test.scores.items()
        }
        return Results(
            verdict,
            start={
                "name": public_name(self.start.backbone),
                "pooling": self.start.pooling,
                "max_length": self.start.max_length,
                "similarity": self.start_scoring.similarity,
                "precision": self.question.precision,
            },
            choice=share.choice,
            choice_note=share.note,
            bm25=before.bm25,
            advice=advice(
                verdict, replace(choices, projection_share=(projection or {}).get("share"))
            ),
            notes=[*before.notes, *verdict.notes],
            queries=queries,
            metrics=after.metrics,
            neighbours=neighbours(self.question, before.test.nearest, after.nearest),
            projection=projection,
        )

    def _choose(self, trained: Encoder, before: StartScores) -> ChosenShare:
        if not self.choosing:
            return ChosenShare(1.0, note=self.as_trained)
        mixture = StartMixture(self.start, trained)
        if mixture.refused is not None:
            return ChosenShare(1.0, note=mixture.refused)
        dev = before.dev
        if dev is None:
            alpha = self.projected_alpha or 1.0
            mixture.give(alpha)
            return ChosenShare(alpha, note="there are no dev queries")
        progress = Progress(self.question.quiet)

        def score(alpha: float) -> Scores:
            mixture.give(alpha)
            with progress.stage(f"scoring {alpha:g} of the trained weights on dev queries"):
                scores = self.question.dev(self.question.system(trained, self.scoring)).scores
            return paired(dev.scores, scores)[1]

        choice = choose_alpha(
            score,
            paired(dev.scores, dev.scores)[0],
            TARGET,
            self.alphas,
            self.projected_alpha is not None,
            seed=self.settings.verdict_seed,
            resamples=self.settings.resamples,
        )
        mixture.give(choice.alpha)
        return ChosenShare(choice.alpha, choice)


def plan_comparison(
    run: RunConfiguration, method: Method, trainer: Trainer, stage: ProjectionStage | None = None
) -> StartComparison | None:
    """The comparison that a run makes; None, and a line that says why, where it makes none.

    Encoders are compared where the trainer trains, and in its precision; ``stage`` is to learn a
    projection afterwards.

    Raises:
        UserError: a folder of ``guards`` cannot be used.
    """
    settings, corpus = run.recipe.get(VerdictSettings), run.data.corpus
    needed = ("citations.npy", "queries/test.npy", "papers.parquet")
    if not settings.active or any(not (corpus.folder / name).is_file() for name in needed):
        return None
    progress = Progress(run.run.quiet or distributed.launch_rank() != 0)
    reason = None
    try:
        import pyarrow  # noqa: F401 - a prepared corpus is trained on without it
    except ImportError:
        reason = "reading the papers' texts needs pyarrow: pip install 'sciembed_train[prepare]'."
    reason = no_vector_of_a_text(method, recipe_sampling(run.data.settings).texts) or reason
    if reason is not None:
        progress.print(f"There is no verdict: {reason}")
        return None
    assert run.folder is not None
    question = Question(
        corpus,
        open_guards(settings.folders),
        settings.verdict_seed,
        str(trainer.strategy.root_device),
        embedding_precision(trainer),
        progress.quiet,
    )
    similarity = cast(Similarity, method.similarity_metadata["similarity"])
    alpha = None if stage is None else stage.alpha
    trained = method.encoder.settings
    return StartComparison(settings, question, run.folder, trained, similarity, alpha)


def training_choices(run: RunConfiguration, method: Method) -> TrainingChoices:
    """The settings of a run that decide how much of its start it forgets."""
    optim, encoder = method.optim, method.encoder.settings
    return TrainingChoices(
        start=encoder.backbone,
        run=str(run.folder),
        lr=optim.lr,
        layer_decay=optim.layer_decay,
        freeze_embeddings=optim.freeze_embeddings,
        ema=optim.ema,
        pooling=encoder.pooling,
        start_pooling=read_start(encoder.backbone, encoder.pooling).pooling,
    )


def neighbours(
    question: Question, before: Mapping[str, list[str]], after: Mapping[str, list[str]]
) -> list[dict[str, Any]]:
    """The nearest papers of test queries before and after, with titles and whether cited."""
    shown = {
        *before,
        *(paper for rows in (before, after) for row in rows.values() for paper in row),
    }
    titles: dict[str, str] = {}
    number: dict[str, int] = {}
    for row in question.corpus.papers():
        if row["paper_id"] in shown:
            titles[row["paper_id"]] = str(row["title"] or "")
            number[row["paper_id"]] = row["paper"]
    edges = question.corpus.citations_of_texts()
    cited = {query: set(edges[edges[:, 0] == number[query], 1].tolist()) for query in before}

    def described(query: str, papers: list[str]) -> list[dict[str, Any]]:
        return [{"id": p, "title": titles[p], "cited": number[p] in cited[query]} for p in papers]

    return [
        {
            "id": query,
            "title": titles[query],
            "before": described(query, papers),
            "after": described(query, after.get(query, [])),
        }
        for query, papers in before.items()
    ]
