import math

import pytest
import torch

from sciembed_train.losses.masked_lm import masked_lm
from tests.helpers.loss_checks import vectors


def test_masked_lm_is_the_sum_of_plain_loops():
    logits, labels = vectors(5, 7), torch.tensor([0, 6, 3, 3, 1])
    expected = 0.0
    for row, label in zip(logits.tolist(), labels.tolist(), strict=True):
        expected -= math.log(math.exp(row[label]) / sum(math.exp(x) for x in row))
    assert masked_lm(logits, labels).item() == pytest.approx(expected, rel=1e-12)


def test_masked_lm_of_nothing_is_0_with_a_gradient():
    weight = torch.ones(3, 7, requires_grad=True)
    none = torch.zeros(0, 3) @ weight
    loss = masked_lm(none, torch.zeros(0, dtype=torch.int64))
    assert loss.item() == 0
    loss.backward()
    assert torch.equal(weight.grad, torch.zeros(3, 7))


def test_masked_lm_of_half_precision_is_computed_in_fp32():
    logits = vectors(50, 300, dtype=torch.float32).bfloat16()
    labels = torch.arange(50)
    found = masked_lm(logits, labels)
    assert found.dtype == torch.float32
    expected = torch.nn.functional.cross_entropy(logits.double(), labels, reduction="sum")
    torch.testing.assert_close(found.double(), expected, rtol=1e-6, atol=0)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(masked_lm(logits.float(), labels), found)
