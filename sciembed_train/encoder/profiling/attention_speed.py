"""The time of each implementation of attention on this machine: ``train doctor --measure``.

Shapes: ``T`` tokens of all texts, ``AC`` heads times the width of a head.
"""

from __future__ import annotations

import statistics
import time
import warnings
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from sciembed_train.encoder.unpadded.attention import HALF, WAYS, Layout, attend, preferred, why_not

HEADS, WIDTH = 12, 64  # of BERT base
TEXTS = {"cpu": 16, "cuda": 256}
ROUNDS = {"cpu": 3, "cuda": 20}
FASTER = 1.15  # how much faster another implementation must be to be reported


@dataclass(frozen=True)
class Measured:
    """What was measured for one type of numbers and one dropout.

    Args:
        dtype: of queries, keys and values.
        dropout: of attention weights.
        seconds: of a forward and backward pass of one layer's attention, for each implementation
            that runs here: processor time on a CPU, which other programs do not lengthen, else
            wall time.
        taken: the implementation that ``auto`` chooses.
    """

    dtype: torch.dtype
    dropout: float
    seconds: dict[str, float]
    taken: str

    @property
    def better(self) -> str | None:
        """The fastest implementation, if it is not ``taken`` and faster by `FASTER`."""
        best = min(self.seconds, key=self.seconds.__getitem__)
        return best if self.seconds[best] * FASTER < self.seconds[self.taken] else None


def lengths(texts: int) -> list[int]:
    """Tokens of titles with abstracts: mean about 200, at most 512, the longest first."""
    drawn = np.random.default_rng(0).gamma(200**2 / 90**2, 90**2 / 200, texts)
    return sorted(np.clip(drawn, 8, 512).astype(int).tolist(), reverse=True)


def measure(device: torch.device, texts: int, rounds: int) -> list[Measured]:
    """The time of each implementation, in each type, with and without dropout, in turns.

    Args:
        device: a CPU or an accelerator.
        texts: the number of texts.
        rounds: how often each is timed, after one untimed round; the median counts.
    """
    layout, _ = Layout.of(lengths(texts), device)
    measurements = []
    for dtype in (torch.float32, torch.bfloat16):
        for dropout in (0.0, 0.1):
            setting = device.type, dtype, dropout, WIDTH
            ways = [name for name in WAYS if why_not(name, *setting) is None]
            generator = torch.Generator().manual_seed(0)
            rows = [
                torch.randn(sum(layout.sizes), HEADS * WIDTH, generator=generator)
                .to(device, dtype)
                .requires_grad_()
                for _ in range(3)
            ]
            times: dict[str, list[float]] = {name: [] for name in ways}
            for round_number in range(rounds + 1):
                for name in ways:
                    seconds = _timed(rows, layout, dropout, name)
                    if round_number:
                        times[name].append(seconds)
            medians = {name: statistics.median(values) for name, values in times.items()}
            measurements.append(Measured(dtype, dropout, medians, preferred(*setting)))
    return measurements


def _timed(rows: list[Float[Tensor, "T AC"]], layout: Layout, dropout: float, name: str) -> float:
    on_cpu = rows[0].device.type == "cpu"
    clock = time.process_time if on_cpu else time.perf_counter
    if not on_cpu:
        torch.accelerator.synchronize()
    start = clock()
    with warnings.catch_warnings():
        # On a CPU torch runs these through an older kind of nested tensor, and warns.
        warnings.filterwarnings("ignore", "The PyTorch API of nested tensors")
        query, key, value = rows
        attend(query, key, value, layout, HEADS, dropout, name).sum().backward()
    if not on_cpu:
        torch.accelerator.synchronize()
    return clock() - start


def table(found: list[Measured], where: str) -> str:
    """The measurements for people, and where another implementation than ``auto``'s is faster."""
    lines = [
        f"Attention of one layer ({HEADS} heads of {WIDTH}), forward and backward on {where}: ms",
        f"  {'numbers':<10}{'dropout':<9}" + "".join(f"{name:>10}" for name in WAYS) + "  auto",
    ]
    for row in found:
        cells = "".join(
            f"{1000 * row.seconds[name]:>10.2f}" if name in row.seconds else f"{'-':>10}"
            for name in WAYS
        )
        kind = "bf16" if row.dtype in HALF else "fp32"
        lines.append(f"  {kind:<10}{row.dropout:<9}{cells}  {row.taken}")
    for row in found:
        if row.better:
            times = row.seconds[row.taken] / row.seconds[row.better]
            kind = "bf16" if row.dtype in HALF else "fp32"
            lines.append(
                f"In {kind} with dropout {row.dropout} {row.better} is {times:.2f} times as fast "
                f"here as {row.taken}: give --model.encoder.attention {row.better}."
            )
    if not any(row.better for row in found):
        lines.append("auto takes the fastest here.")
    return "\n".join(lines)


def report() -> str:
    """The table of this machine: of its accelerator, or of its CPU where there is none."""
    device = torch.accelerator.current_accelerator() or torch.device("cpu")
    size = "cpu" if device.type == "cpu" else "cuda"
    where = torch.cuda.get_device_name() if device.type == "cuda" else device.type
    return table(measure(device, TEXTS[size], ROUNDS[size]), where)
