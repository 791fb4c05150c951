"""CACM's searches: real papers, queries and judgements."""

import json

import pytest

from sciembed_train.commands import evaluate


@pytest.fixture(scope="module")
def folder(shared_data):
    return shared_data / "cacm"


def metrics(folder, model, tmp_path, *more):
    target = tmp_path / "results.json"
    arguments = ["--model", model, "--benchmark", "retrieval", "--data", str(folder)]
    assert evaluate.main([*arguments, "--to", str(target), "--quiet", *more]) == 0
    return json.loads(target.read_text())


def test_bm25_ranks_as_it_is_known_to_and_chance_does_not(folder, tmp_path):
    bm25 = metrics(folder, "bm25", tmp_path)
    assert (bm25["settings"]["queries"], bm25["settings"]["papers"]) == (32, 3204)
    # Published MAP of BM25-like systems on CACM lies around 0.25 to 0.35.
    assert 0.25 < bm25["metrics"]["retrieval/map_grade1"] < 0.40
    assert metrics(folder, "random", tmp_path)["metrics"]["retrieval/map_grade1"] < 0.02


@pytest.mark.slow
def test_a_real_encoder_beats_chance_on_all_of_cacm(folder, minilm, tmp_path):
    found = metrics(folder, str(minilm), tmp_path)["metrics"]
    assert found["retrieval/map_grade1"] > 0.2
