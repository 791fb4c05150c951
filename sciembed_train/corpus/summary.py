"""What a corpus holds and what was left out of it, as text for people."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from sciembed_train.corpus.store.corpus_files import SPLITS
from sciembed_train.corpus.store.corpus_folder import Corpus
from sciembed_train.corpus.tasks.task_types import TASK_SPLITS
from sciembed_train.text.input_format import InputFormat

# Kinds of token stores in corpus.json, and their names in a summary.
STORES = {
    "token_stores": "tokens",
    "sentenced_stores": "tokens with sentences",
    "part_stores": "tokens of titles and abstracts",
    "sentence_pair_stores": "tokens of citing sentences",
    "document_stores": "document tokens",
    "task_stores": "tokens of tasks",
}


def summary(corpus: Corpus) -> str:
    """A few lines on a corpus for a person."""
    counts = corpus.info["counts"]
    held = []
    if counts["papers"]:
        without = counts["papers"] - counts["papers_with_text"]
        held.append(f"{counts['papers']:,} papers ({without:,} without a text)")
        held.append(f"{counts['citations']:,} citations")
    if corpus.n_documents:
        held.append(f"{corpus.n_documents:,} documents")
    if corpus.has_tasks:
        held.append(f"{len(counts['tasks']):,} tasks of {counts['task_texts']:,} texts")
    lines = [f"{corpus.folder}: {', '.join(held)}"]
    if "triplets" in counts:
        parts = [
            f"{split} {counts['triplets'][split]:,} ({counts['hard'][split]:,} hard)"
            for split in SPLITS
        ]
        lines.append(f"triplets: {', '.join(parts)}")
    if "cocitations" in counts:
        parts = [f"{split} {counts['cocitations'][split]:,}" for split in SPLITS]
        known = f"known {counts['known_cocitations']:,}"
        if "contexts" in counts:
            known += f", from {counts['contexts']:,} contexts"
        lines.append(f"co-cited pairs: {', '.join(parts)}; {known}")
    if "sentence_pairs" in counts:
        parts = [f"{split} {counts['sentence_pairs'][split]:,}" for split in SPLITS]
        lines.append(
            f"sentence pairs: {', '.join(parts)}; of {counts['citing_sentences']:,} sentences"
        )
    if corpus.n_documents:
        parts = [f"{split} {counts['documents_by_split'][split]:,}" for split in SPLITS]
        lines.append(f"documents: {', '.join(parts)}")
    for name, examples in counts.get("tasks", {}).items():
        parts = [f"{split} {examples[split]:,}" for split in TASK_SPLITS]
        lines.append(f"task {name}: {', '.join(parts)}")
    for kind, what in STORES.items():
        stores = corpus.info.get(kind, {}).values()
        lines.extend(f"{what}: {s['tokens']:,} by {s['tokenizer']}" for s in stores)
    report = json.loads((corpus.folder / "report.json").read_text(encoding="utf-8"))
    for part in report.values():
        lines.extend(part.get("notes", ()))
    lines.append(f"what was left out and why: {corpus.folder / 'report.json'}")
    return "\n".join(lines)


def cleaned_examples(
    corpus: Corpus, input_format: InputFormat, count: int
) -> Iterator[tuple[str, str]]:
    """The first titles and abstracts that are read otherwise than they stand, and as what."""
    if not corpus.n_papers or input_format.cleaning == "none":
        return
    shown = 0
    for paper in corpus.papers():
        abstract = paper["abstract"]
        sentences = [abstract] if abstract is None or isinstance(abstract, str) else abstract
        for text in (paper["title"], *sentences):
            if shown == count:
                return
            read = " ".join(input_format.parts([text]))
            if text and read != text.strip():
                shown += 1
                yield text, read or "nothing"


def describe_report(report: dict[str, Any]) -> str:
    """What was read, kept and left out, a line a reason."""
    lines = []
    for name, part in report.items():
        if "rows" in part:
            lines.append(f"{name}: {part['kept']:,} of {part['rows']:,} rows used")
            reasons = {**part["malformed"], **part["dropped"]}
            for reason, dropped in reasons.items():
                first = f", first at {dropped['examples'][0]}" if dropped["examples"] else ""
                lines.append(f"  {dropped['count']:,}: {reason}{first}")
            lines.extend(f"  {note}" for note in part["notes"])
            continue
        lines.append(f"{name}:")
        facts = {reason: value for reason, value in part.items() if reason != "notes"}
        lines.extend(f"  {reason}: {_brief(value)}" for reason, value in facts.items())
        lines.extend(f"  {note}" for note in part.get("notes", ()))
    return "\n".join(lines)


def _brief(value: Any) -> str:
    if isinstance(value, dict) and "count" in value:
        return f"{value['count']:,}"
    if isinstance(value, dict):
        return ", ".join(f"{key} {_brief(inner)}" for key, inner in value.items()) or "none"
    return f"{value:,}" if isinstance(value, int) else str(value)
