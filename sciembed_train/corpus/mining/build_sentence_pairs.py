"""From citing sentences to the sentence pairs of a corpus folder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from sciembed_train.corpus.audit import list_reasons, usable_rows
from sciembed_train.corpus.build_job import PaperJob
from sciembed_train.corpus.citations.context_groups import ContextGroups
from sciembed_train.corpus.mining.pair_files import (
    SentencePairWriter,
    write_citing_sentences,
    write_pairs,
)
from sciembed_train.corpus.mining.sentence_pair_mining import SQL, SentenceMiner
from sciembed_train.corpus.readers.tables import Table
from sciembed_train.corpus.store.corpus_files import SENTENCE_PAIRS, SPLITS, ArrayWriter
from sciembed_train.errors import UserError

SENTENCES = (
    "SELECT n.sentence, n.split, s.* FROM source s JOIN numbered n ON n.mention = s.mention "
    "ORDER BY n.sentence"
)
SENTENCE_REPORT = "citing sentences"  # the entries of report.json
PAIR_REPORT = "sentence pairs"


def build_sentence_pairs(job: PaperJob, sentences: ContextGroups, table: Table) -> dict[str, Any]:
    """Mine and write the pairs of sentences; counts for ``corpus.json``.

    The database's tables of co-cited papers are replaced.

    Raises:
        UserError: no training pair is left.
    """
    mining = job.settings.cocitation_mining
    miner = SentenceMiner(job.engine, mining, job.settings.seed)
    folder = job.folder / SENTENCE_PAIRS
    folder.mkdir()
    with job.progress.stage("sentence pairs", unit="pairs") as stage:
        miner.mine_sentences(sentences.mentions, sentences.members, job.split)
        sizes = dict(zip(SPLITS, miner.by_split(), strict=True))
        writers = [SentencePairWriter(folder, name, size) for name, size in sizes.items()]
        write_pairs(miner.sentence_pairs(), writers, stage.reach)
        _save_papers(folder, miner)
        batches = job.engine.batches(SENTENCES, sentences.texts)
        path = folder / "sentences.parquet"
        write_citing_sentences(path, "sentence", batches, job.papers, table, with_split=True)
    counts = {"sentence_pairs": sizes, "citing_sentences": miner.number("numbered")}
    audit = sentences.audit
    for reason, (count, places) in miner.repeated().items():
        audit.drop_many(reason, count, map(table.where, places))
    audit.kept = counts["citing_sentences"]
    job.report[SENTENCE_REPORT] = audit.as_dict()
    job.report[PAIR_REPORT] = _explain(miner, sizes, sentences)
    if not sizes["train"]:
        raise UserError(no_sentence_pairs_message(job.report, mining.sentence_pairs))
    return counts


def _save_papers(folder: Path, miner: SentenceMiner) -> None:
    """Write the papers that each sentence's text cites, end to end, and where each one's begin."""
    papers = ArrayWriter(folder / "papers.npy", "<i4", (miner.number(f"({SQL['cites']})"),))
    offsets = np.zeros(miner.number("numbered") + 1, np.int64)
    for sentences, cited in miner.cites():
        papers.add(cited)
        counts = np.bincount(sentences - sentences[0])  # ascending, so the range is short
        offsets[sentences[0] + 1 :][: len(counts)] += counts
    papers.close()
    np.save(folder / "papers_offsets.npy", np.cumsum(offsets))


def _explain(
    miner: SentenceMiner, sizes: Mapping[Any, int], sentences: ContextGroups
) -> dict[str, Any]:
    """Counts of the sentences on the way to pairs, for ``report.json``."""
    settings = miner.settings
    facts: dict[str, Any] = {
        "pairs": dict(sizes),
        "of sentences that cite the same": settings.sentence_pairs,
        f"{settings.sentence_pairs}s that two sentences or more cite": miner.engine.number(
            "SELECT COUNT(DISTINCT list) FROM kept"
        ),
        "sentences by papers cited": {str(n): k for n, k in sorted(sentences.sizes.items())},
        "cited papers left out of sentences": sentences.removed.as_dict(),
    }
    lists, pairs = miner.cut()["contexts"]
    if lists:
        facts[f"lists with more than {settings.max_pairs:,} pairs"] = lists
        facts["pairs of such lists not taken"] = pairs
    return facts


def no_sentence_pairs_message(report: Mapping[str, Any], grouping: str) -> str:
    """The message that there is no training pair: why, with numbers, and what to do."""
    facts = report[PAIR_REPORT]
    lines = [
        "No training pair of sentences can be made.",
        usable_rows(report[SENTENCE_REPORT], "citing sentences"),
    ]
    if removed := facts["cited papers left out of sentences"]:
        lines.append(f"Cited papers left out of sentences: {list_reasons(removed)}.")
    pairs = facts["pairs"]
    if sum(pairs.values()):
        lines.append(
            f"All pairs are held out (dev {pairs['dev']:,}, test {pairs['test']:,}), for a pair "
            "trains only if every paper that its sentences cite does: lower --dev-share and "
            "--test-share."
        )
    elif grouping == "set":
        lines.append(
            "Give contexts of which several cite the same two papers or more; or pair those that "
            "cite one paper in common: --sentence-pairs paper (in a recipe "
            "data.cocitation_mining.sentence_pairs)."
        )
    else:
        lines.append(
            "Give contexts of which several cite the same paper, and check that the files name "
            "papers by the same ids."
        )
    return " ".join(lines)
