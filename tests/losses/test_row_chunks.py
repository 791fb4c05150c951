"""Memory and exactness of the losses that are computed a chunk of rows at a time."""

import subprocess
import sys

import pytest
import torch

from sciembed_train.encoder.profiling.memory import Watched
from sciembed_train.losses import contrastive, row_chunks
from sciembed_train.losses.contrastive import nt_xent, row_cross_entropy
from sciembed_train.losses.similarity import euclidean, unit
from sciembed_train.losses.supervised_contrastive import supervised_contrastive
from sciembed_train.losses.triplet import candidate_loss
from tests.helpers.loss_checks import vectors


def test_a_chunk_of_no_rows_is_refused():
    a = unit(vectors(2, 3))
    with pytest.raises(ValueError, match="chunk counts rows and must be 1 or more; got 0"):
        nt_xent(a, a, 0.05, chunk=0)


def test_no_chunk_has_more_scores_than_the_limit(monkeypatch):
    monkeypatch.setattr(row_chunks, "MAX_SCORES", 20)
    sizes = []
    make = contrastive.scaled_scores

    def counted(*args):
        sizes.append(make(*args))
        return sizes[-1]

    monkeypatch.setattr(contrastive, "scaled_scores", counted)
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
some, others = z[:8].clone().requires_grad_(), c[:8].clone().requires_grad_()
row_cross_entropy(some, others, partner[:8].clamp(max=7), None, 0.05).sum().backward()
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
    assert int(done.stdout) < 4 * 4 * row_chunks.MAX_SCORES


def summed_loss(name, inputs):
    """The sum of a loss of rows against as many candidates."""
    rows, others = inputs
    numbers = torch.arange(len(rows))
    if name == "classes":
        classes = {"others": others, "other_labels": numbers // 2}
        return supervised_contrastive(rows, numbers // 2, 0.3, **classes).sum()
    return candidate_loss(
        euclidean(rows, others),
        rows,
        others,
        lambda part: numbers[part, None] != numbers,
        margin=1.0,
        temperature=0.4 if name == "cross-entropy" else None,
    ).sum()


@pytest.mark.parametrize("name", ["margin", "cross-entropy", "classes"])
def test_memory_grows_as_the_rows_and_not_as_their_square(name, monkeypatch):
    monkeypatch.setattr(row_chunks, "MAX_SCORES", 2**14)
    for rows in (512, 1024):
        inputs = [vectors(rows, 8, seed=s, dtype=torch.float32).requires_grad_() for s in (0, 1)]
        with Watched(torch.device("cpu")) as watched:
            summed_loss(name, inputs).backward()
        # Some tables of a chunk, and some columns of vectors; a whole table has 1 and 4 MB.
        assert watched.most < 6 * 4 * 2**14 + 12 * inputs[0].nbytes


@pytest.mark.parametrize("name", ["margin", "cross-entropy", "classes"])
def test_chunks_are_exact_in_fp32_and_autocast_is_kept_out(name, monkeypatch):
    inputs = [vectors(60, 16, seed=s, dtype=torch.float32).requires_grad_() for s in (0, 1)]
    double = [rows.detach().double().requires_grad_() for rows in inputs]
    expected = summed_loss(name, double)
    wanted = torch.autograd.grad(expected, double)
    monkeypatch.setattr(row_chunks, "MAX_SCORES", 420)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = summed_loss(name, inputs)
        gradients = torch.autograd.grad(found, inputs)
    torch.testing.assert_close(found.double(), expected, rtol=1e-6, atol=0)
    for ours, theirs in zip(gradients, wanted, strict=True):
        assert (ours - theirs).norm() < 1e-6 * theirs.norm()


@pytest.mark.parametrize("name", ["margin", "cross-entropy", "classes"])
@pytest.mark.parametrize("rows", [1, 20, 21, 60])
def test_chunks_have_the_loss_and_the_gradient_of_all_rows_at_once(name, rows, monkeypatch):
    inputs = [vectors(60, 16, seed=s).requires_grad_() for s in (0, 1)]
    whole = summed_loss(name, inputs)
    wanted = torch.autograd.grad(whole, inputs)
    monkeypatch.setattr(row_chunks, "MAX_SCORES", rows * 60)
    chunked = summed_loss(name, inputs)
    torch.testing.assert_close(chunked, whole, rtol=1e-13, atol=0)
    for gradient, expected in zip(torch.autograd.grad(chunked, inputs), wanted, strict=True):
        torch.testing.assert_close(gradient, expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("needs", [(True, False), (False, True)])
def test_an_input_without_gradient_gets_none(needs):
    rows, others = (
        vectors(6, 3, seed=s).requires_grad_(need) for s, need in zip((0, 1), needs, strict=True)
    )
    classes = torch.arange(6) // 2
    losses = supervised_contrastive(
        rows, classes, 0.3, others=others, other_labels=classes, chunk=2
    )
    losses.sum().backward()
    assert (rows.grad is not None, others.grad is not None) == needs


def test_no_rows_have_no_loss_and_a_gradient_of_nothing():
    rows, candidates = (x.requires_grad_() for x in (vectors(0, 3), vectors(4, 3)))
    none = torch.zeros(0, dtype=torch.int64)
    losses = row_cross_entropy(rows, candidates, none, None, 0.05, 2)
    assert losses.shape == (0,)
    losses.sum().backward()
    assert torch.equal(candidates.grad, torch.zeros(4, 3, dtype=torch.float64))
