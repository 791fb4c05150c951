import json
import sys
from dataclasses import replace

import numpy as np
import pytest

from sciembed_train.evaluation.benchmarks.registry import BENCHMARKS, Benchmark
from sciembed_train.evaluation.evaluate_settings import EvaluateSettings
from sciembed_train.evaluation.open_system import Systems
from sciembed_train.evaluation.run_benchmark import run_benchmark
from sciembed_train.evaluation.systems import Bm25, RandomOrder
from tests.helpers.benchmark_folders import write_csfcube, write_judged

OUTSIDE = """
from sciembed_train.evaluation.benchmarks.result import Result

def run(settings, systems):
    metrics = {"titles/length": len(str(settings.data)) / 1.0}
    return settings.model, Result(metrics, {}, {"queries": 1}, ["Made outside the package."])
"""


def test_a_benchmark_outside_the_package_is_one_module_and_a_registry_line(tmp_path, monkeypatch):
    (tmp_path / "own_benchmark.py").write_text(OUTSIDE)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setitem(BENCHMARKS, "own", Benchmark("own_benchmark", "lengths of titles"))
    scores = run_benchmark(EvaluateSettings("own", "abc", "m"))
    assert (scores.benchmark, scores.model) == ("own", "m")
    assert scores["titles/length"] == 3.0
    assert scores.settings["data"] == "abc"
    assert scores.notes == ("Made outside the package.",)
    sys.modules.pop("own_benchmark")


def test_every_registered_benchmark_has_a_run_and_a_summary():
    for name, benchmark in BENCHMARKS.items():
        assert callable(benchmark.load()), name
        assert benchmark.summary


class Given(Systems):
    """Gives one system, whatever model is asked for."""

    def __init__(self, system):
        super().__init__()
        self.given = system

    def system(self, settings):
        return self.given


class OneVector(RandomOrder):
    """Every paper at one distance."""

    def distances(self, search):
        list(search.texts)
        for at in range(len(search.queries)):
            yield np.full(len(search.pool(at)), 0.7, np.float32)


class Shuffled(Bm25):
    """BM25 of texts that were dealt to the papers anew."""

    def __init__(self, seed):
        super().__init__()
        self.rng = np.random.default_rng(seed)

    def distances(self, search):
        texts = list(search.texts)
        dealt = [texts[at] for at in self.rng.permutation(len(texts))]
        return super().distances(replace(search, texts=dealt))


def write_papers(folder):
    rows = [
        {"paper_id": f"p{at}", "title": f"{word} {at}", "abstract": f"Of {word}. And of {at}."}
        for at, word in enumerate(["graph", "cell", "star", "price", "nerve", "proof"] * 2)
    ]
    folder.mkdir()
    (folder / "papers.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return folder


def ranking_folder(benchmark, place):
    if benchmark == "csfcube":
        folder = write_csfcube(place)
        ids = ("q1", "q2", "q3", *"abcdef")
        rows = [{"paper_id": i, "title": f"On {i}", "abstract": [f"Of {i}."]} for i in ids]
        (folder / "abstracts-csfcube.jsonl").write_text("\n".join(map(json.dumps, rows)))
        return folder
    if benchmark == "relish":
        return write_judged(place)
    folder = write_papers(place)
    if benchmark == "retrieval":
        words = [{"query_id": "1", "text": "graph"}, {"query_id": "2", "paper_id": "p3"}]
        (folder / "queries.jsonl").write_text("\n".join(map(json.dumps, words)))
        (folder / "qrels.tsv").write_text("1 0 p0 2\n1 0 p6 1\n2 0 p9 1\n2 0 p1 0\n")
    elif benchmark == "citations":
        (folder / "citations.csv").write_text("citing,cited\np0,p1\np0,p2\np5,p6\n")
    elif benchmark == "cocitations":
        (folder / "cocitations.tsv").write_text(
            "paper_a\tpaper_b\tcount\np0\tp1\t4\np0\tp2\t1\np3\tp9\t2\n"
        )
    elif benchmark == "review":
        lines = [f"p{at}\t{int(at < 4)}" for at in range(12)]
        (folder / "labels.tsv").write_text("\n".join(["paper_id\tincluded", *lines]))
    return folder


RANKING = ("retrieval", "citations", "cocitations", "review")


LONG = [
    pytest.param(name, marks=pytest.mark.slow) for name in ("csfcube", "relish", "title_abstract")
]
SAME = pytest.param("abstract_halves", marks=pytest.mark.slow)  # scored as title_abstract is


@pytest.mark.parametrize("benchmark", [*RANKING, *LONG, SAME])
def test_one_vector_for_everything_and_shuffled_vectors_score_at_chance(benchmark, tmp_path):
    folder = ranking_folder(benchmark, tmp_path / "data")
    settings = EvaluateSettings(benchmark, folder, "m", quiet=True)

    def scores(system):
        return run_benchmark(settings, Given(system)).metrics

    one = scores(OneVector())
    for drawn in (
        [scores(RandomOrder(seed)) for seed in range(60)],
        [scores(Shuffled(seed)) for seed in range(20)],
    ):
        for name, value in one.items():
            found = np.array([row[name] for row in drawn])
            error = found.std() / np.sqrt(len(found))
            assert abs(found.mean() - value) <= 4.5 * error + 1e-9, name
