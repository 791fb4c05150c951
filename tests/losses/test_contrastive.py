import math
import subprocess
import sys

import pytest
import torch

from sciembed_train.encoder.profiling.memory import Watched
from sciembed_train.losses import contrastive
from sciembed_train.losses.contrastive import (
    against_all,
    masked_lm,
    nt_xent,
    row_cross_entropy,
    supervised_contrastive,
    triplet_margin,
)
from sciembed_train.losses.similarity import euclidean, pairwise_euclidean, unit


def vectors(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, dtype=dtype, generator=torch.Generator().manual_seed(seed))


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


def test_a_chunk_of_no_rows_is_refused():
    a = unit(vectors(2, 3))
    with pytest.raises(ValueError, match="chunk counts rows and must be 1 or more; got 0"):
        nt_xent(a, a, 0.05, chunk=0)


def test_no_more_scores_are_held_than_said(monkeypatch):
    monkeypatch.setattr(contrastive, "SCORES", 20)
    sizes = []
    make = contrastive._scores

    def counted(*args):
        sizes.append(make(*args))
        return sizes[-1]

    monkeypatch.setattr(contrastive, "_scores", counted)
    z = unit(vectors(9, 3)).requires_grad_()
    row_cross_entropy(z, z, (torch.arange(9) + 1) % 9, torch.arange(9), 0.05).sum().backward()
    assert [tuple(s.shape) for s in sizes] == [(2, 9)] * 4 + [(1, 9)] + [(2, 9)] * 4 + [(1, 9)]


MEASURE = """
import resource, sys, torch
from sciembed_train.losses.contrastive import row_cross_entropy
rows, width = map(int, sys.argv[1:])
z = torch.nn.functional.normalize(torch.randn(rows, width), dim=-1)
c = z.clone()
own, partner = torch.arange(rows), torch.arange(rows).roll(1)
few, least = z[:8].clone().requires_grad_(), c[:8].clone().requires_grad_()
row_cross_entropy(few, least, partner[:8].clamp(max=7), None, 0.05).sum().backward()
z.requires_grad_(); c.requires_grad_()
def peak(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
before = peak()
row_cross_entropy(z, c, partner, own, 0.05).mean().backward()
gradients = 2 * z.numel() * 4
print(peak() - before - gradients)
"""


def test_memory_is_that_of_a_chunk_and_not_of_all_scores():
    # All scores would be 576 MB, twice that with their gradient; a chunk is 64 MiB.
    command = [sys.executable, "-c", MEASURE, "12000", "16"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert int(done.stdout) < 4 * 4 * contrastive.SCORES


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
    given = {"others": others, "other_labels": classes, "first": 3, "count_itself": itself}
    found = supervised_contrastive(rows, classes[3:7], 0.3, **given, chunk=chunk)
    expected = by_class(rows, others, classes[3:7], classes, 3, itself)
    alike(found, expected, (rows, others))


def alike(found, expected, given):
    """Values and gradients of both, each row with a weight of its own."""
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    weights = vectors(len(found), seed=5)
    for ours, theirs in zip(
        torch.autograd.grad(found @ weights, given),
        torch.autograd.grad(expected @ weights, given),
        strict=True,
    ):
        assert theirs.abs().max() > 1e-3
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)


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
    found = against_all(
        near,
        a,
        lambda some: pairwise_euclidean(some, c),
        lambda part: allowed[part],
        len(c),
        0.7,
        temperature,
        chunk,
    )
    alike(found, pair_by_pair(near, a, c, allowed, temperature), (near, a, c))
    assert found[4] == 0


@pytest.mark.parametrize("temperature", [None, 0.4])
def test_a_pair_without_an_allowed_candidate_has_no_loss(temperature):
    allowed = torch.tensor([[True, False], [False, False]])
    found = against_all(
        torch.tensor([1.0, 2.0]),
        torch.zeros(2, 1),
        lambda some: torch.ones(len(some), 2),
        lambda part: allowed[part],
        2,
        1.0,
        temperature,
    )
    assert found[0] > 0.5
    assert found[1] == 0


@pytest.mark.parametrize("temperature", [None, 1e-3])
def test_distances_far_apart_overflow_nowhere(temperature):
    near = torch.tensor([1e4, 0.0], requires_grad=True)
    far = torch.tensor([[0.0, 1e4], [1e4, 1e4]], requires_grad=True)
    every = torch.ones(2, 2, dtype=torch.bool)
    loss = against_all(
        near, far, lambda some: some, lambda part: every[part], 2, 1.0, temperature, 1
    )
    # The mean of 10,001 and 1 with the margin; and the cross-entropy.
    expected = [5001.0, 0.0] if temperature is None else [1e7, 0.0]
    assert loss.tolist() == pytest.approx(expected)
    loss.sum().backward()
    assert near.grad.isfinite().all()
    assert far.grad.isfinite().all()


def compared(name, given):
    """The sum of a loss of as many rows against as many."""
    rows, others = given
    numbers = torch.arange(len(rows))
    if name == "classes":
        classes = {"others": others, "other_labels": numbers // 2}
        return supervised_contrastive(rows, numbers // 2, 0.3, **classes).sum()
    return against_all(
        euclidean(rows, others),
        rows,
        lambda some: pairwise_euclidean(some, others),
        lambda part: numbers[part, None] != numbers,
        len(others),
        1.0,
        0.4 if name == "cross-entropy" else None,
    ).sum()


@pytest.mark.parametrize("name", ["margin", "cross-entropy", "classes"])
def test_memory_grows_as_the_rows_and_not_as_their_square(name, monkeypatch):
    monkeypatch.setattr(contrastive, "SCORES", 2**14)
    for rows in (512, 1024):
        given = [vectors(rows, 8, seed=s, dtype=torch.float32).requires_grad_() for s in (0, 1)]
        with Watched(torch.device("cpu")) as watched:
            compared(name, given).backward()
        # Some tables of a chunk, and some columns of vectors; a whole table has 1 and 4 MB.
        assert watched.most < 6 * 4 * 2**14 + 12 * given[0].nbytes


@pytest.mark.parametrize("name", ["margin", "cross-entropy", "classes"])
def test_chunks_are_exact_in_fp32_and_autocast_is_kept_out(name, monkeypatch):
    given = [vectors(60, 16, seed=s, dtype=torch.float32).requires_grad_() for s in (0, 1)]
    double = [rows.detach().double().requires_grad_() for rows in given]
    expected = compared(name, double)
    wanted = torch.autograd.grad(expected, double)
    monkeypatch.setattr(contrastive, "SCORES", 420)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = compared(name, given)
        gradients = torch.autograd.grad(found, given)
    torch.testing.assert_close(found.double(), expected, rtol=1e-6, atol=0)
    for ours, theirs in zip(gradients, wanted, strict=True):
        assert (ours - theirs).norm() < 1e-6 * theirs.norm()


def test_a_chunk_of_no_rows_is_refused_by_all():
    rows = vectors(2, 3)
    with pytest.raises(ValueError, match="must be 1 or more; got 0"):
        supervised_contrastive(rows, torch.tensor([0, 0]), 0.3, chunk=0)
