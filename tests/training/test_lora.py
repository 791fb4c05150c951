"""Whole runs that train low-rank updates: what moves, resuming, the export, and what is refused."""

import json

import pytest
import torch

from sciembed_train.commands import fit
from sciembed_train.encoder.encoder import Encoder
from sciembed_train.encoder.io.encoder_checkpoint import encoder_from_checkpoint
from sciembed_train.errors import UserError
from tests.helpers.runs import STEPS, losses, validations

pytest.importorskip("peft")

LORA = [
    *("--model.encoder.lora.rank", "4", "--model.encoder.lora.dropout", "0.1"),
    *("--model.encoder.lora.targets", "[query, value, output.dense]"),
]
TEXTS = ["word1 word2 word3", "word4 word5"]


def content(run):
    return torch.load(run / "last.ckpt", weights_only=True)


@pytest.fixture(scope="module")
def updated(toy):
    words = [word for word in toy.arguments("--run", "lora", *LORA) if word != "--no_export"]
    assert fit.main(words) == 0
    return toy.root / "lora"


def test_only_the_updates_move(updated, toy):
    state = content(updated)["state_dict"]
    start = Encoder.load(toy.backbone).state_dict()
    kept = {k: v for k, v in state.items() if ".lora_" not in k}
    assert len(kept) == len(start)
    for key, value in kept.items():
        assert torch.equal(value, start[key.removeprefix("encoder.").replace("base_layer.", "")])
    assert all(value.abs().max() > 0 for key, value in state.items() if ".lora_B." in key)
    trained = sum(
        len(group["params"]) for group in content(updated)["optimizer_states"][0]["param_groups"]
    )
    assert trained == sum(".lora_" in key for key in state)
    found = [float(loss) for _, loss in sorted(losses(updated).items())]
    assert sum(found[-12:]) < sum(found[:12])  # the last and the first epoch


def test_the_export_is_the_merged_encoder(updated):
    merged = encoder_from_checkpoint(
        torch.load(updated / "best.ckpt", weights_only=True), "best.ckpt"
    )
    exported = Encoder.load(updated / "export")
    assert exported.settings.lora is None
    assert (exported.encode_texts(TEXTS) - merged.encode_texts(TEXTS)).abs().max() < 1e-5


def test_updates_are_compared_and_mixed_with_the_start(toy):
    words = toy.arguments("--run", "judged_lora", *LORA, "--trainer.max_steps", "12")
    words = [word for word in words if word != "--no_export"]
    more = ["--verdict", "auto", "--alphas", "[0.5]", "--resamples", "100"]
    assert fit.main([*words, *more]) == 0
    run = toy.root / "judged_lora"
    results = json.loads((run / "results.json").read_text())
    assert (results["alpha"]["alpha"], results["alpha_note"]) == (0.5, None)
    # Of plain weights, half the update is left.
    start = Encoder.load(toy.backbone).state_dict()
    merged = encoder_from_checkpoint(
        torch.load(run / "best.ckpt", weights_only=True), "best.ckpt"
    ).state_dict()
    for key, value in Encoder.load(run / "export").state_dict().items():
        torch.testing.assert_close(value, (start[key] + merged[key]) / 2)


@pytest.mark.slow
@pytest.mark.parametrize(
    "more", [[], pytest.param(["--model.optim.ema", "0.9"], marks=pytest.mark.slow)]
)
def test_a_continued_run_is_the_run_that_was_never_interrupted(updated, toy, more):
    whole = updated
    if more:
        whole = toy.root / "averaged_lora"
        assert fit.main(toy.arguments("--run", whole.name, *LORA, *more)) == 0
        assert losses(whole) == losses(updated)
        assert validations(whole) != validations(updated)
    stop = ["--trainer.callbacks", "tests.helpers.runs.StopAt", "--trainer.callbacks.step", "17"]
    words = toy.arguments("--run", f"{whole.name}_stopped", *LORA, *more)
    assert fit.main([*words, *stop]) == 143
    assert fit.main([*words, "--ckpt_path", "last"]) == 0
    stopped = toy.root / f"{whole.name}_stopped"
    assert losses(stopped) == losses(whole)
    assert len(losses(stopped)) == STEPS
    ours, theirs = content(stopped)["state_dict"], content(whole)["state_dict"]
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)


def test_layers_learn_more_slowly_and_embeddings_stay_frozen(toy):
    more = ["--model.optim.layer_decay", "0.5", "--model.optim.freeze_embeddings", "true"]
    words = toy.arguments("--run", "slower_lora", *LORA, *more, "--trainer.max_steps", "2")
    assert fit.main(words) == 0
    groups = content(toy.root / "slower_lora")["optimizer_states"][0]["param_groups"]
    assert sorted(group["name"] for group in groups) == ["layer 0 matrices", "layer 1 matrices"]


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--model.encoder.lora.alpha", "5"], "A continued run keeps it"),
        (["--model.encoder.lora", "null"], "now it is None. A continued run keeps it"),
    ],
)
def test_a_continued_run_keeps_its_updates(updated, toy, more, message):
    words = toy.arguments("--run", "lora", *LORA, *more, "--ckpt_path", "last")
    with pytest.raises(UserError, match=message):
        fit.main([*words, "--trainer.max_epochs", "5"])


def test_shared_out_weights_are_refused(toy):
    words = toy.arguments("--run", "shared_lora", *LORA, "--trainer.strategy", "fsdp")
    with pytest.raises(UserError, match=r"encoder\.lora trains few weights beside a frozen"):
        fit.main(words)
