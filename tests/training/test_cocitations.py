"""SPECTER-CoCite from papers and citing sentences to an exported encoder."""

import json

import numpy as np
import pytest
import torch

from sciembed_train.cli import main
from sciembed_train.commands import fit
from sciembed_train.encoder.encoder import Encoder
from tests.helpers.runs import CONFIGS, losses, rows
from tests.helpers.small_corpus import small_papers


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Papers, and sentences that cite two to four of them."""
    folder = tmp_path_factory.mktemp("cocite")
    rng = np.random.default_rng(0)
    papers = [{k: p[k] for k in ("paper_id", "title", "abstract")} for p in small_papers(60)]
    (folder / "papers.jsonl").write_text("\n".join(map(json.dumps, papers)) + "\n")
    contexts = [
        {
            "text": f"Of these (many) have said word{rng.integers(200)} before sentence {i}.",
            "cited_ids": [f"p{n}" for n in rng.choice(60, rng.integers(2, 5), replace=False)],
            "citing_id": f"c{i}",
        }
        for i in range(80)
    ]
    (folder / "contexts.jsonl").write_text("\n".join(map(json.dumps, contexts)) + "\n")
    return folder


def words(place, backbone, run, *more):
    return [
        *("-c", str(CONFIGS / "aspire_cocite_compsci_scib.yaml")),
        *("--data.papers", str(place / "papers.jsonl")),
        *("--data.contexts", str(place / "contexts.jsonl"), "--data.dev_share", "0.2"),
        *("--model.encoder.backbone", str(backbone), "--model.encoder.max_length", "32"),
        *("--data.batch_size", "8", "--trainer.max_steps", "6", "--model.optim.lr", "1e-3"),
        *("--model.optim.warmup_steps", "2", "--model.mix_lr", "100"),
        *("--trainer.val_check_interval", "3", "--trainer.log_every_n_steps", "1"),
        *("--trainer.accelerator", "cpu", "--trainer.devices", "1"),
        *("--trainer.precision", "32-true", "--root", str(place / "runs"), "--run", run),
        *("--quiet", *more),
    ]


@pytest.mark.slow
def test_one_command_from_citing_sentences_to_an_exported_mix(place, tiny_bert):
    from sentence_transformers import SentenceTransformer

    assert fit.main(words(place, tiny_bert, "whole")) == 0
    run = place / "runs" / "whole"
    logged = [row for row in rows(run) if row["train/loss"]]
    assert all(0 <= float(row["train/void_share"]) < 1 for row in logged)
    assert len([row for row in rows(run) if row["val/map"]]) == 2
    mix = torch.load(run / "last.ckpt", weights_only=True)["state_dict"]["encoder.mix"]
    assert mix.shape == (1, 3)
    assert mix.std() > 0.01, "a hundred times the rate, and the mix has not moved"
    record = json.loads((run / "export" / "sciembed.json").read_text())
    assert record["pooling"] == "mix"
    assert record["input_format"]["sentences"] == "sep"
    encoder = Encoder.load(run / "export")
    texts = [encoder.compose("word1 word2", ["word3 word4", "word5"])]
    theirs = SentenceTransformer(str(run / "export" / "st")).encode(texts)
    assert np.abs(encoder.encode_texts(texts).numpy() - theirs).max() < 1e-5


@pytest.mark.slow
def test_a_run_that_was_stopped_goes_on(place, tiny_bert):
    whole = place / "runs" / "unbroken"
    assert fit.main(words(place, tiny_bert, "unbroken", "--no_export")) == 0
    stop = ["--trainer.callbacks", "tests.helpers.runs.StopAt", "--trainer.callbacks.step", "4"]
    assert fit.main(words(place, tiny_bert, "stopped", *stop)) == 143
    assert fit.main(words(place, tiny_bert, "stopped", "--ckpt_path", "last", "--no_export")) == 0
    assert losses(place / "runs" / "stopped") == losses(whole)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--data.batch_size", "1"], "Give a larger data.batch_size"),
        (["--data.batch_size", "5000"], "fewer than one batch"),
        (["--model.margin", "-1"], "margin is in the unit"),
        (["--model.mix_lr", "3", "--model.encoder.pooling", "cls"], "without weights"),
        (["--data.pairs", "x.txt"], "data.pairs is not used"),
    ],
)
def test_a_mistake_is_told_in_one_message(place, tiny_bert, capsys, more, said):
    assert main(["fit", *words(place, tiny_bert, "mistake", *more)]) == 2
    assert said in capsys.readouterr().err
