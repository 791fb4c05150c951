import math

import pytest
import torch

from sciembed_train.losses.contrastive import (
    info_nce,
    nt_xent,
    row_cross_entropy,
    row_divergence,
)
from sciembed_train.losses.similarity import unit
from tests.helpers.loss_checks import assert_equal_with_gradients, vectors


def in_loops(z, i, partner, temperature):
    """Chen et al. (2020), eq. 1, in plain loops; rows of any length."""
    rows = z.tolist()

    def cosine(a, b):
        lengths = (math.sqrt(sum(x * x for x in v)) for v in (a, b))
        return sum(x * y for x, y in zip(a, b, strict=True)) / math.prod(lengths)

    scores = {k: cosine(rows[i], rows[k]) / temperature for k in range(len(rows)) if k != i}
    return -math.log(math.exp(scores[partner]) / sum(math.exp(s) for s in scores.values()))


@pytest.mark.parametrize("temperature", [0.05, 1.0])
def test_nt_xent_is_the_equation_in_both_directions(temperature):
    a, p = vectors(6, 4), vectors(6, 4, seed=1)
    z = torch.cat([a, p])
    expected = [
        (in_loops(z, i, i + 6, temperature) + in_loops(z, i + 6, i, temperature)) / 2
        for i in range(6)
    ]
    found = nt_xent(unit(a), unit(p), temperature)
    assert found.tolist() == pytest.approx(expected, rel=1e-12)


def test_nt_xent_equals_torchs_cross_entropy():
    a, p = (unit(vectors(9, 5, seed=s)).requires_grad_() for s in (0, 1))
    z = torch.cat([a, p])
    scores = (z @ z.T / 0.05).masked_fill(torch.eye(18, dtype=torch.bool), -torch.inf)
    expected = torch.nn.functional.cross_entropy(scores, (torch.arange(18) + 9) % 18)
    found = nt_xent(a, p, 0.05).mean()
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=0)
    for one, other in zip(
        torch.autograd.grad(found, (a, p)), torch.autograd.grad(expected, (a, p)), strict=True
    ):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("ranks", [2, 3])
def test_the_mean_over_ranks_is_the_loss_and_the_gradient_of_one(ranks):
    a, p = (unit(vectors(6, 5, seed=s)).requires_grad_() for s in (0, 1))
    one = nt_xent(a, p, 0.05).mean()
    share = 6 // ranks
    shares = [
        nt_xent(
            *(x[first : first + share] for x in (a, p)),
            0.05,
            anchors=a,
            positives=p,
            first=first,
        ).mean()
        for first in range(0, 6, share)
    ]
    together = torch.stack(shares).mean()
    torch.testing.assert_close(together, one, rtol=1e-13, atol=0)
    for ours, theirs in zip(
        torch.autograd.grad(together, (a, p)), torch.autograd.grad(one, (a, p)), strict=True
    ):
        torch.testing.assert_close(ours, theirs, rtol=1e-11, atol=1e-13)


def test_a_single_pair_has_nothing_to_be_told_from():
    a, p = unit(vectors(1, 4)), unit(vectors(1, 4, seed=1))
    assert nt_xent(a, p, 0.05).tolist() == [0.0]


def plain_rows(queries, candidates, positive, exclude, temperature):
    found = []
    for i, query in enumerate(queries):
        scores = [query @ c / temperature for c in candidates]
        kept = [s for k, s in enumerate(scores) if exclude is None or k != exclude[i]]
        found.append(torch.stack(kept).logsumexp(0) - scores[positive[i]])
    return torch.stack(found)


@pytest.mark.parametrize("excluded", [True, False])
@pytest.mark.parametrize("chunk", [None, 1, 3, 7, 100])
def test_chunks_give_the_rows_of_plain_loops_and_their_gradients(chunk, excluded):
    q, c = (vectors(n, 4, seed=n).requires_grad_() for n in (7, 9))
    positive = torch.tensor([0, 3, 3, 8, 2, 5, 1])
    exclude = torch.tensor([1, 0, 8, 0, 6, 6, 7]) if excluded else None
    found = row_cross_entropy(q, c, positive, exclude, 0.3, chunk)
    expected = plain_rows(q, c, positive, exclude, 0.3)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    weights = vectors(7, seed=5)
    for ours, theirs in zip(
        torch.autograd.grad(found @ weights, (q, c)),
        torch.autograd.grad(expected @ weights, (q, c)),
        strict=True,
    ):
        torch.testing.assert_close(ours, theirs, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("needs", [(True, True), (True, False), (False, True)])
def test_gradients_are_those_of_differences(needs):
    q, c = (
        vectors(n, 3, seed=n).requires_grad_(need) for n, need in zip((4, 5), needs, strict=True)
    )
    positive, exclude = torch.tensor([0, 4, 2, 2]), torch.tensor([3, 0, 1, 4])
    assert torch.autograd.gradcheck(
        lambda a, b: row_cross_entropy(a, b, positive, exclude, 0.5, 2), (q, c)
    )


def test_queries_that_are_candidates_too_get_both_gradients():
    z = unit(vectors(8, 3)).requires_grad_()
    own, partner = torch.arange(8), (torch.arange(8) + 4) % 8
    assert torch.autograd.gradcheck(lambda x: row_cross_entropy(x, x, partner, own, 0.5, 3), (z,))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_raised_and_autocast_kept_out(dtype):
    a, p = (unit(vectors(40, 16, seed=s, dtype=torch.float32)) for s in (0, 1))
    expected = nt_xent(a, p, 0.05)
    assert expected.dtype == torch.float32
    with torch.autocast("cpu", dtype=torch.bfloat16):
        here = a.clone().requires_grad_()
        found = nt_xent(here, p, 0.05)
        found.mean().backward()
    assert torch.equal(found, expected)
    there = a.clone().requires_grad_()
    nt_xent(there, p, 0.05).mean().backward()
    assert torch.equal(here.grad, there.grad)
    half, partner = a.to(dtype).requires_grad_(), p.to(dtype)
    found = nt_xent(half, partner, 0.05)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, nt_xent(half.float(), partner.float(), 0.05))
    found.mean().backward()
    assert half.grad.dtype == dtype


def test_scores_far_apart_overflow_nowhere():
    a = torch.eye(3) * 1e4
    found = row_cross_entropy(a, a, torch.tensor([1, 2, 0]), None, 0.05)
    assert found.tolist() == pytest.approx([1e8 / 0.05] * 3)
    a.requires_grad_()
    row_cross_entropy(a, a, torch.arange(3), None, 0.05).sum().backward()
    assert a.grad.isfinite().all()


@pytest.mark.parametrize("temperature", [0.0, -0.05])
def test_a_temperature_that_is_not_above_0_is_refused(temperature):
    a = unit(vectors(2, 3))
    with pytest.raises(ValueError, match=f"must be above 0; got {temperature}"):
        nt_xent(a, a, temperature)


def info_nce_in_loops(a, p, candidates, allowed, allowed_back, temperature):
    losses = []
    for i in range(len(a)):
        terms = []
        for query, rows, kept in ((a[i], candidates, allowed), (p[i], a, allowed_back)):
            scores = [query @ row / temperature for k, row in enumerate(rows) if kept[i, k]]
            terms.append(torch.stack(scores).logsumexp(0) - query @ rows[i] / temperature)
        losses.append(sum(terms) / 2)
    return torch.stack(losses)


@pytest.mark.parametrize("chunk", [None, 2, 5])
def test_info_nce_is_the_equation_among_what_is_allowed(chunk):
    a, p, hard = (unit(vectors(n, 4, seed=n)).requires_grad_() for n in (6, 7, 3))
    p = p[:6]
    generator = torch.Generator().manual_seed(0)
    tables = [torch.rand(6, n, generator=generator) < 0.6 for n in (9, 6)]
    for table in tables:
        table[torch.arange(6), torch.arange(6)] = True
    candidates = torch.cat([p, hard])
    found = info_nce(
        a,
        p,
        0.3,
        anchors=a,
        positives=candidates,
        allowed=lambda rows: tables[0][rows],
        allowed_back=lambda rows: tables[1][rows],
        chunk=chunk,
    )
    expected = info_nce_in_loops(a, p, candidates, *tables, 0.3)
    assert_equal_with_gradients(found, expected, (a, p, hard))


def test_info_nce_alone_compares_with_every_other_pair():
    a, p = (unit(vectors(5, 4, seed=s)).requires_grad_() for s in (0, 1))
    every = torch.ones(5, 5, dtype=torch.bool)
    found = info_nce(a, p, 0.05)
    assert_equal_with_gradients(found, info_nce_in_loops(a, p, p, every, every, 0.05), (a, p))


def test_a_temperature_that_is_learned_gets_its_gradient():
    a, p = (unit(vectors(5, 4, seed=s)).requires_grad_() for s in (0, 1))
    temperature = torch.tensor(0.2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda t, x, y: info_nce(x, y, t), (temperature, a, p))


@pytest.mark.parametrize("ranks", [2, 3])
def test_info_nce_of_ranks_is_that_of_one(ranks):
    a, p, hard = (unit(vectors(n, 5, seed=s)).requires_grad_() for s, n in ((0, 6), (1, 6), (2, 4)))
    one = info_nce(a, p, 0.1, anchors=a, positives=torch.cat([p, hard])).mean()
    share = 6 // ranks
    parts = [
        info_nce(
            a[first : first + share],
            p[first : first + share],
            0.1,
            anchors=a,
            positives=torch.cat([p, hard]),
            first=first,
        ).mean()
        for first in range(0, 6, share)
    ]
    together = torch.stack(parts).mean()
    torch.testing.assert_close(together, one, rtol=1e-13, atol=0)
    for ours, theirs in zip(
        torch.autograd.grad(together, (a, p, hard)),
        torch.autograd.grad(one, (a, p, hard)),
        strict=True,
    ):
        torch.testing.assert_close(ours, theirs, rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("chunk", [None, 2])
def test_the_divergence_is_from_the_reference_to_the_encoder(chunk):
    q, c = (unit(vectors(n, 4, seed=n)).requires_grad_() for n in (5, 7))
    rq, rc = (unit(vectors(n, 3, seed=n + 1)) for n in (5, 7))
    found = row_divergence(q, c, rq, rc, 0.2, chunk)
    expected = []
    for i in range(5):
        reference = torch.softmax(rq[i] @ rc.T / 0.2, 0)
        now = torch.softmax(q[i] @ c.T / 0.2, 0)
        expected.append(sum(r * torch.log(r / s) for r, s in zip(reference, now, strict=True)))
    assert_equal_with_gradients(found, torch.stack(expected), (q, c))
    other_side = row_divergence(rq, rc, q, c, 0.2)
    assert (other_side - found).abs().max() > 1e-3
    torch.testing.assert_close(row_divergence(q, c, q, c), torch.zeros(5, dtype=torch.float64))


def test_the_reference_gets_no_gradient():
    rows = [unit(vectors(4, 3, seed=s)).requires_grad_() for s in range(4)]
    row_divergence(*rows).sum().backward()
    assert [row.grad is None for row in rows] == [False, False, True, True]


MASK = torch.rand(5, 7, generator=torch.Generator().manual_seed(2)) > 0.4
MASK[1] = False
MASK[3] = torch.arange(7) == 4


@pytest.mark.parametrize("chunk", [None, 2])
def test_the_divergence_is_over_what_is_allowed(chunk):
    q, c = (unit(vectors(n, 4, seed=n)).requires_grad_() for n in (5, 7))
    rq, rc = (unit(vectors(n, 3, seed=n + 1)) for n in (5, 7))
    found = row_divergence(q, c, rq, rc, 0.2, chunk, allowed=lambda part: MASK[part])
    expected = []
    for i in range(5):
        total = (q[i] * 0).sum()
        if MASK[i].any():
            kept = MASK[i]
            reference = torch.softmax(rq[i] @ rc[kept].T / 0.2, 0)
            now = torch.softmax(q[i] @ c[kept].T / 0.2, 0)
            for r, s in zip(reference, now, strict=True):
                total = total + r * torch.log(r / s)
        expected.append(total)
    assert_equal_with_gradients(found, torch.stack(expected), (q, c))
    assert found[1] == 0
    assert found[3].abs() < 1e-12  # of one candidate alone
    # The planted fault: nothing is left out.
    assert (row_divergence(q, c, rq, rc, 0.2) - found).abs().max() > 1e-2


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_what_is_left_out_gets_no_gradient_and_makes_no_nan(dtype):
    q, c = (unit(vectors(n, 4, seed=n)).to(dtype).requires_grad_() for n in (5, 7))
    r = [unit(vectors(n, 3, seed=n + 1)) for n in (5, 7)]
    mask = MASK.clone()
    mask[:, 2] = False
    found = row_divergence(q, c, *r, 0.001, allowed=lambda part: mask[part])
    to_q, to_c = torch.autograd.grad(found.sum(), (q, c))
    assert found.isfinite().all()
    assert to_q.isfinite().all()
    assert to_c.isfinite().all()
    assert not to_q[1].any()
    assert not to_c[2].any()
    assert to_q[0].any()
