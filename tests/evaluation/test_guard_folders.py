import json

import numpy as np
import pytest

from sciembed_train.errors import UserError
from sciembed_train.evaluation.benchmarks import (
    citations,
    cited_papers,
    cocitations,
    csfcube,
    judged,
    retrieval,
    review,
    same_paper,
)
from sciembed_train.evaluation.benchmarks.result import NoQueriesError
from sciembed_train.evaluation.guard_folders import open_guard
from sciembed_train.inference.paper_file import PaperFile
from tests.helpers.benchmark_folders import (
    JUDGED_SPLITS,
    write_csfcube,
    write_judged,
    write_searches,
)
from tests.helpers.small_corpus import write_small_corpus
from tests.helpers.topic_papers import write_search, write_topic_papers


class BySize:
    """Texts ranked by how near their numbers of characters are: no text matters to another."""

    name, by_sentence, notes = "by size", False, ()

    def describe(self):
        return {}

    def distances(self, search):
        sizes = np.array([len(str(title)) + len(str(text)) * 7.3 for title, text in search.texts])
        for at, query in enumerate(search.queries):
            rows = search.papers[search.pool(at)]
            yield np.abs(sizes[rows] - sizes[query]).astype(np.float32)


def halves(guard, sample=0, seed=0):
    found = []
    for split in ("dev", "test"):
        try:
            found.append(guard.score(BySize(), split, sample, seed))
        except NoQueriesError:
            found.append({})
    return found


def test_csfcube_is_recognised_and_its_halves_are_the_benchmark(tmp_path):
    folder = write_csfcube(tmp_path / "csfcube")
    rows = [{"paper_id": p, "title": "T" * (1 + i), "abstract": "A." * i} for i, p in
            enumerate(("q1", "q2", "q3", *"abcdef"))]  # fmt: skip
    (folder / "abstracts-csfcube.jsonl").write_text("\n".join(map(json.dumps, rows)))
    guard = open_guard(folder)
    assert guard.metric == "map_grade2"
    data = csfcube.CsfCube.open(folder)
    whole = csfcube.evaluate(data, BySize(), PaperFile(csfcube.paper_file(folder))).per_query
    expected = {query: row["map_grade2"] for query, row in whole.items()}
    halved = []
    for seed in range(8):
        dev, test = halves(guard, seed=seed)
        assert not dev.keys() & test.keys()
        assert {**dev, **test} == expected
        # A paper that asks for two facets is in one half with both.
        assert not {q.split("/")[1] for q in dev} & {q.split("/")[1] for q in test}
        halved.append(min(len(dev), len(test)))
    assert max(halved) >= 1


def test_judged_pools_keep_the_splits_that_they_come_with(tmp_path):
    folder = write_judged(tmp_path / "relish")
    guard = open_guard(folder)
    whole = judged.evaluate(
        judged.Judged.open("relish", folder),
        BySize(),
        PaperFile(judged.paper_file("relish", folder)),
    ).per_query
    dev, test = halves(guard)
    assert set(dev) == set(JUDGED_SPLITS["dev"])
    assert set(test) == set(JUDGED_SPLITS["test"]) - {"q4"}  # it has nothing relevant
    assert {**dev, **test} == {q: whole[q][guard.metric] for q in (*dev, *test)}


def test_a_sample_takes_whole_pools(tmp_path):
    guard = open_guard(write_judged(tmp_path / "relish"))
    (query,) = guard.score(BySize(), "test", 4, 0)
    whole = guard.score(BySize(), "test", 0, 0)
    assert len(whole) == 2
    assert guard.score(BySize(), "test", 4, 0)[query] == whole[query]


def test_searches_a_corpus_and_papers_are_recognised(tmp_path, tiny_bert):
    searches = write_search(tmp_path / "searches")
    guard = open_guard(searches)
    dev, test = halves(guard)
    whole = retrieval.evaluate(searches, BySize()).per_query
    assert {**dev, **test} == {q: row["map_grade1"] for q, row in whole.items()}

    corpus = write_small_corpus(tmp_path / "corpus", tiny_bert)
    guard = open_guard(corpus.folder)
    assert guard.metric == "map"
    for split in ("dev", "test"):
        expected = citations.evaluate(corpus, BySize(), split).per_query
        assert guard.score(BySize(), split, 0, 0) == {q: r["map"] for q, r in expected.items()}

    (corpus.folder / "queries" / "test.npy").unlink()
    with pytest.raises(UserError, match="queries"):
        open_guard(corpus.folder)

    papers = write_topic_papers(tmp_path / "papers")
    assert open_guard(papers).metric == "map"  # citations are beside the papers
    (papers / "citations.csv").unlink()
    for place in (papers / "papers.jsonl", papers):
        guard = open_guard(place)
        assert guard.metric == "mrr"
        dev, test = halves(guard)
        assert not dev.keys() & test.keys()
        assert len(dev) + len(test) == 120
        rows = [(p.paper_id, p.title, p.abstract) for p in PaperFile(papers / "papers.jsonl")]
        whole = same_paper.evaluate(rows, BySize(), "title_abstract").per_query
        assert dev == {q: whole[q]["mrr"] for q in dev}


def test_what_is_no_guard_is_refused(tmp_path):
    with pytest.raises(UserError, match="there is no such folder or file; expected searches"):
        open_guard(tmp_path / "none")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="holds no known benchmark; expected searches"):
        open_guard(tmp_path / "empty")
    (tmp_path / "empty" / "scirepeval_tasks.jsonl").touch()
    with pytest.raises(UserError, match="SciRepEval is scored by tasks"):
        open_guard(tmp_path / "empty")
    (tmp_path / "searches").mkdir()
    folder = write_searches(tmp_path / "searches")
    (folder / "papers.jsonl").unlink()
    with pytest.raises(UserError, match="expected one file `papers`"):
        open_guard(folder)


@pytest.mark.parametrize(
    ("name", "text", "read", "evaluate", "metric"),
    [
        (
            "labels.tsv",
            "paper_id\tincluded\n" + "".join(f"p{at}\t{int(at < 9)}\n" for at in range(14)),
            review.read_review,
            review.evaluate,
            "map",
        ),
        (
            "citations.csv",
            "citing,cited\n" + "".join(f"p{at},p{(at * 5 + 1) % 14}\n" for at in range(14)),
            cited_papers.read_cited,
            cited_papers.evaluate,
            "map",
        ),
        (
            "cocitations.csv",
            "paper_a,paper_b,count\n" + "".join(f"p{at},p{at + 3},2\n" for at in range(11)),
            cocitations.read_cocited,
            cocitations.evaluate,
            "map_grade2",
        ),
    ],
)
def test_papers_that_ask_for_others_are_recognised(tmp_path, name, text, read, evaluate, metric):
    rows = [{"paper_id": f"p{at}", "title": "T" * (1 + at), "abstract": "A."} for at in range(14)]
    (tmp_path / "papers.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (tmp_path / name).write_text(text)
    guard = open_guard(tmp_path)
    assert guard.metric == metric
    dev, test = halves(guard)
    assert dev
    assert test
    assert not dev.keys() & test.keys()
    assert {**dev, **test} == evaluate(read(tmp_path), BySize()).by_query(metric)
    few_dev, few_test = halves(guard, sample=6)
    assert len(few_dev) < len(dev) or len(few_test) < len(test)
    (tmp_path / name).write_text(text + "broken\n")
    with pytest.raises(UserError, match=name.replace(".", r"\.")):
        open_guard(tmp_path)
