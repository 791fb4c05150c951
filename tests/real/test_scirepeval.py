"""SciRepEval's samples, made into files of its evaluation: probes and rankings of real papers."""

import csv
import json

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score, f1_score
from sklearn.model_selection import GridSearchCV
from sklearn.svm import LinearSVC

from sciembed_train.evaluation.benchmarks.scirepeval import scirepeval
from sciembed_train.evaluation.by_format import PlainModel, RandomVectors
from sciembed_train.evaluation.systems import Model
from sciembed_train.inference.options import EmbedSettings

SEARCHES, PAPERS = 8, 60


def text(paper):
    return {key: paper[key] for key in ("title", "abstract")} | {"doc_id": paper["corpus_id"]}


def write(path, rows):
    path.parent.mkdir(exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


@pytest.fixture
def samples(shared_data):
    folder = shared_data / "scirepeval"
    if not folder.is_dir():
        pytest.skip("no SciRepEval samples in ../shared/data")
    return {
        name: json.loads((folder / f"{name}_small.json").read_text(encoding="utf-8"))
        for name in ("s2and", "mesh")
    }


def authors(folder, searches):
    write(
        folder / "s2and" / "meta.jsonl",
        [
            {"query": text(s["query"]), "candidates": list(map(text, s["candidates"]))}
            for s in searches
        ],
    )
    write(
        folder / "s2and" / "test_qrel.jsonl",
        [
            {
                "query_id": s["query"]["corpus_id"],
                "cand_id": c["corpus_id"],
                "score": c["score"],
            }
            for s in searches
            for c in s["candidates"]
        ],
    )
    return {
        "name": "Same Author Detection",
        "type": "proximity",
        "data": {"meta": "s2and/meta.jsonl", "test": "s2and"},
        "metrics": ["map"],
    }


def kinds(folder, papers):
    write(folder / "kinds" / "meta.jsonl", map(text, papers))
    for name, part in (("train", papers[::2]), ("test", papers[1::2])):
        with (folder / "kinds" / f"{name}.csv").open("w", newline="") as file:
            rows = [(paper["corpus_id"], kind(paper)) for paper in part]
            csv.writer(file).writerows([("paper_id", "label"), *rows])
    return {
        "name": "kinds",
        "type": "classification",
        "data": {"meta": "kinds/meta.jsonl", "test": "kinds"},
        "metrics": ["f1"],
    }


def kind(paper):
    """Whether a paper is of a tumour, by its descriptor."""
    return int("oma" in paper["descriptor"] or "Neopl" in paper["descriptor"])


@pytest.mark.slow
def test_real_vectors_give_what_plain_loops_give(tmp_path, samples, minilm):
    searches, papers = samples["s2and"][:SEARCHES], samples["mesh"][:PAPERS]
    write(
        tmp_path / "scirepeval_tasks.jsonl", [authors(tmp_path, searches), kinds(tmp_path, papers)]
    )
    settings = EmbedSettings(device="cpu", max_length=64)
    model = Model(str(minilm), settings, quiet=True)
    found = scirepeval.evaluate(tmp_path, PlainModel(model)).metrics

    def vectors(some):
        with torch.no_grad():
            texts = [model.encoder.compose(p["title"], p["abstract"]) for p in some]
            return model.encoder(model.encoder.rows(texts)).double().numpy()

    values = []
    for search in searches:
        query, candidates = vectors([search["query"]])[0], vectors(search["candidates"])
        far = np.sqrt(((candidates - query) ** 2).sum(1))
        values.append(average_precision_score([c["score"] for c in search["candidates"]], -far))
    assert found["Same Author Detection/map_grade1"] == pytest.approx(np.mean(values), abs=1e-9)

    y = np.array(list(map(kind, papers)))
    x = vectors(papers).astype(np.float32).astype(np.float64)
    machine = LinearSVC(loss="squared_hinge", dual=True, random_state=42)
    grid = GridSearchCV(machine, {"C": [0.01, 0.1, 1.0, 10.0, 100.0]}, cv=3)
    told = grid.fit(x[::2], y[::2]).predict(x[1::2])
    assert found["kinds/f1_binary"] == pytest.approx(f1_score(y[1::2], told))


@pytest.mark.slow
def test_relevant_candidates_that_come_first_help_nobody(tmp_path, samples):
    """In all forty searches the papers of the same author are named first."""
    searches = samples["s2and"]
    write(tmp_path / "scirepeval_tasks.jsonl", [authors(tmp_path, searches)])

    class Same(RandomVectors):
        def embed(self, records, format):
            return np.ones((len(records), 4), dtype=np.float32)

    relevant = [np.array([c["score"] for c in s["candidates"]]) for s in searches]
    assert all(row[0] == 1 for row in relevant)
    draws = np.random.default_rng(0)
    chance = [
        np.mean([average_precision_score(row, draws.random(len(row))) for row in relevant])
        for _ in range(100)
    ]
    for embedder in (Same(), RandomVectors(1), RandomVectors(2)):
        value = scirepeval.evaluate(tmp_path, embedder).metrics["Same Author Detection/map_grade1"]
        assert abs(value - np.mean(chance)) < 3.5 * np.std(chance)
