"""What a corpus holds and what was left out of it, as text for people."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from sciembed_train.corpus.data_page.left_out import left_out, notes
from sciembed_train.corpus.data_page.page import NAME
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
REASONS = 8  # for leaving something out that are listed


def summary(corpus: Corpus, more: Sequence[str] = ()) -> str:
    """What was read, what is used, what was left out, and what to look at, for a person.

    ``more`` are further things to look at.
    """
    report = json.loads((corpus.folder / "report.json").read_text(encoding="utf-8"))
    lines = [f"{corpus.folder}: {_held(corpus)}"]
    read = [line for part in report.values() for line in part.get("read", ())]
    rows = [
        f"{name}: {part['kept']:,} of {part['rows']:,} rows used"
        for name, part in report.items()
        if "rows" in part
    ]
    lines += _block("read:", [*read, *rows])
    lines += _block("used:", [*_examples(corpus), *_tokens(corpus)])
    reasons = left_out(report)
    left = [
        each.line + f", first at {each.examples[0]}" if each.examples else each.line
        for each in reasons[:REASONS]
    ]
    if rest := reasons[REASONS:]:
        left.append(f"{sum(each.count for each in rest):,} for {len(rest):,} other reasons")
    lines += _block("left out:", left)
    lines += _block("to look at:", [*notes(report), *more])
    lines.append(f"in full: {corpus.folder / NAME} and {corpus.folder / 'report.json'}")
    return "\n".join(lines)


def _block(head: str, lines: Iterable[str]) -> list[str]:
    """A head and its lines; nothing without lines."""
    indented = [f"  {line}" for line in lines]
    return [head, *indented] if indented else []


def _held(corpus: Corpus) -> str:
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
    return ", ".join(held)


def _examples(corpus: Corpus) -> Iterator[str]:
    """A line for each kind of examples."""
    counts = corpus.info["counts"]
    if "triplets" in counts:
        parts = [
            f"{split} {counts['triplets'][split]:,} ({counts['hard'][split]:,} hard)"
            for split in SPLITS
        ]
        yield f"triplets: {', '.join(parts)}"
    if "cocitations" in counts:
        parts = [f"{split} {counts['cocitations'][split]:,}" for split in SPLITS]
        known = f"known {counts['known_cocitations']:,}"
        if "contexts" in counts:
            known += f", from {counts['contexts']:,} contexts"
        yield f"co-cited pairs: {', '.join(parts)}; {known}"
    if "sentence_pairs" in counts:
        parts = [f"{split} {counts['sentence_pairs'][split]:,}" for split in SPLITS]
        yield f"sentence pairs: {', '.join(parts)}; of {counts['citing_sentences']:,} sentences"
    if corpus.n_documents:
        parts = [f"{split} {counts['documents_by_split'][split]:,}" for split in SPLITS]
        yield f"documents: {', '.join(parts)}"
    for name, examples in counts.get("tasks", {}).items():
        parts = [f"{split} {examples[split]:,}" for split in TASK_SPLITS]
        yield f"task {name}: {', '.join(parts)}"


def _tokens(corpus: Corpus) -> Iterator[str]:
    """A line for each token store."""
    for kind, what in STORES.items():
        for store in corpus.info.get(kind, {}).values():
            yield f"{what}: {store['tokens']:,} by {store['tokenizer']}"


def cleaned_examples(
    corpus: Corpus, input_format: InputFormat, count: int
) -> Iterator[tuple[str, str]]:
    """The first titles and abstracts that cleaning changes, before and after."""
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
