"""The sentence encoder of Aspire from papers and citing sentences to an exported encoder."""

import json

import numpy as np
import pytest

from sciembed_train.cli import main
from sciembed_train.commands import fit, show
from sciembed_train.encoder.encoder import Encoder
from tests.helpers.runs import CONFIGS, rows
from tests.helpers.sentence_pair_corpus import write_citing_files

RECIPE = str(CONFIGS / "aspire_sentence.yaml")


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    return write_citing_files(tmp_path_factory.mktemp("citing"))


def words(files, backbone, run, *more):
    root = files["papers"].parent / "runs"
    return [
        *("-c", RECIPE, *(w for name, f in files.items() for w in (f"--data.{name}", str(f)))),
        *("--model.encoder.backbone", str(backbone), "--model.encoder.max_length", "32"),
        *("--data.batch_size", "8", "--trainer.max_steps", "4", "--model.optim.lr", "1e-3"),
        *("--model.optim.warmup_steps", "2", "--trainer.val_check_interval", "2"),
        *("--trainer.log_every_n_steps", "1", "--trainer.accelerator", "cpu"),
        *("--trainer.devices", "1", "--trainer.precision", "32-true"),
        *("--root", str(root), "--run", run, "--quiet", *more),
    ]


@pytest.mark.parametrize("by", ["set", "paper"])
def test_one_command_from_citing_sentences_to_an_exported_sentence_encoder(files, tiny_bert, by):
    from sentence_transformers import SentenceTransformer

    more = ["--data.cocitation_mining.sentence_pairs", by]
    assert fit.main(words(files, tiny_bert, by, *more)) == 0
    run = files["papers"].parent / "runs" / by
    assert len([row for row in rows(run) if row["val/map"]]) == 2
    record = json.loads((run / "export" / "sciembed.json").read_text())
    told = [record[name] for name in ("texts", "similarity", "pooling")]
    assert told == ["sentences", "euclidean", "cls"]
    assert "texts" not in record["training"]
    assert "a sentence in, one vector" in (run / "export" / "README.md").read_text()
    texts = ["Of these word3 says a of word5."]
    theirs = SentenceTransformer(str(run / "export")).encode(texts)
    ours = Encoder.load(run / "export").encode_texts(texts)
    assert np.abs(ours.numpy() - theirs).max() < 1e-5


def test_show_tells_what_the_sentences_of_a_pair_cite(files, tiny_bert, tmp_path, capsys):
    given = ["papers", "contexts"]
    raw = [word for name in given for word in (f"--data.{name}", str(files[name]))]
    backbone = ["--model.encoder.backbone", str(tiny_bert)]
    assert show.main(["-c", RECIPE, *raw, *backbone, "--cache", str(tmp_path), "--count", "2"]) == 0
    told = capsys.readouterr().out
    assert told.count("of citing sentences\n  anchor: cites p") == 2
    assert "negative, another pair's positive: cites p" in told
    assert "citing sentences: " in told
    assert "sentence pairs:\n  pairs: train" in told


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--data.batch_size", "1"], "Give a larger data.batch_size"),
        (
            ["--data.cocitation_mining.sentence_pairs", "none"],
            "(in a recipe data.cocitation_mining.sentence_pairs)",
        ),
        (["--data.cocitation_mining.min_contexts", "90"], "No training pair of sentences"),
        (["--data.cocitations", "x.tsv"], "data.cocitations is not used"),
    ],
)
def test_a_mistake_is_told_in_one_message(files, tiny_bert, capsys, more, said):
    assert main(["fit", *words(files, tiny_bert, "mistake", *more)]) == 2
    assert said in capsys.readouterr().err
