"""From real titles and citations to an exported, evaluated encoder, through the command line."""

import csv
import json

import numpy as np
import pytest

from tests.helpers.runs import ROOT, finish, start


@pytest.fixture
def graph(shared_data):
    path = shared_data / "acl-graph"
    if not path.is_dir():
        pytest.skip("no acl-graph in the data beside the project")
    return path


def train(*words):
    code, said = finish(start(*words), timeout=400)
    assert code == 0, said
    return said


@pytest.mark.slow
def test_real_titles_and_citations_become_an_encoder_that_knows_more(graph, minilm, tmp_path):
    corpus, run = tmp_path / "corpus", tmp_path / "runs" / "short"
    recipe = str(ROOT / "configs" / "specter.yaml")
    said = train(
        *("prepare", "-c", recipe, "--papers", str(graph / "papers.jsonl")),
        *("--citations", str(graph / "citations.tsv"), "--to", str(corpus)),
        *("--tokenizer", str(minilm)),
    )
    assert "triplets" in said
    train(
        *("fit", "-c", recipe, "--root", str(tmp_path / "runs"), "--run", "short"),
        *("--data.corpus", str(corpus), "--model.encoder.backbone", str(minilm)),
        *("--model.encoder.pooling", "mean", "--model.encoder.max_length", "24"),
        *("--model.optim.lr", "1e-4", "--trainer.max_steps", "40"),
        *("--trainer.val_check_interval", "20", "--data.dev_examples", "300"),
        *("--trainer.accelerator", "cpu", "--trainer.precision", "32-true"),
    )
    with open(run / "metrics.csv", newline="") as file:
        rows = [float(row["train/loss"]) for row in csv.DictReader(file) if row["train/loss"]]
    assert np.isfinite(rows).all()
    scores = {}
    for name, model in (("before", minilm), ("after", run / "export")):
        result = tmp_path / f"{name}.json"
        train(
            *("evaluate", "--model", str(model), "--pooling", "mean", "--max-length", "24"),
            *("--benchmark", "citations", "--data", str(corpus), "--to", str(result)),
        )
        scores[name] = json.loads(result.read_text())["metrics"]
    gained = next(key for key in scores["after"] if key.split("/")[-1] == "map")
    assert scores["after"][gained] > scores["before"][gained] > 0.02
