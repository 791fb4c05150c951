"""Some papers of a corpus as they are stored, and one citation in words, for its page."""

from __future__ import annotations

from html import escape
from typing import Any

from sciembed_train.corpus.store.corpus_folder import Corpus
from sciembed_train.corpus.store.some_papers import in_quotes, some_papers
from sciembed_train.corpus.store.token_store import has_text
from sciembed_train.report_page.frame import fact_table, paragraph

PAPERS = 3
LOOKED = 50  # papers, from a place on, that are searched for one with a text
LETTERS = 1500  # of an abstract that are shown


def stored_papers(corpus: Corpus) -> list[str]:
    """Papers from the beginning, the middle and the end, with a text where there is one near."""
    if not corpus.n_papers:
        return []
    parts = [
        "<h2>Some papers as they are stored</h2>",
        paragraph("Markup stands as in your files: it is cleaned when a text is read.", "dim"),
    ]
    shown: set[int] = set()
    for place in range(PAPERS):
        start = corpus.n_papers * place // PAPERS
        near = range(start, min(start + LOOKED, corpus.n_papers))
        rows = some_papers(corpus.folder / "papers.parquet", near)
        texts = (n for n, row in rows.items() if has_text(row["title"], _abstract(row)))
        number = next(texts, start)
        if number not in shown:
            shown.add(number)
            parts += _shown(rows[number])
    return parts


def _abstract(row: dict[str, Any]) -> Any:
    return row["abstract"] if row["sentences"] is None else row["sentences"]


def _shown(row: dict[str, Any]) -> list[str]:
    facts = {
        "paper": str(row["paper"]),
        "paper_id": row["paper_id"],
        "title": row["title"] or "(none)",
    }
    year = "none" if row["year"] is None else str(row["year"])
    abstract = _abstract(row)
    whole = abstract if isinstance(abstract, str) else " | ".join(abstract or ())
    kind = "abstract" if isinstance(abstract, str) else f"abstract, {len(abstract or ())} sentences"
    text = whole[:LETTERS]
    if len(whole) > LETTERS:
        text += f"... ({len(whole):,} letters)"
    return [
        fact_table(facts | {"year": year}),
        f"<blockquote>{escape(text or '(none)')}<br><small>{kind}</small></blockquote>",
    ]


def stored_citation(corpus: Corpus) -> list[str]:
    """One citation, the middle one, by titles and years."""
    if not (corpus.folder / "citations.npy").is_file():
        return []
    citations = corpus.citations()
    if not len(citations):
        return []
    pair = citations[len(citations) // 2].tolist()
    rows = some_papers(corpus.folder / "papers.parquet", pair, ("paper_id", "title", "year"))
    citing, cited = (
        in_quotes(rows[paper]) + (f" of {rows[paper]['year']}" if rows[paper]["year"] else "")
        for paper in pair
    )
    told = f"{citing} cites {cited}."
    return ["<h2>One citation in words</h2>", paragraph(told)]
