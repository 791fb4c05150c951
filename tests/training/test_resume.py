"""A run that ends before its time and is continued is the run that was never interrupted."""

import os
import shutil
import signal

import pytest
import torch

from sciembed_train import cli
from sciembed_train.commands import fit, validate
from sciembed_train.errors import UserError
from sciembed_train.optim_settings import OptimSettings
from sciembed_train.training.resume import schedule_line
from tests.helpers.runs import (
    STEPS,
    STEPS_PER_EPOCH,
    finish,
    losses,
    rows,
    start,
    validations,
    wait_for_step,
)


def weights(run):
    return torch.load(run / "last.ckpt", weights_only=True)["state_dict"]


def same_weights(one, other):
    ours, theirs = weights(one), weights(other)
    return ours.keys() == theirs.keys() and all(torch.equal(ours[k], theirs[k]) for k in ours)


def test_the_whole_run_is_what_the_others_are_compared_with(whole):
    assert sorted(losses(whole)) == list(range(1, STEPS + 1))
    assert sorted(validations(whole)) == [10, 20, 30, 40, STEPS]
    assert len(set(losses(whole).values())) == STEPS


# In mid-epoch, before and at the end of an epoch, at the first step of one, at a validation,
# where a checkpoint is due anyway, and at the last step but one.
# One of them each time, the others by hand.
OTHERS = (5, 11, 13, 14, 20, 24, 30, STEPS - 1)
SLOW = [pytest.param(step, marks=pytest.mark.slow) for step in OTHERS]


@pytest.mark.parametrize("step", [12, *SLOW])
def test_continued_after_a_signal(toy, whole, step, tmp_path):
    run = f"stopped{step}"
    stop = [
        "--trainer.callbacks",
        "tests.helpers.runs.StopAt",
        "--trainer.callbacks.step",
        str(step),
    ]
    assert fit.main(toy.arguments("--run", run, *stop)) == 143
    assert max(losses(toy.root / run)) == step
    assert fit.main(toy.arguments("--run", run, "--ckpt_path", "last")) == 0
    assert losses(toy.root / run) == losses(whole)
    assert validations(toy.root / run) == validations(whole)
    assert same_weights(toy.root / run, whole)


@pytest.mark.slow
@pytest.mark.parametrize("processes", [1, 2])
def test_killed_in_the_second_epoch_and_continued(toy, whole, processes):
    """Bit-equal losses of all following steps; 20 of them at least."""
    devices = ["--trainer.devices", str(processes)]
    if processes == 2:
        whole = toy.root / "whole2"
        code, said = finish(start("fit", *toy.arguments("--run", "whole2", *devices)))
        assert code == 0, said
    run = toy.root / f"killed{processes}"
    name = ["--run", run.name, *devices]
    kill = ["--trainer.callbacks", "tests.helpers.runs.DieAt", "--trainer.callbacks.step", "25"]
    code, said = finish(start("fit", *toy.arguments(*name, *kill)))
    assert code == -signal.SIGKILL, said
    saved = torch.load(run / "last.ckpt", weights_only=True)["sciembed"]["training"]["steps"]
    assert STEPS_PER_EPOCH < saved < 25
    assert max(losses(run)) == 25
    if processes == 2:
        code, said = finish(start("fit", *toy.arguments(*name, "--ckpt_path", "last")))
        assert code == 0, said
    else:
        assert fit.main(toy.arguments(*name, "--ckpt_path", "last")) == 0
    assert STEPS - saved >= 20
    assert losses(run) == losses(whole)
    assert validations(run) == validations(whole)
    assert same_weights(run, whole)


@pytest.mark.parametrize(
    ("number", "processes", "code"),
    [
        (signal.SIGTERM, 1, 143),
        pytest.param(signal.SIGINT, 2, 130, marks=pytest.mark.slow),
    ],
)
def test_a_signal_saves_and_leaves(toy, number, processes, code):
    run = toy.root / f"signal{processes}"
    more = ["--run", run.name, "--trainer.devices", str(processes), "--trainer.max_epochs", "4000"]
    process = start("fit", *toy.arguments(*more))
    wait_for_step(process, run, 3)
    os.kill(process.pid, number)  # to the first process alone, as `kill` and SLURM do
    left, said = finish(process)
    assert left == code, said
    assert "continue with --ckpt_path last" in said
    saved = torch.load(run / "last.ckpt", weights_only=True)
    assert saved["sciembed"]["training"]["steps"] == max(losses(run))
    assert "Traceback" not in said


@pytest.mark.slow
def test_a_signal_saves_although_nobody_reads_what_is_said(toy):
    run = toy.root / "unread"
    process = start("fit", *toy.arguments("--run", run.name, "--trainer.max_epochs", "4000"))
    wait_for_step(process, run, 3)
    process.stdout.close()  # a terminal that was closed, a pipe whose reader has ended
    process.terminate()
    process.wait(60)
    saved = torch.load(run / "last.ckpt", weights_only=True)
    assert saved["sciembed"]["training"]["steps"] == max(losses(run))


def test_a_finished_run_continued_has_nothing_to_do(toy, whole):
    before = (whole / "metrics.csv").read_bytes()
    assert fit.main(toy.arguments("--run", "whole", "--ckpt_path", "last")) == 0
    assert (whole / "metrics.csv").read_bytes() == before


def test_a_finished_run_can_be_made_longer(toy):
    short = toy.arguments("--run", "longer", "--trainer.max_steps", "9")
    assert fit.main([*short, "--model.optim.schedule", "constant"]) == 0
    longer = toy.arguments("--run", "longer", "--trainer.max_steps", "15", "--ckpt_path", "last")
    assert fit.main([*longer, "--model.optim.schedule", "constant"]) == 0
    assert sorted(losses(toy.root / "longer")) == list(range(1, 16))
    assert sorted(validations(toy.root / "longer")) == [9, 10, 15]


def test_a_continued_run_follows_the_settings_that_are_given_now(toy, whole, tmp_path):
    shutil.copytree(whole, tmp_path / "run")
    changed = ["--model.optim.weight_decay", "0.5", "--model.optim.eps", "1e-6"]
    more = ["--trainer.max_epochs", "5", "--trainer.max_steps", "50", "--ckpt_path", "last"]
    assert fit.main(toy.arguments("--run", "run", *more, *changed, "--root", str(tmp_path))) == 0
    last = torch.load(tmp_path / "run" / "last.ckpt", weights_only=True)
    groups = last["optimizer_states"][0]["param_groups"]
    assert [(group["weight_decay"], group["eps"]) for group in groups] == [(0.5, 1e-6), (0, 1e-6)]


@pytest.fixture
def another(toy, tmp_path):
    """Makes the toy's backbone anew with other entries of its configuration, or other weights."""

    def made(weight=None, **entries):
        import json

        from safetensors.torch import load_file, save_file

        folder = tmp_path / "another"
        shutil.copytree(toy.backbone, folder)
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps(config | entries))
        if weight is not None:
            state = load_file(folder / "model.safetensors")
            next(iter(state.values())).view(-1)[0] = weight
            save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
        return ["--model.encoder.backbone", str(folder)]

    return made


@pytest.mark.parametrize(
    ("entries", "expected"),
    [
        ({"num_attention_heads": 4}, "num_attention_heads 2 then and 4 now"),
        ({"hidden_act": "relu"}, "hidden_act 'gelu' then and 'relu' now"),
        ({"layer_norm_eps": 1e-3}, "layer_norm_eps 1e-12 then and 0.001 now"),
    ],
)
def test_a_backbone_of_equal_shapes_that_computes_something_else_is_refused(
    toy, whole, another, entries, expected
):
    words = toy.arguments("--run", "whole", *another(**entries))
    with pytest.raises(UserError, match=f"another configuration: {expected}"):
        fit.main([*words, "--ckpt_path", "last"])
    kept = [word for word in words if word not in ("--no_export", "--quiet")]
    with pytest.raises(UserError, match=f"another configuration: {expected}"):
        validate.main([*kept, "--ckpt_path", str(whole / "last.ckpt")])


def test_what_does_not_reach_the_vectors_may_differ(toy, whole, another):
    other = another(hidden_dropout_prob=0.3, use_cache=False, id2label={"0": "a"}, new_key=1)
    assert fit.main(toy.arguments("--run", "whole", "--ckpt_path", "last", *other)) == 0


def test_a_run_is_not_continued_from_other_weights_than_it_was_begun_from(toy, whole, another):
    words = toy.arguments("--run", "whole", "--ckpt_path", "last", *another(weight=0.5))
    with pytest.raises(UserError, match=r"trained from another backbone .* SHA-256"):
        fit.main(words)


@pytest.mark.slow
def test_a_longer_run_says_that_its_learning_rate_goes_up_or_keeps_the_schedule(toy, capsys):
    def words(steps, *more):
        made = toy.arguments("--run", "stretched", "--trainer.max_steps", str(steps), *more)
        return [word for word in made if word != "--quiet"]

    assert fit.main(words(8)) == 0
    capsys.readouterr()
    keeping = ["--model.optim.schedule_steps", "8"]
    assert fit.main(words(10, "--ckpt_path", "last", *keeping)) == 0
    assert "learning rate" not in capsys.readouterr().err
    run = toy.root / "stretched"
    rates = {int(row["step"]): float(row["train/lr"]) for row in rows(run) if row["train/lr"]}
    assert rates[9] == rates[10] == rates[8] < rates[7]
    assert fit.main(words(16, "--ckpt_path", "last")) == 0
    (line,) = [x for x in capsys.readouterr().err.splitlines() if "learning rate" in x]
    rates = {int(row["step"]): float(row["train/lr"]) for row in rows(run) if row["train/lr"]}
    assert rates[11] > rates[10]
    expected = f"goes up from {rates[10]:.3g} to {rates[11]:.3g}: the schedule now runs over 16"
    assert line.startswith("warning: continued after step 10, the learning rate ")
    assert expected in line


def test_a_learning_rate_that_goes_on_or_down_is_not_told():
    then = {"lr": 1e-3, "betas": [0.9, 0.999]}
    content = {
        "global_step": 10,
        "hyper_parameters": {"optim": then},
        "sciembed": {"training": {"planned_steps": 20}},
    }
    assert schedule_line(content, OptimSettings(lr=1e-3), 20) is None
    assert schedule_line(content, OptimSettings(lr=1e-3), 15) is None
    assert schedule_line(content, OptimSettings(lr=1e-4), 40) is None
    assert "optim was set anew" in (schedule_line(content, OptimSettings(lr=1e-2), 20) or "")
    assert "over 40 steps, where it ran over 20" in (
        schedule_line(content, OptimSettings(lr=1e-3), 40) or ""
    )
    # A warm-up that goes on rises as planned.
    content["hyper_parameters"] = {"optim": then | {"warmup_steps": 15}}
    assert schedule_line(content, OptimSettings(lr=1e-3, warmup_steps=15), 20) is None


# Of what a run is continued from, what may be missing or emptied, and what is then said.
INCOMPLETE = {
    "optimizer_states": "holds the weights of a run's export and nothing to train on with",
    "lr_schedulers": "lacks lr_schedulers",
    "loops": "lacks loops",
    "callbacks": "lacks callbacks",
    "global_step": "lacks global_step",
    "hyper_parameters": "lacks hyper_parameters",
    "pytorch-lightning_version": "lacks pytorch-lightning_version",
    "TrainingData": "lacks TrainingData",
}


def refused_start(toy, path, capsys):
    there = {p.name for p in toy.root.iterdir()}
    words = toy.arguments("--run", "incomplete", "--ckpt_path", str(path))
    assert cli.main(["fit", *words]) == 2
    assert {p.name for p in toy.root.iterdir()} == there
    said = capsys.readouterr().err
    assert said.count("./train fit: ") == 1
    assert str(path) in said
    return said


@pytest.mark.parametrize("key", INCOMPLETE)
def test_a_checkpoint_that_lacks_a_part_is_refused_by_its_name(toy, whole, tmp_path, capsys, key):
    content = torch.load(whole / "last.ckpt", weights_only=True)
    del content[key]
    torch.save(content, tmp_path / "part.ckpt")
    assert INCOMPLETE[key] in refused_start(toy, tmp_path / "part.ckpt", capsys)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("optimizer_states", [], "holds no state of the optimiser"),
        ("optimizer_states", {"a": 1}, "holds no state of the optimiser"),
        ("optimizer_states", [{"state": {}, "param_groups": [{}]}], "holds no moments of AdamW"),
        ("state_dict", {"encoder.x": [1.0]}, "encoder.x is no tensor"),
    ],
)
def test_a_state_that_would_begin_anew_in_mid_run_is_refused(
    toy, whole, tmp_path, capsys, key, value, message
):
    content = torch.load(whole / "last.ckpt", weights_only=True)
    torch.save({**content, key: value}, tmp_path / "part.ckpt")
    assert message in refused_start(toy, tmp_path / "part.ckpt", capsys)


@pytest.mark.parametrize("text", ["", "no checkpoint\n", "PK\x03\x04" + "x" * 100])
def test_a_text_file_is_no_checkpoint(toy, whole, tmp_path, capsys, text):
    path = tmp_path / "notes.ckpt"
    path.write_text(text)
    refused_start(toy, path, capsys)
    assert cli.main(["export", str(path), "--to", str(tmp_path / "export")]) == 2
    assert "notes.ckpt" in capsys.readouterr().err
