import numpy as np
import pytest

from sciembed_train.corpus.store.corpus_files import save_excluded, save_info, save_queries
from sciembed_train.corpus.store.corpus_folder import Corpus
from sciembed_train.errors import UserError
from sciembed_train.evaluation import metrics
from sciembed_train.evaluation.benchmarks.citations import evaluate
from sciembed_train.evaluation.systems import Bm25, RandomOrder
from tests.helpers.places import places
from tests.helpers.small_corpus import write_small_corpus


@pytest.fixture
def corpus(tmp_path, tiny_bert):
    return write_small_corpus(tmp_path / "corpus", tiny_bert)


class Numbers(RandomOrder):
    """Distances that a test can compute again."""

    def distances(self, search):
        self.texts = list(search.texts)
        assert search.count == len(self.texts) == len(search.papers)
        for query in search.queries:
            yield ((search.papers * 37 + query) % 11).astype(np.float32)


@pytest.mark.parametrize("split", ["test", "dev"])
def test_scores_are_those_of_a_plain_loop(corpus, split):
    found = evaluate(corpus, Numbers(), split, ties="paper_id")
    ids = corpus.paper_ids()
    edges = corpus.citations()
    rows = []
    for query in corpus.queries(split):
        cited = set(edges[edges[:, 0] == query, 1].tolist())
        if not cited:
            continue
        others = [p for p in range(len(ids)) if p != query]
        others.sort(key=lambda p: ((p * 37 + query) % 11, ids[p]))
        hits = np.array([p in cited for p in others])
        rows.append(
            {
                "map": metrics.average_precision(hits),
                "mrr": metrics.reciprocal_rank(hits),
                "recall10": metrics.recall_at(hits, 10),
                "ndcg_log2": metrics.ndcg(hits),
                "ndcg10_log2": metrics.ndcg(hits, 10),
            }
        )
    assert found.settings["queries"] == len(rows) > 2
    for name in rows[0]:
        want = np.mean([row[name] for row in rows])
        assert found.metrics[f"citations/{name}"] == pytest.approx(want, abs=1e-12)


def test_papers_at_one_distance_have_no_order(corpus):
    found = evaluate(corpus, Numbers(), "test")
    ids, edges = corpus.paper_ids(), corpus.citations()
    for query, row in found.per_query.items():
        own = ids.index(query)
        cited = set(edges[edges[:, 0] == own, 1].tolist())
        far = np.array([(p * 37 + own) % 11 for p in range(len(ids)) if p != own])
        hits = np.array([p in cited for p in range(len(ids)) if p != own])[np.argsort(far)]
        want = metrics.average_precision(hits, places=places(np.sort(far)))
        assert row["map"] == pytest.approx(want, abs=1e-12)
    assert found.settings["queries_tied"] == len(found.per_query)
    assert f"{len(found.per_query)} queries have relevant papers and others" in found.notes[-1]


class ByText(RandomOrder):
    """Distances that depend on the two texts alone."""

    def distances(self, search):
        self.texts, self.search = list(search.texts), search
        assert len(self.texts) == search.count
        numbers = np.array([len(str(t)) + len(str(a)) % 7 / 10 for t, a in self.texts])
        for query in search.queries:
            yield np.abs(numbers[query] - numbers[search.papers]).astype(np.float32)


@pytest.mark.parametrize("sample", [10, 25, 40])
def test_a_sample_ranks_the_cited_papers_among_fewer(corpus, sample):
    system = ByText()
    found = evaluate(corpus, system, "dev", sample, ties="paper_id")
    titles = {row["title"]: row["paper"] for row in corpus.papers()}
    assert len(titles) == corpus.n_papers
    ids, edges = corpus.paper_ids(), corpus.citations()
    papers = [titles[title] for title, _ in system.texts]
    candidates = [papers[place] for place in system.search.papers]
    cited = {q: set(edges[edges[:, 0] == ids.index(q), 1].tolist()) for q in found.per_query}
    relevant = set.union(*cited.values())
    assert relevant <= set(candidates)
    assert len(candidates) == max(sample, len(relevant))
    numbers = {
        p: len(str(t)) + len(str(a)) % 7 / 10
        for p, (t, a) in zip(papers, system.texts, strict=True)
    }
    for query, row in found.per_query.items():
        own = ids.index(query)
        others = [p for p in candidates if p != own]
        others.sort(key=lambda p: (np.float32(abs(numbers[p] - numbers[own])), ids[p]))
        hits = np.array([p in cited[query] for p in others])
        assert row["map"] == pytest.approx(metrics.average_precision(hits), abs=1e-12)


def test_a_sample_as_large_as_the_corpus_changes_nothing(corpus):
    whole = evaluate(corpus, ByText(), "dev")
    assert evaluate(corpus, ByText(), "dev", corpus.n_papers).per_query == whole.per_query
    assert whole.nearest == {}
    shown = evaluate(corpus, ByText(), "dev", shown=2)
    assert shown.per_query == whole.per_query
    assert len(shown.nearest) == 2


def test_papers_without_text_are_no_candidates(corpus, tmp_path):
    import pyarrow.parquet as pq

    path = corpus.folder / "papers.parquet"
    table = pq.read_table(path).to_pydict()
    gone = 7
    table["title"][gone], table["abstract"][gone] = None, None
    table["title"][8], table["abstract"][8], table["sentences"][8] = None, None, ["One.", "Two."]
    schema = pq.read_schema(path)
    import pyarrow as pa

    pq.write_table(pa.table(table, schema=schema), path)
    system = Numbers()
    found = evaluate(Corpus.open(corpus.folder), system)
    assert found.settings["papers"] == corpus.n_papers - 1
    assert found.settings["papers_without_text_left_out"] == 1
    assert (None, ["One.", "Two."]) in system.texts
    edges = corpus.citations()
    asked = np.isin(edges[:, 0], corpus.queries("test"))
    assert found.settings["relevant"] == int((asked & (edges[:, 1] != gone)).sum())


def test_baselines_rank_a_corpus(corpus):
    bm25 = evaluate(corpus, Bm25()).metrics["citations/map"]
    random = evaluate(corpus, RandomOrder()).metrics["citations/map"]
    assert 0 < bm25 < 1
    assert 0 < random < 1


def test_a_split_without_queries_is_refused(corpus):
    save_queries(corpus.folder, "test", np.array([], np.int32))
    with pytest.raises(UserError, match="no query papers in its test split"):
        evaluate(corpus, RandomOrder())


def test_a_corpus_of_another_version_is_refused(corpus):
    save_info(corpus.folder, {**corpus.info, "version": 99})
    with pytest.raises(UserError, match="version 99"):
        Corpus.open(corpus.folder)


def test_excluded_papers_are_no_candidates_and_are_counted(corpus):
    queries = set(corpus.queries("test").tolist())
    out = next(p for p in range(corpus.n_papers) if p not in queries)
    excluded = np.zeros(corpus.n_papers, bool)
    excluded[out] = True
    save_excluded(corpus.folder, excluded)
    found = evaluate(Corpus.open(corpus.folder), RandomOrder())
    assert found.settings["papers"] == corpus.n_papers - 1
    assert found.settings["papers_excluded_from_training_left_out"] == 1
    assert found.settings["papers_of_the_same_text_left_out"] == 0
