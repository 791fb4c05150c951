import json

import pytest

from sciembed_train.corpus.build import prepare
from sciembed_train.corpus.mining.cocitation_settings import CocitationMining
from sciembed_train.corpus.prepare_settings import PrepareSettings
from sciembed_train.errors import UserError

PAPERS = [
    {"id": f"p{i}", "title": f"Title of paper {i}", "references": [f"p{i + 1}", "x"]}
    for i in range(30)
]


def make(tmp_path, citations=None, **settings):
    (tmp_path / "p.jsonl").write_text("".join(json.dumps(row) + "\n" for row in PAPERS))
    if citations is not None:
        (tmp_path / "c.csv").write_text(citations)
        settings["citations"] = tmp_path / "c.csv"
    corpus = prepare(PrepareSettings(tmp_path / "p.jsonl", to=tmp_path / "corpus", **settings))
    report = json.loads((corpus.folder / "report.json").read_text())["citations"]
    ids = corpus.paper_ids()
    return [(ids[a], ids[b]) for a, b in corpus.citations()], report


def test_papers_alone_suffice_where_their_rows_name_references(tmp_path):
    citations, report = make(tmp_path)
    assert sorted(citations) == sorted((f"p{i}", f"p{i + 1}") for i in range(29))
    assert report["dropped"]["unknown cited paper"]["count"] == 31
    assert report["notes"][0] == (
        f'{tmp_path / "p.jsonl"}: a paper cites the references that its row names, so "Title of '
        'paper 0" (p0) cites "Title of paper 1" (p1).'
    )


def test_references_of_no_known_paper_are_noted_and_not_fatal(tmp_path):
    (tmp_path / "p.jsonl").write_text('{"id": 1, "title": "One", "references": ["x"]}\n')
    prepare(PrepareSettings(tmp_path / "p.jsonl", to=tmp_path / "c"))
    report = json.loads((tmp_path / "c" / "report.json").read_text())
    assert report["triplets"]["notes"][0].startswith("No training triplet can be made")


def test_a_file_of_citations_goes_before_references(tmp_path):
    pairs = [(f"p{i}", f"p{i + 2}") for i in range(25)]
    text = "cited,citing\n" + "".join(f"{b},{a}\n" for a, b in pairs)
    citations, report = make(tmp_path, text)
    assert sorted(citations) == sorted(pairs)
    assert report["notes"][0].startswith(
        'c.csv: citing cites cited, so "Title of paper 0" (p0) cites'
    )
    assert report["notes"][1].startswith("The papers' rows name references too")


def test_cocitations_may_come_from_the_references_of_rows(tmp_path):
    mining = CocitationMining(cocitations_from="references")
    corpus, _ = make(tmp_path, cocitation_mining=mining)
    assert corpus
    report = json.loads((tmp_path / "corpus" / "report.json").read_text())
    # Each paper cites one known paper, so the citations are all that there is to train on.
    assert report["co-cited pairs"]["notes"][0].startswith("No training pair of co-cited papers")


def test_without_references_asking_for_them_is_refused(tmp_path):
    (tmp_path / "p.jsonl").write_text('{"id": 1, "title": "One"}\n')
    mining = CocitationMining(cocitations_from="references")
    with pytest.raises(UserError, match="there are none: give --citations, or papers whose rows"):
        prepare(PrepareSettings(tmp_path / "p.jsonl", to=tmp_path / "c", cocitation_mining=mining))
