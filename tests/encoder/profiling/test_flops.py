from types import SimpleNamespace

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from sciembed_train.batch import TokenRows
from sciembed_train.encoder.encoder import Encoder, EncoderSettings
from sciembed_train.encoder.profiling.flops import bf16_peak, training_flops
from tests.helpers.tiny_models import write_tiny_decoder

LENGTHS = [7, 7, 12, 30]


def rows():
    return TokenRows(torch.arange(sum(LENGTHS)) % 9 + 5, torch.tensor(LENGTHS))


@pytest.mark.parametrize("pooling", ["cls", "mean", "head"])
def test_operations_of_modernbert_within_its_windows(tiny_modernbert, pooling):
    headed = pooling == "head"
    settings = EncoderSettings(
        str(tiny_modernbert), pooling="mean" if headed else pooling, dropout=0.0, forward="padded"
    )
    encoder = Encoder(settings, masked_lm=headed)
    d, h, window, inside = 32, 48, 4, 0
    for length in LENGTHS:  # by plain counting
        for i in range(length):
            near = sum(abs(i - j) <= window for j in range(length))
            first_only = pooling == "cls" and i > 0
            whole = 2 * (4 * d * d + 3 * d * h)  # of a token in a layer
            upper = 2 * 2 * d * d if first_only else whole
            inside += whole + 4 * d * length + upper + (0 if first_only else 4 * d * near)
    predicted = 3 if headed else 0
    head = predicted * 2 * (d * d + d * encoder.backbone.config.vocab_size)
    found = training_flops(encoder, rows().lengths, predicted=predicted)
    assert found == 3 * (inside + head)


@pytest.mark.parametrize("pooling", ["last", "mean"])
@pytest.mark.parametrize("kind", ["qwen3", "gemma3_text"])
def test_operations_of_a_decoder_are_of_what_a_token_sees(tmp_path, kind, pooling):
    encoder = Encoder(EncoderSettings(str(write_tiny_decoder(tmp_path, kind)), pooling))
    d, h, asking, keys, inside = 32, 48, 64, 32, 0
    windows = {"qwen3": [None, None], "gemma3_text": [4, None, 4]}[kind]
    for number, window in enumerate(windows):  # by plain counting
        last_only = pooling == "last" and number == len(windows) - 1
        for length in LENGTHS:
            for i in range(length):
                seen = i + 1 if window is None else min(i, window) + 1
                inside += 2 * 2 * d * keys
                if not last_only or i == length - 1:
                    inside += 2 * (2 * d * asking + 3 * d * h) + 4 * asking * seen
    assert training_flops(encoder, rows().lengths) == 3 * inside


@pytest.mark.parametrize("pooling", ["cls", "mean", "mix", "head"])
def test_operations_are_those_that_torch_counts(tiny_bert, pooling):
    headed = pooling == "head"
    settings = EncoderSettings(str(tiny_bert), pooling="mean" if headed else pooling, dropout=0.0)
    encoder = Encoder(settings, masked_lm=headed)
    given = rows()
    # Its products are counted, and those inside of a faster kernel are not.
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counted:
        if headed:
            vectors, states = encoder.with_token_states(given, torch.tensor([3, 20, 40]))
            loss = vectors.sum() + encoder.token_logits(states).sum()
        else:
            loss = encoder(given).sum()
        loss.backward()
    found = training_flops(encoder, given.lengths, predicted=3 if headed else 0)
    assert counted.get_total_flops() == found


def test_a_backbone_that_does_not_tell_has_no_count(tiny_bert, monkeypatch):
    encoder = Encoder(EncoderSettings(str(tiny_bert)))
    config = encoder.backbone.config.to_dict()
    del config["intermediate_size"]
    monkeypatch.setattr(encoder.backbone, "config", SimpleNamespace(**config))
    assert training_flops(encoder, rows().lengths) is None


def test_scibert_takes_what_the_rule_says(tiny_bert, monkeypatch):
    encoder = Encoder(EncoderSettings(str(tiny_bert), pooling="mean"))
    for name, value in (("hidden_size", 768), ("intermediate_size", 3072)):
        monkeypatch.setattr(encoder.backbone.config, name, value)
    monkeypatch.setattr(encoder.backbone.config, "num_hidden_layers", 12)
    found = training_flops(encoder, torch.tensor([256]))
    assert found == pytest.approx(256 * 0.538e9, rel=1e-3)


def test_a_processor_has_no_peak():
    assert bf16_peak(torch.device("cpu")) is None
