"""From papers and citations to the triplets of a corpus folder, mined or given ready-made.

And how many papers and citations led to them, or why none did.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sciembed_train.corpus.audit import EXAMPLES, count_and_examples, usable_rows
from sciembed_train.corpus.build_job import BuildJob, PaperJob
from sciembed_train.corpus.citations.build_citations import build_citations
from sciembed_train.corpus.citations.citation_rows import save_citations
from sciembed_train.corpus.mining.margin_mining import mine_margin
from sciembed_train.corpus.mining.neighbour_mining import mine_neighbours
from sciembed_train.corpus.mining.ready_triplets import read_triplets
from sciembed_train.corpus.mining.triplet_mining import CitationGraph, Triplets, mine_triplets
from sciembed_train.corpus.papers import Papers
from sciembed_train.corpus.row_blocks import BLOCK, blocks, keep_rows
from sciembed_train.corpus.store.corpus_files import (
    SPLITS,
    Split,
    SplitWriter,
    of_texts,
    save_queries,
)
from sciembed_train.errors import UserError


def build_triplets(job: PaperJob, memory: int) -> dict[str, Any]:
    """Write citations and mined or ready-made triplets; counts for ``corpus.json``.

    Raises:
        UserError: the input is wrong, or no training triplet is left.
    """
    citations = build_citations(job)
    counts: dict[str, Any] = {"citations": 0 if citations is None else len(citations)}
    triplets = _triplets(job, citations, memory)
    if triplets is None:
        return counts
    counts |= _save_triplets(job.folder, triplets, job.split)
    report = explain_triplets(triplets, job.split, counts, job.papers, citations)
    job.report["triplets"] = report
    for name, ids in job.lists.items():
        if unknown := ids - job.papers.number.keys():
            report[f"{name} ids that name no paper"] = count_and_examples(unknown)
    # Citations may have been given for co-cited pairs alone.
    if not counts["triplets"]["train"] and not job.settings.mines_cocitations:
        message = no_triplets_message(job.report, job.papers)
        if job.inputs.citations is not None or job.inputs.pairs is not None:
            raise UserError(message)
        report["notes"] = [message]  # references in the papers' rows were not asked for
    return counts


def _triplets(job: PaperJob, citations: NDArray[np.int32] | None, memory: int) -> Triplets | None:
    """Ready-made triplets, or those mined from citations; None where there is neither."""
    if job.inputs.pairs is not None:
        return _ready_triplets(job, citations)
    if citations is None:
        return None
    if job.settings.triplets_from == "neighbours":
        return _neighbour_triplets(job, citations, memory)
    graph = CitationGraph(citations, job.papers.usable, job.split)
    settings, work = job.settings, job.work / "triplets"
    with job.progress.stage("triplets", unit="shards") as stage:
        mined = mine_triplets(
            job.engine, graph, settings.triplets, settings.seed, memory, work, job.share(stage)
        )
    return _without_same_texts(mined, citations, job.papers.first)


def _neighbour_triplets(job: PaperJob, citations: NDArray[np.int32], memory: int) -> Triplets:
    """Triplets from the neighbours in a graph in which papers of the same text are merged."""
    triplets, facts = mine_neighbours(
        of_texts(citations, job.papers.first),
        job.papers.candidates,
        job.split,
        job.settings.neighbour_mining,
        job.settings.seed,
        memory,
        job.work,
        job.progress,
    )
    job.report["neighbours"] = facts
    return replace(triplets, queries=_citing(citations, job.papers))


def _without_same_texts(
    triplets: Triplets, citations: NDArray[np.int32], first: NDArray[np.int32]
) -> Triplets:
    """The triplets whose negative does not have the text of the query or of a paper that it cites.

    Papers of the same text count as one: what one of them cites, the others cite too.

    Args:
        triplets: mined from the citations of single ids.
        citations: citing and cited papers ``[E, 2]``.
        first: the first paper of each one's text ``[P]``.
    """
    n = len(first)
    shared = np.bincount(first, minlength=n) > 1  # by the first paper of a text
    if not shared.any():
        return triplets
    cited = _keys_of_shared(citations, first, shared)
    right = np.empty(len(triplets.rows), np.bool_)
    for block in blocks(len(right)):
        query, positive, negative = first[triplets.rows[block]].astype(np.int64).T
        key = query * n + negative
        at = np.searchsorted(cited, key)
        is_cited = np.append(cited, -1)[at] == key
        right[block] = ~is_cited & (query != negative) & (negative != positive)
        right[block] &= positive != query
    return replace(
        triplets,
        rows=keep_rows(triplets.rows, right),
        hard=keep_rows(triplets.hard, right),
        of_one_text=len(right) - int(right.sum()),
    )


def _keys_of_shared(
    citations: NDArray[np.int32], first: NDArray[np.int32], shared: NDArray[np.bool_]
) -> NDArray[np.int64]:
    """Ascending keys ``citing * P + cited`` of citations of or by a text that several papers have.

    The others are those of single ids, which mining knows.
    """
    keys = [np.empty(0, np.int64)]
    for block in blocks(len(citations)):
        citing, cited = first[citations[block]].astype(np.int64).T
        keys.append((citing * len(first) + cited)[shared[citing] | shared[cited]])
    return np.unique(np.concatenate(keys))


def _ready_triplets(job: PaperJob, citations: NDArray[np.int32] | None) -> Triplets:
    """Ready-made triplets in the shape of mined ones."""
    assert job.inputs.pairs is not None
    audit = job.audit("pairs")
    with job.progress.stage("triplets") as stage:
        rows = read_triplets(job.inputs.pairs, job.papers, audit, stage)
    job.report["pairs"] = audit.as_dict()
    queries = np.unique(rows[:, 0]) if citations is None else _citing(citations, job.papers)
    return Triplets(
        rows=rows,
        hard=np.zeros(len(rows), np.bool_),
        queries=queries.astype(np.int32),
        without_hops=np.empty(0, np.int32),
        unfilled=0,
    )


def build_margin_triplets(job: BuildJob, papers: Papers, data: Path) -> dict[str, Any]:
    """Write the triplets of SPECTER's own files; counts for ``corpus.json``.

    Raises:
        UserError: the file is wrong, or no training triplet is left.
    """
    audit = job.audit("relations")
    with job.progress.stage("triplets"):
        results, citations = mine_margin(
            data, job.lists, papers, job.settings.triplets, job.settings.seed, audit
        )
    job.report["relations"] = audit.as_dict()
    job.report["triplets"] = {split: result.as_dict() for split, result in results.items()}
    train = results.get("train")
    if train is None or not train.rows:
        reason = f"train.txt: {train.explain()}" if train else "there is no train.txt"
        raise UserError(
            f"{data}: no training triplet is left. {reason}. metadata.json has "
            f"{len(papers.ids):,} papers, {int(papers.usable.sum()):,} with a text. Add the title "
            "and abstract of the papers that data.json names to metadata.json."
        )
    save_citations(job.folder, citations)
    citing = _citing(citations, papers)
    counts: dict[str, Any] = {"citations": len(citations)} | _no_counts()
    for split in SPLITS:
        result = results.get(split)
        rows = np.array(result.rows if result else [], np.int32).reshape(-1, 3)
        hard = np.array(result.hard if result else [], np.bool_)
        order = np.lexsort((rows[:, 2], rows[:, 1], rows[:, 0]))
        known = (papers.number[i] for i in job.lists.get(split, ()) if i in papers.number)
        listed = papers.first[list(known)].tolist()
        queries = np.intersect1d(np.array(listed, np.int32), citing)
        everything = np.ones(len(rows), np.bool_)
        _save_split(job.folder, split, rows[order], hard[order], everything, queries, counts)
    return counts


def _citing(citations: NDArray[np.int32], papers: Papers) -> NDArray[np.int32]:
    """Papers with a text that cite a paper with a text, ascending."""
    usable = papers.usable
    citing = np.zeros(len(usable), np.bool_)
    for block in blocks(len(citations)):
        part = citations[block]
        citing[part[usable[part].all(1), 0]] = True
    return np.flatnonzero(citing).astype(np.int32)


def _no_counts() -> dict[str, Any]:
    return {"queries": {}, "triplets": {}, "hard": {}}


def _save_triplets(folder: Path, triplets: Triplets, split: NDArray[np.int8]) -> dict[str, Any]:
    counts = _no_counts()
    for number, name in enumerate(SPLITS):
        chosen = np.empty(len(triplets.rows), np.bool_)
        for block in blocks(len(chosen)):
            chosen[block] = split[triplets.rows[block, 0]] == number
        queries = triplets.queries[split[triplets.queries] == number]
        _save_split(folder, name, triplets.rows, triplets.hard, chosen, queries, counts)
    return counts


def _save_split(
    folder: Path,
    split: Split,
    rows: NDArray[np.int32],
    hard: NDArray[np.bool_],
    chosen: NDArray[np.bool_],
    queries: NDArray[np.int32],
    counts: dict[str, Any],
) -> None:
    """Write the triplets ``chosen`` for a split and its queries, and add their numbers."""
    count, n_hard = int(chosen.sum()), 0
    with SplitWriter(folder, split, count) as writer:
        for part in _chosen(chosen):
            writer.add(rows[part], hard[part])
            n_hard += int(hard[part].sum())
    save_queries(folder, split, queries)
    counts["queries"][split] = len(queries)
    counts["triplets"][split] = count
    counts["hard"][split] = n_hard


def _chosen(chosen: NDArray[np.bool_]) -> Iterator[NDArray[np.int64]]:
    """The places of the chosen rows, `BLOCK` at a time; at least once."""
    waiting = np.empty(0, np.int64)
    for block in blocks(len(chosen)):
        waiting = np.append(waiting, np.flatnonzero(chosen[block]) + block.start)
        if len(waiting) >= BLOCK:
            yield waiting[:BLOCK]
            waiting = waiting[BLOCK:]
    if len(waiting) or not chosen.any():
        yield waiting


def explain_triplets(
    triplets: Triplets,
    split: NDArray[np.int8],
    counts: Mapping[str, Any],
    papers: Papers,
    citations: NDArray[np.int32] | None,
) -> dict[str, Any]:
    """Counts of the papers and citations on the way to triplets, for ``report.json``."""
    facts: dict[str, Any] = {name: dict(counts[name]) for name in ("queries", "triplets", "hard")}
    if citations is not None:
        textless, examples = 0, np.empty((0, 2), np.int32)
        for block in blocks(len(citations)):
            part = citations[block]
            without = part[~papers.usable[part].all(1)]
            textless += len(without)
            examples = np.append(examples, without[: EXAMPLES - len(examples)], axis=0)
        facts["citations with a text at both ends"] = len(citations) - textless
        facts["citations left out for want of a text"] = {
            "count": textless,
            "examples": _pairs(papers, examples),
        }
    if len(triplets.long_lists):
        facts["papers with so many references that they lead to no hard negative"] = (
            count_and_examples([papers.ids[int(paper)] for paper in triplets.long_lists])
        )
    split_of = split[triplets.without_hops]
    by_split = {name: int((split_of == number).sum()) for number, name in enumerate(SPLITS)}
    facts["queries left out for want of a hard negative"] = {
        "count": len(triplets.without_hops),
        "by split": by_split,
        "examples": [papers.ids[i] for i in triplets.without_hops[:EXAMPLES]],
    }
    facts["triplets not made: no paper left for an easy negative"] = triplets.unfilled
    facts["triplets left out: a negative of the text of another of its papers"] = (
        triplets.of_one_text
    )
    return facts


def _pairs(papers: Papers, citations: NDArray[np.int32]) -> list[str]:
    return [f"{papers.ids[a]} cites {papers.ids[b]}" for a, b in citations]


def no_triplets_message(report: Mapping[str, Any], papers: Papers) -> str:
    """The message that there is no training triplet: why, with numbers, and what to do."""
    facts = report["triplets"]
    texts, n = int(papers.usable.sum()), len(papers.ids)
    lines = [f"No training triplet can be made. Of {n:,} papers {texts:,} have a text."]
    if excluded := int(papers.excluded.sum()):
        lines = [f"{lines[0][:-1]} and are not among the {excluded:,} that are excluded."]
    for name in ("citations", "pairs"):
        if name not in report:
            continue
        lines += [usable_rows(report[name], name), *report[name]["notes"]]
    if "pairs" in report:
        lines.append("The ids in both files must agree, and each split needs queries of its own.")
        return " ".join(lines)
    n_citations = facts["citations with a text at both ends"]
    queries = facts["queries"]
    hops = facts["queries left out for want of a hard negative"]["by split"]["train"]
    lines.append(
        f"{n_citations:,} of these have a text at both ends; they make "
        f"{sum(queries.values()):,} papers queries, {queries['train']:,} of them for "
        f"training (dev {queries['dev']:,}, test {queries['test']:,})."
    )
    if n_citations == 0:
        lines.append(
            "Give texts for more papers, and see that both files name papers by the same ids."
        )
    elif hops:
        lines.append(
            f"{hops:,} training queries have no hard negative (a paper that a cited training "
            "paper cites, and that is not cited itself): give more citations, or use "
            "--no-require-hard to train with easy negatives alone."
        )
    elif not queries["train"]:
        lines.append("Every query is held out: lower --dev-share and --test-share.")
    else:
        lines.append(
            "No paper is left that could be an easy negative: every text is within two hops of "
            "its query, or among its neighbours. Give more papers."
        )
    return " ".join(lines)
