"""Our benchmarks as tasks of the library mteb, from folders on this machine, without a network.

    import mteb
    from sciembed_train.evaluation.mteb_tasks import tasks_of_suite

    model = SentenceTransformer("my_encoder")
    mteb.evaluate(model, tasks_of_suite("my_benchmarks"))

A benchmark that ranks is a task of retrieval, or of reranking where each query has a pool of its
own; its queries, candidates and judgements are those that `evaluate` ranks. mteb takes every grade
above 0 as relevant in its MAP, where a benchmark here may ask for more, and ranks 1,000 candidates.
``labels`` is a task of classification and one of clustering, with mteb's own definitions.

Texts are composed here, of title and abstract: mteb hands them to the model as they are.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Float32
from numpy.typing import NDArray

from sciembed_train.errors import UserError
from sciembed_train.evaluation.benchmarks.labels import DRAWN, SEED, read_labelled
from sciembed_train.evaluation.benchmarks.registry import BENCHMARKS
from sciembed_train.evaluation.evaluate_settings import EvaluateSettings
from sciembed_train.evaluation.open_system import Systems
from sciembed_train.evaluation.suite.entries import open_suite
from sciembed_train.evaluation.systems import Search, System
from sciembed_train.text.input_format import InputFormat

SPLIT = "test"
RANKS = "ranking"  # the option of benchmarks that are one ranking


def tasks_of_suite(place: str | Path, separator: str = " ") -> list[Any]:
    """The tasks of every benchmark of a suite that is one ranking, or labels.

    Args:
        place: a folder with a folder for each benchmark, or a YAML file, as `evaluate --suite`.
        separator: between title and abstract, such as ``[SEP]`` for an encoder that reads so.

    Raises:
        UserError: mteb is not installed, or a benchmark cannot be read.
    """
    return [
        task
        for entry in open_suite(place).entries
        if _is_task(entry.benchmark)
        for task in tasks_of(
            entry.benchmark, entry.data, entry.name, separator=separator, **entry.options
        )
    ]


def tasks_of(
    benchmark: str,
    data: str | Path,
    name: str | None = None,
    *,
    separator: str = " ",
    **settings: Any,
) -> list[Any]:
    """The tasks of a benchmark: one, but two of ``labels``.

    Args:
        benchmark: its name, as in `evaluate`.
        data: its folder.
        name: of the task, for mteb's tables and files; by default of folder and benchmark.
        separator: between title and abstract.
        **settings: fields of `EvaluateSettings`, such as ``sample`` and ``papers``.

    Raises:
        UserError: mteb is not installed, the benchmark is several tasks, or it cannot be read.
    """
    try:
        from mteb.abstasks.task_metadata import TaskMetadata
    except ImportError as error:
        raise UserError(
            "Tasks of mteb need that library: pip install 'sciembed_train[mteb]'."
        ) from error
    # Nothing that needs a model is asked for.
    request = EvaluateSettings(benchmark, data, "bm25", quiet=True, **settings)
    if not _is_task(benchmark):
        raise UserError(
            f"--benchmark {benchmark} has several tasks; those of mteb are made of benchmarks that "
            "are one ranking, and of labels."
        )
    label = name or f"{Path(data).resolve().name}/{benchmark}"

    def metadata(kind: str, score: str, suffix: str = "", more: str = "") -> Any:
        return TaskMetadata(
            name=label.replace("/", "-") + suffix,
            description=BENCHMARKS[benchmark].summary + more,
            type=kind,  # type: ignore[arg-type]
            category="t2t" if kind in ("Retrieval", "Reranking") else "t2c",
            # in mteb's results: other data or texts are another revision
            dataset={"path": str(data), "revision": _revision(request, separator)},
            eval_splits=[SPLIT],
            eval_langs=["eng-Latn"],
            main_score=score,
            domains=["Academic"],
            is_public=False,
        )

    if benchmark == "labels":
        return _of_labels(request, separator, metadata)
    search, asked = _recorded(request)
    kind = "Retrieval" if search.pools is None else "Reranking"
    return [_of_ranking(search, asked, separator, metadata(kind, "ndcg_at_10"))]


def _is_task(benchmark: str) -> bool:
    return benchmark == "labels" or RANKS in BENCHMARKS[benchmark].options


class _Recorder(Systems):
    """In place of a model: keeps what is asked, and ranks nothing."""

    name = "recorder"
    by_sentence: ClassVar[bool] = False

    def __init__(self) -> None:
        super().__init__()
        self.notes: list[str] = []
        self.search: Search | None = None

    def system(self, settings: EvaluateSettings) -> System:
        """Itself."""
        return self

    def describe(self) -> dict[str, Any]:
        """Nothing."""
        return {}

    def distances(self, search: Search) -> Iterator[Float32[np.ndarray, " K"]]:
        """Equal ones."""
        self.search = replace(search, texts=list(search.texts))
        for at in range(len(search.queries)):
            yield np.zeros(len(search.pool(at)), dtype=np.float32)


def _recorded(request: EvaluateSettings) -> tuple[Search, set[str]]:
    """What a benchmark asks, and the queries that its scores are the means of."""
    recorder = _Recorder()
    _, result = BENCHMARKS[request.benchmark].load()(request, recorder)
    if recorder.search is None or recorder.search.judged is None:
        raise ValueError(f"{request.benchmark} did not say what is relevant")
    return recorder.search, set(result.test_queries or result.per_query)


def _of_ranking(search: Search, asked: set[str], separator: str, metadata: Any) -> Any:
    from datasets import Dataset
    from mteb.abstasks import AbsTaskRetrieval

    judged, texts = search.judged, _texts(search, separator)
    assert judged is not None
    query_ids, paper_ids = search.ids()
    queries = [at for at, query in enumerate(query_ids) if query in asked]
    names = _query_names(search, queries)

    def load() -> Mapping[str, Any]:
        grades = {}
        for at in queries:
            positions, row = judged(at)
            pairs = zip(positions.tolist(), row.tolist(), strict=True)
            grades[names[at]] = {paper_ids[paper]: int(grade) for paper, grade in pairs}
        pools = None
        if search.pools is not None:
            pools = {names[at]: [paper_ids[p] for p in search.pools[at]] for at in queries}
        papers = range(len(paper_ids))
        if search.pools is not None:
            papers = sorted({int(paper) for at in queries for paper in search.pools[at]})
        return {
            "corpus": Dataset.from_dict(
                {
                    "id": [paper_ids[paper] for paper in papers],
                    "text": [texts[search.papers[paper]] for paper in papers],
                }
            ),
            "queries": Dataset.from_dict(
                {
                    "id": [names[at] for at in queries],
                    "text": [texts[search.queries[at]] for at in queries],
                }
            ),
            "relevant_docs": grades,
            "top_ranked": pools,
        }

    # A query that is a paper has its id, and is no candidate of its own.
    fixed = {"ignore_identical_ids": True}
    return _task(AbsTaskRetrieval, metadata, lambda: {"default": {SPLIT: load()}}, fixed)


def _query_names(search: Search, queries: list[int]) -> dict[int, str]:
    """The names of queries for mteb: of candidates their ids, of others none that a paper has.

    Raises:
        UserError: two queries are the same paper.
    """
    query_ids, paper_ids = search.ids()
    if search.pools is not None:
        return {at: query_ids[at] for at in queries}
    paper_of = dict(zip(search.papers.tolist(), paper_ids, strict=True))
    taken = set(paper_ids)
    names: dict[int, str] = {}
    for at in queries:
        row = int(search.queries[at])
        name = query_ids[at]
        if row in paper_of:
            name = paper_of[row]
        elif name in taken:
            name = f"query {name}"
        names[at] = name
    if len(set(names.values())) < len(names):
        counted = list(names.values())
        twice = next(name for name in counted if counted.count(name) > 1)
        raise UserError(f"Two queries are the paper {twice}; mteb takes one query a paper.")
    return names


def _texts(search: Search, separator: str) -> list[str]:
    read = InputFormat()
    return [read.compose(title, abstract, separator) for title, abstract in search.texts]


def _of_labels(
    request: EvaluateSettings, separator: str, metadata: Callable[..., Any]
) -> list[Any]:
    """Classification of one half by the other, and clustering of all papers."""
    from datasets import Dataset, DatasetDict
    from mteb.abstasks import AbsTaskClassification, AbsTaskClustering
    from sklearn.model_selection import StratifiedKFold

    sample = DRAWN if request.sample is None else request.sample
    data = read_labelled(Path(request.data), request.papers, sample, request.seed)
    read = InputFormat()
    texts = [read.compose(paper.title, paper.abstract, separator) for paper in data.papers]

    halves = StratifiedKFold(2, shuffle=True, random_state=SEED)
    train, test = next(halves.split(texts, data.labels))

    def load(parts: Mapping[str, NDArray[np.int64]], of_text: str, of_label: str) -> DatasetDict:
        return DatasetDict(
            {
                split: Dataset.from_dict(
                    {of_text: [texts[row] for row in rows], of_label: data.labels[rows].tolist()}
                )
                for split, rows in parts.items()
            }
        )

    whole = {"max_fraction_of_documents_to_embed": None}
    return [
        _task(
            AbsTaskClassification,
            metadata("Classification", "accuracy", "-classification", "; mteb's few-shot probe"),
            lambda: load({"train": train, SPLIT: test}, "text", "label"),
            {},
        ),
        _task(
            AbsTaskClustering,
            metadata("Clustering", "v_measure", "-clustering", "; mteb's k-means"),
            lambda: load({SPLIT: np.arange(len(texts))}, "sentences", "labels"),
            whole,
        ),
    ]


def _task(base: type, metadata: Any, load: Callable[[], Any], attributes: Mapping[str, Any]) -> Any:
    """A task whose data are made by ``load``, and again after mteb has let them go."""

    def load_data(self: Any, num_proc: int | None = None, **_: Any) -> None:
        if not self.data_loaded:
            self.dataset = load()
            self.data_loaded = True

    body = {"metadata": metadata, "load_data": load_data, **attributes}
    return type("SciembedTask", (base,), body)()


def _revision(request: EvaluateSettings, separator: str) -> str:
    """A hash of the files, settings and texts of a task."""
    states = []
    for place in (Path(one) for one in (request.data, request.papers) if one is not None):
        files = sorted(p for p in place.rglob("*") if p.is_file()) if place.is_dir() else [place]
        states += [(str(p), p.stat().st_size, p.stat().st_mtime_ns) for p in files if p.exists()]
    what = [request.benchmark, request.facet, request.split, request.sample, request.queries]
    content = json.dumps([*what, request.seed, separator, states], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()[:16]
