"""Loss functions. They compare what they are given and never gather.

Those that compare every row with every other make their table some rows at a time, and again in
the backward pass: their memory grows as the rows do, and not as the square.

Shapes: ``B`` rows of this rank, ``R`` of them in a chunk, ``N`` rows of all ranks or candidates,
``D`` width of an embedding, ``K`` tokens to predict, ``V`` size of the vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.functional import cross_entropy, relu
from torch.utils.checkpoint import checkpoint

SCORES = 2**24  # similarities or distances of a chunk of rows: 64 MiB in fp32


def triplet_margin(
    near: Float[Tensor, " B"], far: Float[Tensor, " B"], margin: float = 1.0
) -> Float[Tensor, " B"]:
    """Loss of each triplet: how much the positive is not nearer than the negative by a margin.

    ``max(0, d(a, p) - d(a, n) + margin)``: SPECTER, Cohan et al. (2020), eq. 2, with the
    Euclidean distance of vectors that are not normalised (`similarity.euclidean`).

    Args:
        near: distance of each anchor to its positive.
        far: distance of each anchor to its negative.
        margin: in the unit of the distance, 0 or more.

    Raises:
        ValueError: the margin is negative.
    """
    if margin < 0:
        raise ValueError(
            f"margin is in the unit of the distance and must be 0 or more; got {margin}."
        )
    return relu(near - far + margin)


def against_all(
    near: Float[Tensor, " B"],
    anchors: Float[Tensor, "B D"],
    far: Callable[[Float[Tensor, "R D"]], Float[Tensor, "R N"]],
    allowed: Callable[[slice], Bool[Tensor, "R N"]],
    candidates: int,
    margin: float,
    temperature: float | None,
    chunk: int | None = None,
) -> Float[Tensor, " B"]:
    """Loss of each pair against every candidate that is allowed: 0 where none is.

    The mean of the triplet margin losses; with a temperature the cross-entropy of
    ``-distance / temperature`` among the positive and the candidates.

    Args:
        near: distance of each anchor to its positive.
        anchors: their vectors.
        far: distance of some anchors to each candidate; asked for again in the backward pass.
        allowed: whether a candidate is a negative of some anchors, by their numbers; likewise.
        candidates: how many there are.
        margin: in the unit of the distance.
        temperature: above 0, or None for the margin.
        chunk: anchors at a time; None for as many as have `SCORES` distances.

    Raises:
        ValueError: the chunk is less than 1.
    """

    def losses(part: slice, near: Tensor, anchors: Tensor) -> Tensor:
        mask = allowed(part)
        closer = near[:, None] - far(anchors)  # this and what follows in one table
        if temperature is None:
            hinges = relu(closer.add_(margin).masked_fill_(~mask, 0.0), inplace=True)
            return hinges.sum(1) / mask.sum(1).clamp(min=1)
        closer = closer.div_(temperature).masked_fill_(~mask, -torch.inf)
        highest = closer.detach().amax(1).clamp(min=0)  # the positive's own is 0
        sums = closer.sub_(highest[:, None]).exp_().sum(1)
        return highest + (sums + torch.exp(-highest)).log()

    return _by_rows(losses, _chunk(chunk, candidates), near, anchors)


def nt_xent(
    anchor: Float[Tensor, "B D"],
    positive: Float[Tensor, "B D"],
    temperature: float = 0.05,
    *,
    anchors: Float[Tensor, "N D"] | None = None,
    positives: Float[Tensor, "N D"] | None = None,
    first: int = 0,
    chunk: int | None = None,
) -> Float[Tensor, " B"]:
    """Loss of each pair: finding its partner among the 2 N - 1 other rows, in both directions.

    With ``z = [a_1 .. a_N, p_1 .. p_N]``, ``s`` the dot product of unit vectors and ``t`` the
    temperature, ``-log(exp(s_ij / t) / sum over k != i of exp(s_ik / t))`` for ``(i, j)`` and
    for ``(j, i)``; the loss of a pair is the mean of the two. NT-Xent, Chen et al. (2020),
    eq. 1. In DeCLUTR, Giorgi et al. (2021), ``p`` is the unit vector of the mean of an anchor's
    positives and ``t`` is 0.05; the other anchors of the same document are negatives too.

    The mean over the rows here, then DDP's mean over ranks, is the loss of one process with all
    rows, if the gathered rows carry gradient (`distributed.gather`) and all ranks bring alike
    many.

    Args:
        anchor: unit vectors of this rank's anchors (`similarity.unit`).
        positive: unit vectors of their positives.
        temperature: ``t``, without unit, above 0.
        anchors: unit vectors of the anchors of every rank; None on one rank alone.
        positives: likewise of their positives.
        first: row of this rank's first pair in ``anchors``.
        chunk: as for `row_cross_entropy`.

    Raises:
        ValueError: the temperature is 0 or less.
    """
    if anchors is None or positives is None:
        anchors, positives = anchor, positive
    candidates = torch.cat([anchors, positives])
    # On one rank every row is also a candidate: no second copy.
    alone = anchors is anchor and positives is positive
    queries = candidates if alone else torch.cat([anchor, positive])
    a = torch.arange(first, first + len(anchor), device=anchor.device)
    p = a + len(anchors)
    losses = row_cross_entropy(
        queries, candidates, torch.cat([p, a]), torch.cat([a, p]), temperature, chunk
    )
    return losses.view(2, -1).mean(0)


def row_cross_entropy(
    queries: Float[Tensor, "B D"],
    candidates: Float[Tensor, "N D"],
    positive: Int[Tensor, " B"],
    exclude: Int[Tensor, " B"] | None,
    temperature: float,
    chunk: int | None = None,
) -> Float[Tensor, " B"]:
    """Loss of each query: cross-entropy of naming its positive among the candidates.

    ``log(sum over k of exp(q.c_k / t)) - q.c_p / t``, computed in at least fp32 whatever the
    autocast. Similarities are made a chunk of rows at a time and again in the backward pass, so
    that the memory needed beside the embeddings and their gradients is that of a chunk.

    Args:
        queries: rows, usually unit vectors.
        candidates: rows, usually unit vectors.
        positive: the right candidate of each query.
        exclude: a candidate that each query is not compared with (itself), another than the
            positive; None for no such.
        temperature: ``t``, without unit, above 0.
        chunk: queries at a time; None for as many as have `SCORES` similarities.

    Raises:
        ValueError: the temperature is 0 or less, or the chunk less than 1.
    """
    if temperature <= 0:
        raise ValueError(f"temperature has no unit and must be above 0; got {temperature}.")
    chunk = _chunk(chunk, len(candidates))
    return _RowCrossEntropy.apply(  # pyright: ignore[reportReturnType]
        _exact(queries), _exact(candidates), positive, exclude, temperature, chunk
    )


class _RowCrossEntropy(torch.autograd.Function):
    """`row_cross_entropy` without the whole matrix of similarities in memory."""

    @staticmethod
    def forward(
        ctx: Any,
        queries: Tensor,
        candidates: Tensor,
        positive: Tensor,
        exclude: Tensor | None,
        temperature: float,
        chunk: int,
    ) -> Tensor:
        ctx.temperature, ctx.chunk = temperature, chunk
        ctx.excludes = exclude is not None
        normalisers = queries.new_empty(len(queries))
        right = queries.new_empty(len(queries))
        for part in _parts(len(queries), chunk):
            scores = _scores(queries, candidates, exclude, temperature, part)
            right[part] = scores.gather(1, positive[part, None]).squeeze(1)
            highest = scores.amax(1)
            sums = scores.sub_(highest[:, None]).exp_().sum(1)
            normalisers[part] = highest + sums.log_()
        saved = (queries, candidates, positive, normalisers)
        ctx.save_for_backward(*saved, *(() if exclude is None else (exclude,)))
        return normalisers - right

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any, *gradients: Any
    ) -> tuple[Tensor | None, ...]:
        queries, candidates, positive, normalisers, *rest = ctx.saved_tensors
        exclude = rest[0] if ctx.excludes else None
        weights = gradients[0] / ctx.temperature
        to_queries = torch.empty_like(queries) if ctx.needs_input_grad[0] else None
        to_candidates = torch.zeros_like(candidates) if ctx.needs_input_grad[1] else None
        for part in _parts(len(queries), ctx.chunk):
            shares = _scores(queries, candidates, exclude, ctx.temperature, part)
            shares.sub_(normalisers[part, None]).exp_()  # softmax
            shares.scatter_add_(1, positive[part, None], -torch.ones_like(shares[:, :1]))
            shares.mul_(weights[part, None])
            with torch.autocast(queries.device.type, enabled=False):
                if to_queries is not None:
                    torch.mm(shares, candidates, out=to_queries[part])
                if to_candidates is not None:
                    to_candidates.addmm_(shares.T, queries[part])
        return to_queries, to_candidates, None, None, None, None


def _chunk(wanted: int | None, candidates: int) -> int:
    """Rows at a time: as wanted, or as many as have `SCORES` numbers."""
    if wanted is None:
        return max(1, SCORES // max(1, candidates))
    if wanted < 1:
        raise ValueError(f"chunk counts rows and must be 1 or more; got {wanted}.")
    return wanted


def _by_rows(losses: Callable[..., Tensor], chunk: int, *rows: Tensor) -> Float[Tensor, " B"]:
    """What ``losses`` says of each row, asked a chunk at a time, and again in the backward pass.

    Args:
        losses: of the rows of a chunk, from their numbers and what there is of ``rows`` for them.
        chunk: rows at a time.
        rows: tensors of as many rows.
    """
    numbers = _parts(len(rows[0]), chunk)
    if len(numbers) < 2:  # is kept: it is within the memory of a chunk
        return losses(slice(0, len(rows[0])), *rows)

    def again(*given: Any) -> Tensor:
        # Nothing random is in a loss, and to keep the generators' states would read the device.
        kept = checkpoint(losses, *given, use_reentrant=False, preserve_rng_state=False)
        assert isinstance(kept, Tensor)
        return kept

    # Split and not sliced: the gradient of a slice is as large as all rows.
    parts = zip(numbers, *(tensor.split(chunk) for tensor in rows), strict=True)
    return torch.cat([again(*part) for part in parts])


def _parts(rows: int, chunk: int) -> list[slice]:
    return [slice(start, min(start + chunk, rows)) for start in range(0, rows, chunk)]


def _scores(
    queries: Tensor, candidates: Tensor, exclude: Tensor | None, temperature: float, part: slice
) -> Tensor:
    """``q.c / t`` of some rows, minus infinity where a candidate is left out."""
    scores: Any = _Products.apply(queries[part] / temperature, candidates)
    if exclude is not None:
        scores.scatter_(1, exclude[part, None], -torch.inf)
    return scores


class _Products(torch.autograd.Function):
    """``q.c`` of all rows, which autocast lowers neither here nor in the backward pass."""

    @staticmethod
    def forward(ctx: Any, queries: Tensor, candidates: Tensor) -> Tensor:
        ctx.save_for_backward(queries, candidates)
        with torch.autocast(queries.device.type, enabled=False):
            return queries @ candidates.T

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any, *gradients: Any
    ) -> tuple[Tensor | None, ...]:
        queries, candidates = ctx.saved_tensors
        with torch.autocast(queries.device.type, enabled=False):
            to_queries = gradients[0] @ candidates if ctx.needs_input_grad[0] else None
            to_candidates = gradients[0].T @ queries if ctx.needs_input_grad[1] else None
        return to_queries, to_candidates


def supervised_contrastive(
    rows: Float[Tensor, "B D"],
    labels: Int[Tensor, " B"],
    temperature: float = 0.3,
    *,
    others: Float[Tensor, "N D"] | None = None,
    other_labels: Int[Tensor, " N"] | None = None,
    first: int = 0,
    count_itself: bool = False,
    chunk: int | None = None,
) -> Float[Tensor, " B"]:
    """Loss of each row: finding the rows of its own class among all others.

    With ``s`` the dot product of unit vectors, ``t`` the temperature and ``P`` the other rows of
    the same class, ``-1 / |P| * sum over p in P of log(exp(s_ip / t) / sum over k != i of
    exp(s_ik / t))``: Khosla et al. (2020), eq. 2. A row without another of its class has 0.

    Args:
        rows: unit vectors of this rank (`similarity.unit`).
        labels: the number of each row's class.
        temperature: ``t``, without unit, above 0.
        others: unit vectors of every rank; None on one rank alone.
        other_labels: their classes.
        first: where this rank's first row stands in ``others``.
        count_itself: divide by ``|P| + 1``, as SciRepEval's code does.
        chunk: as for `row_cross_entropy`.

    Raises:
        ValueError: the temperature is 0 or less, or the chunk less than 1.
    """
    if temperature <= 0:
        raise ValueError(f"temperature has no unit and must be above 0; got {temperature}.")
    if others is None or other_labels is None:
        others, other_labels = rows, labels
    if len(others) < 2:  # one row alone is compared with nothing
        return rows.sum(1) * 0
    candidates, classes = _exact(others), other_labels
    itself = torch.arange(first, first + len(rows), device=rows.device)

    def losses(part: slice, queries: Tensor) -> Tensor:
        exclude = itself[part]
        scores = _scores(queries, candidates, exclude, temperature, slice(0, len(queries)))
        alike = (labels[part, None] == classes).scatter_(1, exclude[:, None], False)
        of_class = alike.sum(1)
        own = scores.masked_fill(~alike, 0.0).sum(1)
        total = of_class * torch.logsumexp(scores, 1) - own
        return total / (of_class + int(count_itself)).clamp(min=1)

    return _by_rows(losses, _chunk(chunk, len(others)), _exact(rows))


def masked_lm(logits: Float[Tensor, "K V"], labels: Int[Tensor, " K"]) -> Float[Tensor, ""]:
    """Summed cross-entropy of naming the hidden tokens, in at least fp32.

    A sum, because ranks have unequal numbers of hidden tokens: divided by the number over all
    ranks it is the mean that BERT, Devlin et al. (2019), section 3.1, trains with. Of no tokens
    it is 0, with a gradient of nothing.

    Args:
        logits: of every id of the vocabulary, for each hidden token.
        labels: the ids that were hidden.
    """
    return cross_entropy(_exact(logits), labels, reduction="sum")


def _exact(rows: Tensor) -> Tensor:
    """Half precision raised to fp32; anything else as it is."""
    return rows.float() if rows.dtype in (torch.float16, torch.bfloat16) else rows
