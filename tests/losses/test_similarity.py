import math

import pytest
import torch
import torch.nn.functional as F

from sciembed_train.losses import similarity


@pytest.fixture
def rows():
    draw = torch.Generator().manual_seed(3)
    return (torch.randn(n, 7, generator=draw, dtype=torch.float64) for n in (5, 5, 4))


def test_euclidean_is_the_distance_inside_torchs_triplet_margin_loss(rows):
    a, p, _ = rows
    n = p.flip(0)
    ours = (similarity.euclidean(a, p) - similarity.euclidean(a, n) + 1.0).clamp(min=0)
    torch.testing.assert_close(ours, F.triplet_margin_loss(a, p, n, reduction="none"))


def test_euclidean_equals_the_equation_in_plain_loops(rows):
    a, b, _ = rows
    want = [
        math.sqrt(sum((x - y + 1e-6) ** 2 for x, y in zip(i, j, strict=True)))
        for i, j in zip(a.tolist(), b.tolist(), strict=True)
    ]
    torch.testing.assert_close(similarity.euclidean(a, b), torch.tensor(want, dtype=a.dtype))


def test_gradient_is_finite_between_equal_rows():
    a = torch.ones(2, 3, requires_grad=True)
    similarity.euclidean(a, torch.ones(2, 3)).sum().backward()
    assert a.grad is not None
    assert a.grad.isfinite().all()


@pytest.mark.parametrize("chunk", [None, 1, 2, 100])
def test_pairwise_distances_do_not_depend_on_the_chunk(rows, chunk):
    a, _, b = rows
    want = torch.stack([torch.stack([(i - j).square().sum().sqrt() for j in b]) for i in a])
    torch.testing.assert_close(similarity.pairwise_euclidean(a, b, chunk), want)


def test_pairwise_distances_of_near_rows_keep_their_digits():
    # 100 rows, so that torch would choose the matrix product by itself and answer 0 or worse.
    a = torch.full((100, 8), 100.0)
    b = a + torch.tensor([1e-3] + [0.0] * 7)
    want = (b - a)[0, 0].item()
    got = similarity.pairwise_euclidean(a, b)
    torch.testing.assert_close(got, torch.full((100, 100), want), rtol=1e-5, atol=0)


@pytest.mark.parametrize("needs", [(True, True), (True, False), (False, True)])
def test_gradient_of_pairwise_distances_is_that_of_differences(rows, needs, monkeypatch):
    monkeypatch.setattr(similarity, "BLOCK", 2)
    a, _, b = rows
    given = [x.requires_grad_(need) for x, need in zip((a, b), needs, strict=True)]
    assert torch.autograd.gradcheck(similarity.pairwise_euclidean, given)


def test_gradient_of_pairwise_distances_of_near_rows_keeps_its_digits():
    draw = torch.Generator().manual_seed(0)
    a = 100 + torch.randn(20, 8, generator=draw)
    b = a[:12] + 1e-3 * torch.randn(12, 8, generator=draw)
    b[0] = a[0]  # equal rows have no gradient, and no nan
    weights = torch.randn(20, 12, generator=draw)
    # Of the rows as they are in fp32: each pair's direction, in float64.
    apart = a.double()[:, None] - b.double()[None]
    lengths = apart.square().sum(-1, keepdim=True).sqrt()
    pulls = torch.where(lengths > 0, apart / lengths, 0.0) * weights[:, :, None]
    given = a.requires_grad_(), b.requires_grad_()
    found = torch.autograd.grad((similarity.pairwise_euclidean(*given) * weights).sum(), given)
    for ours, theirs in zip(found, (pulls.sum(1), -pulls.sum(0)), strict=True):
        torch.testing.assert_close(ours.double(), theirs, rtol=0, atol=1e-5)


def test_pairwise_distance_of_no_rows_is_empty():
    assert similarity.pairwise_euclidean(torch.empty(0, 3), torch.ones(2, 3)).shape == (0, 2)


def test_half_precision_rows_are_compared_in_fp32():
    a, b = torch.ones(1, 4, dtype=torch.bfloat16), torch.zeros(1, 4, dtype=torch.bfloat16)
    assert similarity.euclidean(a, b).dtype == torch.float32
    assert similarity.pairwise_euclidean(a, b).dtype == torch.float32


def test_unit_rows_have_length_one_and_their_direction(rows):
    a, _, _ = rows
    found = similarity.unit(a)
    want = [[x / math.sqrt(sum(y * y for y in row)) for x in row] for row in a.tolist()]
    torch.testing.assert_close(found, torch.tensor(want, dtype=a.dtype))
    assert torch.autograd.gradcheck(similarity.unit, (a.requires_grad_(),))


def test_unit_of_half_precision_is_fp32_and_of_several_axes_row_by_row():
    assert similarity.unit(torch.ones(2, 4, dtype=torch.float16)).dtype == torch.float32
    a = torch.randn(2, 3, 5, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(similarity.unit(a)[1, 2], similarity.unit(a[1, 2]))


def test_a_row_of_zeros_stays_and_gets_a_gradient_like_any_other():
    zero = torch.zeros(1, 4, requires_grad=True)
    other = torch.tensor([[1.0, 2.0, 0.0, 2.0]], requires_grad=True)
    assert similarity.unit(zero).tolist() == [[0.0] * 4]
    product = (similarity.unit(zero) * similarity.unit(other)).sum()
    to_zero, to_other = torch.autograd.grad(product, (zero, other))
    assert to_zero.norm().item() == pytest.approx(1.0)
    assert to_other.norm().item() == 0


def test_products_of_unit_rows_are_torchs_cosine(rows):
    a, b, _ = rows
    found = (similarity.unit(a) * similarity.unit(3 * b)).sum(-1)
    torch.testing.assert_close(found, F.cosine_similarity(a, b))
