import json

import numpy as np
import pytest

import sciembed_train as st
from sciembed_train.errors import UserError
from sciembed_train.evaluation.benchmarks.same_paper import evaluate, halves
from sciembed_train.evaluation.systems import Bm25, RandomOrder
from tests.helpers.small_corpus import small_papers, write_small_corpus

PAPERS = [
    ("a", "Graphs of citations", "We count graphs. They are large. Citations link them."),
    ("b", "Protein folds", "Proteins fold in cells. A model predicts the folds."),
    ("c", "Dark matter", None),
    ("d", None, "Matter is dark. Nobody sees it."),
    ("e", "Neutrinos", "Neutrinos have mass."),
    ("f", "Graphs again", "We  count graphs. They are LARGE. Citations link them."),
    ("g", "Laser cooling", ["Atoms slow down.", "", "Lasers cool them."]),
]


class Rows(RandomOrder):
    """Distances by a table that a test can compute again; keeps the texts."""

    def distances(self, search):
        self.texts = list(search.texts)
        for query in search.queries:
            yield ((np.arange(len(search.papers)) * 7 + query * 3) % 5).astype(np.float32)


class One(RandomOrder):
    """The same distance for everything."""

    def distances(self, search):
        for _ in search.queries:
            yield np.zeros(len(search.papers), dtype=np.float32)


def test_titles_find_their_abstracts_and_halves_their_halves():
    system = Rows()
    found = evaluate(PAPERS, system, "title_abstract")
    assert system.texts[:4] == [
        (title, None)
        for title in ("Graphs of citations", "Protein folds", "Neutrinos", "Laser cooling")
    ]
    assert system.texts[4:] == [
        (None, text)
        for text in (PAPERS[0][2], PAPERS[1][2], PAPERS[4][2], "Atoms slow down. Lasers cool them.")
    ]
    assert found.settings["queries"] == found.settings["papers"] == 4
    assert found.settings["papers_without_both_texts"] == 2
    assert found.settings["papers_with_a_text_twice"] == 1

    found = evaluate(PAPERS, system, "abstract_halves")
    assert [query[1] for query in system.texts[:4]] == [
        "We count graphs. They are large.",
        "Proteins fold in cells.",
        "Matter is dark.",
        "Atoms slow down.",
    ]
    assert list(found.per_query) == ["a", "b", "d", "g"]
    assert found.notes == [
        "2 papers have no first half of an abstract or no second one: left out.",
        "1 papers have a text that another paper has: left out.",
    ]


def test_scores_are_those_of_a_plain_loop():
    papers = [(p["paper_id"], p["title"], p["abstract"]) for p in small_papers(60)]
    whole = [p for p in papers if p[2]]
    found = evaluate(papers, Rows(), "title_abstract", ties="paper_id")
    for at, (paper_id, _, _) in enumerate(whole):
        order = sorted(range(len(whole)), key=lambda i: ((i * 7 + at * 3) % 5, whole[i][0]))
        rank = order.index(at) + 1
        row = found.per_query[paper_id]
        assert row["mrr"] == row["map"] == pytest.approx(1 / rank)
        assert row["recall10"] == (rank <= 10)
        assert row["ndcg_log2"] == pytest.approx(1 / np.log2(rank + 1))
    mean = np.mean([row["mrr"] for row in found.per_query.values()])
    assert found.metrics["title_abstract/mrr"] == pytest.approx(mean)


def test_one_vector_for_everything_scores_at_chance():
    papers = [(f"p{i:03}", f"title {i}", f"Abstract {i}. More.") for i in range(50)]
    for task in ("title_abstract", "abstract_halves"):
        pairs = papers if task == "title_abstract" else [(i, t, f"{t}. {a}") for i, t, a in papers]
        found = evaluate(pairs, One(), task)
        chance = np.mean(1 / np.arange(1, len(found.per_query) + 1))
        for row in found.per_query.values():
            assert row["mrr"] == pytest.approx(chance)


def test_bm25_finds_the_abstract_with_the_titles_words():
    found = evaluate(PAPERS, Bm25(), "title_abstract")
    assert found.per_query["a"]["mrr"] == 1
    assert found.per_query["e"]["mrr"] == 1


def test_a_draw_is_seeded_and_keeps_those_that_ask():
    papers = [(f"p{i}", f"title {i}", f"Abstract number {i}.") for i in range(40)]
    held_out = {"p3", "p17", "p39"}
    found = evaluate(papers, RandomOrder(), "title_abstract", held_out, sample=10)
    assert list(found.per_query) == ["p3", "p17", "p39"]
    assert (found.settings["papers"], found.settings["papers_not_drawn"]) == (10, 30)

    def drawn(seed, order=1):
        rows = papers[::order]
        return evaluate(rows, RandomOrder(), "title_abstract", None, 10, seed).per_query

    assert drawn(0).keys() == drawn(0, -1).keys()
    assert drawn(0).keys() != drawn(1).keys()


@pytest.mark.parametrize(
    ("abstract", "expected"),
    [
        ("One. Two.", ("One.", "Two.")),
        ("A long first sentence is here. B. C.", ("A long first sentence is here.", "B. C.")),
        ("A. B. A long last sentence is here!", ("A. B.", "A long last sentence is here!")),
        (["One", " ", "Two "], ("One", "Two")),
        ("Version 2.0 alone", None),
        ("", None),
        ([], None),
    ],
)
def test_halves_are_whole_sentences(abstract, expected):
    assert halves(abstract) == expected


def test_a_corpus_asks_with_the_papers_of_a_split(tmp_path, tiny_bert):
    corpus = write_small_corpus(tmp_path / "corpus", tiny_bert)
    ids = corpus.paper_ids()
    for split in ("dev", "test"):
        scores = st.evaluate("random", "title_abstract", corpus.folder, split=split)
        assert set(scores.per_query) <= {ids[i] for i in corpus.queries(split)}
        assert scores.per_query
        assert scores.settings["split"] == split


def test_files_and_folders_of_papers_are_read(tmp_path, capsys):
    from sciembed_train import cli

    path = tmp_path / "papers.jsonl"
    rows = [{"paper_id": i, "title": t, "abstract": a} for i, t, a in PAPERS]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    words = ["evaluate", "--model", "bm25", "--benchmark", "abstract_halves", "--json"]
    results = []
    for data in (path, tmp_path):
        assert cli.main([*words, "--data", str(data)]) == 0
        results.append(json.loads(capsys.readouterr().out)["metrics"])
    assert results[0] == results[1]
    assert cli.main([*words, "--data", str(path), "--sample", "-1"]) == 2
    assert "--sample is -1" in capsys.readouterr().err


def test_too_few_papers_are_refused():
    with pytest.raises(UserError, match="0 papers to ask with and 0 candidates"):
        evaluate([("a", "Title", None)], RandomOrder(), "title_abstract")
    with pytest.raises(UserError, match="1 candidates have both a title and an abstract"):
        evaluate(PAPERS[:1], RandomOrder(), "title_abstract")
