"""Memory and time of an in-batch loss, in chunks of rows and as the whole matrix.

    python -m benchmarks.speed.loss_memory                  # CPU: up to 16,384 rows, 768 wide
    python -m benchmarks.speed.loss_memory --rows 65536     # takes long; best on a GPU
    python -m benchmarks.speed.loss_memory --loss margin    # or infonce, classes

Forward and backward of ``cosines`` (`losses.row_cross_entropy` of unit vectors), ``margin`` and
``infonce`` (`losses.candidate_loss` on Euclidean distance, without and with a temperature) and
``classes`` (`losses.supervised_contrastive`). What it takes is counted beside the vectors and
their gradients, as the most bytes of tensors that live at once
(`encoder.profiling.memory`); on a GPU as
the allocator's peak. Both ways take turns at the sizes where the whole matrix fits.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, relu

from benchmarks import command_line
from sciembed_train.encoder.profiling.memory import Watched
from sciembed_train.losses.contrastive import row_cross_entropy
from sciembed_train.losses.similarity import EPSILON, unit
from sciembed_train.losses.supervised_contrastive import supervised_contrastive
from sciembed_train.methods.in_batch_negatives import against_candidates, outside_pairs

Way = Callable[[Tensor, Tensor], Tensor]
TEMPERATURE = 0.05
MEMBERS = 4  # rows of a class


def numbers(rows: Tensor) -> Tensor:
    """The number of each row."""
    return torch.arange(len(rows), device=rows.device)


def chunked(queries: Tensor, candidates: Tensor) -> Tensor:
    """Cosines, this project's."""
    return row_cross_entropy(queries, candidates, numbers(queries), None, TEMPERATURE).mean()


def whole(queries: Tensor, candidates: Tensor) -> Tensor:
    """Cosines, the whole matrix, as torch's cross-entropy takes it."""
    return cross_entropy(queries @ candidates.T / TEMPERATURE, numbers(queries))


def distances(temperature: float | None) -> tuple[Way, Way]:
    """Every pair against the others' positives, in chunks and by whole matrices of torch's."""

    def chunked(queries: Tensor, candidates: Tensor) -> Tensor:
        own = numbers(queries)
        allowed = outside_pairs(torch.stack([own, own], dim=1), len(candidates))
        return against_candidates(queries, candidates, candidates, allowed, 1.0, temperature).mean()

    def whole(queries: Tensor, candidates: Tensor) -> Tensor:
        exact = "donot_use_mm_for_euclid_dist"
        far = torch.cdist(queries + EPSILON, candidates, compute_mode=exact)
        if temperature is not None:  # the positive is a candidate too
            return cross_entropy(-far / temperature, numbers(queries))
        own = torch.eye(len(queries), dtype=torch.bool, device=queries.device)
        hinges = relu(far.diagonal()[:, None] - far + 1.0) * ~own
        return hinges.sum() / (len(queries) * (len(candidates) - 1))

    return chunked, whole


def classes() -> tuple[Way, Way]:
    """Rows of two lists in classes of a few, in chunks and by the whole matrix."""

    def chunked(queries: Tensor, candidates: Tensor) -> Tensor:
        named = numbers(queries) // MEMBERS
        return supervised_contrastive(
            queries, named, TEMPERATURE, others=candidates, other_labels=named
        ).mean()

    def whole(queries: Tensor, candidates: Tensor) -> Tensor:
        named = numbers(queries) // MEMBERS
        itself = torch.eye(len(queries), dtype=torch.bool, device=queries.device)
        scores = (queries @ candidates.T / TEMPERATURE).masked_fill(itself, -torch.inf)
        alike = (named[:, None] == named) & ~itself
        shares = scores.log_softmax(1).masked_fill(~alike, 0.0)
        return -shares.sum() / alike.sum()

    return chunked, whole


WAYS: dict[str, tuple[Way, Way]] = {
    "cosines": (chunked, whole),
    "margin": distances(None),
    "infonce": distances(TEMPERATURE),
    "classes": classes(),
}


def measured(way: Way, given: tuple[Tensor, Tensor]) -> tuple[float, list[Tensor], float, float]:
    """Loss, gradients, GB beside vectors and gradients, and seconds of the processor or device."""
    leaves = [rows.detach().requires_grad_() for rows in given]
    for leaf in leaves:
        leaf.grad = torch.zeros_like(leaf)
    device = given[0].device
    clock = time.perf_counter if device.type == "cuda" else time.process_time
    with Watched(device) as watched:
        loss = way(*leaves)
        loss.backward()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    # What the loss gives back, before it is added to the gradients that are there, is one more
    # copy of them in either way.
    gradients = [leaf.grad for leaf in leaves if leaf.grad is not None]
    copies = sum(g.numel() * g.element_size() for g in gradients)
    start = clock()
    way(*leaves).backward()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return loss.item(), gradients, (watched.most - copies) / 1e9, clock() - start


def main() -> None:
    """Print the table."""
    parser = command_line.parser(__doc__)
    cuda = torch.cuda.is_available()
    parser.add_argument("--rows", type=int, default=65536 if cuda else 16384)
    parser.add_argument("--full", type=int, default=32768 if cuda else 8192)
    parser.add_argument("--loss", choices=list(WAYS), default="cosines")
    parser.add_argument("--width", type=int, default=768)
    args = parser.parse_args()
    device = torch.device("cuda" if cuda else "cpu")
    print("| rows | chunks, GB | whole, GB | chunks, s | whole, s | loss apart | gradient apart |")
    print("|---|---|---|---|---|---|---|")
    size = args.rows
    sizes = []
    while size >= 1024:
        sizes.insert(0, size)
        size //= 2
    for rows in sizes:
        torch.manual_seed(0)
        queries = unit(torch.randn(rows, args.width, device=device))
        # As when training has begun: a positive is nearer than the others.
        candidates = unit(queries + 0.5 * torch.randn_like(queries))
        loss, ours, memory, seconds = measured(WAYS[args.loss][0], (queries, candidates))
        cells = [f"{rows:,}", f"{memory:.3f}", "", f"{seconds:.2f}", "", "", ""]
        if rows <= args.full:
            other, full, all_, slow = measured(WAYS[args.loss][1], (queries, candidates))
            cells[2], cells[4] = f"{all_:.3f}", f"{slow:.2f}"
            cells[5] = f"{abs(loss - other) / abs(other):.1e}"
            apart = max(((a - b).norm() / b.norm()).item() for a, b in zip(ours, full, strict=True))
            cells[6] = f"{apart:.1e}"
        print(f"| {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
