"""From citing sentences to the sentence pairs of a corpus folder."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sciembed_train.corpus.citations.context_groups import ContextGroups
from sciembed_train.corpus.mining.sentence_pair_mining import SentenceMiner
from sciembed_train.corpus.papers import Papers
from sciembed_train.corpus.prepare_settings import PrepareSettings
from sciembed_train.corpus.readers.tables import Table
from sciembed_train.corpus.sql_engine import Engine
from sciembed_train.corpus.store.corpus_folder import SENTENCE_PAIRS, SPLITS, ArrayWriter
from sciembed_train.errors import UserError
from sciembed_train.progress import Progress

SENTENCES = (
    "SELECT n.sentence, n.split, s.* FROM source s JOIN numbered n ON n.mention = s.mention "
    "ORDER BY n.sentence"
)
OF_SENTENCES = "citing sentences"  # the parts of the report
OF_PAIRS = "sentence pairs"


def build_sentence_pairs(
    folder: Path,
    work: Path,
    settings: PrepareSettings,
    papers: Papers,
    split: NDArray[np.int8],
    sentences: ContextGroups,
    table: Table,
    report: dict[str, Any],
    progress: Progress,
    engine: Engine,
) -> dict[str, Any]:
    """Mine and write the pairs of sentences; counts for ``corpus.json``.

    The tables of co-cited papers in the engine are taken over.

    Raises:
        UserError: no training pair is left.
    """
    miner = SentenceMiner(engine, work, settings.cocitation_mining, settings.seed)
    to = folder / SENTENCE_PAIRS
    to.mkdir()
    with progress.stage("sentence pairs", unit="pairs") as stage:
        miner.mine(sentences.mentions, sentences.members, split)
        counts = _save_pairs(to, miner, stage.reach)
        _save_papers(to, miner)
        found = engine.batches(SENTENCES, sentences.texts)
        save_citing(to / "sentences.parquet", "sentence", found, papers, table, True)
    audit = sentences.audit
    for reason, (n, first) in miner.left_out().items():
        for place in first:
            audit.drop(reason, table.where(place))
        audit.dropped[reason].count = n
    audit.kept = counts["citing_sentences"]
    report[OF_SENTENCES] = audit.as_dict()
    report[OF_PAIRS] = _explain(miner, counts, sentences)
    if not counts["sentence_pairs"]["train"]:
        raise UserError(_why_nothing(report, settings.cocitation_mining.sentence_pairs))
    return counts


def _save_pairs(to: Path, miner: SentenceMiner, on_pairs: Callable[[int], None]) -> dict[str, Any]:
    """Write the pairs of each split as arrays and as Parquet; counts for ``corpus.json``."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = pa.schema([("a", pa.int32()), ("b", pa.int32())])
    sizes = miner.by_split()
    arrays = [
        ArrayWriter(to / f"{name}.npy", "<i4", (n, 2))
        for name, n in zip(SPLITS, sizes, strict=True)
    ]
    tables = [pq.ParquetWriter(to / f"{name}.parquet", schema) for name in SPLITS]
    done = 0
    for pairs in miner.pairs():
        for number, (array, table) in enumerate(zip(arrays, tables, strict=True)):
            rows = pairs.rows[pairs.split == number]
            array.add(rows)
            if len(rows):
                columns = [pa.array(np.ascontiguousarray(column)) for column in rows.T]
                table.write_batch(pa.RecordBatch.from_arrays(columns, schema=schema))
        done += len(pairs.rows)
        on_pairs(done)
    for writer in (*arrays, *tables):
        writer.close()
    return {
        "sentence_pairs": dict(zip(SPLITS, sizes, strict=True)),
        "citing_sentences": miner.number("numbered"),
    }


def _save_papers(to: Path, miner: SentenceMiner) -> None:
    """Write which papers each sentence's text cites, end to end, and where each one's begin."""
    n = miner.number("numbered")
    papers = ArrayWriter(to / "papers.npy", "<i4", (miner.number_of_cites(),))
    offsets = np.zeros(n + 1, np.int64)
    for sentences, cited in miner.cites():
        papers.add(cited)
        counts = np.bincount(sentences - sentences[0])  # ascending, so of a few of them
        offsets[sentences[0] + 1 :][: len(counts)] += counts
    papers.close()
    np.save(to / "papers_offsets.npy", np.cumsum(offsets))


def save_citing(
    path: Path,
    number: str,
    batches: Iterable[Any],
    papers: Papers,
    table: Table,
    with_split: bool = False,
) -> None:
    """Write citing sentences for people and other programs.

    Args:
        path: a Parquet file.
        number: the column that numbers them.
        batches: record batches in that order: the number, what `ContextGroups.texts` holds, and
            perhaps ``split``.
        papers: the papers of the corpus.
        table: where they were read from.
        with_split: whether to write the split.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    kinds = {number: pa.int64()} | dict.fromkeys(
        ("citing_id", "text", "before", "after"), pa.string()
    )
    made = {"papers": pa.list_(pa.int32()), "paper_ids": pa.list_(pa.string())}
    made |= ({"split": pa.string()} if with_split else {}) | {"place": pa.string()}
    schema = pa.schema(list((kinds | made).items()))
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        for batch in batches:
            cited = batch.column("cited").to_pylist()
            found = {
                "papers": cited,
                "paper_ids": [[papers.ids[paper] for paper in group] for group in cited],
                "place": [table.name(place) for place in batch.column("place").to_pylist()],
            }
            if with_split:
                found["split"] = [SPLITS[n] for n in batch.column("split").to_pylist()]
            arrays = [batch.column(name).cast(kind) for name, kind in kinds.items()]
            arrays += [pa.array(found[name], kind) for name, kind in made.items()]
            writer.write_batch(pa.RecordBatch.from_arrays(arrays, schema=schema))


def _explain(
    miner: SentenceMiner, counts: Mapping[str, Any], sentences: ContextGroups
) -> dict[str, Any]:
    """What became of the sentences on the way to pairs."""
    found: dict[str, Any] = {
        "pairs": dict(counts["sentence_pairs"]),
        "of sentences that cite the same": miner.settings.sentence_pairs,
        f"{miner.settings.sentence_pairs}s that two sentences or more cite": miner.lists(),
        "sentences by papers cited": {str(n): k for n, k in sorted(sentences.sizes.items())},
        "cited papers left out of sentences": {
            reason: dropped.as_dict() for reason, dropped in sentences.removed.items()
        },
    }
    lists, pairs = miner.cut()
    if lists:
        found[f"lists with more than {miner.settings.max_pairs:,} pairs"] = lists
        found["pairs of such lists not taken"] = pairs
    return found


def _why_nothing(report: Mapping[str, Any], by: str) -> str:
    """Why there is no training pair, with numbers, and what to do."""
    given, facts = report[OF_SENTENCES], report[OF_PAIRS]
    why = [
        f"{d['count']:,}: {reason}, the first at {d['examples'][0]}"
        for reason, d in given["dropped"].items()
    ]
    told = f" ({'; '.join(why)})" if why else ""
    lines = [
        "No training pair of sentences can be made.",
        f"Of {given['rows']:,} citing sentences {given['kept']:,} can be used{told}.",
    ]
    left_out = facts["cited papers left out of sentences"]
    if left_out:
        told = "; ".join(f"{d['count']:,}: {reason}" for reason, d in left_out.items())
        lines.append(f"Cited papers left out of sentences: {told}.")
    pairs = facts["pairs"]
    if sum(pairs.values()):
        lines.append(
            f"All pairs are held out (dev {pairs['dev']:,}, test {pairs['test']:,}), for a pair "
            "trains only if every paper that its sentences cite does: lower --dev-share and "
            "--test-share."
        )
    elif by == "set":
        lines.append(
            "Give contexts of which several cite the same two papers or more; or pair those that "
            "cite one paper in common: --sentence-pairs paper (in a recipe "
            "data.cocitation_mining.sentence_pairs)."
        )
    else:
        lines.append(
            "Give contexts of which several cite the same paper, and see that the files name "
            "papers by the same ids."
        )
    return " ".join(lines)
