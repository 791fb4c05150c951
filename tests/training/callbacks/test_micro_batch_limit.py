from contextlib import nullcontext
from types import SimpleNamespace

import pytest
import torch
from pytorch_lightning.strategies import SingleDeviceStrategy

from sciembed_train.methods.engine.micro_batch_size import MicroBatchSize
from sciembed_train.training.callbacks import micro_batch_limit
from sciembed_train.training.callbacks.micro_batch_limit import MicroBatchLimit


@pytest.fixture
def trainer():
    return SimpleNamespace(
        strategy=SingleDeviceStrategy("cpu"),
        precision_plugin=SimpleNamespace(train_step_context=nullcontext),
        global_step=7,
        num_devices=1,
    )


def method(limit="auto"):
    encoder = SimpleNamespace(device=torch.device("cpu"), settings=SimpleNamespace(max_length=64))
    return SimpleNamespace(encoder=encoder, max_tokens_per_backward=limit, micro_batch_tokens=None)


@pytest.fixture
def asked(monkeypatch):
    """What the choice was asked for; it is always 500 tokens."""
    calls = []

    def choose(method, batch, **settings):
        calls.append((batch, settings))
        return MicroBatchSize(500, splits=True, message="500 fit")

    monkeypatch.setattr(micro_batch_limit, "choose_micro_batch_size", choose)
    return calls


def test_the_limit_is_chosen_for_the_next_step_kept_and_reported(trainer, asked, capsys):
    written, own = [], method()
    limit = MicroBatchLimit(lambda step: f"batch {step}", write=written.append)
    limit.on_train_start(trainer, own)
    assert asked[0][0] == "batch 7"
    assert asked[0][1]["previous_max_tokens"] is None
    assert (own.micro_batch_tokens, written) == (500, [500])
    assert "500 fit" in capsys.readouterr().err
    checkpoint = {}
    limit.on_save_checkpoint(trainer, own, checkpoint)
    assert checkpoint == {"cut_at": 500}


def test_a_continued_run_asks_for_what_it_had(trainer, asked):
    limit = MicroBatchLimit(lambda step: step, quiet=True)
    limit.on_load_checkpoint(trainer, method(), {"cut_at": 300})
    limit.on_train_start(trainer, method())
    assert asked[0][1]["previous_max_tokens"] == 300


def test_nothing_is_chosen_without_a_limit_or_for_sharded_weights(trainer, asked):
    own = method(limit=None)
    MicroBatchLimit(lambda step: step).on_train_start(trainer, own)
    trainer.strategy = object()
    limit = MicroBatchLimit(lambda step: step)
    limit.on_train_start(trainer, method())
    checkpoint = {}
    limit.on_save_checkpoint(trainer, own, checkpoint)
    assert asked == []
    assert checkpoint == {"cut_at": None}
