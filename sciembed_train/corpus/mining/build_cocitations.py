"""From contexts, counted pairs and citations to the co-cited pairs of a corpus folder.

And how many papers and contexts led to them, or why none did.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sciembed_train.corpus.audit import (
    Audit,
    Reasons,
    list_reasons,
    usable_rows,
)
from sciembed_train.corpus.build_job import PaperJob
from sciembed_train.corpus.citations.context_groups import (
    CitingSentences,
    Masking,
    PaperGroups,
    write_context_groups,
)
from sciembed_train.corpus.citations.contexts import fulltext_contexts, read_contexts
from sciembed_train.corpus.citations.counted_pairs import read_cocitations
from sciembed_train.corpus.exclusions import EXCLUDED
from sciembed_train.corpus.mining.build_sentence_pairs import SENTENCE_REPORT, build_sentence_pairs
from sciembed_train.corpus.mining.cocitation_mining import CocitationMiner
from sciembed_train.corpus.mining.cocitation_settings import (
    FILTERED,
    REASONS,
    usable_papers,
)
from sciembed_train.corpus.mining.pair_files import (
    CocitationWriter,
    write_citing_sentences,
    write_pairs,
)
from sciembed_train.corpus.papers import Papers
from sciembed_train.corpus.readers.tables import Table
from sciembed_train.corpus.store.corpus_files import SPLITS, ArrayWriter, read_papers
from sciembed_train.corpus.store.token_store import load_array
from sciembed_train.errors import UserError

# What to do where the user's own settings leave cited papers out.
_REMEDIES = {
    EXCLUDED: "Exclude fewer papers (--exclude).",
    FILTERED: "Set the filters on abstracts wider (min_sentences, max_sentences, "
    "longest_sentence, short_sentence).",
}
CONTEXTS = (
    "SELECT k.context, s.* FROM source s JOIN kept k ON k.mention = s.mention ORDER BY k.context"
)


@dataclass
class _Contexts:
    """The contexts of a corpus that is being built, as groups of papers and perhaps as sentences.

    ``unresolved`` counts citation mentions of full texts that name no paper, by reason.
    """

    table: Table
    groups: PaperGroups
    sentences: CitingSentences | None
    unresolved: Reasons = field(default_factory=Reasons)


def build_cocitations(job: PaperJob) -> dict[str, Any]:
    """Mine and write the pairs of papers and of sentences; counts for ``corpus.json``.

    Raises:
        UserError: the input is wrong, or no training pair is left: of sentences where they are
            asked for, else of papers.
    """
    settings, mining = job.settings, job.settings.cocitation_mining
    abstracts = (p["abstract"] for p in read_papers(job.folder / "papers.parquet"))
    why = usable_papers(job.papers, mining, abstracts)
    miner = CocitationMiner(job.engine, mining, settings.seed)
    contexts = _read_contexts(job, why)
    if contexts is not None:
        miner.add_contexts(contexts.groups.mentions, contexts.groups.members)
    if job.inputs.cocitations is not None:
        audit = job.audit("cocitations")
        with job.progress.stage("cocitations") as stage:
            rows, count = read_cocitations(job.inputs.cocitations, job.papers, why, audit, stage)
        job.report["cocitation rows"] = audit.as_dict()
        miner.add_pairs(rows, count)
    if mining.cocitations_from == "references":
        if not (job.folder / "citations.npy").is_file():
            raise UserError(
                "cocitations_from is references, and there are none: give --citations, or papers "
                "whose rows name the papers that they cite."
            )
        miner.add_references(load_array(job.folder / "citations.npy"), why == 0)
    with job.progress.stage("co-cited pairs", unit="pairs") as stage:
        miner.mine(job.split)
        counts = _save_pairs(job.folder / "cocitations", miner, job.papers, stage.reach)
        if contexts is not None:
            counts["contexts"] = _save_contexts(job, miner, contexts)
    report = explain_pairs(miner, counts, why, None if contexts is None else contexts.groups)
    job.report["co-cited pairs"] = report
    if contexts is not None and mining.cocitations_from == "fulltexts":
        report["citations of full texts that name no paper"] = contexts.unresolved.as_dict()
    if contexts is not None and contexts.sentences is not None:
        counts |= build_sentence_pairs(job, contexts.sentences, contexts.table)
    elif not counts["cocitations"]["train"]:
        message = no_pairs_message(job.report, job.papers)
        cited = mining.cocitations_from == "references"
        if not cited or not len(load_array(job.folder / "citations.npy")):
            raise UserError(message)
        report["notes"] = [message]  # no error: training may use the citations alone
    return counts


def _read_contexts(job: PaperJob, why: NDArray[np.int8]) -> _Contexts | None:
    """Check the contexts and write what mining needs; None where there are none."""
    mining = job.settings.cocitation_mining
    from_fulltexts = mining.cocitations_from == "fulltexts"
    table = job.inputs.fulltexts if from_fulltexts else job.inputs.contexts
    if table is None:
        return None
    audit = job.audit("contexts")
    groups = PaperGroups(job.work, audit, job.papers, mining, why)
    sentences = None
    if mining.sentence_pairs != "none":
        sentence_audit = Audit(SENTENCE_REPORT)
        sentences = CitingSentences(job.work, sentence_audit, job.papers, mining, job.exclusions)
    contexts = _Contexts(table, groups, sentences)
    if from_fulltexts:
        rows = fulltext_contexts(table, job.papers, contexts.unresolved, job.exclusions)
    else:
        rows = read_contexts(table)
    masking = Masking() if mining.mask_mentions and not from_fulltexts else None
    with job.progress.stage("contexts", unit="sentences" if from_fulltexts else "rows") as stage:
        write_context_groups(rows, table, groups, sentences, masking, stage, job.exclusions)
    if masking is not None:
        audit.notes.append(masking.note())
    return contexts


def _save_contexts(job: PaperJob, miner: CocitationMiner, contexts: _Contexts) -> int:
    """Write ``contexts.parquet`` and the account of the contexts; their number."""
    audit, table = contexts.groups.audit, contexts.table
    for reason, (count, places) in miner.repeated().items():
        audit.drop_many(reason, count, map(table.where, places))
    audit.kept = miner.number("kept")
    job.report["contexts"] = audit.as_dict()
    batches = job.engine.batches(CONTEXTS, contexts.groups.texts)
    write_citing_sentences(job.folder / "contexts.parquet", "context", batches, job.papers, table)
    return audit.kept


def _save_pairs(
    folder: Path, miner: CocitationMiner, papers: Papers, on_pairs: Callable[[int], None]
) -> dict[str, Any]:
    """Write pairs, counts and known pairs; counts for ``corpus.json``."""
    folder.mkdir()
    sizes = dict(zip(SPLITS, miner.by_split(), strict=True))
    writers = [CocitationWriter(folder, name, size, papers) for name, size in sizes.items()]
    write_pairs(miner.pairs(), writers, on_pairs)
    number = miner.prepare_known(len(papers.ids))
    known = ArrayWriter(folder / "known.npy", "<i8", (number,))
    for keys in miner.known():
        known.add(keys)
    known.close()
    return {"cocitations": sizes, "known_cocitations": number}


def explain_pairs(
    miner: CocitationMiner,
    counts: Mapping[str, Any],
    why: NDArray[np.int8],
    groups: PaperGroups | None,
) -> dict[str, Any]:
    """Counts of the papers on the way to pairs, for ``report.json``."""
    facts: dict[str, Any] = {
        "pairs": dict(counts["cocitations"]),
        "known pairs": counts["known_cocitations"],
        "papers in no pair": {
            reason: int((why == number).sum()) for number, reason in enumerate(REASONS) if reason
        },
    }
    if miner.settings.min_count > 1:
        facts["known pairs without a place in training, dev or test"] = counts[
            "known_cocitations"
        ] - sum(counts["cocitations"].values())
    if groups is not None:
        facts["cited papers left out of contexts"] = groups.removed.as_dict()
        facts["contexts by papers left"] = {str(n): k for n, k in sorted(groups.sizes.items())}
        facts["groups"] = miner.number("weights", "list > 0")
    if miner.settings.cocitations_from == "references":
        facts["papers that cite two or more"] = miner.number(
            "placed", "list < 0 AND place = 0 AND size > 1"
        )
    for kind, (lists, pairs) in miner.cut().items():
        if lists:
            facts[f"{kind} with more than {miner.settings.max_pairs:,} pairs"] = lists
            facts[f"pairs of such {kind} not taken"] = pairs
    return facts


def no_pairs_message(report: Mapping[str, Any], papers: Papers) -> str:
    """The message that there is no training pair: why, with numbers, and what to do."""
    facts = report["co-cited pairs"]
    usable, n = int(papers.usable.sum()), len(papers.ids)
    lines = [
        f"No training pair of co-cited papers can be made. Of {n:,} papers {usable:,} have a text."
    ]
    for name, unit in (("contexts", "contexts"), ("cocitation rows", "co-cited pairs")):
        if name in report:
            lines.append(usable_rows(report[name], unit))
    removed = facts.get("cited papers left out of contexts", {})
    if removed:
        lines.append(f"Cited papers left out of contexts: {list_reasons(removed)}.")
    if unresolved := facts.get("citations of full texts that name no paper", {}):
        lines.append(f"Citations of full texts that name no paper: {list_reasons(unresolved)}.")
    if "papers that cite two or more" in facts:
        lines.append(f"{facts['papers that cite two or more']:,} papers cite two or more of them.")
    return " ".join([*lines, *_what_to_do(facts, removed)])


def _what_to_do(facts: Mapping[str, Any], removed: Mapping[str, Any]) -> list[str]:
    pairs, known = facts["pairs"], facts["known pairs"]
    if sum(pairs.values()):
        return [
            f"All pairs are held out (dev {pairs['dev']:,}, test {pairs['test']:,}), for a pair "
            "trains only if both its papers do: lower --dev-share and --test-share."
        ]
    if known:
        return [
            f"{known:,} pairs are known to be co-cited, and the filters named above or min_count "
            "leave none of them: set them lower."
        ]
    return [
        *(remedy for reason, remedy in _REMEDIES.items() if reason in removed),
        "Give contexts that cite two or more papers, with texts for these, and check that the "
        "files name papers by the same ids.",
    ]
