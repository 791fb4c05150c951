import math

import pytest
import torch

from sciembed_train.losses.similarity import unit
from sciembed_train.losses.supervised_contrastive import supervised_contrastive
from tests.helpers.loss_checks import assert_equal_with_gradients, vectors


@pytest.mark.parametrize("itself", [False, True])
def test_supervised_contrastive_is_the_equation_in_plain_loops(itself):
    rows, labels = unit(vectors(6, 4)), torch.tensor([1, 0, 1, 2, 0, 1])
    found = supervised_contrastive(rows, labels, 0.3, count_itself=itself)
    for i in range(6):
        total = sum(math.exp(float(rows[i] @ rows[k]) / 0.3) for k in range(6) if k != i)
        own = [p for p in range(6) if p != i and labels[p] == labels[i]]
        loss = -sum(math.log(math.exp(float(rows[i] @ rows[p]) / 0.3) / total) for p in own)
        assert found[i].item() == pytest.approx(loss / max(1, len(own) + itself), abs=1e-12)
    assert found[3] == 0  # the only one of its class


def test_supervised_contrastive_over_ranks_is_that_of_one():
    rows, labels = unit(vectors(6, 4)), torch.tensor([1, 0, 1, 2, 0, 1])
    whole = supervised_contrastive(rows, labels, 0.3)
    parts = [
        supervised_contrastive(
            rows[here], labels[here], 0.3, others=rows, other_labels=labels, first=here.start
        )
        for here in (slice(0, 2), slice(2, 6))
    ]
    assert torch.equal(torch.cat(parts), whole)


def test_supervised_contrastive_of_one_row_is_0_with_a_gradient():
    row = vectors(1, 4).requires_grad_()
    loss = supervised_contrastive(row, torch.tensor([3]), 0.3).sum()
    loss.backward()
    assert loss.item() == 0
    assert torch.equal(row.grad, torch.zeros(1, 4, dtype=torch.float64))


def test_supervised_contrastive_needs_a_temperature_above_0():
    with pytest.raises(ValueError, match="above 0"):
        supervised_contrastive(unit(vectors(2, 3)), torch.tensor([0, 0]), 0.0)


def by_class(rows, others, labels, classes, first, itself):
    """Khosla et al. (2020), eq. 2, row by row from single products."""
    found = []
    for i, row in enumerate(rows):
        scores = {k: row @ c / 0.3 for k, c in enumerate(others) if k != first + i}
        total = torch.stack(list(scores.values())).exp().sum().log()
        own = [score - total for k, score in scores.items() if classes[k] == labels[i]]
        found.append(-sum(own, row.sum() * 0) / max(1, len(own) + itself))
    return torch.stack(found)


@pytest.mark.parametrize("itself", [False, True])
@pytest.mark.parametrize("chunk", [None, 1, 2, 3, 4, 100])
def test_classes_in_chunks_are_those_of_plain_loops_with_both_gradients(chunk, itself):
    rows, others = (vectors(n, 3, seed=n).requires_grad_() for n in (4, 9))
    classes = torch.tensor([1, 0, 1, 2, 0, 1, 3, 1, 0])
    kwargs = {"others": others, "other_labels": classes, "first": 3, "count_itself": itself}
    found = supervised_contrastive(rows, classes[3:7], 0.3, **kwargs, chunk=chunk)
    expected = by_class(rows, others, classes[3:7], classes, 3, itself)
    assert_equal_with_gradients(found, expected, (rows, others))


def test_a_chunk_of_no_rows_is_refused():
    rows = vectors(2, 3)
    with pytest.raises(ValueError, match="must be 1 or more; got 0"):
        supervised_contrastive(rows, torch.tensor([0, 0]), 0.3, chunk=0)
