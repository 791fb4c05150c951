"""Runs of `own_citations` through the command line."""

import csv

import pytest
import torch

from sciembed_train.cli import main
from sciembed_train.commands import fit, show
from sciembed_train.text.input_format import InputFormat
from tests.helpers.citation_corpus import write_citation_corpus
from tests.helpers.runs import CONFIGS

EVERYTHING = [
    *("--model.guide", "start", "--model.keep", "0.5", "--model.learn_temperature", "true"),
    *("--data.sampling.hard_negatives", "2", "--data.sampling.negatives_from", "two_hop"),
    *("--data.sampling.sources_per_batch", "mixed"),
]


@pytest.fixture(scope="module")
def place(tiny_bert, tmp_path_factory):
    folder = tmp_path_factory.mktemp("own")
    input_format = InputFormat(separator="space")
    write_citation_corpus(folder / "corpus", tiny_bert, input_format=input_format)
    return folder


def words(place, backbone, run, *more):
    return [
        *("-c", str(CONFIGS / "own_citations.yaml"), "-c", str(CONFIGS / "machine" / "cpu.yaml")),
        *("--data.corpus", str(place / "corpus"), "--model.encoder.backbone", str(backbone)),
        *("--model.encoder.max_length", "32", "--data.batch_size", "8", "--model.optim.lr", "1e-3"),
        *("--trainer.max_steps", "6", "--trainer.val_check_interval", "3"),
        *("--trainer.log_every_n_steps", "1", "--root", str(place / "runs"), "--run", run),
        *("--verdict", "off", "--quiet", *more),
    ]


def logged(run):
    with (run / "metrics.csv").open() as file:
        return [row for row in csv.DictReader(file) if row["train/loss"]]


def test_a_run_that_was_stopped_goes_on_from_the_same_start(place, tiny_bert):
    more = [*EVERYTHING, "--no_export"]
    assert fit.main(words(place, tiny_bert, "unbroken", *more)) == 0
    stop = ["--trainer.callbacks", "tests.helpers.runs.StopAt", "--trainer.callbacks.step", "4"]
    assert fit.main(words(place, tiny_bert, "stopped", *more, *stop)) == 143
    assert fit.main(words(place, tiny_bert, "stopped", "--ckpt_path", "last", *more)) == 0
    whole, again = (logged(place / "runs" / name) for name in ("unbroken", "stopped"))
    for name in ("train/loss", "train/keep_loss", "train/temperature"):
        assert [float(row[name]) for row in again] == pytest.approx(
            [float(row[name]) for row in whole], rel=1e-4
        )
    assert float(whole[-1]["train/keep_loss"]) > 1e-3
    state = torch.load(place / "runs" / "stopped" / "last.ckpt", weights_only=True)["state_dict"]
    assert "log_temperature" in state
    assert not any("start" in name for name in state)


def test_show_prints_a_pair_of_every_source(place, tiny_bert, capsys):
    arguments = [
        *("-c", str(CONFIGS / "own_citations.yaml"), "--data.corpus", str(place / "corpus")),
        *("--model.encoder.backbone", str(tiny_bert), "--data.batch_size", "8", "--count", "1"),
    ]
    (place / "corpus" / "report.json").write_text("{}")
    assert show.main(arguments) == 0
    printed = capsys.readouterr().out
    for source in ("citations", "cocitations", "title_abstract", "abstract_halves"):
        assert f" of {source}" in printed
    assert "first half of the abstract of p" in printed
    assert "negatives of 7 candidates" in printed


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--data.batch_size", "50"], "fewer than one batch"),
        (["--model.keep", "-1"], "keep must be 0 or more"),
        (["--data.sampling.hard_negatives", "2"], "no mined negatives"),
        (["--data.group_by_query", "true"], "data.group_by_query"),
        (["--data.sampling.weights.citations", "-1"], "must be 0 or more"),
    ],
)
def test_a_mistake_is_one_message(place, tiny_bert, capsys, more, message):
    assert main(["fit", *words(place, tiny_bert, "mistake", *more)]) == 2
    assert message in capsys.readouterr().err
