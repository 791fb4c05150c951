"""From contexts, counted pairs and citations to the co-cited pairs of a corpus folder."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sciembed_train.corpus.audit import EXAMPLES, Audit, Dropped
from sciembed_train.corpus.citations.context_groups import (
    ContextGroups,
    Masking,
    write_context_groups,
)
from sciembed_train.corpus.citations.contexts import (
    EXCLUDED,
    FILTERED,
    REASONS,
    fulltext_contexts,
    read_cocitations,
    read_contexts,
    usable_papers,
)
from sciembed_train.corpus.mining.build_sentence_pairs import (
    OF_SENTENCES,
    build_sentence_pairs,
    save_citing,
)
from sciembed_train.corpus.mining.cocitation_mining import CocitationMiner, Pairs
from sciembed_train.corpus.papers import Papers, read_id_list
from sciembed_train.corpus.prepare_settings import Inputs, PrepareSettings
from sciembed_train.corpus.sql_engine import Engine
from sciembed_train.corpus.store.corpus_folder import SPLITS, ArrayWriter, read_papers
from sciembed_train.corpus.store.token_store import load_array
from sciembed_train.errors import UserError
from sciembed_train.progress import Progress

CONTEXTS = (
    "SELECT k.context, s.* FROM source s JOIN kept k ON k.mention = s.mention ORDER BY k.context"
)

# What to do where cited papers are left out by what the user has set.
_MENDED = {
    EXCLUDED: "Exclude fewer papers (--exclude-ids).",
    FILTERED: "Set the filters on abstracts wider (min_sentences, max_sentences, "
    "longest_sentence, short_sentence).",
}


def build_cocitations(
    folder: Path,
    work: Path,
    settings: PrepareSettings,
    inputs: Inputs,
    papers: Papers,
    split: NDArray[np.int8],
    report: dict[str, Any],
    progress: Progress,
    engine: Engine,
) -> dict[str, Any]:
    """Mine and write the pairs of papers and of sentences; counts for ``corpus.json``.

    Raises:
        UserError: the input is wrong, or no training pair is left: of sentences where they are
            asked for, else of papers.
    """
    mining = settings.cocitation_mining
    excluded = read_id_list(Path(settings.exclude_ids)) if settings.exclude_ids else set()
    abstracts = (p["abstract"] for p in read_papers(folder / "papers.parquet"))
    why = usable_papers(papers, excluded, mining, abstracts)
    miner = CocitationMiner(engine, work, mining, settings.seed)
    contexts = sentences = None
    audit = Audit("contexts", settings.max_bad_rows)
    unresolved: dict[str, Dropped] = {}
    from_fulltexts = mining.cocitations_from == "fulltexts"
    table = inputs.fulltexts if from_fulltexts else inputs.contexts
    if table is not None:
        found = (
            fulltext_contexts(table, papers, unresolved) if from_fulltexts else read_contexts(table)
        )
        contexts = ContextGroups(work, "contexts", audit)
        if mining.sentence_pairs != "none":
            sentences = ContextGroups(work, "sentences", Audit(OF_SENTENCES), excluded)
        masking = Masking() if mining.mask_mentions and not from_fulltexts else None
        takers = contexts, sentences, masking
        with progress.stage("contexts", unit="sentences" if from_fulltexts else "rows") as stage:
            write_context_groups(found, table, papers, why, mining, *takers, stage)
        if masking is not None:
            audit.notes.append(masking.note())
        miner.add_contexts(contexts.mentions, contexts.members)
    if inputs.cocitations is not None:
        given = Audit("cocitations", settings.max_bad_rows)
        with progress.stage("cocitations") as stage:
            rows, count = read_cocitations(inputs.cocitations, papers, why, given, stage)
        report["cocitation rows"] = given.as_dict()
        miner.add_pairs(rows, count)
    if mining.cocitations_from == "references":
        miner.add_references(load_array(folder / "citations.npy"), why == 0)
    with progress.stage("co-cited pairs", unit="pairs") as stage:
        miner.mine(split)
        counts = _save(folder, miner, papers, stage.reach)
        if contexts is not None and table is not None:
            for reason, (n, first) in miner.repeated().items():
                for place in first:
                    audit.drop(reason, table.where(place))
                audit.dropped[reason].count = n
            counts["contexts"] = audit.kept = miner.number("kept")
            report["contexts"] = audit.as_dict()
            found = engine.batches(CONTEXTS, contexts.texts)
            save_citing(folder / "contexts.parquet", "context", found, papers, table)
    report["co-cited pairs"] = _explain(miner, counts, papers, why, excluded, contexts)
    if from_fulltexts:
        report["co-cited pairs"]["citations of full texts that name no paper"] = {
            reason: dropped.as_dict() for reason, dropped in unresolved.items()
        }
    if sentences is not None and table is not None:
        of_pairs = folder, work, settings, papers, split, sentences, table
        counts |= build_sentence_pairs(*of_pairs, report, progress, engine)
    elif not counts["cocitations"]["train"]:
        raise UserError(_why_nothing(report, papers))
    return counts


def _save(
    folder: Path, miner: CocitationMiner, papers: Papers, on_pairs: Callable[[int], None]
) -> dict[str, Any]:
    """Write pairs, counts and known pairs; counts for ``corpus.json``."""
    to = folder / "cocitations"
    to.mkdir()
    sizes = miner.by_split()
    writers = [_SplitWriter(to, name, n, papers) for name, n in zip(SPLITS, sizes, strict=True)]
    done = 0
    for pairs in miner.pairs():
        for number, writer in enumerate(writers):
            writer.add(pairs, pairs.split == number)
        done += len(pairs.rows)
        on_pairs(done)
    for writer in writers:
        writer.close()
    known = ArrayWriter(to / "known.npy", "<i8", (miner.prepare_known(len(papers.ids)),))
    counts = {
        "cocitations": dict(zip(SPLITS, sizes, strict=True)),
        "known_cocitations": known.left,
    }
    for keys in miner.known():
        known.add(keys)
    known.close()
    return counts


class _SplitWriter:
    """Writes the pairs of one split, as arrays and as Parquet."""

    def __init__(self, to: Path, split: str, pairs: int, papers: Papers) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        self.ids = papers.ids
        self.rows = ArrayWriter(to / f"{split}.npy", "<i4", (pairs, 2))
        self.counts = ArrayWriter(to / f"{split}.count.npy", "<i4", (pairs,))
        self.schema = pa.schema(
            [
                *((name, pa.int32()) for name in ("a", "b")),
                *((name, pa.string()) for name in ("paper_a", "paper_b")),
                ("count", pa.int32()),
                ("contexts", pa.list_(pa.int64())),
            ]
        )
        self.file = pq.ParquetWriter(to / f"{split}.parquet", self.schema, compression="zstd")

    def add(self, pairs: Pairs, chosen: NDArray[np.bool_]) -> None:
        import pyarrow as pa

        if not chosen.any():
            return
        rows, count = pairs.rows[chosen], pairs.count[chosen]
        self.rows.add(rows)
        self.counts.add(count)
        sizes = np.diff(pairs.offsets)
        contexts = pairs.contexts[np.repeat(chosen, sizes)]
        offsets = np.concatenate([[0], np.cumsum(sizes[chosen])]).astype(np.int32)
        names = ([self.ids[paper] for paper in column] for column in rows.T)
        columns = [*map(np.ascontiguousarray, rows.T), *names, count]
        arrays = [pa.array(c, t) for c, t in zip(columns, self.schema.types, strict=False)]
        arrays.append(pa.ListArray.from_arrays(offsets, contexts))
        self.file.write_batch(pa.RecordBatch.from_arrays(arrays, schema=self.schema))

    def close(self) -> None:
        self.file.close()
        self.rows.close()
        self.counts.close()


def _explain(
    miner: CocitationMiner,
    counts: Mapping[str, Any],
    papers: Papers,
    why: NDArray[np.int8],
    excluded: set[str],
    contexts: ContextGroups | None,
) -> dict[str, Any]:
    """What became of the papers on the way to pairs."""
    found: dict[str, Any] = {
        "pairs": dict(counts["cocitations"]),
        "known pairs": counts["known_cocitations"],
        "papers in no pair": {
            reason: int((why == number).sum()) for number, reason in enumerate(REASONS) if reason
        },
    }
    if miner.settings.min_count > 1:
        found["known pairs without a place in training, dev or test"] = counts[
            "known_cocitations"
        ] - sum(counts["cocitations"].values())
    if contexts is not None:
        found["cited papers left out of contexts"] = {
            reason: dropped.as_dict() for reason, dropped in contexts.removed.items()
        }
        found["contexts by papers left"] = {
            str(size): n for size, n in sorted(contexts.sizes.items())
        }
        found["groups"] = miner.number("weights", "list > 0")
    if miner.settings.cocitations_from == "references":
        found["papers that cite two or more"] = miner.number(
            "placed", "list < 0 AND place = 0 AND size > 1"
        )
    for kind, (lists, pairs) in miner.cut().items():
        if lists:
            found[f"{kind} with more than {miner.settings.max_pairs:,} pairs"] = lists
            found[f"pairs of such {kind} not taken"] = pairs
    if excluded:
        unknown = sorted(excluded - papers.key.keys())
        found["excluded ids that name no paper"] = {
            "count": len(unknown),
            "examples": unknown[:EXAMPLES],
        }
    return found


def _why_nothing(report: Mapping[str, Any], papers: Papers) -> str:
    """Why there is no training pair, with numbers, and what to do."""
    facts = report["co-cited pairs"]
    usable, n = int(papers.usable.sum()), len(papers.ids)
    lines = [
        f"No training pair of co-cited papers can be made. Of {n:,} papers {usable:,} have a text."
    ]
    for name, what in (("contexts", "contexts"), ("cocitation rows", "co-cited pairs")):
        if name not in report:
            continue
        given = report[name]
        why = [
            f"{d['count']:,}: {reason}, the first at {d['examples'][0]}"
            for reason, d in {**given["malformed"], **given["dropped"]}.items()
        ]
        told = f" ({'; '.join(why)})" if why else ""
        lines.append(f"Of {given['rows']:,} {what} {given['kept']:,} can be used{told}.")
    left_out = facts.get("cited papers left out of contexts", {})
    if left_out:
        told = "; ".join(f"{d['count']:,}: {reason}" for reason, d in left_out.items())
        lines.append(f"Cited papers left out of contexts: {told}.")
    unresolved = facts.get("citations of full texts that name no paper", {})
    if unresolved:
        told = "; ".join(f"{d['count']:,}: {reason}" for reason, d in unresolved.items())
        lines.append(f"Citations of full texts that name no paper: {told}.")
    if "papers that cite two or more" in facts:
        lines.append(f"{facts['papers that cite two or more']:,} papers cite two or more of them.")
    pairs, known = facts["pairs"], facts["known pairs"]
    if sum(pairs.values()):
        lines.append(
            f"All pairs are held out (dev {pairs['dev']:,}, test {pairs['test']:,}), for a pair "
            "trains only if both its papers do: lower --dev-share and --test-share."
        )
    elif known:
        lines.append(
            f"{known:,} pairs are known to be co-cited, and the filters named above or min_count "
            "leave none of them: set them lower."
        )
    else:
        lines += [what for reason, what in _MENDED.items() if reason in left_out]
        lines.append(
            "Give contexts that cite two or more papers, with texts for these, and see that the "
            "files name papers by the same ids."
        )
    return " ".join(lines)
