"""The public API: every module is imported first, so that none can shadow a function."""

import dataclasses
import inspect
import json
import pkgutil
import subprocess
import sys

import numpy as np
import pytest

import sciembed_train as st
from sciembed_train.export.export_checkpoint import ExportSettings
from sciembed_train.export.merge_settings import MergeSettings
from sciembed_train.export.push import PushSettings
from sciembed_train.hard_negatives.mine_settings import MineSettings
from sciembed_train.inference.options import EmbedFileSettings
from sciembed_train.search.index_settings import IndexSettings

NAMES = ("prepare", "fit", "load_encoder", "embed", "evaluate", "export_encoder", "merge", "mine")
NAMES += ("build_index", "open_index", "push")
IMPORT_ALL = """
import importlib, pkgutil, sys
import sciembed_train as st
assert not [m for m in sys.modules if m.split(".")[0] in ("torch", "transformers", "numpy")]
for found in pkgutil.walk_packages(st.__path__, "sciembed_train."):
    if not found.name.endswith("__main__"):
        importlib.import_module(found.name)
for name in sys.argv[1:]:
    assert getattr(getattr(st, name), "__module__", "") == "sciembed_train.api", name
print(len([m for m in sys.modules if m.startswith("sciembed_train.")]))
"""


@pytest.mark.slow
def test_importing_every_module_shadows_no_function():
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", IMPORT_ALL, *NAMES],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 150


@pytest.mark.parametrize(
    ("function", "settings"),
    [
        ("export_encoder", ExportSettings),
        ("embed", EmbedFileSettings),
        ("merge", MergeSettings),
        ("mine", MineSettings),
        ("build_index", IndexSettings),
        ("push", PushSettings),
    ],
)
def test_a_function_takes_every_setting_that_its_command_has(function, settings):
    parameters = inspect.signature(getattr(st, function)).parameters
    assert {field.name for field in dataclasses.fields(settings)} <= set(parameters)


def test_every_name_is_documented_and_listed():
    assert set(NAMES) <= set(st.__all__) <= set(dir(st))
    for name in NAMES:
        text = getattr(st, name).__doc__
        assert "Args:" in text
        assert "Raises:" in text
        assert "Example:" in text
    with pytest.raises(AttributeError, match="no attribute 'train'"):
        st.train  # noqa: B018
    names = {module.name for module in pkgutil.iter_modules(st.__path__)}
    assert not names & set(NAMES)


@pytest.fixture(scope="module")
def collection(tmp_path_factory):
    """A synthetic collection with a tokenizer and an untrained BERT."""
    from sciembed_train.synthetic import (
        SyntheticSettings,
        train_tokenizer,
        write_bert,
        write_collection,
    )

    folder = tmp_path_factory.mktemp("api")
    world = write_collection(folder / "world", SyntheticSettings(papers=200, seed=0))
    tokenizer = train_tokenizer([paper["title"] for paper in world.papers()], 400)
    write_bert(
        folder / "backbone", tokenizer, layers=1, width=16, heads=2, max_positions=64, seed=0
    )
    return folder


def test_all_six_from_files_to_scores(collection):
    papers, backbone = collection / "world" / "papers.jsonl", collection / "backbone"
    corpus = st.prepare(
        collection / "corpus",
        papers=papers,
        citations=collection / "world" / "citations.tsv",
        tokenizer=backbone,
        dev_share=0.1,
        test_share=0.1,
    )
    assert isinstance(corpus, st.Corpus)
    assert corpus.n_papers == 200

    settings = {
        "data.corpus": collection / "corpus",
        "model.encoder.backbone": backbone,
        "model.encoder.max_length": 48,
        "data.batch_size": 4,
        "trainer.max_steps": 2,
        "trainer.accelerator": "cpu",
        "trainer.precision": "32-true",
        "verdict": "off",
    }
    recipe = "configs/specter.yaml"
    run = st.fit(recipe, settings, root=collection / "runs", run="api", quiet=True)
    assert isinstance(run, st.Run)
    assert run.folder == collection / "runs" / "api"
    assert run.checkpoint.name == "best.ckpt"
    assert run.step == 2
    assert 0 <= run.scores["val/map"] <= 1
    assert "val/map" in repr(run)
    assert "<table>" in run._repr_html_()
    with pytest.raises(st.UserError, match="--ckpt_path last"):
        st.fit(recipe, settings, root=collection / "runs", run="api", quiet=True)

    exported = st.export_encoder(run.folder, collection / "encoder")
    assert exported.folder == collection / "encoder"
    assert exported.differences["AutoModel"] < 1e-4

    encoder = st.load_encoder(exported.folder, device="cpu")
    rows = [json.loads(line) for line in papers.read_text().splitlines()]
    vectors = encoder.encode(rows)
    assert vectors.shape == (200, encoder.dim)
    np.testing.assert_allclose(
        encoder.encode([(rows[7]["title"], rows[7]["abstract"])])[0], vectors[7], atol=1e-5
    )
    written = st.embed(run.folder, papers, collection / "vectors.npy", device="cpu")
    assert written.papers == 200
    np.testing.assert_allclose(np.load(collection / "vectors.npy"), vectors, atol=1e-5)
    assert str(written).startswith("200 embeddings of width 16 in ")

    scores = st.evaluate(exported.folder, "citations", corpus.folder, to=collection / "s.json")
    assert isinstance(scores, st.Scores)
    assert 0 < scores["citations/map"] < 1
    assert json.loads((collection / "s.json").read_text()) == scores.as_dict()
    assert "map" in repr(scores)
    assert "<td>map</td>" in scores._repr_html_()


def test_what_is_wrong_is_a_user_error_as_on_the_command_line(tmp_path):
    with pytest.raises(st.UserError, match="nowhere"):
        st.load_encoder(tmp_path / "nowhere")
    with pytest.raises(st.UserError, match="prepare has no setting 'paper'; it has papers"):
        st.prepare(tmp_path / "corpus", paper="papers.jsonl")
    with pytest.raises(st.UserError, match="one of --model, --ranking and --embeddings"):
        st.evaluate(None, "csfcube", tmp_path)
    with pytest.raises(st.UserError, match="there is none of this name; there are csfcube"):
        st.evaluate("bm25", "csfcubes", tmp_path)
    with pytest.raises(st.UserError, match="batch-tokens is 0"):
        st.embed("model", "papers.jsonl", tmp_path / "e.npy", batch_tokens=0)
