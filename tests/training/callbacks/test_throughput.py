"""Speed, waiting and useful tokens."""

from types import SimpleNamespace

import pytest
import torch

from sciembed_train.encoder.encoder import EncoderSettings
from sciembed_train.methods.specter import Specter
from sciembed_train.training.callbacks.throughput import (
    Interval,
    Throughput,
    bf16_share,
    peak_memory_gb,
    useful_token_share,
)


def test_useful_share_counts_the_slots_of_padded_pieces(tiny_bert):
    lengths = torch.tensor([10, 2, 9, 3])
    settings = {"max_length": 20, "max_tokens_per_forward": 20}
    unpadded = Specter(EncoderSettings(str(tiny_bert), forward="unpadded", **settings))
    padded = Specter(EncoderSettings(str(tiny_bert), forward="padded", **settings))
    assert useful_token_share(unpadded.encoder, [lengths]) == 1.0
    # Sorted and cut at 20 slots: (10, 9) and (3, 2).
    assert useful_token_share(padded.encoder, [lengths]) == pytest.approx(24 / (20 + 6))


def test_validation_does_not_count_and_waiting_is_a_share(monkeypatch):
    now, data = [10.0], SimpleNamespace(waited=1.0)
    monkeypatch.setattr("time.perf_counter", lambda: now[0])
    speed = Throughput(data)

    def pass_time(seconds, waited=0.0):
        now[0] += seconds
        data.waited += waited

    batch = SimpleNamespace(rows=SimpleNamespace(tokens=40))
    speed.on_train_batch_start(None, None, batch, 0)
    pass_time(4.0, waited=1.0)
    speed.on_train_batch_end(None, None, {}, batch, 0)
    speed.on_validation_start(None, None)
    pass_time(100.0)
    speed.on_validation_end(None, None)
    assert speed.tokens == 40
    assert speed.restart() == Interval(4.0, 0.25)
    assert speed.tokens == 0
    pass_time(2.0)
    assert speed.restart() == Interval(2.0, 0.0)


def test_a_cpu_has_memory_and_no_peak_of_bf16(tiny_bert):
    encoder = Specter(EncoderSettings(str(tiny_bert))).encoder
    assert peak_memory_gb(torch.device("cpu")) > 0.01
    assert bf16_share(encoder, None, 1000.0) is None
