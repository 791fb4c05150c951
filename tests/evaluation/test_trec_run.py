import gc
import json
from itertools import pairwise

import numpy as np
import pytest
import pytrec_eval

import sciembed_train as st
from sciembed_train.errors import UserError
from sciembed_train.evaluation.evaluate_settings import EvaluateSettings
from sciembed_train.evaluation.run_benchmark import run_benchmark
from sciembed_train.evaluation.systems import RandomOrder, Search
from sciembed_train.evaluation.trec_run import RunRanking, WrittenRun, read_run
from tests.helpers.benchmark_folders import write_csfcube, write_judged, write_searches
from tests.helpers.small_corpus import write_small_corpus
from tests.helpers.small_suite import write_suite

# Ours to trec_eval's name.
SHARED = {
    "map_grade1": "map",
    "mrr_grade1": "recip_rank",
    "recall10_grade1": "recall_10",
    "recall100_grade1": "recall_100",
    "ndcg_log2": "ndcg",
    "ndcg10_log2": "ndcg_cut_10",
}
# Whatever rank the papers have that a run lacks, these stay.
DOWN_TO_10 = ("recall10_grade1", "ndcg10_log2")


def write_lines(path, rows):
    path.write_text("".join(" ".join(map(str, row)) + "\n" for row in rows))
    return path


@pytest.fixture
def collection(tmp_path):
    """150 papers, 20 searches, grades 0 to 3 of 40 papers each."""
    rng = np.random.default_rng(5)
    papers = [f"p{number}" for number in rng.permutation(150)]
    folder = tmp_path / "searches"
    folder.mkdir()
    rows = [{"paper_id": paper, "title": paper, "abstract": "x"} for paper in papers]
    (folder / "papers.jsonl").write_text("\n".join(map(json.dumps, rows)))
    queries = [{"query_id": f"q{number}", "text": "words"} for number in range(20)]
    (folder / "queries.jsonl").write_text("\n".join(map(json.dumps, queries)))
    qrels = {
        query["query_id"]: {
            paper: int(grade)
            for paper, grade in zip(
                rng.choice(papers, 40, replace=False), rng.integers(0, 4, 40), strict=True
            )
        }
        for query in queries
    }
    judgements = [(q, 0, paper, grade) for q, row in qrels.items() for paper, grade in row.items()]
    write_lines(folder / "qrels.tsv", judgements)
    return folder, papers, qrels


def trec_eval(qrels, run):
    measures = {"map", "recip_rank", "recall", "ndcg", "ndcg_cut"}
    return pytrec_eval.RelevanceEvaluator(qrels, measures).evaluate(run)


@pytest.mark.parametrize("places", [None, 1])
@pytest.mark.parametrize("shown", [150, 30])
def test_scores_of_a_run_are_trec_evals(collection, tmp_path, places, shown):
    """Of rounded scores most are equal, and the ids from last to first decide."""
    folder, papers, qrels = collection
    rng = np.random.default_rng(7)
    run = {}
    for query in qrels:
        scores = rng.normal(size=150)
        scores = scores if places is None else scores.round(places)
        run[query] = dict(zip(rng.permutation(papers)[:shown], scores.tolist(), strict=False))
    rows = [(q, "Q0", p, 1, score, "t") for q, row in run.items() for p, score in row.items()]
    found = st.evaluate(
        None,
        "retrieval",
        folder,
        ranking=write_lines(tmp_path / "theirs.run", rows),
        ties="trec_eval",
    )
    expected = trec_eval(qrels, {q: {str(p): s for p, s in row.items()} for q, row in run.items()})
    compared = SHARED if shown == 150 else {name: SHARED[name] for name in DOWN_TO_10}
    assert found.per_query.keys() == expected.keys()
    for query, row in found.per_query.items():
        for ours, theirs in compared.items():
            assert row[ours] == pytest.approx(expected[query][theirs], abs=1e-6), (query, ours)
    for ours, theirs in compared.items():
        mean = np.mean([row[theirs] for row in expected.values()])
        assert found[f"retrieval/{ours}"] == pytest.approx(mean, abs=1e-6)


def test_scores_closer_than_float32_are_equal_as_in_trec_eval(tmp_path):
    folder = write_searches(tmp_path)
    (folder / "qrels.tsv").write_text("1 0 p1 1\n1 0 p2 0\n")
    rows = [(1, "Q0", "p1", 1, 0.12345678902, "t"), (1, "Q0", "p2", 2, 0.12345678901, "t")]
    path = write_lines(tmp_path / "close.run", rows)
    found = st.evaluate(None, "retrieval", folder, ranking=path, ties="trec_eval")
    expected = trec_eval({"1": {"p1": 1}}, {"1": {row[2]: row[4] for row in rows}})
    assert found["retrieval/mrr_grade1"] == expected["1"]["recip_rank"] == 1 / 2


def corpus_folder(folder, tiny_bert):
    return write_small_corpus(folder, tiny_bert).folder


FOLDERS = {
    "retrieval": lambda place, model: (place.mkdir(), write_searches(place))[1],
    "csfcube": lambda place, model: write_csfcube_with_papers(place),
    "relish": lambda place, model: write_judged(place),
    "citations": corpus_folder,
    "title_abstract": corpus_folder,
    "abstract_halves": lambda place, model: write_halves(place),
    "review": lambda place, model: write_suite(place) / "reviews" / "one",
    "cocitations": lambda place, model: write_cocitations(place),
}


def write_csfcube_with_papers(place):
    write_csfcube(place)
    rows = [{"paper_id": p, "title": p, "abstract": ["x"]} for p in ("q1", "q2", "q3", *"abcdef")]
    (place / "abstracts-csfcube.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return place


def write_halves(place):
    place.mkdir()
    rows = [
        {"paper_id": f"p{n}", "title": f"{n}", "abstract": [f"First {n}.", f"Second {n}."]}
        for n in range(20)
    ]
    (place / "papers.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return place


def write_cocitations(place):
    folder = write_suite(place) / "mine"
    (folder / "citations.tsv").rename(folder / "cocitations.tsv")
    lines = (folder / "cocitations.tsv").read_text().splitlines()[1:]
    rows = [("paper_a", "paper_b", "count"), *((*line.split(), 2) for line in lines)]
    (folder / "cocitations.tsv").write_text("".join("\t".join(map(str, r)) + "\n" for r in rows))
    return folder


@pytest.mark.parametrize("benchmark", FOLDERS)
def test_a_run_that_is_read_again_has_the_same_scores(benchmark, tmp_path, tiny_bert):
    folder = FOLDERS[benchmark](tmp_path / "data", tiny_bert)
    run = tmp_path / "new" / "random.run"
    written = st.evaluate("random", benchmark, folder, seed=3, run_to=run)
    assert len(written.per_query) > 1
    assert written.metrics == st.evaluate("random", benchmark, folder, seed=3).metrics
    read = st.evaluate(None, benchmark, folder, ranking=run, run_to=tmp_path / "again.run")
    assert read.metrics == written.metrics
    assert read.per_query == written.per_query
    assert read.settings["run_tag"] == "random"
    assert not [note for note in read.notes if "the run" in note]
    lines = [line.split(" ") for line in run.read_text().splitlines()]
    assert {line[0] for line in lines} == written.per_query.keys()
    for before, after in pairwise(lines):
        if before[0] == after[0]:
            assert int(after[3]) == int(before[3]) + 1
            assert float(after[4]) <= float(before[4])
        else:
            assert after[3] == "1"
    again = [line.split(" ")[:5] for line in (tmp_path / "again.run").read_text().splitlines()]
    assert again == [line[:5] for line in lines]


def test_citations_of_a_folder_that_is_no_corpus(tmp_path):
    folder = write_suite(tmp_path / "suite") / "mine"
    run = tmp_path / "bm25.run"
    written = st.evaluate("bm25", "citations", folder, run_to=run)
    assert st.evaluate(None, "citations", folder, ranking=run).metrics == written.metrics


class Given(RandomOrder):
    def __init__(self, rows):
        super().__init__()
        self.rows, self.name = rows, "two words"

    def distances(self, search):
        yield from (np.array(row, np.float32) for row in self.rows)


def search_of(papers, queries=(0,), query_ids=None, pools=None):
    return Search(
        [(paper, None) for paper in papers],
        len(papers),
        np.array(queries),
        np.arange(len(papers)),
        pools,
        query_ids=query_ids or [papers[query] for query in queries],
        paper_ids=papers,
    )


def test_a_run_has_best_first_ties_as_trec_eval_and_not_the_query(tmp_path):
    path = tmp_path / "a.run"
    system = WrittenRun(Given([[0, 0.1, 0.1, 0], [np.inf, 2, 1e-9, 1]]), path)
    search = search_of(["q", "b", "c", "a"], (0, 3))
    assert len(list(system.distances(search))) == 2
    assert path.read_text().splitlines() == [
        "q Q0 a 1 0.0 two_words",
        "q Q0 c 2 -0.1 two_words",
        "q Q0 b 3 -0.1 two_words",
        "a Q0 c 1 -1e-09 two_words",
        "a Q0 b 2 -2.0 two_words",  # q has no distance: it had no place in the run that was read
    ]


def test_a_query_has_at_most_1000_papers(tmp_path):
    papers = ["q", *(f"{number:04}" for number in range(1500))]
    distances = np.random.default_rng(0).integers(0, 40, len(papers))
    path = tmp_path / "long.run"
    list(WrittenRun(Given([distances]), path).distances(search_of(papers)))
    found = [line.split(" ")[2] for line in path.read_text().splitlines()]
    order = sorted(range(1, 1501), key=lambda at: papers[at], reverse=True)
    order.sort(key=lambda at: distances[at])
    assert found == [papers[at] for at in order[:1000]]


def test_what_a_run_lacks_or_has_beside_is_counted(tmp_path):
    rows = [
        ("q", "Q0", "b", 7, 2.5, "mine"),
        ("q", "Q0", "a", 1, 3, "mine"),
        ("q", "Q0", "q", 2, 9, "mine"),
        ("q", "Q0", "unknown", 3, 1, "mine"),
        ("other", "Q0", "a", 1, 1, "mine"),
    ]
    system = RunRanking(write_lines(tmp_path / "a.run", rows))
    found = list(system.distances(search_of(["q", "a", "b", "c", "d"], (0, 1))))
    np.testing.assert_array_equal(found[0], np.float32([-9, -3, -2.5, np.inf, np.inf]))
    np.testing.assert_array_equal(found[1], np.full(5, np.inf, np.float32))
    assert [note.split(" ", 3)[:3] for note in system.notes] == [
        ["1", "of", "2"],  # queries
        ["6", "of", "8"],  # places
        ["1", "papers", "of"],
        ["1", "queries", "of"],
    ]
    assert system.describe()["run_tag"] == "mine"
    with pytest.raises(UserError, match=r"2 queries, such as q, and none .* such as c"):
        next(system.distances(search_of(["a", "b", "c"], (2,))))


def test_papers_that_a_run_lacks_are_tied_at_the_end(tmp_path):
    folder = write_searches(tmp_path)
    rows = [(1, "Q0", "p2", 1, 1.0, "t"), (2, "Q0", "p2", 1, 1.0, "t"), (3, "Q0", "p3", 1, 1, "t")]
    path = write_lines(tmp_path / "short.run", rows)
    found = st.evaluate(None, "retrieval", folder, ranking=path)
    # Of p1, p3 and p4, after p2, p1 and p3 are relevant: mean of the three orders.
    orders = [(1 / 2 + 2 / 3) / 2, (1 / 2 + 2 / 4) / 2, (1 / 3 + 2 / 4) / 2]
    assert found.per_query["1"]["map_grade1"] == pytest.approx(np.mean(orders))
    assert any(note.startswith("8 of 11 places") for note in found.notes)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (
            "1 Q0 p1 1 0.5 t\n\n1 Q0 p2 2 0.4\n",
            r":3: expected the six .*, found 5: '1 Q0 p2 2 0.4'",
        ),
        ('{"1": ["p1"]}', r":1: expected the six columns"),
        ("1 Q0 p1 1 high t\n", r":1: the score is 'high'; expected a number, higher"),
        ("1 Q0 p1 1 nan t\n", r":1: the score is 'nan'"),
        ("1 Q0 p1 1 -1e99 t\n", r":1: the score is '-1e99'"),
        ("1 Q0 p1 1 2 t\n1 Q0 p1 2 1 t\n", r":2: ranks paper p1 for query 1 again"),
        ("1 Q0 p\0 1 2 t\n", "NUL byte"),
        (" \n", "is empty; expected lines `query Q0 paper rank score tag`"),
        (None, "there is no such file"),
    ],
)
def test_files_that_are_no_run_are_refused_by_line(tmp_path, text, found):
    path = tmp_path / "bad.run"
    if text is not None:
        path.write_text(text)
    with pytest.raises(UserError, match=found):
        read_run(path)


def test_after_an_error_the_file_of_before_is_still_there(tmp_path):
    path = tmp_path / "a.run"
    path.write_text("before\n")
    system = WrittenRun(Given([[0, 1], [1, 0]]), path)
    rows = system.distances(search_of(["a", "b"], (0, 1)))
    next(rows)
    rows.close()
    gc.collect()
    assert path.read_text() == "before\n"
    assert [file.name for file in tmp_path.iterdir()] == ["a.run"]


def test_ids_that_a_run_cannot_hold_are_refused_before_the_work(tmp_path):
    system = WrittenRun(Given([]), tmp_path / "a.run")
    with pytest.raises(UserError, match="paper id 'b c' has blanks"):
        next(system.distances(search_of(["a", "b c"])))
    with pytest.raises(UserError, match="query id 'my query' has blanks"):
        next(system.distances(search_of(["a", "b"], query_ids=["my query"])))


def test_a_benchmark_without_ids_has_no_run():
    search = Search([("a", None)], 1, np.array([0]), np.array([0]))
    with pytest.raises(ValueError, match="gave no ids"):
        search.ids()
    with pytest.raises(ValueError, match="2 ids of 1 texts"):
        Search([("a", None)], 1, np.array([0]), np.array([0]), query_ids=["a", "b"])


def test_a_ranking_in_json_is_not_written_as_a_run(tmp_path):
    folder = write_csfcube(tmp_path / "cube")
    ranking = tmp_path / "method.json"
    ranking.write_text("{}")
    settings = EvaluateSettings(
        "csfcube", folder, ranking=ranking, facet="method", run_to=tmp_path / "a.run"
    )
    with pytest.raises(UserError, match="--run_to is of a model or a TREC run"):
        run_benchmark(settings)


def test_scores_and_run_have_two_names(tmp_path):
    folder = write_searches(tmp_path)
    with pytest.raises(UserError, match="--to and --run_to both name"):
        st.evaluate("random", "retrieval", folder, to=tmp_path / "a", run_to=tmp_path / "a")
    with pytest.raises(UserError, match=r"--run_to .* is a folder"):
        st.evaluate("random", "retrieval", folder, run_to=tmp_path)
