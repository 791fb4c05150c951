"""Runs that leave finite numbers, through the command line."""

import json
import re
import shutil

import pytest
import torch
from pytorch_lightning import Callback
from safetensors.torch import load_file, save_file

from sciembed_train import cli
from tests.helpers.runs import finish, losses, start


class BadWeight(Callback):
    """A weight becomes nan before a step."""

    def __init__(self, step: int, name: str = "layer.1.output.dense.weight", row: int = 0) -> None:
        self.step, self.name, self.row = step, name, row

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if trainer.global_step == self.step - 1:
            weight = next(p for n, p in pl_module.named_parameters() if self.name in n)
            with torch.no_grad():
                weight.view(len(weight), -1)[self.row, 0] = float("nan")


class BadGradient(Callback):
    """The gradient of one bias is infinite in some steps; it comes from the loss of every rank."""

    def __init__(self, steps: str) -> None:
        self.steps = set(map(int, steps.split()))

    def on_train_start(self, trainer, pl_module):
        bias = pl_module.encoder.backbone.encoder.layer[1].output.dense.bias

        def spoil(gradient):
            return gradient * float("inf") if pl_module.passes_step in self.steps else gradient

        pl_module.passes_step = 0
        bias.register_hook(spoil)

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        pl_module.passes_step = trainer.global_step + 1


def callback(kind, /, **settings):
    words = ["--trainer.callbacks", f"tests.training.callbacks.test_finite_numbers.{kind}"]
    for key, value in settings.items():
        words += [f"--trainer.callbacks.{key}", str(value)]
    return words


def fit(toy, capsys, run, *more):
    """The exit code, what was said, and the run's folder."""
    capsys.readouterr()
    code = cli.main(["fit", *toy.arguments("--run", run, *more)])
    return code, capsys.readouterr().err, toy.root / run


def saved(run, name="last.ckpt"):
    return torch.load(run / name, weights_only=True)


def all_finite(checkpoint):
    return all(t.isfinite().all() for t in checkpoint["state_dict"].values())


def test_a_learning_rate_far_too_high_ends_the_run_at_the_first_bad_step(toy, capsys):
    more = ("--model.optim.lr", "1e6", "--trainer.log_every_n_steps", "4")
    code, said, run = fit(toy, capsys, "lr", *more)
    assert code == 1
    assert "Traceback" not in said
    (message,) = said.strip().splitlines()
    found = re.search(
        r"step (\d+): the loss \((\S+)\) or the gradient \(norm (\S+)\) is not finite, at learning "
        r"rate (\S+)\. The first tensor that is not finite is (.*?)\. The step was not made\. Its "
        r"(\d+) texts are in (\S+)\. No checkpoint was written before\. Lower model\.optim\.lr",
        message,
    )
    assert found, message
    step = int(found[1])
    assert step > 1
    record = json.loads((run / f"nonfinite_step_{step}.json").read_text())
    assert found[7] == str(run / f"nonfinite_step_{step}.json")
    assert record["step"] == step
    assert len(record["texts"]) == int(found[6])
    assert record["first_tensor"] == found[5]
    assert float(found[4]) > 1e5
    # Nothing was logged of it, and nothing saved.
    assert max(losses(run)) < step
    assert not list(run.glob("*.ckpt"))


def test_the_last_finite_checkpoint_is_kept(toy, capsys):
    code, said, run = fit(toy, capsys, "weight", *callback("BadWeight", step=13))
    assert code == 1
    assert "step 13: " in said
    assert (
        "the weight encoder.backbone.encoder.layer.1.output.dense.weight, before the step" in said
    )
    assert "last.ckpt and best.ckpt are as they were" in said
    for name in ("last.ckpt", "best.ckpt"):
        assert saved(run, name)["global_step"] == 10
        assert all_finite(saved(run, name))
    # The texts are named, as every triplet's paper has an id.
    texts = json.loads((run / "nonfinite_step_13.json").read_text())["texts"]
    assert all(text["source"] for text in texts)
    assert all(text["text"] for text in texts)
    assert not any(text["vector_is_finite"] for text in texts)


def test_a_bad_step_between_two_that_are_logged_changes_no_weight(toy, capsys):
    """Read of at step 20, where a validation is due; the step is named all the same."""
    more = ("--trainer.log_every_n_steps", "30", "--checkpoint.every", "100")
    code, said, run = fit(toy, capsys, "late", *more, *callback("BadGradient", steps=14))
    assert code == 1
    assert "step 14: " in said
    assert saved(run)["global_step"] == 10


def test_a_weight_that_no_text_reads_is_not_saved_either(toy, capsys):
    name = {"name": "word_embeddings.weight", "row": 1}  # of a token that is in no text
    code, said, run = fit(toy, capsys, "unread", *callback("BadWeight", step=1, **name))
    assert code == 1
    assert "step 7: the weight encoder.backbone.embeddings.word_embeddings.weight is not" in said
    assert not list(run.glob("*.ckpt"))


def test_a_step_can_be_left_out(toy, capsys):
    more = ("--nonfinite", "skip", "--trainer.max_steps", "9")
    code, said, run = fit(toy, capsys, "skips", *more, *callback("BadGradient", steps="3 4 6"))
    assert code == 0
    assert "warning: step 4 was left out: " in said
    assert "warning: 3 steps were left out" in said.strip().splitlines()[-1]
    assert saved(run)["global_step"] == 9
    assert all_finite(saved(run))
    # AdamW has made the others, and counts them alone.
    states = saved(run)["optimizer_states"][0]["state"]
    assert {float(state["step"]) for state in states.values()} == {6.0}


def test_some_left_out_in_a_row_end_the_run(toy, capsys):
    more = ("--nonfinite", "skip", "--trainer.max_steps", "9")
    code, said, run = fit(toy, capsys, "row", *more, *callback("BadGradient", steps="3 4 5"))
    assert code == 1
    assert "step 5: " in said
    assert "It is the last of 3 in a row." in said
    assert not list(run.glob("*.ckpt"))


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_ranks_end_together_and_the_first_says_it(toy, strategy):
    run = toy.root / f"ranks_{strategy}"
    more = ["--run", run.name, "--trainer.devices", "2", "--trainer.strategy", strategy]
    words = toy.arguments(*more, "--model.optim.lr", "1e6")
    code, said = finish(start("fit", *words))
    assert code == 1, said
    assert "Traceback" not in said
    assert said.count("The first tensor that is not finite is") == 1, said
    assert len(list(run.glob("nonfinite_step_*.json"))) == 2
    assert not list(run.glob("*.ckpt"))


def test_one_nan_in_the_backbone_ends_the_run_at_its_first_step(toy, capsys, tmp_path):
    model = tmp_path / "model"
    shutil.copytree(toy.backbone, model)
    state = load_file(model / "model.safetensors")
    state["encoder.layer.0.output.dense.weight"][3, 5] = torch.nan
    save_file(state, model / "model.safetensors", metadata={"format": "pt"})
    more = ("--model.encoder.backbone", str(model), "--checkpoint.monitor", "val/map")
    code, said, run = fit(toy, capsys, "damaged", *more)
    assert code == 1
    assert "step 1: " in said
    assert "is the weight encoder.backbone.encoder.layer.0.output.dense.weight, before" in said
    assert "Give another backbone" in said
    assert not list(run.glob("*.ckpt"))
