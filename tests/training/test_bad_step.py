from contextlib import nullcontext
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from sciembed_train.encoder.encoder import EncoderSettings
from sciembed_train.methods.loss import Loss
from sciembed_train.methods.specter import Specter
from sciembed_train.training.bad_step import OneStep, bad_weight, first_bad_tensor
from tests.methods.test_waiting import triplets


class Endless(Specter):
    """A loss whose gradient is infinite, and it is not."""

    def loss(self, batch):
        vectors = self.encoder(batch.rows)
        return Loss((vectors - vectors.detach()).abs().sqrt().mean(), {})


def method_of(backbone, kind=Specter):
    method = kind(EncoderSettings(str(backbone), max_length=40))
    method.trainer = SimpleNamespace(strategy=None)
    return method


def test_a_weight_is_found_by_its_name(tiny_bert):
    method = method_of(tiny_bert)
    assert bad_weight(method) is None
    with torch.no_grad():
        method.encoder.backbone.encoder.layer[1].output.dense.bias[3] = torch.inf
    assert bad_weight(method) == "encoder.backbone.encoder.layer.1.output.dense.bias"
    found = first_bad_tensor(method, triplets(), nullcontext())
    assert found == "the weight encoder.backbone.encoder.layer.1.output.dense.bias, before the step"


def test_the_first_output_is_found_where_finite_weights_are_too_large(tiny_bert):
    method = method_of(tiny_bert).eval()
    with torch.no_grad():
        method.encoder.backbone.encoder.layer[1].intermediate.dense.weight.fill_(3e38)
    before = torch.random.get_rng_state()
    found = first_bad_tensor(method, triplets(), nullcontext())
    assert found == "the output of encoder.backbone.encoder.layer.1.intermediate.dense"
    assert not method.training
    assert all(p.grad is None for p in method.parameters())
    torch.random.set_rng_state(before)


def test_a_gradient_is_found_where_all_else_is_finite(tiny_bert):
    found = first_bad_tensor(method_of(tiny_bert, Endless), triplets(), nullcontext())
    assert found.startswith("the gradient of encoder.backbone.embeddings.word_embeddings.weight")


def test_a_step_without_fault_has_none(tiny_bert):
    found = first_bad_tensor(method_of(tiny_bert), triplets(), nullcontext())
    assert (
        found == "not among those of the step made again: the norm alone, or it did not come back"
    )


@pytest.mark.parametrize("step", [0, 7])
def test_a_plan_of_one_step_has_its_examples_alone(step):
    plan = OneStep(np.array([5, 3, 8]))
    assert plan.indices(step).tolist() == [5, 3, 8]
    assert (plan.examples, plan.batch_size, plan.steps_per_epoch, plan.left_out) == (3, 3, 1, 0)
