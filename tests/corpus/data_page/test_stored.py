"""Papers and a citation on the page are those of the corpus."""

import json
import re

from sciembed_train.corpus.build import prepare
from sciembed_train.corpus.data_page.stored import LETTERS, stored_citation, stored_papers
from sciembed_train.corpus.mining.triplet_mining import TripletMining
from sciembed_train.corpus.prepare_settings import PrepareSettings


def corpus_of(folder, rows, citations=""):
    (folder / "p.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    settings = PrepareSettings(
        papers=folder / "p.jsonl",
        citations=folder / "c.csv" if citations else None,
        to=folder / "c",
        dev_share=0,
        test_share=0,
        triplets=TripletMining(require_hard=False, per_query=1, hard=0),
    )
    (folder / "c.csv").write_text(citations)
    return prepare(settings)


def test_three_papers_with_a_text_are_shown_from_all_over(tmp_path):
    rows = [{"paper_id": f"p{i:02}", "title": f"T{i}" if i % 10 else ""} for i in range(30)]
    shown = "\n".join(stored_papers(corpus_of(tmp_path, rows)))
    assert re.findall(r"<th>paper id</th><td>(p\d+)", shown) == ["p01", "p11", "p21"]


def test_a_paper_stands_there_as_it_is_stored(tmp_path):
    rows = [
        {"paper_id": "a", "title": "<i>A</i> & b", "abstract": ["One.", "Two."], "year": 1999},
        {"paper_id": "b", "title": "B", "abstract": "w" * (LETTERS + 7)},
    ]
    shown = "\n".join(stored_papers(corpus_of(tmp_path, rows)))
    assert "<td>&lt;i&gt;A&lt;/i&gt; &amp; b</td>" in shown
    assert "<blockquote>One. | Two.<br><small>abstract, 2 sentences</small>" in shown
    assert "<th>year</th><td>1999</td>" in shown
    assert "<th>year</th><td>none</td>" in shown
    assert f"{'w' * LETTERS}... ({LETTERS + 7:,} letters)" in shown
    assert "w" * (LETTERS + 1) not in shown


def test_a_citation_is_told_by_titles_and_years(tmp_path):
    rows = [
        {"paper_id": "a", "title": "One <b>title</b>", "year": 2001},
        {"paper_id": "b", "title": "Another & more"},
        {"paper_id": "c", "title": "A third"},
    ]
    assert stored_citation(corpus_of(tmp_path, rows)) == []
    _, told = stored_citation(corpus_of(tmp_path, rows, "citing,cited\na,b\na,c\nb,c\n"))
    assert told == "<p>&quot;One title&quot; (a) of 2001 cites &quot;A third&quot; (c).</p>"
