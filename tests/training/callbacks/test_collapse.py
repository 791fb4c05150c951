import math

import pytest
import torch

from sciembed_train import cli
from sciembed_train.training.callbacks import collapse
from sciembed_train.training.callbacks.collapse import Collapse, spread


@pytest.fixture
def watch(capsys):
    """Looks at reports one after another, and gives what was said."""

    def looked(reports, equal=None):
        callback = Collapse(None, None)
        for step, (loss, gradient) in enumerate(reports, 1):
            callback.look(step, loss, gradient, equal)
        assert (
            [f"warning: {text}" for text in callback.said.values()]
            == [*callback.closing_lines]
            == capsys.readouterr().err.splitlines()
        )
        return list(callback.said)

    return looked


def test_a_loss_that_stays_where_equal_vectors_put_it_is_told_once(watch):
    reports = [(1.0 + 0.004 * (-1) ** step, 0.1) for step in range(20)]
    assert watch(reports, equal=1.0) == ["stuck"]
    assert watch(reports[: collapse.STUCK_REPORTS - 1], equal=1.0) == []
    assert watch([(1.0 + 0.1 * (-1) ** step, 0.1) for step in range(20)], equal=1.0) == []
    assert watch(reports) == []


def test_a_gradient_of_zero_is_told_unless_the_loss_is_zero_too(watch):
    assert watch([(0.7, 1e-12)] * 4) == ["gradient"]
    assert watch([(0.0, 0.0)] * 4) == []
    assert watch([(0.7, 1e-12), (0.7, 0.1)] * 4) == []


def test_a_jump_of_the_loss_is_told(watch):
    falling = [(2.0 / step, 0.1) for step in range(1, 41)]
    assert watch([*falling, (1.5, 0.1)]) == ["spike"]
    assert watch([*falling, (0.15, 0.1)]) == []
    assert watch([(0.1, 0.1)] * 5 + [(0.9, 0.1)]) == []  # too few before
    assert watch([*falling, *[(1e-4, 0.1)] * 20, (0.01, 0.1)]) == []  # small beside the first


def test_what_is_not_finite_is_not_compared(watch):
    assert watch([(math.nan, 0.1), (1.0, math.inf)] * 20, equal=1.0) == []


def test_the_spread_is_a_share_of_the_length():
    vectors = torch.tensor([[3.0, 4.0], [4.0, 3.0]])
    assert spread(vectors) == pytest.approx(math.sqrt(0.5) / 5)
    assert spread(torch.ones(4, 3)) == 0
    assert spread(torch.zeros(4, 3)) == 0
    assert spread(vectors[:1]) == 1
    assert spread(torch.tensor([[1.0, 1.0], [1.0, -1.0]]).bfloat16()) == pytest.approx(0.5**0.5)


def test_a_run_whose_vectors_became_equal_says_so_in_its_last_lines(toy, capsys):
    capsys.readouterr()
    more = ["--model.optim.lr", ".3", "--trainer.max_steps", "20"]
    assert cli.main(["fit", *toy.arguments("--run", "collapsed", *more)]) == 0
    lines = capsys.readouterr().err.splitlines()
    equal = [line for line in lines if line.startswith("warning: all vectors are nearly equal")]
    assert len(equal) == 2  # at once, and at the end
    assert equal[0] == equal[1]
    assert equal[1] in lines[-3:]


def test_a_run_that_learns_says_nothing(toy, capsys):
    capsys.readouterr()
    more = ["--trainer.max_steps", "12", "--trainer.limit_val_batches", "0"]
    assert cli.main(["fit", *toy.arguments("--run", "learns", *more)]) == 0
    assert "warning" not in capsys.readouterr().err


@pytest.mark.parametrize("negatives", ["one", "all"])
def test_methods_know_the_loss_of_equal_vectors(tiny_bert, negatives):
    from sciembed_train.losses.triplet import euclidean_margin
    from sciembed_train.methods.specter import Specter
    from tests.helpers.method_batches import pair_batch
    from tests.methods.test_waiting import cocite, encoder_settings, triplets

    method = Specter(encoder_settings(tiny_bert), margin=0.7)
    same = torch.zeros(3, 4)
    loss = euclidean_margin(same, same, same, margin=0.7).mean()
    assert method.collapsed_loss(triplets()) == pytest.approx(float(loss))
    temperature = {"temperature": 0.3} if negatives == "all" else {}
    pairs, batch = cocite(tiny_bert, negatives=negatives, **temperature), pair_batch()
    vectors = torch.zeros(len(batch), 4)
    loss = pairs._in_batch_loss(vectors, vectors, batch).value
    assert pairs.collapsed_loss(batch) == pytest.approx(float(loss), rel=0.02)
