"""Hours of the published runs on 1 and 8 GPUs, from a measured rate: one table, by calculation.

    python -m benchmarks.calculators.training_hours --tokens-per-second N
    python -m benchmarks.calculators.training_hours --share 0.5 --peak 790e12
    python -m benchmarks.calculators.training_hours --output throughput.md --row scibert-shape-1024

``--tokens-per-second`` is of real tokens of 12 layers 768 wide in training; ``--share`` is of the
peak, whose floating-point operations a second ``--peak`` gives; ``--output`` is what
`benchmarks/speed/throughput.py` printed, of which one row is read. 8 GPUs are taken for 8 times
one.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks import command_line

LAYERS, WIDTH = 12, 768
SHORTEST, LONGEST, MEAN, DEVIATION = 8, 512, 200.0, 90.0  # tokens of title and abstract
WORDS, MASKED = 31_090, 0.15  # of SciBERT; share of an anchor's tokens that its head is asked for


@dataclass(frozen=True)
class Stage:
    """A published run.

    Args:
        name: which.
        texts: that are encoded in all.
        tokens: of a text, mean.
        attended: mean square of the tokens over their mean.
        passes: of a forward pass's cost: 3 with a backward pass, 2 where the weights are frozen.
        more: FLOPs a token beside the layers.
    """

    name: str
    texts: float
    tokens: float
    attended: float
    passes: float = 3.0
    more: float = 0.0

    @property
    def all_tokens(self) -> float:
        """Real tokens of the run."""
        return self.texts * self.tokens

    @property
    def flops(self) -> float:
        """Of the run."""
        return self.all_tokens * (self.passes * forward(self.attended) + self.more)


def forward(attended: float) -> float:
    """FLOPs of a token's forward pass: each weight is multiplied and added, and so is attention."""
    weights = 12 * WIDTH**2 * LAYERS
    return 2 * weights + 4 * attended * WIDTH * LAYERS


def abstracts(seed: int = 0) -> tuple[float, float]:
    """Mean tokens of a title and abstract, and mean square over mean: gamma, clipped."""
    rng = np.random.default_rng(seed)
    shape = (MEAN / DEVIATION) ** 2
    drawn = np.clip(rng.gamma(shape, MEAN / shape, 400_000).round(), SHORTEST, LONGEST)
    return drawn.mean(), (drawn**2).mean() / drawn.mean()


def spans(low: int = 32, high: int = 512) -> tuple[float, float, float]:
    """The same of DeCLUTR's spans, an anchor (Beta(4, 2)) to two positives (Beta(2, 4)).

    And the FLOPs a token of its head, forward and backward, which reads anchors alone.
    """
    rng = np.random.default_rng(0)
    anchors, near = rng.beta(4, 2, 100_000), rng.beta(2, 4, 200_000)
    drawn = low + (high - low) * np.concatenate([anchors, near])
    share = drawn[: len(anchors)].sum() / drawn.sum()
    head = 3 * 2 * WIDTH * WORDS * MASKED * share
    return drawn.mean(), (drawn**2).mean() / drawn.mean(), head


def stages(papers: float) -> list[Stage]:
    """The published runs.

    Args:
        papers: distinct papers of a triplet where queries are grouped; 3 where nothing is shared.
    """
    tokens, attended = abstracts()
    length, near, head = spans()
    triplets = 6e6 * 2
    single, triple = 4 * 600_000, 4 * 600_000 * 3  # texts of eight tasks of 600,000 at most
    return [
        Stage("SPECTER2 base, shuffled", 3 * triplets, tokens, attended),
        Stage(f"SPECTER2 base, grouped ({papers:.2f})", papers * triplets, tokens, attended),
        Stage("SPECTER2 adapters, at most", 6 * (single + triple), tokens, attended, 2.0),
        Stage("DeCLUTR-sci-base", 2e6 * 2 * 3, length, near, more=head),
        Stage("CoCite", 2 * 1_276_820, tokens, attended),
    ]


def read_rate(path: Path, row: str) -> tuple[str, float]:
    """The kind and value of the rate that a table has in a row: tokens a second, or a share.

    Raises:
        SystemExit: the file has no such row, or no rate in it.
    """
    header: list[str] = []
    for line in path.read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        if cells[0] == "row":
            header = cells
        elif cells[0] == row and len(cells) == len(header):
            for name, cell in zip(header, cells, strict=True):
                value = cell.split(" ")[0].replace(",", "")
                if "tokens/s" in name.lower():
                    return "tokens", float(value)
                if "peak" in name.lower() and "share" in name.lower():
                    return "share", float(value)
    raise SystemExit(f"{path}: has no row {row!r} with a column of tokens/s or share of the peak.")


def read_peak(path: Path) -> float:
    """The peak that was measured together with a table's shares, in operations a second.

    Raises:
        SystemExit: the file does not tell.
    """
    found = re.search(r"bf16 peak (\d+) TFLOP/s", path.read_text(encoding="utf-8"))
    if found is None:
        raise SystemExit(f"{path}: does not tell the bf16 peak that its shares are of.")
    return float(found[1]) * 1e12


def table(runs: list[Stage], flops_per_second: float | None) -> str:
    """FLOPs of each run, the share of the peak that some hours need, and hours at the rate."""
    lines = [
        "| run | texts | real tokens | FLOPs | hours on 1 GPU | hours on 8 |",
        "|" + "---|" * 6,
    ]
    for run in runs:
        hours = ["still to be measured"] * 2
        if flops_per_second:
            one = run.flops / flops_per_second / 3600
            hours = [f"{one:.2f}", f"{one / 8:.2f}"]
        cells = [f"{run.texts:.3g}", f"{run.all_tokens:.3g}", f"{run.flops:.3g}", *hours]
        lines.append("| " + " | ".join([run.name, *cells]) + " |")
    return "\n".join(lines)


def needed(run: Stage, hours: float, peak: float) -> str:
    """What rate makes a run last so many hours on one GPU."""
    tokens = run.all_tokens / hours / 3600
    share = run.flops / hours / 3600 / peak
    floor = run.flops / peak / 3600
    return (
        f"{run.name} in {hours:g} h: {tokens:,.0f} real tokens/s, {share:.0%} of {peak / 1e12:g} "
        f"TFLOP/s (floor at the whole peak {floor:.2f} h)"
    )


def main() -> None:
    parser = command_line.parser(__doc__)
    parser.add_argument("--tokens-per-second", type=float)
    parser.add_argument("--share", type=float)
    parser.add_argument("--peak", type=float, default=790e12)
    parser.add_argument("--output", type=Path)
    parser.add_argument("--row", default="scibert-shape-1024")
    parser.add_argument("--papers", type=float, default=2.2, help="of a triplet, grouped")
    args = parser.parse_args()
    tokens, share = args.tokens_per_second, args.share
    if args.output:
        kind, value = read_rate(args.output, args.row)
        tokens, share = (value, None) if kind == "tokens" else (None, value)
        if share:
            args.peak = read_peak(args.output)
    runs = stages(args.papers)
    rate = None
    if tokens:
        base = runs[0]
        rate = tokens * base.flops / base.all_tokens
    elif share:
        rate = share * args.peak
    print(table(runs, rate))
    print()
    for run, hours in ((runs[0], 3), (runs[1], 2)):
        print(needed(run, hours, args.peak))


if __name__ == "__main__":
    main()
