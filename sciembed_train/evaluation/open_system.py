"""The model or the baseline that is to be scored."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar, cast

from sciembed_train.errors import UserError
from sciembed_train.evaluation.by_format import Embedder, RandomVectors, model_vectors
from sciembed_train.evaluation.evaluate_settings import EvaluateSettings
from sciembed_train.evaluation.facet_model import FacetModel
from sciembed_train.evaluation.precomputed import Precomputed
from sciembed_train.evaluation.scoring import scoring_of
from sciembed_train.evaluation.sentence_model import SentenceModel
from sciembed_train.evaluation.systems import Bm25, Model, RandomOrder, System
from sciembed_train.evaluation.trained_titles import (
    WatchedEmbedder,
    WatchedSystem,
    titles_of_model,
)
from sciembed_train.evaluation.trec_run import RunRanking, WrittenRun

Opened = TypeVar("Opened", bound="Model | Precomputed")


class Systems:
    """Opens what benchmarks score; several benchmarks of one model share its encoder."""

    def __init__(self) -> None:
        self._opened: dict[str, Model | Precomputed] = {}  # the last one

    def system(self, settings: EvaluateSettings) -> System:
        """What ranks the papers, and writes its rankings if ``settings.run_to`` says where.

        Raises:
            UserError: no such model or run, or it cannot be scored as asked.
        """
        system = self._system(settings)
        if settings.run_to is None:
            return system
        return cast(System, WrittenRun(system, settings.run_to))

    def _system(self, settings: EvaluateSettings) -> System:
        if settings.ranking is not None:
            return RunRanking(settings.ranking)
        if settings.embeddings is not None:
            return self._precomputed(settings)
        model = _model(settings)
        if model == "bm25":
            return Bm25()
        if model == "random":
            return RandomOrder(settings.seed)
        scorer = scoring_of(model, settings.embed, settings.score).scorer
        if scorer == "document":
            system = self._document_model(settings)
        else:
            kind = FacetModel if scorer == "facet" else SentenceModel
            if settings.query_prompt is not None:
                raise UserError(
                    "--query_prompt goes with one vector a text, and this model compares "
                    "sentences, all of them behind --prompt. Leave it out."
                )
            system = kind(model, settings.embed, settings.quiet, settings.score, settings.cache)
        titles = titles_of_model(model)
        return system if titles is None else cast(System, WatchedSystem(system, titles))

    def embedder(self, settings: EvaluateSettings) -> Embedder:
        """What gives a vector of a text.

        Raises:
            UserError: the model or baseline gives none.
        """
        if settings.embeddings is not None:
            return self._precomputed(settings)
        model, score = _model(settings), settings.score
        if model == "bm25":
            raise UserError(
                f"--benchmark {settings.benchmark} is about vectors, and bm25 gives none; give a "
                "model."
            )
        if score.scorer not in (None, "document"):
            raise UserError(
                f"--scorer {score.scorer} does not go with --benchmark {settings.benchmark}, which "
                "takes one vector a text; leave it out."
            )
        if model == "random":
            return RandomVectors(settings.seed)
        embedder = model_vectors(self._document_model(settings, by_format=True))
        titles = titles_of_model(model)
        return embedder if titles is None else cast(Embedder, WatchedEmbedder(embedder, titles))

    def _document_model(self, settings: EvaluateSettings, by_format: bool = False) -> Model:
        """The model; the one of before where it is the same, read in the same way."""
        model, similarity = _model(settings), settings.score.similarity
        dtype, asking = settings.score.dtype, settings.query_prompt
        key = repr((model, settings.embed, similarity, by_format, settings.cache, dtype, asking))
        return self._once(
            key,
            lambda: Model(
                model,
                settings.embed,
                settings.quiet,
                similarity,
                by_format,
                cache=settings.cache,
                dtype=dtype,
                query_prompt=asking,
            ),
        )

    def _precomputed(self, settings: EvaluateSettings) -> Precomputed:
        """The vectors of a file; those of before where it is the same."""
        path, queries = str(settings.embeddings), settings.query_embeddings
        similarity = settings.score.similarity
        key = repr((path, str(queries), similarity))
        return self._once(key, lambda: Precomputed(path, similarity, queries))

    def _once(self, key: str, make: Callable[[], Opened]) -> Opened:
        """What was opened by this key, and is not opened again."""
        if key not in self._opened:
            self._opened = {}  # before another one is in memory
            self._opened[key] = make()
        return cast(Opened, self._opened[key])


class GivenSystems(Systems):
    """Gives every benchmark what was opened elsewhere, such as an encoder that is being trained.

    Args:
        given: what ranks papers.
        vectors: what gives vectors of texts.
    """

    def __init__(self, given: System, vectors: Embedder) -> None:
        super().__init__()
        self.given, self.vectors = given, vectors

    def system(self, settings: EvaluateSettings) -> System:
        """As `Systems`."""
        return self.given

    def embedder(self, settings: EvaluateSettings) -> Embedder:
        """As `Systems`."""
        return self.vectors


def _model(settings: EvaluateSettings) -> str:
    if settings.model is None:
        raise UserError("--ranking is no model; give --model.")
    return settings.model
