"""Triplets from neighbours of real papers; skipped where there are none."""

import gzip
import json
from dataclasses import replace

import numpy as np
import pytest
from scipy.sparse import csr_matrix

from sciembed_train.corpus.build import prepare
from sciembed_train.corpus.prepare_settings import PrepareSettings


@pytest.fixture
def physics(shared_data):
    folder = shared_data / "arxiv-hep"
    if not folder.is_dir():
        pytest.skip("no arxiv-hep in the data beside the project")
    return folder


@pytest.mark.slow
def test_positives_are_near_in_the_graph_and_negatives_are_not(physics, tmp_path):
    papers = tmp_path / "papers.jsonl"  # titles are enough, and faster to read
    with gzip.open(physics / "papers.jsonl.gz", "rt") as given, papers.open("w") as file:
        for paper in map(json.loads, given):
            file.write(json.dumps({name: paper[name] for name in ("paper_id", "title")}) + "\n")
    made = PrepareSettings(
        papers,
        citations=physics / "citations.tsv.gz",
        triplets_from="neighbours",
        to=tmp_path / "corpus",
    )
    corpus = prepare(made)
    rows, hard = corpus.triplets("train"), corpus.hard("train")
    assert len(rows) > 20_000
    assert 0.35 < hard.mean() < 0.45
    edges, n = np.load(corpus.folder / "citations.npy"), corpus.n_papers
    both = np.concatenate([edges, edges[:, ::-1]])
    graph = csr_matrix((np.ones(len(both)), (both[:, 0], both[:, 1])), shape=(n, n))
    near = (graph @ graph + graph) > 0

    def share(queries, others):
        return np.asarray(near[queries, others]).mean()

    assert share(rows[:, 0], rows[:, 1]) > 0.8
    assert share(rows[hard, 0], rows[hard, 2]) < 0.1
    assert share(rows[~hard, 0], rows[~hard, 2]) < 0.01
    # What held-out papers cite is not missed in training: without it the same triplets.
    split = np.load(corpus.folder / "paper_splits.npy")
    known = dict(zip(corpus.paper_ids(), split.tolist(), strict=True))
    lines = gzip.decompress((physics / "citations.tsv.gz").read_bytes()).decode().splitlines()
    kept = [line for line in lines[1:] if known.get(line.split("\t")[0], 0) == 0]
    assert len(kept) < len(lines) - 1000
    fewer = tmp_path / "citations.tsv"
    fewer.write_text("\n".join([lines[0], *kept]) + "\n")
    without = prepare(replace(made, citations=fewer, to=tmp_path / "without"))
    assert without.triplets("train").tolist() == rows.tolist()
