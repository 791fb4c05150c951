import math

import pytest
import torch

from sciembed_train.losses import triplet_margin
from sciembed_train.similarity import euclidean


def test_loss_is_the_equation_in_plain_loops():
    generator = torch.Generator().manual_seed(0)
    a, p, n = (torch.randn(7, 5, dtype=torch.float64, generator=generator) for _ in range(3))
    for margin in (0.0, 0.5, 1.0):
        expected = []
        for i in range(7):
            near = math.sqrt(sum((a[i, k] - p[i, k] + 1e-6).item() ** 2 for k in range(5)))
            far = math.sqrt(sum((a[i, k] - n[i, k] + 1e-6).item() ** 2 for k in range(5)))
            expected.append(max(0.0, near - far + margin))
        found = triplet_margin(euclidean(a, p), euclidean(a, n), margin)
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
