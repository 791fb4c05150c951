"""From papers and citations to the triplets of a corpus folder, mined or given ready."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sciembed_train.corpus.audit import EXAMPLES, Audit
from sciembed_train.corpus.mining.margin_mining import mine_margin
from sciembed_train.corpus.mining.triplet_mining import Triplets, mine_triplets
from sciembed_train.corpus.mining.triplet_report import explain_mining, why_nothing
from sciembed_train.corpus.papers import Papers, read_citations, read_triplets
from sciembed_train.corpus.prepare_settings import Inputs, PrepareSettings
from sciembed_train.corpus.readers.tables import Table
from sciembed_train.corpus.sql_engine import Engine
from sciembed_train.corpus.store.corpus_folder import SPLITS, Split, save_queries, save_split
from sciembed_train.errors import UserError
from sciembed_train.progress import Progress


def build_plain(
    folder: Path,
    work: Path,
    settings: PrepareSettings,
    inputs: Inputs,
    lists: Mapping[Split, set[str]],
    papers: Papers,
    split: NDArray[np.int8],
    report: dict[str, Any],
    progress: Progress,
    engine: Engine,
    memory: int,
) -> dict[str, Any]:
    """Citations and the triplets mined from them, or triplets given ready."""
    citations = None
    if inputs.citations is not None:
        audit = Audit("citations", settings.max_bad_rows)
        with progress.stage("citations") as stage:
            citations = read_citations(inputs.citations, papers, audit, stage)
        report["citations"] = audit.as_dict()
        _save_citations(folder, citations)
    mined = None
    if inputs.pairs is not None:
        mined = _given(inputs.pairs, papers, citations, settings, report, progress)
    elif citations is not None:
        with progress.stage("triplets", unit="shards") as stage:
            mined = mine_triplets(
                engine,
                work,
                citations,
                papers.usable,
                split,
                settings.triplets,
                settings.seed,
                memory,
                stage.reach,
            )
    counts: dict[str, Any] = {"citations": 0 if citations is None else len(citations)}
    if mined is None:
        return counts
    counts |= _save_mined(folder, mined, split)
    report["triplets"] = explain_mining(mined, split, counts, papers, citations)
    for name, ids in lists.items():
        unknown = sorted(ids - papers.key.keys())
        if unknown:
            report["triplets"][f"{name} ids that name no paper"] = {
                "count": len(unknown),
                "examples": unknown[:EXAMPLES],
            }
    # Citations may have been given for the papers that they cite together.
    if not counts["triplets"]["train"] and not settings.mines_cocitations:
        raise UserError(why_nothing(report, papers))
    return counts


def refuse_shared(lists: Mapping[Split, set[str]]) -> None:
    """No query may be in two splits."""
    for a, b in combinations(lists, 2):
        shared = sorted(lists[a] & lists[b])
        if shared:
            raise UserError(
                f"{len(shared):,} ids are both {a} and {b} queries, the first is {shared[0]!r}. "
                "A query belongs to one split."
            )


def build_specter(
    folder: Path,
    settings: PrepareSettings,
    data: Path,
    lists: Mapping[Split, set[str]],
    papers: Papers,
    report: dict[str, Any],
    progress: Progress,
) -> dict[str, Any]:
    """Triplets of SPECTER's own files."""
    refuse_shared(lists)
    audit = Audit("relations", settings.max_bad_rows)
    with progress.stage("triplets"):
        results, citations = mine_margin(
            data,
            lists,
            papers.key,
            papers.ids,
            papers.usable,
            settings.triplets,
            settings.seed,
            audit,
        )
    report["relations"] = audit.as_dict()
    report["triplets"] = {split: result.as_dict() for split, result in results.items()}
    train = results.get("train")
    if train is None or not train.rows:
        told = f"train.txt: {train.explain()}" if train else "there is no train.txt"
        raise UserError(
            f"{data}: no training triplet is left. {told}. metadata.json has "
            f"{len(papers.ids):,} papers, {int(papers.usable.sum()):,} with a text. Add the title "
            "and abstract of the papers that data.json names to metadata.json."
        )
    _save_citations(folder, citations)
    usable = papers.usable
    citing = np.unique(citations[usable[citations[:, 0]] & usable[citations[:, 1]], 0])
    counts: dict[str, Any] = {
        "citations": len(citations),
        "queries": {},
        "triplets": {},
        "hard": {},
    }
    for split in SPLITS:
        result = results.get(split)
        rows = np.array(result.rows if result else [], np.int32).reshape(-1, 3)
        hard = np.array(result.hard if result else [], np.bool_)
        order = np.lexsort((rows[:, 2], rows[:, 1], rows[:, 0]))
        wanted = [papers.key[i] for i in lists.get(split, ()) if i in papers.key]
        queries = np.intersect1d(np.array(wanted, np.int32), citing)
        _save(folder, split, rows[order], hard[order], queries, counts)
    return counts


def _given(
    table: Table,
    papers: Papers,
    citations: NDArray[np.int32] | None,
    settings: PrepareSettings,
    report: dict[str, Any],
    progress: Progress,
) -> Triplets:
    """Triplets given ready, in the shape of mined ones."""
    audit = Audit("pairs", settings.max_bad_rows)
    with progress.stage("triplets") as stage:
        rows = read_triplets(table, papers, audit, stage)
    report["pairs"] = audit.as_dict()
    queries = np.unique(rows[:, 0])
    if citations is not None:
        usable = papers.usable
        queries = np.unique(citations[usable[citations[:, 0]] & usable[citations[:, 1]], 0])
    none = np.empty(0, np.int32)
    return Triplets(rows, np.zeros(len(rows), np.bool_), queries.astype(np.int32), none, 0)


def _save_citations(folder: Path, citations: NDArray[np.int32]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    np.save(folder / "citations.npy", citations)
    columns = {
        "citing": np.ascontiguousarray(citations[:, 0]),
        "cited": np.ascontiguousarray(citations[:, 1]),
    }
    pq.write_table(pa.table(columns), folder / "citations.parquet", compression="zstd")


def _save_mined(folder: Path, mined: Triplets, split: NDArray[np.int8]) -> dict[str, Any]:
    counts: dict[str, Any] = {"queries": {}, "triplets": {}, "hard": {}}
    of_row = split[mined.rows[:, 0]]
    for number, name in enumerate(SPLITS):
        chosen = of_row == number
        queries = mined.queries[split[mined.queries] == number]
        _save(folder, name, mined.rows[chosen], mined.hard[chosen], queries, counts)
    return counts


def _save(
    folder: Path,
    split: Split,
    rows: NDArray[np.int32],
    hard: NDArray[np.bool_],
    queries: NDArray[np.int32],
    counts: dict[str, Any],
) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    save_split(folder, split, rows, hard)
    save_queries(folder, split, queries)
    columns = {
        name: np.ascontiguousarray(rows[:, i])
        for i, name in enumerate(("query", "positive", "negative"))
    }
    table = pa.table(columns | {"hard": hard})
    pq.write_table(table, folder / "triplets" / f"{split}.parquet", compression="zstd")
    counts["queries"][split] = len(queries)
    counts["triplets"][split] = len(rows)
    counts["hard"][split] = int(hard.sum())
