import numpy as np
import pytest

from sciembed_train.errors import UserError
from sciembed_train.evaluation.benchmarks.result import NoQueriesError
from sciembed_train.evaluation.benchmarks.retrieval import evaluate, read_qrels, read_queries
from sciembed_train.evaluation.systems import Bm25, RandomOrder
from tests.helpers.benchmark_folders import write_searches


@pytest.fixture
def folder(tmp_path):
    return write_searches(tmp_path)


def test_bm25_by_hand(folder):
    found = evaluate(folder, Bm25())
    # Query 1: p1 has both words, p3 one. Query 2: p2 alone. Query 3 is p1 itself: p3 shares
    # "parallel", and p1 is no candidate.
    assert found.metrics["retrieval/map_grade1"] == 1.0
    assert found.metrics["retrieval/ndcg_log2"] == 1.0
    assert found.metrics["retrieval/recall10_grade1"] == 1.0
    assert set(found.per_query) == {"1", "2", "3"}
    assert found.settings["relevant"] == 4
    notes = " ".join(found.notes)
    assert "1 of 4 queries have no relevant paper" in notes
    assert "1 judged queries are not among the queries" in notes
    assert "1 judged papers are not among the papers" in notes
    assert "1 papers have no text" in notes


def test_the_words_of_searches_are_marked_and_papers_that_ask_are_not(folder):
    class Recorder(RandomOrder):
        def distances(self, search):
            self.search, self.texts = search, list(search.texts)
            yield from super().distances(search)

    recorder = Recorder()
    evaluate(folder, recorder)
    search = recorder.search
    asking = dict(zip(search.query_ids, search.queries.tolist(), strict=True))
    assert [query for query, row in asking.items() if row in search.in_words] == ["1", "2"]
    assert all(recorder.texts[row][0] is None for row in search.in_words)
    assert asking["3"] in search.papers.tolist()


def test_a_query_paper_is_no_candidate_of_its_own(folder):
    class Same(RandomOrder):
        def distances(self, search):
            assert search.count == len(list(search.texts)) == 6  # four papers, two queries of words
            for query in search.queries:
                yield np.where(search.papers == query, 0.0, 1.0).astype(np.float32)

    found = evaluate(folder, Same(), ties="paper_id")
    # Of p2, p3, p4, all equally far, p3 is second.
    assert found.per_query["3"]["map_grade1"] == 0.5
    found = evaluate(folder, Same())
    assert found.per_query["3"]["map_grade1"] == pytest.approx((1 + 1 / 2 + 1 / 3) / 3)


def test_a_sample_has_the_relevant_papers_and_the_queries_that_are_asked(folder):
    whole = evaluate(folder, Bm25())
    some = evaluate(folder, Bm25(), asked=lambda query: query != "2")
    assert some.per_query == {query: whole.per_query[query] for query in ("1", "3")}
    assert some.settings["queries_without_relevant_left_out"] == 1
    assert evaluate(folder, Bm25(), sample=4).per_query == whole.per_query
    drawn = evaluate(folder, Bm25(), sample=3)
    assert drawn.settings["papers"] == 3
    assert drawn.per_query
    assert all(row["recall100_grade1"] == 1.0 for row in drawn.per_query.values())
    with pytest.raises(NoQueriesError, match="no query has a relevant paper"):
        evaluate(folder, Bm25(), asked=lambda query: False)


def test_papers_may_lie_elsewhere(folder, tmp_path):
    other = tmp_path / "elsewhere.jsonl"
    (folder / "papers.jsonl").rename(other)
    with pytest.raises(UserError, match="expected one file `papers`"):
        evaluate(folder, RandomOrder())
    assert evaluate(folder, RandomOrder(), other).settings["papers"] == 4


def test_queries_from_csv(tmp_path):
    path = tmp_path / "queries.csv"
    path.write_text("query_id,text,paper_id\n1,one,\n2,,p2\n")
    found = [(q.query_id, q.text, q.paper_id) for q in read_queries(path)]
    assert found == [("1", "one", None), ("2", None, "p2")]


@pytest.mark.parametrize(
    ("row", "found"),
    [
        ('{"text": "a"}', r":1: `query_id`"),
        ('{"query_id": 1}', r":1: there is neither `text` nor `paper_id`"),
        ('{"query_id": 1, "text": 3}', r":1: `text` is the number 3"),
        ('{"query_id": 1, "text": "a"}\n{"query_id": "1", "text": "b"}', r":2: .* given before"),
        ("", "holds no query"),
    ],
)
def test_bad_queries_are_refused(tmp_path, row, found):
    path = tmp_path / "queries.jsonl"
    path.write_text(row)
    with pytest.raises(UserError, match=found):
        read_queries(path)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("1 0 p1 1\n1 p2 1\n", ":2: expected `query_id 0 paper_id grade`"),
        ("1 0 p1 yes\n", ":1: .* whole number"),
        ("1 0 p1 1\n1 0 p1 2\n", ":2: .* again, with another grade"),
    ],
)
def test_bad_judgements_are_refused(tmp_path, text, found):
    path = tmp_path / "qrels.txt"
    path.write_text(text)
    with pytest.raises(UserError, match=found):
        read_qrels(path)


def test_a_header_of_the_judgements_is_passed_over(tmp_path):
    path = tmp_path / "qrels.tsv"
    path.write_text("query_id\titer\tpaper_id\tgrade\n1\t0\tp1\t2\n")
    assert read_qrels(path) == {"1": {"p1": 2}}


def test_a_query_that_is_an_unknown_paper_is_refused(folder):
    (folder / "queries.jsonl").write_text('{"query_id": 1, "paper_id": "p77"}')
    with pytest.raises(UserError, match="the paper p77"):
        evaluate(folder, RandomOrder())


def test_no_judged_query_is_refused(folder):
    (folder / "qrels.tsv").write_text("1 0 p1 0\n")
    with pytest.raises(UserError, match="no query has a relevant paper"):
        evaluate(folder, RandomOrder())
