"""Runs whose ranks share the weights out, against one process; and what is refused there."""

import shutil

import pytest
import torch
from pytorch_lightning.strategies import DDPStrategy

from sciembed_train import cli
from sciembed_train.commands import fit
from sciembed_train.encoder.io.encoder_checkpoint import encoder_from_checkpoint
from sciembed_train.training.trainer import RunTrainer
from tests.helpers.runs import finish, losses, start, validations

STEPS = 13
SHARED = ["--trainer.strategy", "fsdp", "--trainer.devices", "2"]


def words(toy, run, *more):
    """A run without dropout, whose masks would be another process's on another rank."""
    length = ["--trainer.max_steps", str(STEPS), "--model.encoder.dropout", "0"]
    return toy.arguments("--run", run, *length, "--model.optim.schedule", "constant", *more)


def stopping(step):
    return [
        "--trainer.callbacks",
        "tests.helpers.runs.StopAt",
        "--trainer.callbacks.step",
        str(step),
    ]


def same(one, other):
    """Losses and scores alike to fp32's rounding in a dozen steps."""
    ours, theirs = losses(one), losses(other)
    assert list(ours) == list(theirs) == list(range(1, STEPS + 1))
    for step, value in ours.items():
        assert float(value) == pytest.approx(float(theirs[step]), abs=2e-4), step
    assert list(validations(one)) == list(validations(other)) == [10, STEPS]
    for step, scores in validations(one).items():
        found = [float(score) for score in validations(other)[step]]
        assert [float(score) for score in scores] == pytest.approx(found, abs=2e-2)


def content(run, name="last.ckpt"):
    return torch.load(run / name, weights_only=True)


@pytest.fixture(scope="module")
def alone(toy):
    """The run of one process."""
    assert fit.main(words(toy, "alone", "--model.encoder.forward", "padded")) == 0
    return toy.root / "alone"


@pytest.fixture(scope="module")
def stopped(toy):
    """A run of two ranks that share the weights out, ended by a signal after seven steps."""
    code, said = finish(start("fit", *words(toy, "stopped", *SHARED, *stopping(7))))
    assert code == 143, said
    return toy.root / "stopped"


@pytest.mark.slow
def test_a_shared_out_run_is_saved_whole_and_continued_by_one_process(toy, alone, stopped):
    saved = content(stopped)
    shapes = {name: value.shape for name, value in content(alone)["state_dict"].items()}
    assert {name: value.shape for name, value in saved["state_dict"].items()} == shapes
    run = toy.root / "taken_over"
    shutil.copytree(stopped, run)
    assert fit.main(words(toy, run.name, "--ckpt_path", "last")) == 0
    same(run, alone)


@pytest.mark.slow
def test_a_shared_out_checkpoint_rebuilds_the_encoder(stopped):
    saved = content(stopped)
    vectors = encoder_from_checkpoint(saved).encode_texts(["word1 word2", "word3"])
    assert vectors.shape == (2, 32)
    assert saved["sciembed"]["method"] == "specter"
    assert saved["sciembed"]["training"]["steps"] == 7


@pytest.mark.slow
def test_a_shared_out_run_is_continued_bit_by_bit(toy, alone, stopped):
    code, said = finish(start("fit", *words(toy, "whole_shared", *SHARED)))
    assert code == 0, said
    whole = toy.root / "whole_shared"
    same(whole, alone)
    run = toy.root / "continued_shared"
    shutil.copytree(stopped, run)
    code, said = finish(start("fit", *words(toy, run.name, *SHARED, "--ckpt_path", "last")))
    assert code == 0, said
    assert losses(run) == losses(whole)
    ours, theirs = content(run)["state_dict"], content(whole)["state_dict"]
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


@pytest.mark.slow
def test_a_run_of_one_process_is_continued_shared_out_and_validated_so(toy, alone, capsys):
    assert fit.main(words(toy, "begun", *stopping(7))) == 143
    run = toy.root / "begun"
    code, said = finish(start("fit", *words(toy, run.name, *SHARED, "--ckpt_path", "last")))
    assert code == 0, said
    same(run, alone)
    asked = [w for w in words(toy, "begun", *SHARED) if w not in ("--no_export", "--quiet")]
    asked = [*asked, "--ckpt_path", str(run / "last.ckpt"), "--json"]
    code, said = finish(start("validate", *asked))
    assert code == 0, said
    assert f'"val/loss": {float(validations(run)[STEPS][0]):.4f}'[:16] in said


@pytest.mark.parametrize("strategy", ["auto", "ddp"])
def test_several_processes_keep_gradients_in_the_buckets_that_ddp_sends(strategy):
    made = RunTrainer(accelerator="cpu", devices=2, strategy=strategy, logger=False).strategy
    assert isinstance(made, DDPStrategy)
    assert made._ddp_kwargs == {"gradient_as_bucket_view": True}


def test_a_strategy_given_with_its_own_buckets_keeps_them():
    own = DDPStrategy(gradient_as_bucket_view=False)
    made = RunTrainer(accelerator="cpu", devices=2, strategy=own, logger=False).strategy
    assert made._ddp_kwargs == {"gradient_as_bucket_view": False}


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        (
            ["--model.encoder.forward", "unpadded"],
            "Set it to padded or auto. Use --trainer.strategy",
        ),
        (["--trainer.precision", "16-mixed"], "trainer.precision=16-mixed needs a GPU"),
    ],
)
def test_what_cannot_be_shared_out_is_told(toy, capsys, more, expected):
    given = ["--trainer.strategy", "fsdp", *more]
    assert cli.main(["fit", *words(toy, "refused_shared", *given)]) == 2
    assert expected in capsys.readouterr().err
    assert not (toy.root / "refused_shared").exists()
