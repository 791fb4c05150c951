import json

import pytest

from sciembed_train.corpus.build import prepare
from sciembed_train.corpus.prepare_settings import PrepareSettings
from sciembed_train.corpus.summary import summary
from sciembed_train.corpus.unmatched_ids import UnmatchedIds, alike
from sciembed_train.errors import UserError


@pytest.mark.parametrize(
    ("unknown", "expected"),
    [
        (["zz", "W12"], ("W12", "w12", "case")),
        (["S2:w7"], ("S2:w7", "w7", "a prefix")),
        (["99"], ("99", "pmid:99", "a prefix")),
        (["zz"], ("zz", "w12", "")),
    ],
)
def test_an_id_is_shown_with_the_known_one_that_is_most_like_it(unknown, expected):
    assert alike(unknown, ["w12", "w7", "pmid:99"]) == expected


def test_a_tenth_may_be_lost_without_a_word():
    unmatched = UnmatchedIds()
    unmatched.add("x")
    assert unmatched.note("c.csv", 10, "citations", ["a"]) is None
    assert unmatched.note("c.csv", 9, "citations", []) is None
    assert unmatched.note("c.csv", 9, "citations", ["a"]) == (
        "Only 89% of the 9 citations of c.csv name papers that are given: it has the id 'x', the "
        "papers have 'a'."
    )


def files(tmp_path, citations, **values):
    papers = [{"paper_id": f"P{i}", "title": f"title {i}"} for i in range(20)]
    (tmp_path / "p.jsonl").write_text("".join(json.dumps(p) + "\n" for p in papers))
    (tmp_path / "c.csv").write_text("".join(f"{a},{b}\n" for a, b in citations))
    return PrepareSettings(
        tmp_path / "p.jsonl", citations=tmp_path / "c.csv", to=tmp_path / "corpus", **values
    )


CHAIN = [(f"P{i}", f"P{(i + step) % 20}") for i in range(20) for step in (1, 3)]


def test_prepare_warns_of_ids_that_differ_by_a_prefix(tmp_path):
    other = [(f"library:{a}", b) for a, b in CHAIN[:10]]
    corpus = prepare(files(tmp_path, CHAIN + other))
    warning = (
        f"Only 80% of the 50 citations of {tmp_path / 'c.csv'} name papers that are given: it has "
        "the id 'library:P0', the papers have 'P0'. They differ by a prefix: spell "
        "the ids of both files alike."
    )
    assert warning in summary(corpus)


def test_where_no_id_matches_the_refusal_shows_one_of_each_file(tmp_path):
    lower = [(a.lower(), b.lower()) for a, b in CHAIN]
    with pytest.raises(UserError, match=r"Only 0% of the 40 .* 'p0', the papers have 'P0'\. They "):
        prepare(files(tmp_path, lower))


@pytest.mark.parametrize("kind", ["contexts", "cocitations", "pairs"])
def test_other_files_of_ids_are_compared_with_the_papers_too(tmp_path, kind):
    rows = {
        "contexts": {"text": "as these say (a; b) in short", "cited_ids": ["p1", "P2", "P3"]},
        "cocitations": {"paper_a": "p1", "paper_b": "P2"},
        "pairs": {"query": "p1", "positive": "P2", "negative": "P3"},
    }
    good = {"paper_a": "P1", "paper_b": "P2"} if kind == "cocitations" else None
    good = {"query": "P1", "positive": "P2", "negative": "P3"} if kind == "pairs" else good
    lines = [rows[kind], *([good] * 3 if good else [])]
    (tmp_path / "x.jsonl").write_text("".join(json.dumps(row) + "\n" for row in lines))
    settings = files(tmp_path, CHAIN, **{kind: tmp_path / "x.jsonl"}, dev_share=0.0, test_share=0.0)
    assert "it has the id 'p1', the papers have 'P1'. They differ by case" in summary(
        prepare(settings)
    )
