"""What gradient caching costs and saves: a step whose share is cut against the same step uncut.

    python -m benchmarks.speed.gradient_cache [--backbone FOLDER_OR_NAME]

Co-citation training where every pair meets all others (`methods.aspire.Cocite`, cross-entropy),
the 6-layer encoder that is given, texts of random ids of title-and-abstract lengths. Both sides
have equal weights and texts and take turns; time is that of the processor, on a GPU the clock's.
Memory is the most bytes of tensors that live at once in a step
(`encoder.profiling.memory`), beside weights,
gradients and optimiser; on a GPU the allocator's peak. Gradients are compared once, with dropout 0.
"""

from __future__ import annotations

import statistics
import time

import numpy as np
import torch
from torch import Tensor

from benchmarks import command_line
from benchmarks.encoders import minilm
from sciembed_train.batch import PairBatch, TokenRows
from sciembed_train.encoder.encoder import EncoderSettings
from sciembed_train.encoder.profiling.memory import Watched
from sciembed_train.methods.aspire import Cocite


def drawn(pairs: int, longest: int) -> PairBatch:
    """Pairs of texts of random ids: mean 180 tokens, 300 at the 90th percentile, cut."""
    generator = np.random.default_rng(0)
    sizes = generator.lognormal(np.log(165), 0.45, 2 * pairs).clip(16, longest).astype(np.int64)
    ids = torch.from_numpy(generator.integers(1000, 20000, int(sizes.sum())))
    own = torch.arange(pairs)
    return PairBatch(
        TokenRows(ids, torch.from_numpy(sizes)),
        own,
        own + pairs,
        own.roll(1),
        torch.stack([own, own], dim=1),
        0,
    )


def step(method: Cocite, batch: PairBatch, tokens: int | None, precision: str) -> dict[str, Tensor]:
    """Forward and backward of a step, cut or not."""
    kind = method.encoder.device.type
    method.zero_grad(set_to_none=False)
    with torch.autocast(kind, torch.bfloat16, enabled=precision == "bf16"):
        return method.gradients(*method.split_micro_batches(batch, tokens))


def timed(method: Cocite, batch: PairBatch, tokens: int | None, precision: str) -> float:
    """Seconds of the processor, or on a GPU of the clock."""
    cuda = torch.cuda.is_available()
    clock = time.perf_counter if cuda else time.process_time
    start = clock()
    step(method, batch, tokens, precision)
    if cuda:
        torch.cuda.synchronize()
    return clock() - start


def gradient(method: Cocite) -> Tensor:
    """All of it, end to end."""
    return torch.cat([p.grad.flatten() for p in method.parameters() if p.grad is not None])


def main() -> None:
    """Print the table."""
    parser = command_line.parser(__doc__)
    parser.add_argument("--backbone", default=minilm())
    parser.add_argument("--pairs", type=int, default=48)
    parser.add_argument("--micro-batches", type=int, nargs="+", default=[4096, 2048, 1024])
    parser.add_argument("--longest", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--precisions", nargs="+", default=["fp32", "bf16"])
    parser.add_argument("--dropout", type=float, default=0.0)
    args = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    encoder = EncoderSettings(args.backbone, max_length=args.longest, dropout=args.dropout)
    method = Cocite(encoder, negatives="all", temperature=1.0)
    method.to(device)
    batch = drawn(args.pairs, args.longest)
    print(
        f"{args.pairs} pairs, {batch.rows.tokens:,} tokens, dropout {args.dropout}, {device.type}, "
        f"torch {torch.__version__}, {torch.get_num_threads()} threads\n"
    )
    print(
        "| precision | max_tokens_per_backward | micro-batches | s a step | times the plain | GB "
        "| gradient apart |"
    )
    print("|---|---|---|---|---|---|---|")
    for precision in args.precisions:
        sides = [None, *args.micro_batches]
        seconds: dict[int | None, list[float]] = {side: [] for side in sides}
        memory, apart, plain = {}, {}, torch.empty(0)
        for side in sides:  # also warms up
            with Watched(device) as watched:
                step(method, batch, side, precision)
            memory[side] = watched.most / 1e9
            plain = gradient(method) if side is None else plain
            apart[side] = ((gradient(method) - plain).norm() / plain.norm()).item()
        for _ in range(args.rounds):
            for side in sides:
                seconds[side].append(timed(method, batch, side, precision))
        for side in sides:
            ratios = [a / b for a, b in zip(seconds[side], seconds[None], strict=True)]
            ratio = f"{statistics.median(ratios):.2f} ({min(ratios):.2f}-{max(ratios):.2f})"
            micro_batches = len(method.split_micro_batches(batch, side)[1])
            print(
                f"| {precision} | {side or 'none'} | {micro_batches} | "
                f"{statistics.median(seconds[side]):.2f} | {ratio if side else 1} | "
                f"{memory[side]:.2f} | {f'{apart[side]:.1e}' if side else ''} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
