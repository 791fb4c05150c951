"""Benchmarks that are scored at each validation of a run, by the encoder as it is then.

Each is scored as `evaluate` scores an export: on the dev split where the data have one, with a
sample of the candidates where the benchmark can draw one.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal, cast

import numpy as np
from jaxtyping import Float32

from sciembed_train import distributed
from sciembed_train.config.validation_settings import ValidationSettings
from sciembed_train.config.verdict_settings import VerdictSettings
from sciembed_train.corpus.store.corpus_folder import Corpus
from sciembed_train.encoder.io.training_titles import Titles, title_numbers
from sciembed_train.errors import UserError, why_no_file
from sciembed_train.evaluation.benchmarks.registry import BENCHMARKS
from sciembed_train.evaluation.by_format import Embedder, RandomVectors, model_vectors
from sciembed_train.evaluation.evaluate_settings import EvaluateSettings
from sciembed_train.evaluation.kept_tokens import KeptTokens
from sciembed_train.evaluation.open_system import GivenSystems
from sciembed_train.evaluation.run_benchmark import run_benchmark
from sciembed_train.evaluation.scores import Scores
from sciembed_train.evaluation.scoring import Scoring
from sciembed_train.evaluation.suite.entries import Entry, named, open_suite
from sciembed_train.evaluation.systems import Model, RandomOrder, Search, System
from sciembed_train.evaluation.trained_titles import WatchedEmbedder, WatchedSystem, told
from sciembed_train.inference.embedding import NotFiniteError
from sciembed_train.inference.options import EmbedSettings, Similarity
from sciembed_train.methods.base import Method
from sciembed_train.training.guard_scores import OF_CORPUS, TARGET, guard_names
from sciembed_train.training.start_scores import undisturbed

# Benchmarks of the run's own corpus.
OWN = (TARGET, *OF_CORPUS)
Precision = Literal["fp32", "bf16", "fp16"]


@dataclass(frozen=True)
class ValidationBenchmark:
    """A benchmark that is scored at each validation.

    Args:
        name: in the names of its scores, such as ``citations`` or ``cacm/retrieval``.
        benchmark: its name in the registry.
        data: the folder or file; None for the run's corpus.
        options: settings of `BenchmarkSettings` beside these.
    """

    name: str
    benchmark: str
    data: Path | None = None
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def metrics(self) -> dict[str, str]:
        """The keys of the metrics that stand for the benchmark, by the names of the scores."""
        keys = BENCHMARKS[self.benchmark].metrics
        return {f"val/{self.name}/{key.rpartition('/')[2]}": key for key in keys}

    def request(
        self, corpus: Path, settings: ValidationSettings, embed: EmbedSettings
    ) -> EvaluateSettings:
        """The settings for `evaluate`; the model is opened elsewhere."""
        known = BENCHMARKS[self.benchmark].options
        light = {"split": "dev", "sample": settings.validation_sample}
        options: dict[str, Any] = {"seed": settings.validation_seed}
        options |= {name: value for name, value in light.items() if name in known}
        options |= self.options
        return EvaluateSettings(
            self.benchmark,
            corpus if self.data is None else self.data,
            "the encoder that is trained",
            embed=embed,
            quiet=True,
            **options,
        )


def validation_benchmarks(
    settings: ValidationSettings, verdict: VerdictSettings
) -> list[ValidationBenchmark]:
    """The benchmarks that ``validation`` names; files of papers and judgements are not read yet.

    Raises:
        UserError: one is neither a benchmark of the corpus nor a place that holds one, two have
            the same name, or a guard lies there.
    """
    found: dict[str, ValidationBenchmark] = {}
    folders = [place for place in settings.places if place not in OWN]
    named_places = {place: name for name, place in guard_names(folders).items()}
    for place in settings.places:
        if place in OWN:
            benchmarks = [ValidationBenchmark(place, place)]
        else:
            path = Path(place).expanduser()
            benchmarks = list(_of_place(path, named_places[str(path)]))
            _check_guards(benchmarks, verdict)
        for one in benchmarks:
            if one.name in found:
                raise UserError(f"validation: two benchmarks are called {one.name}; leave one out.")
            found[one.name] = one
    return list(found.values())


def _of_place(place: Path, name: str) -> Iterator[ValidationBenchmark]:
    if not place.exists():
        raise UserError(
            f"validation: {place}: {why_no_file(place, 'folder or file')}; expected "
            f"{', '.join(OWN)}, or a place with a benchmark."
        )
    listed = place.suffix in (".yaml", ".yml")
    if place.is_file() and not listed:
        yield ValidationBenchmark(named(name, "title_abstract"), "title_abstract", place)
        return
    try:
        entries: Sequence[Entry] = open_suite(place).entries
    except UserError as error:
        raise UserError(f"validation: {error}") from error
    for entry in entries:
        called = entry.name
        if not listed:
            inside = entry.data.relative_to(place).parts
            called = named("/".join((name, *inside)), entry.benchmark)
        yield ValidationBenchmark(called, entry.benchmark, entry.data, entry.options)


def _check_guards(benchmarks: Sequence[ValidationBenchmark], verdict: VerdictSettings) -> None:
    """Raise UserError if a query that chooses the step is also one of a guard."""
    guards = {Path(folder).expanduser().resolve() for folder in verdict.folders}
    for one in benchmarks:
        if verdict.active and one.data is not None and one.data.resolve() in guards:
            raise UserError(
                f"{one.data} is in validation and in guards: the verdict would be on queries that "
                "chose the step. Leave it out of one of them."
            )


class ValidationBenchmarks:
    """Scores the encoder under training on benchmarks.

    Args:
        benchmarks: what is scored.
        settings: how much of it.
        corpus: of the run.
    """

    def __init__(
        self,
        benchmarks: Sequence[ValidationBenchmark],
        settings: ValidationSettings,
        corpus: Corpus,
    ) -> None:
        self.benchmarks, self.settings, self.corpus = benchmarks, settings, corpus
        self._tokens: dict[str, KeptTokens] = {}

    @property
    def score_names(self) -> tuple[str, ...]:
        """The names that are logged, such as ``val/citations/map``."""
        return tuple(name for one in self.benchmarks for name in one.metrics)

    def check(self, titles: Titles | None) -> list[str]:
        """Read all benchmarks, before the first step; returns warnings.

        Args:
            titles: that the encoder is trained on; None where they are not known.

        Raises:
            UserError: the data of one cannot be read, have no query, or ask with the papers that
                give the verdict.
        """
        warnings: list[str] = []
        for one in self.benchmarks:
            try:
                if one.data is None:
                    self._check_own(one)
                warnings += self._read(one, titles)
            except UserError as error:
                raise UserError(f"validation: {one.name}: {error}") from error
        return warnings

    def scores(self, method: Method, precision: Precision) -> dict[str, float]:
        """The scores by name, nan where a vector is not finite; the same on every rank.

        Every rank calls it, with all weights; the first one embeds and ranks while the others wait
        as long as it takes. No random state is changed.

        Raises:
            UserError: the data cannot be read any more.
        """
        scores: dict[str, float] = {}
        if not self.benchmarks:
            return scores
        with distributed.first_rank_alone() as first:
            if first:
                with undisturbed():
                    for one in self.benchmarks:
                        scores |= self._scores(one, method, precision)
        return distributed.of_all_ranks(scores)[0]

    def _scores(
        self, one: ValidationBenchmark, method: Method, precision: Precision
    ) -> dict[str, float]:
        embed = EmbedSettings(device=str(method.device), precision=precision)
        similarity = cast(Similarity, method.similarity_metadata["similarity"])
        encoder = method.encoder
        tokens = self._tokens.setdefault(one.name, KeptTokens(encoder))
        tokens.start_round()
        model = Model(
            encoder.settings.backbone,
            embed,
            quiet=True,
            opened=(encoder, Scoring("document", similarity)),
            tokens=tokens,
        )
        systems = GivenSystems(model, model_vectors(model))
        try:
            found = run_benchmark(one.request(self.corpus.folder, self.settings, embed), systems)
        except NotFiniteError:
            return dict.fromkeys(one.metrics, math.nan)
        return {name: found[key] for name, key in one.metrics.items()}

    def _check_own(self, one: ValidationBenchmark) -> None:
        try:
            import pyarrow  # noqa: F401 - a prepared corpus is trained on without it
        except ImportError as error:
            raise UserError(
                "reading the papers' texts needs pyarrow: pip install 'sciembed_train[prepare]'."
            ) from error
        if not len(self.corpus.queries("dev")):  # a corpus without citations has none
            raise UserError(
                f"{self.corpus.folder} holds out no dev papers. A larger --data.dev_share, or "
                "--dev-share of prepare, holds more out."
            )

    def _read(self, one: ValidationBenchmark, titles: Titles | None) -> list[str]:
        """Read one benchmark once, as each validation will; returns warnings."""
        request = one.request(self.corpus.folder, self.settings, EmbedSettings())
        tested = WatchedSystem(cast(System, ReadOnly()), self._test_titles())
        none = title_numbers()
        trained = WatchedSystem(cast(System, tested), none if titles is None else titles)
        vectors = WatchedEmbedder(RandomVectors(), none if titles is None else titles)
        systems = GivenSystems(cast(System, trained), cast(Embedder, vectors))
        with undisturbed():
            found = run_benchmark(request, systems)
        if missing := [key for key in one.metrics.values() if key not in found.metrics]:
            raise UserError(f"{request.data}: gives no {missing[0]}; expected the whole benchmark.")
        return [] if one.data is None else self._warnings(one, found, tested.seen.queries)

    def _warnings(self, one: ValidationBenchmark, found: Scores, test_queries: int) -> list[str]:
        if test_queries and one.benchmark in OWN:
            raise UserError(
                f"{test_queries:,} of its queries have the titles of papers whose queries give the "
                "verdict, so that these would choose the step. Name one of "
                f"{', '.join(OWN)}, which ask with the corpus' dev papers."
            )
        warnings = [line for line in told(found.settings, str(one.data)) if line is not None]
        if test_queries:
            warnings.append(
                f"{test_queries:,} queries have the titles of papers that give the verdict"
            )
        return [f"validation: {one.name}: {line}" for line in warnings]

    def _test_titles(self) -> Titles:
        try:
            queries = self.corpus.queries("test")
        except UserError:  # a corpus without citations has none
            return title_numbers()
        return title_numbers(np.asarray(self.corpus.titles())[np.asarray(queries)])


class ReadOnly:
    """Reads all texts, and ranks at random."""

    name = "random"
    by_sentence: ClassVar[bool] = False

    def __init__(self) -> None:
        self.notes: list[str] = []

    def describe(self) -> dict[str, Any]:
        """See `System`."""
        return {}

    def distances(self, search: Search) -> Iterator[Float32[np.ndarray, " K"]]:
        """See `System`."""
        for _ in search.texts:
            pass
        yield from RandomOrder().distances(search)


def no_vector_of_a_text(method: Method, texts: str) -> str | None:
    """Why the encoder of a method is scored on no benchmark; None where it is.

    Args:
        method: that trains it.
        texts: of the examples, as a sampling names them.
    """
    if method.multi_vector or texts == "sentences":
        return f"{type(method).__name__} trains vectors of sentences; `evaluate` scores these."
    if len(method.encoder.format_reader.names) > 1:
        return "the encoder reads texts for several formats; `evaluate` scores these."
    return None
