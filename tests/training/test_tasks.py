"""Training on tasks, from a list of tasks to a checkpoint that goes on."""

import json

import pytest
import torch

from sciembed_train.cli import main
from sciembed_train.commands import fit
from sciembed_train.encoder.adapters.adapter_settings import AdapterSettings
from sciembed_train.encoder.encoder import Encoder, EncoderSettings
from sciembed_train.errors import UserError
from tests.helpers.runs import CONFIGS, losses, rows
from tests.helpers.task_files import write_tasks

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
def whole_backbone():
    """The recipe's adapters taken back."""
    return "--model.encoder.adapters", "null"


@pytest.mark.slow
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


@pytest.mark.slow
def test_fusions_are_trained_over_adapters_that_stay(tasks, tiny_bert, tmp_path, capsys):
    pytest.importorskip("adapters")
    adapters = Encoder(EncoderSettings(str(tiny_bert), adapters=AdapterSettings(reduction=4)))
    adapters.save(tmp_path / "adapted")
    more = ["--model.encoder.adapters.reduction", "4", "--model.encoder.dropout", "0"]
    more += ["--model.head_dropout", "0", "--data.batch_size", "30"]

    def run(name, *last):
        given = words(tasks, tmp_path / "adapted", name, *more, *last, recipe="specter2_fusion")
        assert fit.main(given) == 0
        return tasks.parent / "runs" / name

    whole = run("fused")
    content = torch.load(whole / "last.ckpt", weights_only=True)
    # Of 2 layers: query, key and value of 4 fusions; heads of a number and of 3 classes.
    trained = 4 * 2 * (3 * 32 * 32 + 2 * 32) + 4 * 33
    moments = content["optimizer_states"][0]["state"].values()
    assert sum(entry["exp_avg"].numel() for entry in moments) == trained
    held = {k: v for k, v in content["state_dict"].items() if v.is_floating_point()}
    assert sum(v.numel() for v in held.values()) == trained + 4 * 2 * (2 * 32 * 8 + 8 + 32)
    kept = adapters.state_dict()
    for name, value in kept.items():
        if ".adapters." in name:
            assert torch.equal(held[f"encoder.{name}"], value)

    run("fused-short", "--trainer.max_steps", "3")
    assert losses(run("fused-short", "--ckpt_path", "last")) == losses(whole)

    with pytest.raises(UserError, match="none for classification, regression, proximity"):
        fit.main(words(tasks, tiny_bert, "none", *more, recipe="specter2_fusion"))


def test_the_best_checkpoint_can_be_chosen_by_a_tasks_score(tasks, tiny_bert, whole_backbone):
    more = [*whole_backbone, "--checkpoint.monitor"]
    given = words(tasks, tiny_bert, "chosen", *more, "val/mesh_accuracy")
    assert fit.main(given) == 0
    content = torch.load(tasks.parent / "runs" / "chosen" / "best.ckpt", weights_only=True)
    assert content["sciembed"]["method"] == "multitask"
    with pytest.raises(UserError, match=r"'val/fos_macro_f1' is no .* are val/loss, val/year_pred"):
        fit.main(words(tasks, tiny_bert, "none", *more, "val/fos_macro_f1"))


@pytest.mark.slow
def test_codes_are_trained_with_the_backbone(tasks, tiny_bert, whole_backbone):
    more = [*whole_backbone, "--model.encoder.control_codes", "true", "--export"]
    assert fit.main(words(tasks, tiny_bert, "codes", *more)) == 0
    export = tasks.parent / "runs" / "codes" / "export"
    assert (export / "hf" / "[PRX]" / "model.safetensors").is_file()
    content = torch.load(tasks.parent / "runs" / "codes" / "last.ckpt", weights_only=True)
    table = content["state_dict"]["encoder.backbone.embeddings.word_embeddings.weight"]
    assert len(table) == content["sciembed"]["backbone_config"]["vocab_size"]
    assert "[PRX]" in content["sciembed"]["tokenizer_files"]["tokenizer.json"]

    # Training goes on from the exported folder, with the codes that it has.
    more = [*whole_backbone, "--model.encoder.control_codes", "true", "--model.optim.lr", "1e-9"]
    given = words(tasks, export, "on", *more, "--trainer.max_steps", "1")
    assert fit.main([*given, "--trainer.val_check_interval", "1"]) == 0
    (first,) = [row for row in rows(tasks.parent / "runs" / "on") if row["val/loss"]]
    last = [row for row in rows(tasks.parent / "runs" / "codes") if row["val/loss"]][-1]
    # The heads are new, and triplets have none.
    assert float(first["val/specter_loss"]) == pytest.approx(float(last["val/specter_loss"]), 1e-3)


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
    from tests.helpers.small_corpus import write_small_corpus

    write_small_corpus(tmp_path / "corpus", tiny_bert)
    given = words(tasks, tiny_bert, "other", *whole_backbone)
    at = given.index("--data.tasks")
    given[at : at + 2] = ["--data.corpus", str(tmp_path / "corpus")]
    at = given.index("--data.dev_share")  # of how a corpus is made
    del given[at : at + 2]
    given += ["--data.sampling", "sciembed_train.sampling.triplets.TripletSampling"]
    with pytest.raises(UserError, match="MultiTask trains on tasks"):
        fit.main(given)
