import math

import pytest
import torch

from sciembed_train.methods.engine.finite_steps import BadSteps, FiniteSteps
from tests.helpers.processes import run_ranks

ONE = torch.tensor(1.0)
BAD = [torch.tensor(value) for value in (math.nan, math.inf, -math.inf)]


def test_finite_steps_are_made():
    steps = FiniteSteps()
    assert steps.read() == BadSteps(0, 0, 0, 0.0, 0.0)
    assert [float(steps.leaves_out(step, ONE, ONE)) for step in (1, 2)] == [0, 0]
    assert steps.read() == BadSteps(0, 0, 0, 0.0, 0.0)


@pytest.mark.parametrize("bad", BAD)
@pytest.mark.parametrize("where", ["loss", "gradient"])
def test_a_bad_step_is_left_out_and_so_is_every_later_one(bad, where):
    steps = FiniteSteps()
    values = (bad, ONE) if where == "loss" else (ONE, bad)
    made = [steps.leaves_out(1, ONE, ONE), steps.leaves_out(2, *values)]
    made += [steps.leaves_out(step, ONE, ONE) for step in (3, 4)]
    assert [float(each) for each in made] == [0, 1, 1, 1]
    found = steps.read()
    assert (found.in_a_row, found.total, found.latest) == (1, 1, 2)
    assert str(found.loss if where == "loss" else found.grad_norm) == str(float(bad))


def test_some_in_a_row_may_be_left_out():
    steps = FiniteSteps(most_in_a_row=3)
    losses = [1, math.nan, math.nan, 1, math.nan, math.nan, math.nan, 1]
    left_out = [
        float(steps.leaves_out(step, torch.tensor(float(loss)), ONE))
        for step, loss in enumerate(losses, 1)
    ]
    assert left_out == [0, 1, 1, 0, 1, 1, 1, 1]
    found = steps.read()
    assert (found.in_a_row, found.total, found.latest) == (3, 5, 7)


def test_an_overflow_of_fp16_is_its_scalers_but_a_loss_that_is_not_finite_is_not():
    steps = FiniteSteps()
    assert not steps.leaves_out(1, ONE, BAD[1], overflow=True)
    assert steps.leaves_out(2, BAD[0], BAD[1], overflow=True)


def on_a_rank(bad):
    """Rank 1 alone has a loss that is not finite."""
    from sciembed_train import distributed

    steps = FiniteSteps()
    loss = bad if distributed.rank() == 1 else 1.0
    left_out = float(steps.leaves_out(1, torch.tensor(loss), ONE))
    return left_out, steps.read().total, distributed.of_all_ranks(distributed.rank())


@pytest.mark.slow
def test_all_ranks_leave_out_what_one_has_to():
    found = run_ranks(2, "tests.methods.engine.test_finite_steps", "on_a_rank", math.nan)
    assert found == [(1.0, 1, [0, 1])] * 2
