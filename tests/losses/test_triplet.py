import math

import pytest
import torch

from sciembed_train.losses.similarity import euclidean
from sciembed_train.losses.triplet import candidate_loss, euclidean_margin, triplet_margin
from tests.helpers.loss_checks import assert_equal_with_gradients, vectors


def test_loss_is_the_equation_in_plain_loops():
    generator = torch.Generator().manual_seed(0)
    a, p, n = (torch.randn(7, 5, dtype=torch.float64, generator=generator) for _ in range(3))
    for margin in (0.0, 0.5, 1.0):
        expected = []
        for i in range(7):
            near = math.sqrt(sum((a[i, k] - p[i, k] + 1e-6).item() ** 2 for k in range(5)))
            far = math.sqrt(sum((a[i, k] - n[i, k] + 1e-6).item() ** 2 for k in range(5)))
            expected.append(max(0.0, near - far + margin))
        found = euclidean_margin(a, p, n, margin)
        assert found.tolist() == pytest.approx(expected, abs=1e-12)
        assert any(found > 0)


def test_mean_equals_torch():
    a, p, n = torch.randn(3, 9, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    expected = torch.nn.TripletMarginLoss(margin=1.0)(a, p, n)
    found = triplet_margin(euclidean(a, p), euclidean(a, n), 1.0).mean()
    torch.testing.assert_close(found, expected, rtol=1e-14, atol=0)


def test_equal_vectors_have_a_finite_gradient():
    a = torch.ones(2, 3, requires_grad=True)
    same = torch.ones(2, 3)
    triplet_margin(euclidean(a, same), euclidean(a, same) * 2, 1.0).sum().backward()
    assert torch.isfinite(a.grad).all()


def test_a_negative_margin_is_refused():
    with pytest.raises(ValueError, match=r"must be 0 or more; got -1\.0"):
        triplet_margin(*torch.zeros(2, 2), margin=-1.0)


def pair_by_pair(near, a, c, allowed, temperature):
    found = []
    for i in range(len(a)):
        away = [(a[i] - c[k]).square().sum().sqrt() for k in range(len(c)) if allowed[i, k]]
        if not away:
            found.append(near[i] * 0)
        elif temperature is None:
            found.append(sum(torch.relu(near[i] - d + 0.7) for d in away) / len(away))
        else:
            terms = [torch.exp(-d / temperature) for d in (near[i], *away)]
            found.append(-torch.log(terms[0] / sum(terms)))
    return torch.stack(found)


@pytest.mark.parametrize("temperature", [None, 0.4])
@pytest.mark.parametrize("chunk", [None, 1, 3, 6, 7, 100])
def test_distances_in_chunks_are_those_of_plain_loops_with_all_gradients(chunk, temperature):
    a, c = (vectors(n, 3, seed=n).requires_grad_() for n in (7, 9))
    near = (vectors(7, seed=1).abs() + 1).requires_grad_()
    allowed = vectors(7, 9, seed=2) > -0.5
    allowed[4] = False  # one is compared with nothing
    found = candidate_loss(
        near, a, c, lambda part: allowed[part], margin=0.7, temperature=temperature, chunk=chunk
    )
    expected = pair_by_pair(near, a, c, allowed, temperature)
    assert_equal_with_gradients(found, expected, (near, a, c))
    assert found[4] == 0


@pytest.mark.parametrize("temperature", [None, 0.4])
def test_a_pair_without_an_allowed_candidate_has_no_loss(temperature):
    allowed = torch.tensor([[True, False], [False, False]])
    found = candidate_loss(
        torch.tensor([1.0, 2.0]),
        torch.zeros(2, 1),
        torch.ones(2, 1),
        lambda part: allowed[part],
        margin=1.0,
        temperature=temperature,
    )
    assert found[0] > 0.5
    assert found[1] == 0


@pytest.mark.parametrize("temperature", [None, 1e-3])
def test_distances_far_apart_overflow_nowhere(temperature):
    near = torch.tensor([1e4, 0.0], requires_grad=True)
    far = torch.tensor([[0.0, 1e4], [1e4, 1e4]], requires_grad=True)
    every = torch.ones(2, 2, dtype=torch.bool)
    loss = candidate_loss(
        near,
        far,
        torch.zeros(2, 2),
        lambda part: every[part],
        margin=1.0,
        temperature=temperature,
        distance=lambda distances, _: distances,  # `far` holds them
        chunk=1,
    )
    # The mean of 10,001 and 1 with the margin; and the cross-entropy.
    expected = [5001.0, 0.0] if temperature is None else [1e7, 0.0]
    assert loss.tolist() == pytest.approx(expected)
    loss.sum().backward()
    assert near.grad.isfinite().all()
    assert far.grad.isfinite().all()
