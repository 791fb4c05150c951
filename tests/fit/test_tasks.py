"""Training on tasks, from a list of tasks to a checkpoint that goes on."""

import json

import pytest
import torch

from sciembed_train import fit
from sciembed_train.cli import main
from sciembed_train.errors import UserError
from tests.corpus.tasks import write_tasks
from tests.fit.runs import losses, rows
from tests.test_configs import CONFIGS

SIZES = {"year_pred": 30, "mesh": 40, "search": 20, "specter": 30}


@pytest.fixture(scope="module")
def tasks(tmp_path_factory):
    return write_tasks(tmp_path_factory.mktemp("tasks") / "given", SIZES)


def words(tasks, backbone, run, *more, recipe="specter2_adapters"):
    return [
        *("-c", str(CONFIGS / f"{recipe}.yaml"), "--data.tasks", str(tasks)),
        *("--model.encoder.backbone", str(backbone), "--model.encoder.max_length", "24"),
        *("--data.batch_size", "16", "--data.dev_share", "0.2", "--trainer.max_steps", "6"),
        *("--model.optim.lr", "1e-2", "--model.optim.schedule", "constant"),
        *("--model.optim.warmup_steps", "0", "--trainer.val_check_interval", "3"),
        *("--trainer.log_every_n_steps", "1", "--trainer.accelerator", "cpu"),
        *("--trainer.devices", "1", "--trainer.precision", "32-true"),
        *("--root", str(tasks.parent / "runs"), "--run", run, "--quiet", "--no_export", *more),
    ]


@pytest.fixture(scope="module")
def whole_backbone(tasks):
    """The recipe's adapters taken back, in a file as a user does it."""
    path = tasks.parent / "mtl.yaml"
    path.write_text("model: {init_args: {encoder: {adapters: null}}}\n", encoding="utf-8")
    return "-c", str(path)


def test_one_command_trains_adapters_and_what_it_keeps_is_small(tasks, tiny_bert, capsys):
    pytest.importorskip("adapters")
    small = ("--model.encoder.adapters.reduction", "4")
    assert fit.main(words(tasks, tiny_bert, "whole", *small)) == 0
    run = tasks.parent / "runs" / "whole"
    logged = rows(run)
    for task in SIZES:
        assert all(float(row[f"train/{task}_loss"]) > 0 for row in logged if row["train/loss"])
        assert len([row for row in logged if row[f"val/{task}_loss"]]) == 2
    content = torch.load(run / "last.ckpt", weights_only=True)
    # Of 2 layers: 4 adapters from 32 to 8 and back; heads of a number and of 3 classes.
    trained = 4 * 2 * (2 * 32 * 8 + 8 + 32) + 4 * 33
    held = {k: v for k, v in content["state_dict"].items() if v.is_floating_point()}
    assert sum(v.numel() for v in held.values()) == trained
    moments = content["optimizer_states"][0]["state"].values()
    assert sum(entry["exp_avg"].numel() for entry in moments) == trained
    names = [task["name"] for task in content["hyper_parameters"]["tasks"]]
    assert names == list(SIZES)

    # A run that was stopped goes on to the same numbers.
    assert fit.main(words(tasks, tiny_bert, "short", *small, "--trainer.max_steps", "3")) == 0
    assert fit.main(words(tasks, tiny_bert, "short", *small, "--ckpt_path", "last")) == 0
    assert losses(tasks.parent / "runs" / "short") == losses(run)

    given = words(tasks, tiny_bert, "whole", *small)
    capsys.readouterr()
    assert main(["validate", *given, "--ckpt_path", str(run / "last.ckpt"), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    last = [row for row in logged if row["val/loss"]][-1]
    for name, score in told.items():
        assert score == pytest.approx(float(last[name]), abs=1e-5)


def test_the_best_checkpoint_can_be_chosen_by_a_tasks_score(tasks, tiny_bert, whole_backbone):
    more = [*whole_backbone, "--checkpoint.monitor"]
    given = words(tasks, tiny_bert, "chosen", *more, "val/mesh_accuracy")
    assert fit.main(given) == 0
    content = torch.load(tasks.parent / "runs" / "chosen" / "best.ckpt", weights_only=True)
    assert content["sciembed"]["method"] == "multitask"
    with pytest.raises(UserError, match=r"'val/fos_macro_f1' is no .* are val/loss, val/year_pred"):
        fit.main(words(tasks, tiny_bert, "none", *more, "val/fos_macro_f1"))


def test_codes_are_trained_with_the_backbone(tasks, tiny_bert, whole_backbone, capsys):
    more = [*whole_backbone, "--model.encoder.control_codes", "true", "--export"]
    assert fit.main(words(tasks, tiny_bert, "codes", *more)) == 0
    assert not (tasks.parent / "runs" / "codes" / "export").exists()
    assert "is not exported: it reads control codes" in capsys.readouterr().err
    content = torch.load(tasks.parent / "runs" / "codes" / "last.ckpt", weights_only=True)
    table = content["state_dict"]["encoder.backbone.embeddings.word_embeddings.weight"]
    assert len(table) == content["sciembed"]["backbone_config"]["vocab_size"]
    assert "[PRX]" in content["sciembed"]["tokenizer_files"]["tokenizer.json"]


def test_one_adapter_is_trained_for_labels_of_ones_own(tmp_path, tiny_bert):
    pytest.importorskip("adapters")
    given = write_tasks(tmp_path / "given", {"mesh": 40})
    more = ["--model.optim.warmup_share", "0"]
    assert fit.main(words(given, tiny_bert, "own", *more, recipe="own_adapter")) == 0
    content = torch.load(tmp_path / "runs" / "own" / "last.ckpt", weights_only=True)
    adapters = [name for name in content["state_dict"] if "adapter_down" in name]
    assert adapters
    assert all("[CLF]" in name for name in adapters)


def test_other_examples_are_refused_before_anything_is_trained(
    tasks, tiny_bert, whole_backbone, tmp_path
):
    from tests.corpus.small import write_small_corpus

    write_small_corpus(tmp_path / "corpus", tiny_bert)
    given = words(tasks, tiny_bert, "other", *whole_backbone)
    at = given.index("--data.tasks")
    given[at : at + 2] = ["--data.corpus", str(tmp_path / "corpus")]
    given += ["--data.sampling", "sciembed_train.sampling.triplets.TripletSampling"]
    with pytest.raises(UserError, match="MultiTask trains on tasks"):
        fit.main(given)
