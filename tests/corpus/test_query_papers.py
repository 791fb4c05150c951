"""Every paper is a query or is told why not."""

import json

import numpy as np
import pytest

from sciembed_train.corpus import query_papers as module
from sciembed_train.corpus.build import prepare
from sciembed_train.corpus.mining.cocitation_settings import CocitationMining
from sciembed_train.corpus.mining.triplet_mining import TripletMining
from sciembed_train.corpus.prepare_settings import PrepareSettings
from tests.helpers.paper_files import paper_settings, write_paper_files


def write(folder, papers, citations):
    rows = [{"paper_id": i, "title": f"Paper {i}" if text else ""} for i, text in papers.items()]
    (folder / "p.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    lines = ["citing,cited", *(f"{a},{b}" for a, b in citations)]
    (folder / "c.csv").write_text("\n".join(lines) + "\n")
    return {"papers": folder / "p.jsonl", "to": folder / "corpus", "test_share": 0, "dev_share": 0}


PAPERS = dict.fromkeys("abcdefg", True) | {"x": False, "y": False}
# a has the hard negative c; b and d have none; e cites x alone, which has no text.
CITATIONS = [("a", "b"), ("b", "c"), ("d", "f"), ("e", "x"), ("y", "a")]


def test_each_paper_is_counted_once_with_its_first_reason(tmp_path):
    corpus = prepare(
        PrepareSettings(**write(tmp_path, PAPERS, CITATIONS), citations=tmp_path / "c.csv")
    )
    account = corpus.info["query_papers"]["triplets"]
    assert account["queries"] == 1
    assert account["others"] == {
        module.NO_TEXT: {"count": 2, "examples": ["x (no title)", "y (no title)"]},
        module.CITES_NOTHING: {
            "count": 3,
            "examples": ['"Paper c" (c)', '"Paper f" (f)', '"Paper g" (g)'],
        },
        module.CITES_NO_TEXT: {"count": 1, "examples": ['"Paper e" (e)']},
        module.NO_NEGATIVE: {"count": 2, "examples": ['"Paper b" (b)', '"Paper d" (d)']},
    }


def test_given_triplets_say_their_queries(tmp_path):
    settings = write(tmp_path, PAPERS, [])
    (tmp_path / "t.csv").write_text("query,positive,negative\na,b,c\nd,f,g\n")
    corpus = prepare(PrepareSettings(**settings, pairs=tmp_path / "t.csv"))
    account = corpus.info["query_papers"]["triplets"]
    assert account["queries"] == 2
    assert {reason: one["count"] for reason, one in account["others"].items()} == {
        module.NO_TEXT: 2,
        module.NOT_GIVEN: 5,
    }


@pytest.mark.parametrize(("least", "queries", "filtered"), [(1, 3, 0), (2, 2, 1)])
def test_papers_in_no_cocited_pair_are_told_why(tmp_path, least, queries, filtered):
    settings = write(tmp_path, PAPERS, [])
    (tmp_path / "k.jsonl").write_text(
        "".join(
            json.dumps({"paper_a": a, "paper_b": b, "count": n}) + "\n"
            for a, b, n in (("a", "b", 3), ("a", "c", 1))
        )
    )
    mining = CocitationMining(min_count=least)
    corpus = prepare(
        PrepareSettings(**settings, cocitations=tmp_path / "k.jsonl", cocitation_mining=mining)
    )
    account = corpus.info["query_papers"]["co-cited pairs"]
    assert account["queries"] == queries
    found = {reason: one["count"] for reason, one in account["others"].items()}
    expected = {module.NO_TEXT: 2, module.NEVER_COCITED: 4}
    assert found == expected | ({module.FILTERED: filtered} if filtered else {})


def test_a_large_corpus_is_counted_in_parts_and_examples_are_spread(tmp_path, monkeypatch):
    write_paper_files(tmp_path)
    monkeypatch.setattr(module, "CHUNK", 7)
    settings = paper_settings(tmp_path, triplets=TripletMining(require_hard=False))
    corpus = prepare(settings)
    account = corpus.info["query_papers"]["triplets"]
    rows = np.concatenate([corpus.triplets(split) for split in ("train", "dev", "test")])
    assert account["queries"] == len(np.unique(rows[:, 0]))
    others = account["others"]
    assert account["queries"] + sum(one["count"] for one in others.values()) == 120
    ids = [one.partition(" ")[0] for one in others[module.NO_TEXT]["examples"]]
    textless = sorted(str(i) for i in range(0, 120, 10))
    assert ids == [textless[i] for i in (0, 2, 4, 7, 9)]
