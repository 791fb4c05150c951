"""tsAspire: sentences aligned by a model that the command line names, before the first step."""

import json

import numpy as np
import pytest

from sciembed_train.cli import main
from sciembed_train.commands import fit
from sciembed_train.inference import alignment
from tests.helpers.runs import CONFIGS, losses


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Papers of one to five sentences, and sentences that cite two of them."""
    folder = tmp_path_factory.mktemp("aligned")
    rng = np.random.default_rng(0)

    def sentence():
        return " ".join(f"word{n}" for n in rng.integers(200, size=4)) + "."

    papers = [
        {
            "paper_id": f"p{i}",
            "title": f"word{i} a b",
            "abstract": [sentence() for _ in range(rng.integers(1, 6))],
        }
        for i in range(40)
    ]
    contexts = [
        {
            "text": f"Of these said {' '.join(rng.choice(list('abcdefgh'), 8))}.",
            "cited_ids": [f"p{n}" for n in rng.choice(40, 2, replace=False)],
            "citing_id": f"c{i}",
        }
        for i in range(60)
    ]
    for name, rows in (("papers", papers), ("contexts", contexts)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def words(place, backbone, run, *more):
    return [
        *("-c", str(CONFIGS / "aspire_ts_compsci.yaml")),
        *("--data.papers", str(place / "papers.jsonl")),
        *("--data.contexts", str(place / "contexts.jsonl"), "--data.dev_share", "0.2"),
        *("--model.encoder.backbone", str(backbone), "--model.encoder.max_length", "32"),
        *("--data.batch_size", "8", "--trainer.max_steps", "6", "--model.optim.lr", "1e-3"),
        *("--model.optim.warmup_steps", "2", "--trainer.log_every_n_steps", "1"),
        *("--trainer.accelerator", "cpu", "--trainer.devices", "1", "--no_export"),
        *("--trainer.precision", "32-true", "--root", str(place / "runs"), "--run", run),
        *("--quiet", *more),
    ]


@pytest.mark.slow
def test_a_run_aligns_once_and_a_stopped_one_goes_on_with_the_same(
    place, tiny_bert, monkeypatch, capsys
):
    by = ["--data.sampling.init_args.aligned_by", str(tiny_bert)]
    assert fit.main(words(place, tiny_bert, "whole", *by)) == 0
    assert len(list((place / "runs" / ".cache").glob("*/alignments/*/train.npy"))) == 1
    monkeypatch.setattr(alignment, "_write_alignment", lambda *_: pytest.fail("made again"))
    stop = ["--trainer.callbacks", "tests.helpers.runs.StopAt", "--trainer.callbacks.step", "4"]
    assert fit.main(words(place, tiny_bert, "stopped", *by, *stop)) == 143
    assert fit.main(words(place, tiny_bert, "stopped", *by, "--ckpt_path", "last")) == 0
    assert losses(place / "runs" / "stopped") == losses(place / "runs" / "whole")
    # The run remembers what it was given, not what it was named.
    kept = (place / "runs" / "whole" / "config.yaml").read_text()
    assert f"aligned_by: {tiny_bert}" in kept
    # The one alignment that is there need not be named; the other one of it is another experiment.
    capsys.readouterr()
    other = ["--data.sampling.init_args.align", "abstract", "--ckpt_path", "last"]
    assert main(["fit", *words(place, tiny_bert, "stopped", *other)]) == 2
    assert "trained on other pairs" in capsys.readouterr().err


def test_without_an_alignment_the_command_that_makes_one_is_named(place, tiny_bert, capsys):
    more = ["--data.seed", "7"]  # another corpus, which has none
    assert main(["fit", *words(place, tiny_bert, "none", *more)]) == 2
    said = capsys.readouterr().err
    assert "holds no alignment of sentences" in said
    assert "train align" in said
    assert "data.sampling.aligned_by" in said
