import json

import numpy as np
import pytest

from sciembed_train.evaluation.benchmarks.citations import evaluate
from sciembed_train.evaluation.systems import RandomOrder
from sciembed_train.training import guard_scores
from sciembed_train.training.guard_scores import paired, query_scores
from sciembed_train.training.verdict import judge
from tests.helpers.exports import CARD, encoder_of
from tests.helpers.small_corpus import write_small_corpus


@pytest.fixture(scope="module")
def corpus(tmp_path_factory, tiny_bert):
    return write_small_corpus(tmp_path_factory.mktemp("guards") / "corpus", tiny_bert)


@pytest.fixture(scope="module")
def model(tmp_path_factory, tiny_bert):
    from sciembed_train.export.export_folder import export_encoder

    folder = tmp_path_factory.mktemp("models") / "start"
    export_encoder(encoder_of(tiny_bert, pooling="mean"), folder, CARD)
    return folder


def write_search(folder):
    folder.mkdir()
    papers = [{"paper_id": f"d{i}", "title": f"word{i}", "abstract": "a b"} for i in range(20)]
    queries = [{"query_id": f"q{i}", "text": f"word{i}"} for i in range(20)]
    for name, rows in (("papers", papers), ("queries", queries)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "qrels.tsv").write_text("".join(f"q{i} 0 d{i} 1\n" for i in range(20)))
    return folder


def test_target_and_guards_ask_with_the_papers_of_the_split(corpus):
    ids = corpus.paper_ids()
    for split in ("dev", "test"):
        scores = query_scores("random", corpus.folder, split, ["title_abstract"])
        assert list(scores) == ["citations", "title_abstract"]
        held_out = {ids[i] for i in corpus.queries(split)}
        assert all(set(queries) <= held_out for queries in scores.values())
        whole = evaluate(corpus, RandomOrder(), split).per_query
        assert scores["citations"] == {query: row["map"] for query, row in whole.items()}


def test_a_folder_is_a_guard_whose_queries_are_halved(corpus, tmp_path):
    folder = write_search(tmp_path / "search")
    halves = [
        query_scores("bm25", corpus.folder, split, ["title_abstract", str(folder)])[str(folder)]
        for split in ("dev", "test")
    ]
    assert not set(halves[0]) & set(halves[1])
    assert set(halves[0]) | set(halves[1]) == {f"q{i}" for i in range(20)}
    assert min(map(len, halves)) > 3


def test_scores_are_kept_and_read_only_for_the_same_model_and_settings(
    corpus, model, tmp_path, monkeypatch
):
    cache = tmp_path / "before.json"
    runs = []
    whole = guard_scores.run_benchmark

    def counted(settings):
        runs.append(settings.benchmark)
        return whole(settings)

    monkeypatch.setattr(guard_scores, "run_benchmark", counted)
    guards = ["title_abstract"]
    first = query_scores(model, corpus.folder, "test", guards, cache=cache)
    assert runs == ["citations", "title_abstract"]
    assert query_scores(model, corpus.folder, "test", guards, cache=cache) == first
    assert len(runs) == 2
    query_scores(model, corpus.folder, "dev", guards, cache=cache)
    assert len(runs) == 4
    cache.write_text("{")  # of a run that was killed
    assert query_scores(model, corpus.folder, "test", guards, cache=cache) == first
    assert len(runs) == 6


def test_scores_of_two_models_give_a_verdict(corpus, model):
    guards = ["title_abstract"]
    before = query_scores("random", corpus.folder, "test", guards)
    after = query_scores(model, corpus.folder, "test", guards)
    one, two = paired(before, after)
    verdict = judge(one, two, "citations", "map")
    assert verdict.comparisons["citations"].before == pytest.approx(
        np.mean(list(before["citations"].values()))
    )
    assert verdict.line.startswith("VERDICT: ")
    del after["title_abstract"]
    with pytest.raises(ValueError, match="queries of title_abstract"):
        paired(before, after)
