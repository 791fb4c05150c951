import json
from types import SimpleNamespace

from sciembed_train.corpus.summary import describe_report, summary


def test_a_corpus_is_summed_up_by_what_it_holds(tmp_path):
    counts = {
        "papers": 2000,
        "papers_with_text": 1990,
        "citations": 12345,
        "triplets": {"train": 5000, "dev": 10, "test": 0},
        "hard": {"train": 2000, "dev": 4, "test": 0},
        "cocitations": {"train": 7, "dev": 1, "test": 0},
        "known_cocitations": 9,
        "contexts": 30,
        "tasks": {"search": {"train": 40, "dev": 4, "test": 0}},
        "task_texts": 80,
    }
    (tmp_path / "report.json").write_text(json.dumps({"papers": {"notes": ["a note"]}}))
    stores = {"key": {"tokens": 54321, "tokenizer": "scibert"}}
    corpus = SimpleNamespace(
        folder=tmp_path,
        info={"counts": counts, "token_stores": stores},
        n_documents=0,
        has_tasks=True,
    )
    text = summary(corpus)
    for expected in (
        "2,000 papers (10 without a text), 12,345 citations, 1 tasks of 80 texts",
        "triplets: train 5,000 (2,000 hard), dev 10 (4 hard), test 0 (0 hard)",
        "co-cited pairs: train 7, dev 1, test 0; known 9, from 30 contexts",
        "task search: train 40, dev 4",
        "tokens: 54,321 by scibert",
        "a note",
    ):
        assert expected in text
    assert "documents" not in text


def test_what_was_left_out_stands_in_order_and_the_reports_last(tmp_path):
    dropped = {f"reason {n}": {"count": n, "examples": [f"c:{n}"]} for n in range(1, 12)}
    report = {
        "papers": {"rows": 9, "kept": 8, "read": ["p: OpenAlex"], "notes": ["p: OpenAlex", "!"]},
        "citations": {"rows": 99, "kept": 33, "dropped": dropped, "notes": []},
    }
    (tmp_path / "report.json").write_text(json.dumps(report))
    counts = {"papers": 8, "papers_with_text": 8, "citations": 33}
    corpus = SimpleNamespace(
        folder=tmp_path, info={"counts": counts}, n_documents=0, has_tasks=False
    )
    assert summary(corpus, ["3 papers are cut"]).splitlines() == [
        f"{tmp_path}: 8 papers (0 without a text), 33 citations",
        "read:",
        "  p: OpenAlex",
        "  papers: 8 of 9 rows used",
        "  citations: 33 of 99 rows used",
        "left out:",
        *(f"  {n} rows of citations: reason {n}, first at c:{n}" for n in range(11, 3, -1)),
        "  6 for 3 other reasons",
        "to look at:",
        "  !",
        "  3 papers are cut",
        f"in full: {tmp_path / 'report.html'} and {tmp_path / 'report.json'}",
    ]


def test_a_report_has_a_line_for_each_reason():
    dropped = {"citing itself": {"count": 1234, "examples": ["c.csv:7"]}}
    report = {
        "citations": {
            "rows": 5000,
            "kept": 3766,
            "malformed": {"no id": {"count": 2, "examples": []}},
            "dropped": dropped,
            "notes": ["a note"],
        },
        "mining": {"pairs": 1000, "left out": dropped, "by split": {"train": 9}, "notes": []},
    }
    assert describe_report(report).splitlines() == [
        "citations: 3,766 of 5,000 rows used",
        "  2: no id",
        "  1,234: citing itself, first at c.csv:7",
        "  a note",
        "mining:",
        "  pairs: 1,000",
        "  left out: citing itself 1,234",
        "  by split: train 9",
    ]
