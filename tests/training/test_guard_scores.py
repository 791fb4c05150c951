import numpy as np
import pytest

from sciembed_train.errors import UserError
from sciembed_train.evaluation.benchmarks.citations import NEAREST, evaluate
from sciembed_train.evaluation.systems import Bm25, Model, RandomOrder
from sciembed_train.training import guard_scores
from sciembed_train.training.guard_scores import (
    OF_CORPUS,
    SHOWN,
    check_disjoint,
    guard_names,
    open_guards,
    paired,
    query_scores,
)
from sciembed_train.training.verdict import judge
from tests.helpers.exports import CARD, encoder_of
from tests.helpers.small_corpus import write_small_corpus
from tests.helpers.topic_papers import write_search


@pytest.fixture(scope="module")
def corpus(tmp_path_factory, tiny_bert):
    return write_small_corpus(tmp_path_factory.mktemp("guards") / "corpus", tiny_bert)


@pytest.fixture(scope="module")
def model(tmp_path_factory, tiny_bert):
    from sciembed_train.export.export_folder import export_encoder

    folder = tmp_path_factory.mktemp("models") / "start"
    export_encoder(encoder_of(tiny_bert, pooling="mean"), folder, CARD)
    return Model(str(folder), quiet=True)


def test_target_and_guards_ask_with_the_papers_of_the_split(corpus):
    ids = corpus.paper_ids()
    for split in ("dev", "test"):
        found = query_scores(RandomOrder(), corpus, split)
        # One sentence each: no abstract has halves.
        assert list(found.scores) == ["citations", "title_abstract"]
        assert found.notes[0].startswith(f"The guard abstract_halves is left out on {split}")
        held_out = {ids[i] for i in corpus.queries(split)}
        assert all(set(queries) <= held_out for queries in found.scores.values())
        whole = evaluate(corpus, RandomOrder(), split).per_query
        assert found.scores["citations"] == {query: row["map"] for query, row in whole.items()}
        assert found.means["citations"] == pytest.approx(
            np.mean([row["map"] for row in whole.values()])
        )


def test_the_nearest_papers_of_test_queries_are_kept_without_the_query(corpus, model):
    found = query_scores(model, corpus, "test")
    assert 0 < len(found.nearest) <= SHOWN
    for query, near in found.nearest.items():
        assert len(near) == len(set(near)) == NEAREST
        assert query not in near
    assert query_scores(model, corpus, "dev").nearest == {}


def test_dev_has_no_more_candidates_than_the_limit(corpus, model, tmp_path, monkeypatch):
    monkeypatch.setattr(guard_scores, "DEV_CANDIDATES", 12)
    monkeypatch.setattr(guard_scores, "DEV_GUARD_CANDIDATES", 8)
    counts = []
    distances = Model.distances

    def counted(self, search):
        counts.append(len(search.papers))
        return distances(self, search)

    monkeypatch.setattr(Model, "distances", counted)
    folder = write_search(tmp_path / "search", papers=50)
    found = query_scores(model, corpus, "dev", open_guards([str(folder)]))
    assert counts == [12, 8, 8]
    assert list(found.scores) == ["citations", "title_abstract", "search"]
    query_scores(model, corpus, "test", open_guards([str(folder)]))
    assert min(counts[3:]) > 12


def test_a_folder_is_a_guard_whose_queries_are_halved(corpus, tmp_path):
    folder = write_search(tmp_path / "search")
    halves = [
        query_scores(Bm25(), corpus, split, open_guards([str(folder)])).scores["search"]
        for split in ("dev", "test")
    ]
    assert not set(halves[0]) & set(halves[1])
    assert set(halves[0]) | set(halves[1]) == {f"q{i}" for i in range(20)}
    assert min(map(len, halves)) > 3
    with pytest.raises(UserError, match=r"guards: .*there is no such folder"):
        open_guards([str(tmp_path / "none")])


def test_guards_are_named_without_the_path_above_unless_a_name_is_taken():
    names = guard_names(["/data/a/search", "/data/b/search", "/data/citations", "/data/a/search"])
    assert names == {
        "search": "/data/a/search",
        "b/search": "/data/b/search",
        "data/citations": "/data/citations",
    }


def test_scores_of_two_models_give_a_verdict(corpus, model):
    before = query_scores(RandomOrder(), corpus, "test").scores
    after = query_scores(model, corpus, "test").scores
    one, two = paired(before, after)
    verdict = judge(one, two, "citations", "map")
    assert verdict.comparisons["citations"].before == pytest.approx(
        np.mean(list(before["citations"].values()))
    )
    assert verdict.line.startswith("VERDICT: ")
    del after["title_abstract"]
    with pytest.raises(ValueError, match="queries of title_abstract"):
        paired(before, after)


def test_a_query_that_chooses_and_judges_is_a_defect():
    dev = {"citations": {"a": 0.1, "b": 0.2}, OF_CORPUS[0]: {"a": 1.0}}
    check_disjoint(dev, {"citations": {"c": 0.1}, OF_CORPUS[0]: {"b": 1.0}})
    with pytest.raises(RuntimeError, match=r"1 queries of citations are dev and test .* b:"):
        check_disjoint(dev, {"citations": {"b": 0.1, "c": 0.3}})
