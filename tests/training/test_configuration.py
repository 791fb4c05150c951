"""What of a run's settings is refused before anything is started."""

import os
from pathlib import Path

import pytest
import torch

from sciembed_train import cli
from sciembed_train.commands import fit
from sciembed_train.config.recipe_options import RecipeCommandLine
from sciembed_train.config.run_settings import RunSettings, StoppingSettings
from sciembed_train.errors import UserError
from sciembed_train.training.configuration import RunConfiguration, check_monitors, default_name
from tests.helpers.runs import ROOT


def test_a_run_is_named_after_its_recipe_and_not_after_the_machine():
    files = [Path("configs/machine/slurm.yaml"), Path("configs/specter2_base.yaml")]
    assert default_name(files, "methods.Specter") == "specter2_base"
    assert default_name(files[:1], "methods.Specter") == "specter"


def refused(toy, capsys, *more):
    """The message of a command line that must exit with 2, start nothing and leave nothing."""
    there = {p.name for p in toy.root.iterdir()} if toy.root.exists() else set()
    assert cli.main(["fit", *toy.arguments("--run", "refused", *more)]) == 2
    assert ({p.name for p in toy.root.iterdir()} if toy.root.exists() else set()) == there
    said = capsys.readouterr().err
    assert "Traceback" not in said
    return said


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--data.batch_size", "7", "--trainer.devices", "2"], "use a multiple of 2, such as 6"),
        (["--data.batch_size", "1000"], "fewer than one batch of data.batch_size=1000"),
        (["--data.batch_size", "many"], "data.batch_size: Expected a int. Got value: many"),
        (["--data.batch_siz", "8"], "unrecognized arguments: --data.batch_siz"),
        (["--model.encoder.bakbone", "x"], "--encoder.bakbone=x"),
        (["--model.encoder.backbone", "/nowhere"], "/nowhere: there is no such folder"),
        (["--model.encoder.max_length", "1000"], "encoder.max_length is 1000"),
        (["--model.optim.lr", "0"], "optim.lr must be above 0; got 0.0"),
        (["--model.optim.schedule", "cosine"], "slanted_triangular"),
        (["--model.margin", "-1"], "margin is in the unit of the distance"),
        (["--trainer.precision", "bf17"], "trainer.precision"),
        (["--trainer.gradient_clip_val", "1"], "set model.optim.clip_norm"),
        (["--trainer.accumulate_grad_batches", "4"], "data.batch_size is the number of"),
        (["--trainer.max_epochs", "-1"], "give trainer.max_epochs or trainer.max_steps"),
        (["--trainer.val_check_interval", "1.5"], "trainer.val_check_interval=1.5"),
        (["--trainer.limit_train_batches", "3"], "use trainer.max_steps"),
        (["--trainer.limit_val_batches", "5"], "data.dev_examples limits validation"),
        (["--trainer.limit_val_batches", "0", "--early_stopping.patience", "1"], "leaves valid"),
        (["--trainer.log_every_n_steps", "0"], "trainer.log_every_n_steps is 0; give 1 or more"),
        (["--trainer.log_every_n_steps", "null"], "trainer.log_every_n_steps is None"),
        (["--trainer.strategy", "deepspeed"], "trainer.strategy=deepspeed is not supported"),
        (["--checkpoint.monitor", "val/ndcg"], "val/loss, val/mrr, val/recall@10, val/map"),
        (["--checkpoint.monitor", "val/map_8"], "val/recall@10, val/map."),
        (
            ["--model.matryoshka_dims", "[16, 8]", "--checkpoint.monitor", "val/map_12"],
            "val/recall@10, val/map, val/map_16, val/map_8.",
        ),
        (["--checkpoint.every", "0"], "checkpoint.every must be 1 or more"),
        (["--early_stopping.patience", "long"], "patience"),
        (["--data.corpus", "/nowhere"], "/nowhere is no corpus"),
        (["--data.papers", "a.jsonl"], "data.corpus and data.papers are both given"),
        (["--model.encoder.poolng", "cls"], "Did you mean --model.encoder.pooling?"),
        (["--data.batchsize", "8"], "Did you mean --data.batch_size?"),
        (["--papers", "F"], "Did you mean --data.papers?"),
        (["--ckpt_path", "last"], "Leave --ckpt_path out to start anew"),
        (["--ckpt_path", "other.ckpt"], "there is no other.ckpt"),
        (["--run", "../x"], "is no name of a folder"),
        (["--root", "/proc/x"], "cannot be written"),
        (["--data.dev_share", "0.2"], "--data.dev_share says how a corpus is made"),
        (["--data.dev_share", "1.5"], "dev_share must be 0 or more and below 1"),
        (["--model.optim.lr", ".nan"], "optim.lr: got nan; expected a finite number"),
        (["--data.num_workers", "1000"], "256 processes or fewer"),
        (["--data.batch_size", "1" + "0" * 30], "data.batch_size: got a number of 31 digits"),
    ],
)
def test_a_mistake_is_told_in_one_message(toy, capsys, words, expected):
    assert expected in refused(toy, capsys, *words)


def test_a_corpus_without_this_encoders_tokens_leaves_no_run(toy, capsys):
    assert "holds no tokens" in refused(
        toy, capsys, "--model.encoder.input_format.separator", "space"
    )


def test_half_precision_on_a_cpu_is_refused_and_not_replaced_by_bf16(toy, capsys):
    said = refused(toy, capsys, "--trainer.precision", "16-mixed")
    assert "16-mixed needs a GPU: on a CPU Lightning would compute in bf16" in said


def test_devices_that_are_not_there_are_told(toy, capsys):
    assert "trainer.devices=[0, 1]" in refused(toy, capsys, "--trainer.devices", "[0, 1]")


def test_a_pipe_as_recipe_is_called_a_pipe(tmp_path):
    os.mkfifo(tmp_path / "r.yaml")
    with pytest.raises(UserError, match="is a pipe or a device"):
        fit.main(["-c", str(tmp_path / "r.yaml")])


def test_what_of_the_optimiser_is_out_of_range_is_told_before_files_are_prepared(toy, capsys):
    words = ["-c", "specter", "--root", str(toy.root), "--model.encoder.backbone"]
    words += [str(toy.backbone), "--data.papers", "/nowhere.jsonl", "--data.citations", "/none.csv"]
    assert cli.main(["fit", *words, "--model.optim.lr", "-1"]) == 2
    assert "optim.lr must be above 0" in capsys.readouterr().err


@pytest.mark.parametrize("written", ["null", "None", "~", ""])
def test_a_gradient_may_be_left_uncut(toy, tmp_path, written):
    recipe = tmp_path / "uncut.yaml"
    recipe.write_text(f"model:\n  optim:\n    clip_norm: {written}\n")
    words = toy.arguments("--run", "uncut", "-c", str(recipe))
    ways = [words] if written == "" else [words, toy.arguments("--model.optim.clip_norm", written)]
    for way in ways:
        read = RecipeCommandLine("fit", "", trains=True).read(way)
        assert RunConfiguration(read, fitting=True).make_method().optim.clip_norm is None


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_an_absent_accelerator_is_told(toy, capsys):
    assert "trainer.accelerator=gpu" in refused(toy, capsys, "--trainer.accelerator", "gpu")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("model: [\n", r"bad\.yaml:2: is not YAML"),
        ("- a\n", r"bad\.yaml: holds no settings"),
        ("data:\n  batch_size: 8\n  seeed: 3\n", r"bad\.yaml:3: .*'seeed'"),
        ("data:\n  batch_size: [8]\n", r"bad\.yaml:2: data\.batch_size: Expected a int"),
    ],
)
def test_a_mistake_in_a_file_is_told_with_its_line(text, expected, tmp_path):
    recipe = tmp_path / "bad.yaml"
    recipe.write_text(text)
    with pytest.raises(UserError, match=expected):
        fit.main(["-c", str(ROOT / "configs" / "specter.yaml"), "-c", str(recipe)])


def test_a_missing_recipe_and_a_missing_method_are_told(capsys):
    with pytest.raises(UserError, match=r"none\.yaml: cannot be read"):
        fit.main(["-c", "none.yaml"])
    with pytest.raises(UserError, match="model"):
        fit.main([])


def test_what_chooses_the_best_checkpoint_must_be_a_score():
    scores = ("val/loss", "val/*_accuracy")
    check_monitors(RunSettings(), scores, "its scores")
    stopping = StoppingSettings(monitor="val/field_accuracy")  # of a task that is not yet known
    check_monitors(RunSettings(early_stopping=stopping), scores, "its scores")
    wrong = RunSettings(early_stopping=StoppingSettings(monitor="val/ndcg"))
    with pytest.raises(UserError, match=r"'val/ndcg' is no validation score; its scores are val/"):
        check_monitors(wrong, scores, "its scores")
