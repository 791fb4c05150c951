"""A sampling and a method defined outside the package, through every command."""

import json

import numpy as np
import pytest
import torch
import yaml

from sciembed_train.cli import main as train
from sciembed_train.encoder.encoder import Encoder
from sciembed_train.encoder.profiling.memory import Footprint
from sciembed_train.methods.engine import micro_batch_size
from tests.helpers import outside
from tests.helpers.runs import losses, rows
from tests.helpers.small_corpus import write_small_corpus

pytestmark = pytest.mark.filterwarnings(
    "ignore:.*does not have many workers.*", "ignore:.*LeafSpec.*"
)
STEPS, LENGTH = 6, 32


@pytest.fixture(scope="module")
def recipe(tiny_bert, tmp_path_factory):
    folder = tmp_path_factory.mktemp("outside")
    corpus = write_small_corpus(folder / "corpus", tiny_bert)
    (corpus.folder / "report.json").write_text("{}")
    encoder = {"backbone": str(tiny_bert), "pooling": "mean", "max_length": LENGTH}
    content = {
        "model": {
            "class_path": "tests.helpers.outside.NearNeighbours",
            "init_args": {"encoder": encoder, "power": 2.0},
        },
        "data": {
            "corpus": str(corpus.folder),
            "batch_size": 8,
            "sampling": {
                "class_path": "tests.helpers.outside.NeighbourSampling",
                "init_args": {"distance": 3},
            },
        },
        "trainer": {"max_steps": STEPS, "val_check_interval": 3, "log_every_n_steps": 1},
        "checkpoint": {"monitor": "val/loss", "every": 2},
    }
    path = folder / "neighbours.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


def words(recipe, run, *more):
    return [
        *("fit", "-c", str(recipe), "--root", str(recipe.parent / "runs"), "--run", run),
        *("--trainer.accelerator", "cpu", "--trainer.devices", "1", "--verdict", "off", "--quiet"),
        *more,
    ]


@pytest.fixture
def small_memory(monkeypatch):
    """A device that holds five texts of a backward pass."""
    tokens = 5 * LENGTH
    monkeypatch.setattr(micro_batch_size, "free_memory", lambda *_: 10**12)
    monkeypatch.setattr(micro_batch_size, "footprint", lambda *_: Footprint(0, 1.0))
    monkeypatch.setattr(Footprint, "tokens", lambda self, room: tokens)
    outside.SPLITS.clear()


def test_show_describes_its_examples(recipe, capsys):
    assert train(["show", "-c", str(recipe), "--count", "2"]) == 0
    out = capsys.readouterr().out
    assert "the first of 52 training neighbours in epoch 0, 6 steps of 8" in out
    assert out.count("\nneighbours ") == 2
    assert out.count("  neighbour: p") == 2
    assert "Each paper is paired with the paper 3 on." in out


def test_fit_splits_what_memory_does_not_hold_and_resumes_to_the_same_numbers(recipe, small_memory):
    runs = recipe.parent / "runs"
    assert train(words(recipe, "whole", "--no_export")) == 0
    assert len(outside.SPLITS) >= STEPS
    assert max(outside.SPLITS) > 1
    assert len(losses(runs / "whole")) == STEPS
    assert len([row for row in rows(runs / "whole") if row["val/loss"]]) == 2

    first = words(recipe, "halves", "--no_export", "--trainer.max_time", "00:00:00:00")
    stop = ["--trainer.callbacks", "tests.helpers.runs.EndAt", "--trainer.callbacks.step", "4"]
    assert train([*first[:-2], *stop]) == 0
    assert len(losses(runs / "halves")) == 4
    assert train(words(recipe, "halves", "--no_export", "--ckpt_path", "last")) == 0
    assert losses(runs / "halves") == losses(runs / "whole")


def test_its_checkpoint_is_validated_and_exported(recipe, tmp_path, capsys):
    runs = recipe.parent / "runs"
    assert train(words(recipe, "exported")) == 0
    assert (runs / "exported" / "export" / "sciembed.json").is_file()
    capsys.readouterr()
    checkpoint = str(runs / "exported" / "last.ckpt")
    where = ["--trainer.accelerator", "cpu", "--trainer.devices", "1"]
    assert train(["validate", "-c", str(recipe), "--ckpt_path", checkpoint, *where]) == 0
    assert "val/loss" in capsys.readouterr().out
    assert train(["export", checkpoint, "--to", str(tmp_path / "model")]) == 0
    record = json.loads((tmp_path / "model" / "sciembed.json").read_text())
    assert record["method"] == "nearneighbours"
    assert record["pooling"] == "mean"
    texts = ["word1 word2 [SEP] word3", "word4"]
    vectors = Encoder.load(tmp_path / "model").encode_texts(texts)
    state = torch.load(checkpoint, map_location="cpu", weights_only=True)["state_dict"]
    assert any(name.startswith("encoder.") for name in state)
    assert np.isfinite(vectors.numpy()).all()


def test_a_resume_with_other_settings_of_the_sampling_is_refused(recipe, capsys):
    assert train(words(recipe, "first", "--no_export", "--trainer.max_steps", "2")) == 0
    more = ["--no_export", "--ckpt_path", "last", "--data.sampling.distance", "2"]
    assert train(words(recipe, "first", *more)) == 2
    assert "trained on other neighbours" in capsys.readouterr().err
