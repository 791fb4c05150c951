"""``report.html`` of a corpus folder: one self-contained page.

It is a function of the folder alone, without a date: the same input has the same page.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from html import escape
from typing import Any

import numpy as np

from sciembed_train.corpus.data_page.distributions import distributions
from sciembed_train.corpus.data_page.left_out import LeftOut, left_out, notes
from sciembed_train.corpus.data_page.stored import stored_citation, stored_papers
from sciembed_train.corpus.store.checksums import add_checksum, check_file
from sciembed_train.corpus.store.corpus_files import AS_BEFORE, SPLITS
from sciembed_train.corpus.store.corpus_folder import Corpus
from sciembed_train.corpus.store.token_kinds import TOKEN_KINDS
from sciembed_train.errors import UserError
from sciembed_train.full_disk import told_full_disk
from sciembed_train.report_page import frame
from sciembed_train.report_page.bars import distribution
from sciembed_train.report_page.frame import paragraph, table, text_list

NAME = "report.html"
PLACES = 5  # shown of each reason
FILES = 50  # of the input that are named
FIELDS = 15  # of study that are shown
# Counts by split of corpus.json, and what a reader calls them.
EXAMPLES = {
    "queries": "papers with a text that cite one with a text",
    "triplets": "triplets",
    "hard": "of these with a hard negative",
    "cocitations": "co-cited pairs",
    "sentence_pairs": "pairs of citing sentences",
    "documents_by_split": "documents",
}


def page(corpus: Corpus) -> str:
    """The page's text."""
    report = json.loads((corpus.folder / "report.json").read_text(encoding="utf-8"))
    counts = corpus.info["counts"]
    held = [f"{counts['papers']:,} papers", f"{counts['citations']:,} citations"]
    if not corpus.n_papers:
        held = []
    if corpus.n_documents:
        held.append(f"{corpus.n_documents:,} documents")
    if corpus.has_tasks:
        held.append(f"{len(counts['tasks']):,} tasks")
    parts = [
        *_read(corpus, report),
        *_held(corpus),
        *_charts(corpus),
        *_fields(report.get("papers", {}).get("fields of study")),
        *_left_out(left_out(report)),
        *_queries(corpus.info.get("query_papers", {})),
        *stored_papers(corpus),
        *stored_citation(corpus),
        "<h2>The whole account</h2>",
        f"<pre>{escape(json.dumps(report, indent=1, ensure_ascii=False))}</pre>",
    ]
    return frame.page(f"Corpus of {', '.join(held)}", parts)


def write_page(corpus: Corpus) -> None:
    """Write the page into the corpus folder, whole or not at all."""
    path = corpus.folder / NAME
    partial = corpus.folder / f".{NAME}.{os.getpid()}"
    try:
        partial.write_bytes(page(corpus).encode("utf-8", "replace"))
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    add_checksum(path)


def renew_page(corpus: Corpus) -> None:
    """Write the page again if it is out of date, as after tokens were added."""
    path = corpus.folder / NAME
    try:
        check_file(path)
        text = path.read_text(encoding="utf-8")
    except (UserError, FileNotFoundError):  # it was being written when a process was killed
        text = ""
    if not text or not all(key in text for *_, key in _token_rows(corpus)):
        with told_full_disk(corpus.folder, AS_BEFORE):
            write_page(corpus)


def _read(corpus: Corpus, report: Mapping[str, Any]) -> list[str]:
    """The files, how they were recognised, how many of their rows are used, and what to look at."""
    sources = corpus.info["sources"]
    files = [
        (f["kind"], f["name"], f["bytes"] if f["bytes"] is not None else "", f["sha256"][:12])
        for f in sources[:FILES]
    ]
    parts = ["<h2>What was read</h2>", table(("input", "file", "bytes", "SHA-256"), files)]
    if len(sources) > FILES:
        parts.append(paragraph(f"And {len(sources) - FILES:,} more, named in corpus.json.", "dim"))
    parts.append(text_list(line for part in report.values() for line in part.get("read", ())))
    rows = [
        (name, part["rows"], part["kept"], sum(d["count"] for d in part["malformed"].values()))
        for name, part in report.items()
        if "rows" in part
    ]
    if rows:
        parts.append(table(("input", "rows", "used", "malformed"), rows))
    if note_lines := notes(report):
        parts += ["<h2>What to look at</h2>", text_list(note_lines)]
    return parts


def _held(corpus: Corpus) -> list[str]:
    """Counts of papers and examples by split, and the token stores."""
    counts = corpus.info["counts"]
    rows: list[tuple[Any, ...]] = []
    if (corpus.folder / "paper_splits.npy").is_file():
        by_split = np.bincount(corpus.paper_splits(), minlength=len(SPLITS)).tolist()
        rows.append(("papers", *by_split))
    for name, shown in EXAMPLES.items():
        if name in counts:
            rows.append((shown, *(counts[name].get(split, 0) for split in SPLITS)))
    for name, examples in counts.get("tasks", {}).items():
        rows.append((f"examples of task {name}", *(examples.get(split, 0) for split in SPLITS)))
    parts = ["<h2>What it holds</h2>", table(("", *SPLITS), rows)]
    if corpus.n_papers:
        without = counts["papers"] - counts["papers_with_text"]
        text = f"{without:,} papers have neither title nor abstract and take part in nothing. "
        text += f"{counts['papers_of_another_text']:,} have the text of another id, and are one "
        text += "paper with it."
        parts.append(paragraph(text))
    if stores := _token_rows(corpus):
        parts.append(table(("tokens of", "tokenizer", "tokens", "folder"), stores))
    return parts


def _token_rows(corpus: Corpus) -> list[tuple[str, str, int, str]]:
    """Texts, tokenizer, number of tokens and folder of each token store."""
    return [
        (kind.texts, str(store["tokenizer"]), store["tokens"], f"{kind.folder}/{key}")
        for kind in TOKEN_KINDS
        for key, store in corpus.info.get(kind.entry, {}).items()
    ]


def _charts(corpus: Corpus) -> list[str]:
    drawn = []
    for entry in distributions(corpus):
        chart = distribution(entry.name, entry.tally, entry.unit, entry.counted)
        note = f"\n{paragraph(entry.note + '.', 'dim')}" if entry.note else ""
        drawn.append(f"<div>{chart}{note}</div>")
    return ["<h2>Lengths, degrees, years</h2>\n<section>", *drawn, "</section>"] if drawn else []


def _fields(counted: Mapping[str, Any] | None) -> list[str]:
    """How many papers are of which field of study."""
    if counted is None:
        return []
    papers = counted["papers"]
    rows = list(papers.items())[:FIELDS]
    others = len(papers) - len(rows) + counted["other fields"]
    text = f"{counted['papers without one']:,} papers name none. A paper may be of several."
    if others:
        text = f"And {others:,} other fields. {text}"
    return ["<h2>Fields of study</h2>", table(("field", "papers"), rows), paragraph(text, "dim")]


def _left_out(reasons: list[LeftOut]) -> list[str]:
    parts = ["<h2>What was left out</h2>"]
    if not reasons:
        return [*parts, paragraph("Nothing.")]
    for each in reasons:
        parts.append(f"<h3>{escape(each.line)}</h3>")
        parts.append(text_list(each.examples[:PLACES]))
    text = "At most five places of each reason stand here, and at most twenty in report.json; the "
    return [*parts, paragraph(text + "counts are complete.", "dim")]


def _queries(accounts: Mapping[str, Any]) -> list[str]:
    """How many papers are queries, and why others are not, with some of their titles."""
    parts = ["<h2>Who is a query</h2>"] if accounts else []
    for kind, account in accounts.items():
        are = "are queries of" if kind == "triplets" else "are in"
        parts.append(f"<h3>{account['queries']:,} papers {are} {escape(kind)}</h3>")
        for reason, others in account["others"].items():
            parts.append(paragraph(f"{others['count']:,} are not: {reason}."))
            parts.append(text_list(others["examples"][:PLACES]))
    return parts
