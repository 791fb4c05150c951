"""What to score, and on which benchmark. Importing this module imports no torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from sciembed_train.errors import UserError
from sciembed_train.evaluation.benchmarks.registry import BENCHMARKS
from sciembed_train.inference.options import EmbedSettings, ScoreSettings

BASELINES = ("bm25", "random")


@dataclass(frozen=True)
class BenchmarkSettings:
    """What is scored, and on which benchmark.

    Args:
        benchmark: the name of the benchmark.
        data: the folder of the benchmark, or a file of papers where that is all it needs.
        model: a model folder, a run folder or a hub name; or the baselines ``bm25`` and ``random``.
        ranking: somebody's ranking in place of a model: a TREC run, of any benchmark that ranks; of
            csfcube also pools as JSON, a file or a folder.
        embeddings: vectors in place of a model, by the ids of papers and queries: what ``embed``
            writes, or rows such as {paper_id: ..., embedding: [...]}.
        query_embeddings: of ``embeddings``, the vectors of the queries, where these have a file of
            their own.
        run_to: a file for what is ranked, as a TREC run: of each query the 1,000 nearest papers
            (benchmarks that rank).
        papers: the file of papers, where it is not in the benchmark's folder.
        facet: one facet only; the facet of a ranking whose file name does not have it (csfcube).
        split: the split of a corpus whose papers are the queries (citations, title_abstract,
            abstract_halves); of the benchmark, ``dev`` being its validation split (scidocs, mdcr).
        tasks: names or types of tasks, such as ``classification`` or ``[MeSH Descriptors, SciDocs
            MAG]``; all of them where it is empty (scirepeval).
        sample: most papers, drawn by ``seed``; 0 for all. By default 5,000 for title_abstract,
            abstract_halves (those of the split first) and labels, and all for retrieval, citations,
            cocitations and review, where a sample has the relevant papers of fewer queries.
        queries: most queries, drawn by ``seed``; 0 for all (citations of a folder that is no
            corpus, cocitations, review).
        seed: of the baseline ``random``, and of ``sample`` and ``queries``.
        ties: how papers at equal distances are ordered: ``expected`` takes the expectation over all
            orders, ``paper_id`` and ``trec_eval`` sort them by id, from first to last or from
            last to first.
        query_prompt: the name of the model's prompt before the words of searches, or ``none``; by
            default that of queries, and where the model has none that of papers (retrieval,
            scirepeval). Queries that are papers are read as papers.

    Raises:
        UserError: there is no such benchmark, or an option belongs to another one.
    """

    benchmark: str
    data: str | Path
    model: str | None = None
    ranking: str | Path | None = None
    embeddings: str | Path | None = None
    query_embeddings: str | Path | None = None
    run_to: str | Path | None = None
    papers: str | Path | None = None
    facet: str | None = None
    split: Literal["test", "dev"] = "test"
    tasks: list[str] | str = ""
    sample: int | None = None
    queries: int = 1000
    seed: int = 0
    ties: Literal["expected", "paper_id", "trec_eval"] = "expected"
    query_prompt: str | None = None

    def __post_init__(self) -> None:
        if self.benchmark not in BENCHMARKS:
            raise UserError(
                f"--benchmark {self.benchmark}: there is none of this name; there are "
                f"{', '.join(BENCHMARKS)}."
            )
        sources = (self.model, self.ranking, self.embeddings)
        if sum(source is not None for source in sources) != 1:
            raise UserError("Give what to score: one of --model, --ranking and --embeddings.")
        if self.query_embeddings is not None and self.embeddings is None:
            raise UserError("--query_embeddings goes with --embeddings; leave it out.")
        set_options = {
            "tasks": bool(self.tasks),
            "ranking": self.ranking is not None,
            "run_to": self.run_to is not None,
            "facet": self.facet is not None,
            "split": self.split != "test",
            "sample": self.sample is not None,
            "queries": self.queries != 1000,
            "query_prompt": self.query_prompt is not None,
        }
        for option, is_set in set_options.items():
            if is_set and option not in BENCHMARKS[self.benchmark].options:
                names = [name for name, b in BENCHMARKS.items() if option in b.options]
                raise UserError(
                    f"--{option} goes with --benchmark {' or '.join(names)}, not "
                    f"{self.benchmark}; leave it out."
                )
        for option in ("sample", "queries"):
            if (getattr(self, option) or 0) < 0:
                raise UserError(f"--{option} is {getattr(self, option)}; expected 0 or more.")
        if self.seed < 0:
            raise UserError(f"--seed is {self.seed}; expected 0 or more.")

    @property
    def task_names(self) -> list[str]:
        """The names or types of tasks that are asked for."""
        names = [self.tasks] if isinstance(self.tasks, str) else self.tasks
        return [name for name in names if name]


@dataclass(frozen=True)
class EvaluateSettings(BenchmarkSettings):
    """A model, a baseline or a ranking, and the benchmark that scores it.

    Args:
        embed: how the model embeds.
        score: how papers are ranked, where it is not as the model records.
        quiet: show no progress.
        cache: a folder where the model's vectors are kept, so that no text is embedded twice, in
            this benchmark or another; None keeps none.

    Raises:
        UserError: as `BenchmarkSettings`, or a ranking or a baseline has settings of a model.
    """

    embed: EmbedSettings = EmbedSettings()  # noqa: RUF009 - frozen
    score: ScoreSettings = ScoreSettings()  # noqa: RUF009 - frozen
    quiet: bool = False
    cache: str | Path | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        options = self.score.set_options
        if options and (self.ranking is not None or self.model in BASELINES):
            raise UserError(
                f"{options[0]} is about a model's vectors; leave it out for a ranking or a "
                "baseline."
            )
        if self.embed.dim is not None and (self.model is None or self.model in BASELINES):
            raise UserError(
                "--dim is about a model's vectors; leave it out for a ranking, a baseline or "
                "--embeddings."
            )
        prompts = {"prompt": self.embed.prompt, "query_prompt": self.query_prompt}
        for option, name in prompts.items():
            if name is not None and (self.model is None or self.model in BASELINES):
                raise UserError(
                    f"--{option} is about texts that a model reads; leave it out for a ranking, "
                    "vectors or a baseline."
                )
        options = [option for option in options if option != "--similarity"]
        if self.embeddings is not None and options:
            raise UserError(f"{options[0]} is about a model; leave it out for --embeddings.")
