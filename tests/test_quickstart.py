import json
import os
import subprocess
import sys

import numpy as np
import pytest

from sciembed_train import quickstart
from sciembed_train.errors import UserError
from sciembed_train.quickstart import QuickstartSettings

# Small enough for every run of the tests; the slow tests use the real size.
SMALL = QuickstartSettings(papers=300, vocab=1500, batch_size=16, epochs=1)


def run(folder, seed, settings=None, **more):
    """One quickstart in a process of its own, as a user runs it."""
    code = (
        "import json, sys; from pathlib import Path; "
        "from sciembed_train.quickstart import *; "
        "folder, seed, settings, more = json.loads(sys.argv[1]); "
        "quickstart(Path(folder), seed, QuickstartSettings(**settings), **more)"
    )
    words = json.dumps([str(folder), seed, settings or {}, more])
    environment = {k: v for k, v in os.environ.items() if not k.startswith("WANDB")}
    done = subprocess.run(
        [sys.executable, "-c", code, words],
        capture_output=True,
        text=True,
        timeout=3000,
        env=environment,
    )
    assert done.returncode == 0, done.stderr
    results = json.loads((folder / "quickstart.json").read_text())
    return results, done


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    folder = tmp_path_factory.mktemp("small") / "quickstart"
    results, done = run(folder, 0, vars(SMALL))
    return folder, results, done


def gains(results):
    """MAP of the four systems, and nDCG, as dictionaries."""
    return ({k: v[name] for k, v in results["scores"].items()} for name in ("map", "ndcg"))


def test_after_one_epoch_the_encoder_is_better_than_before_and_than_chance(small):
    for scores in gains(small[1]):
        assert scores["trained"] > scores["before"] > scores["random"]


def test_the_export_is_the_trained_encoder_and_the_vectors_are_its(small):
    from sciembed_train.encoder.encoder import Encoder

    folder = small[0]
    encoder = Encoder.load(folder / "run" / "export")
    assert encoder.settings.pooling == "cls"
    vectors = np.load(folder / "vectors.npy")
    ids = (folder / "vectors.ids.txt").read_text().splitlines()
    papers = [json.loads(r) for r in (folder / "synthetic/papers.jsonl").read_text().splitlines()]
    assert ids == [p["paper_id"] for p in papers]
    assert vectors.shape == (SMALL.papers, SMALL.width)
    some = papers[:20]
    again = encoder.encode_texts([encoder.compose(p["title"], p["abstract"]) for p in some])
    np.testing.assert_allclose(vectors[:20], again.numpy(), atol=1e-5)


def test_the_run_can_be_read_and_repeated_by_its_recipe(small):
    folder = small[0]
    assert (folder / "run" / "config.yaml").is_file()
    assert (folder / "run" / "last.ckpt").is_file()
    record = json.loads((folder / "run" / "export" / "sciembed.json").read_text())
    assert record["method"] == "specter"
    assert record["seed"] == 0
    assert record["recipe"] == "quickstart"
    assert 1 <= record["training"]["epochs"] <= SMALL.epochs  # the best of them
    assert "specter.Specter" in (folder / "quickstart.yaml").read_text()


def test_a_quickstart_says_each_step_once_and_nothing_else(small):
    lines = small[2].stdout.splitlines()
    assert [line.split()[0] for line in lines] == [
        "papers",
        "model",
        "prepare",
        "fit",
        "embed",
        "evaluate",
    ]
    assert small[2].stderr == ""


def test_an_earlier_quickstart_is_replaced_and_what_is_not_its_own_is_kept(tmp_path):
    (tmp_path / "quickstart.json").write_text("{}")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "last.ckpt").write_text("")
    (tmp_path / "my-run").mkdir()
    quickstart.clear(tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["my-run", "synthetic"]
    quickstart.clear(tmp_path)  # as after a quickstart that was stopped


def test_a_missing_library_is_told_before_the_training(tmp_path, monkeypatch):
    find = quickstart.importlib.util.find_spec
    monkeypatch.setattr(
        quickstart.importlib.util, "find_spec", lambda n: None if n == "bm25s" else find(n)
    )
    with pytest.raises(UserError, match=r"bm25s.*pip install"):
        quickstart.quickstart(tmp_path / "q")
    assert not (tmp_path / "q").exists()


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_at_full_size_training_beats_bm25_and_bm25_chance(seed, tmp_path):
    results, _ = run(tmp_path / "q", seed)
    for scores in gains(results):
        assert scores["trained"] > scores["bm25"] > scores["random"]
    found = results["scores"]
    assert found["trained"]["map"] > 1.3 * found["bm25"]["map"]
    assert found["bm25"]["map"] > 3 * found["random"]["map"]
    # Three minutes on two cores, with room for slower ones: processor time does not depend on
    # what else the machine does.
    assert sum(step["processor"] for step in results["seconds"].values()) < 180


@pytest.mark.slow
def test_citations_that_mean_nothing_teach_nothing(tmp_path):
    results, _ = run(tmp_path / "q", 0, shuffled=True)
    found = results["scores"]
    assert found["trained"]["map"] < found["before"]["map"] + 0.01
    assert found["trained"]["map"] < found["bm25"]["map"]


def test_a_folder_of_ones_own_data_is_no_earlier_quickstart(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "papers.jsonl").write_text("mine")
    with pytest.raises(UserError, match="no earlier quickstart"):
        quickstart.clear(tmp_path)
    assert (tmp_path / "data" / "papers.jsonl").read_text() == "mine"
