"""Averaged weights, layers' learning rates and frozen embeddings in whole runs."""

import signal

import pytest
import torch

from sciembed_train.commands import fit
from sciembed_train.training.callbacks.weight_averaging import TRAINED
from tests.helpers.runs import finish, losses, start, validations

EMA = ("--model.optim.ema", "0.9")


def checkpoint(run, name="last.ckpt"):
    return torch.load(run / name, weights_only=True)


def same(ours, theirs):
    return ours.keys() == theirs.keys() and all(torch.equal(ours[k], theirs[k]) for k in ours)


@pytest.fixture(scope="module")
def averaged(toy):
    assert fit.main(toy.arguments("--run", "averaged", *EMA)) == 0
    return toy.root / "averaged"


@pytest.mark.slow
def test_averaging_leaves_the_training_as_it_is_and_validates_the_average(averaged, whole):
    assert losses(averaged) == losses(whole)
    assert validations(averaged) != validations(whole)
    content = checkpoint(averaged)
    trained = {f"{key}": value for key, value in checkpoint(whole)["state_dict"].items()}
    for name, weight in content[TRAINED].items():
        assert torch.equal(weight, trained[name]), name
        assert not torch.equal(weight, content["state_dict"][name]), name
    assert TRAINED not in checkpoint(whole)


def test_the_average_is_that_of_plain_loops(toy):
    """Of the weights after each step, which runs of 0, 1, 2 and 3 steps have."""
    schedule = ("--model.optim.schedule", "constant")
    states = []
    for steps in (1, 2, 3):
        run = f"plain{steps}"
        more = ("--run", run, "--trainer.max_steps", str(steps), *schedule)
        assert fit.main(toy.arguments(*more)) == 0
        states.append(checkpoint(toy.root / run)["state_dict"])
    more = ("--run", "loops", "--trainer.max_steps", "3", *schedule, *EMA)
    assert fit.main(toy.arguments(*more)) == 0
    content = checkpoint(toy.root / "loops")
    from sciembed_train.encoder.encoder import Encoder

    start_state = Encoder.load(toy.backbone).state_dict()
    for name in content[TRAINED]:
        average = start_state[name.removeprefix("encoder.")].double()
        for state in states:
            average = 0.9 * average + 0.1 * state[name].double()
        torch.testing.assert_close(
            content["state_dict"][name].double(), average, atol=1e-7, rtol=1e-6
        )


@pytest.mark.slow
@pytest.mark.parametrize("step", [5, pytest.param(20, marks=pytest.mark.slow)])
def test_a_continued_run_has_the_averages_of_one_never_stopped(toy, averaged, step):
    run = f"averaged{step}"
    stop = ("--trainer.callbacks", "tests.helpers.runs.StopAt", "--trainer.callbacks.step")
    assert fit.main(toy.arguments("--run", run, *EMA, *stop, str(step))) == 143
    assert fit.main(toy.arguments("--run", run, *EMA, "--ckpt_path", "last")) == 0
    assert losses(toy.root / run) == losses(averaged)
    assert validations(toy.root / run) == validations(averaged)
    for key in ("state_dict", TRAINED):
        assert same(checkpoint(toy.root / run)[key], checkpoint(averaged)[key])


def test_validate_scores_the_average_of_a_checkpoint(toy, averaged, capsys):
    from sciembed_train.commands import validate

    capsys.readouterr()
    words = toy.arguments("--ckpt_path", str(averaged / "last.ckpt"), *EMA)
    unknown = ("--no_export", "--checkpoint.every", "7", "--quiet")
    assert validate.main([word for word in words if word not in unknown]) == 0
    lines = capsys.readouterr().out.splitlines()
    shown = dict(line.split() for line in lines if line.startswith("val/"))
    loss, mrr = validations(averaged)[max(validations(averaged))]
    assert float(shown["val/loss"]) == pytest.approx(float(loss), abs=1e-4)
    assert float(shown["val/mrr"]) == pytest.approx(float(mrr), abs=1e-4)


@pytest.mark.slow
def test_two_processes_average_alike_and_continue_alike(toy):
    options = ("--trainer.devices", "2", "--trainer.max_steps", "16", *EMA)
    more = ("--model.optim.layer_decay", "0.5", "--model.optim.freeze_embeddings", "true")
    code, shown = finish(start("fit", *toy.arguments("--run", "two", *options, *more)))
    assert code == 0, shown
    stop = ("--trainer.callbacks", "tests.helpers.runs.StopAt", "--trainer.callbacks.step", "9")
    words = toy.arguments("--run", "two9", *options, *more)
    code, shown = finish(start("fit", *words, *stop))
    assert code == 128 + signal.SIGTERM, shown
    code, shown = finish(start("fit", *words, "--ckpt_path", "last"))
    assert code == 0, shown
    assert losses(toy.root / "two9") == losses(toy.root / "two")
    one, other = (checkpoint(toy.root / run) for run in ("two", "two9"))
    for key in ("state_dict", TRAINED):
        assert same(one[key], other[key])
    names = {group["name"] for group in one["optimizer_states"][0]["param_groups"]}
    assert {"embeddings matrices", "layer 0 vectors", "layer 1 matrices"} <= names
    words_table = "encoder.backbone.embeddings.word_embeddings.weight"
    assert words_table not in one[TRAINED]
    assert words_table in one["state_dict"]


def test_frozen_embeddings_stay_and_slow_layers_move_less(toy):
    from sciembed_train.encoder.encoder import Encoder

    before = Encoder.load(toy.backbone).state_dict()

    def moved(run, *words):
        more = ("--run", run, "--trainer.max_steps", "3", "--model.optim.weight_decay", "0")
        assert fit.main(toy.arguments(*more, *words)) == 0
        after = checkpoint(toy.root / run)["state_dict"]
        return {k: float((after[f"encoder.{k}"] - v).abs().max()) for k, v in before.items()}

    table = "backbone.embeddings.word_embeddings.weight"
    low, high = (f"backbone.encoder.layer.{i}.output.dense.weight" for i in (0, 1))
    plain = moved("plain")
    frozen = moved("frozen", "--model.optim.freeze_embeddings", "true")
    slow = moved("slow", "--model.optim.layer_decay", "0.1")
    assert plain[table] > 0
    assert frozen[table] == 0
    assert frozen[high] > 0
    assert slow[table] < 0.01 * plain[table]
    assert slow[low] < 0.05 * plain[low]
    assert slow[high] < 0.2 * plain[high]


@pytest.mark.parametrize("option", ["layer_decay=0.9", "freeze_embeddings=true"])
def test_a_continued_run_keeps_its_groups_of_parameters(toy, whole, option, capsys):
    from sciembed_train import cli

    words = toy.arguments("--run", "whole", "--ckpt_path", "last", "--trainer.max_epochs", "5")
    assert cli.main(["fit", *words, f"--model.optim.{option}"]) == 2
    assert f"optim.{option.partition('=')[0]}" in capsys.readouterr().err


def test_averages_do_not_go_with_sharded_weights(toy, capsys):
    from sciembed_train import cli

    words = toy.arguments("--run", "sharded", "--trainer.strategy", "fsdp", *EMA)
    assert cli.main(["fit", *words]) == 2
    assert "optim.ema" in capsys.readouterr().err
