"""The model or the baseline that is to be scored."""

from __future__ import annotations

from typing import cast

from sciembed_train.errors import UserError
from sciembed_train.evaluation.by_format import Embedder, RandomVectors, model_vectors
from sciembed_train.evaluation.evaluate_settings import EvaluateSettings
from sciembed_train.evaluation.scoring import scoring_of
from sciembed_train.evaluation.sentence_model import SentenceModel
from sciembed_train.evaluation.systems import Bm25, Model, RandomOrder, System
from sciembed_train.evaluation.trained_titles import (
    WatchedEmbedder,
    WatchedSystem,
    titles_of_model,
)


def open_system(settings: EvaluateSettings) -> System:
    """What ranks the papers.

    Raises:
        UserError: no such model, or it cannot be scored as asked.
    """
    model = _model(settings)
    if model == "bm25":
        return Bm25()
    if model == "random":
        return RandomOrder(settings.seed)
    if scoring_of(model, settings.embed, settings.score).scorer == "document":
        similarity = settings.score.similarity
        system = Model(model, settings.embed, settings.quiet, similarity, cache=settings.cache)
    else:
        system = SentenceModel(
            model, settings.embed, settings.quiet, settings.score, settings.cache
        )
    titles = titles_of_model(model)
    return system if titles is None else cast(System, WatchedSystem(system, titles))


def open_embedder(settings: EvaluateSettings) -> Embedder:
    """What gives a vector of a text.

    Raises:
        UserError: the model or baseline gives none.
    """
    model, score = _model(settings), settings.score
    if model == "bm25":
        raise UserError(
            f"--benchmark {settings.benchmark} is about vectors, and bm25 gives none; give a model."
        )
    if score.scorer not in (None, "document"):
        raise UserError(
            f"--scorer {score.scorer} does not go with --benchmark {settings.benchmark}, which "
            "takes one vector a text; leave it out."
        )
    if model == "random":
        return RandomVectors(settings.seed)
    embedder = model_vectors(
        Model(
            model,
            settings.embed,
            settings.quiet,
            score.similarity,
            by_format=True,
            cache=settings.cache,
        )
    )
    titles = titles_of_model(model)
    return embedder if titles is None else cast(Embedder, WatchedEmbedder(embedder, titles))


def _model(settings: EvaluateSettings) -> str:
    if settings.model is None:
        raise UserError("--ranking is no model; give --model.")
    return settings.model
