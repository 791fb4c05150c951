"""Whom does a paper cite? Each held-out query paper of a corpus against all papers with a text.

Relevant are the papers it cites; the query is no candidate of its own. The corpus kept these
citations out of the training triplets (`corpus.mining`).
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from sciembed_train.corpus.store.corpus_files import Split
from sciembed_train.corpus.store.corpus_folder import Corpus
from sciembed_train.corpus.store.token_store import has_text
from sciembed_train.errors import UserError
from sciembed_train.evaluation.benchmarks.result import Result, counted, described, mean
from sciembed_train.evaluation.evaluate_settings import EvaluateSettings
from sciembed_train.evaluation.open_system import open_system
from sciembed_train.evaluation.ranking import id_order, judged, ranks
from sciembed_train.evaluation.systems import Search, System
from sciembed_train.inference.embedding import Text


def run(settings: EvaluateSettings) -> tuple[str, Result]:
    """The name of what was scored and its scores, for `registry`."""
    corpus = Corpus.open(settings.data)
    system = open_system(settings)
    return described(system, evaluate(corpus, system, settings.split))


def evaluate(corpus: Corpus, system: System, split: Split = "test") -> Result:
    """Scores of a system: MAP, MRR, recall at 10, nDCG (log2, binary gain) whole and at 10.

    Raises:
        UserError: the split has no query papers.
    """
    held_out = np.asarray(corpus.queries(split))
    if not len(held_out):
        raise UserError(
            f"{corpus.folder} has no query papers in its {split} split; prepare it again with a "
            f"larger share for {split}."
        )
    readable = np.zeros(corpus.n_papers, dtype=bool)
    ids: list[str] = []
    for row in corpus.papers():
        if has_text(row["title"], row["abstract"]):
            readable[row["paper"]] = True
            ids.append(row["paper_id"])
    row_of = np.cumsum(readable) - 1  # of a paper among those with a text
    edges = np.asarray(corpus.citations())
    edges = edges[np.isin(edges[:, 0], held_out)]
    usable = edges[readable[edges[:, 0]] & readable[edges[:, 1]] & (edges[:, 0] != edges[:, 1])]
    query_papers, starts = np.unique(usable[:, 0], return_index=True)
    if not len(query_papers):
        raise UserError(
            f"{corpus.folder}: no query paper of the {split} split has a text and cites a paper "
            "that has one."
        )
    cited = np.split(row_of[usable[:, 1]], starts[1:])
    queries = row_of[query_papers]

    def texts() -> Iterator[Text]:
        for row in corpus.papers():
            if readable[row["paper"]]:
                yield row["title"], row["abstract"]

    order, papers = id_order(ids), np.arange(len(ids))
    per_query = {}
    distances = system.distances(Search(texts(), len(ids), queries, papers))
    for query, wanted, row in zip(queries, cited, distances, strict=True):
        places = ranks(row, order, wanted, int(query))
        per_query[ids[query]] = judged(places, np.ones(len(wanted), dtype=np.int64))
    settings = {
        "split": split,
        "queries": len(per_query),
        "queries_without_text_or_cited_text": len(held_out) - len(per_query),
        "papers": len(ids),
        "papers_without_text_left_out": int(corpus.n_papers - len(ids)),
        "relevant": len(usable),
        "ties": "distance, then paper id",
    }
    left = settings["queries_without_text_or_cited_text"]
    notes = counted({"{} query papers have no text or cite none with a text: left out.": left})
    metrics = {f"citations/{name}": value for name, value in mean(per_query.values()).items()}
    return Result(metrics, per_query, settings, notes)
