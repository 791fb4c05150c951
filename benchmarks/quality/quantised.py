"""How much of a model's nDCG is kept when its vectors are cut and stored in fewer bytes.

    python -m benchmarks.quality.quantised --model MODEL --to FOLDER [--dims 384 192 96]
        [--dtypes float32 float16 int8 binary] PLACE [PLACE ...]

A PLACE is the folder of a benchmark, as ``evaluate --suite`` recognises it. Each dim and dtype is
scored as ``evaluate --dim D --dtype T`` does; texts are embedded once, at full width, and kept in
``--to``. The table of every metric named nDCG goes to standard output: what is kept is the share
of the first dim's and dtype's.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from benchmarks import command_line
from sciembed_train.evaluation.evaluate_settings import EvaluateSettings
from sciembed_train.evaluation.run_benchmark import run_benchmark
from sciembed_train.evaluation.suite.entries import Entry, open_suite
from sciembed_train.inference.options import Dtype, EmbedSettings, ScoreSettings
from sciembed_train.inference.quantisation import Quantisation


def row_bytes(dim: int, dtype: Dtype) -> int:
    """Bytes of a stored vector."""
    stored = Quantisation(dtype, dim)
    return stored.width * np.dtype(stored.stored_type).itemsize


def scores(entry: Entry, model: str, dim: int, dtype: Dtype, cache: Path) -> dict[str, float]:
    """The metrics of a benchmark that are nDCG."""
    settings = EvaluateSettings(
        entry.benchmark,
        entry.data,
        model,
        embed=EmbedSettings(dim=dim),
        score=ScoreSettings(scorer="document", dtype=dtype),
        cache=cache,
        **dict(entry.options),
    )
    found = run_benchmark(settings)
    return {name: value for name, value in found.metrics.items() if "ndcg" in name}


def table(
    places: list[str], model: str, dims: list[int], dtypes: list[Dtype], to: Path
) -> list[str]:
    """Rows of a Markdown table."""
    lines = [
        "| benchmark | metric | dim | dtype | bytes a vector | nDCG | kept |",
        "|---|---|--:|---|--:|--:|--:|",
    ]
    for entry in (entry for place in places for entry in open_suite(place).entries):
        whole: dict[str, float] = {}
        for dim in dims:
            for dtype in dtypes:
                for name, value in scores(entry, model, dim, dtype, to).items():
                    share = value / whole.setdefault(name, value)
                    cells = (
                        *(entry.name, name, dim, dtype, row_bytes(dim, dtype)),
                        *(f"{value:.4f}", f"{share:.1%}"),
                    )
                    lines.append(f"| {' | '.join(map(str, cells))} |")
    return lines


def main() -> None:
    """Print the table."""
    parser = command_line.parser(__doc__)
    parser.add_argument("places", nargs="+", metavar="PLACE")
    parser.add_argument("--model", required=True)
    parser.add_argument("--to", required=True, type=Path)
    parser.add_argument("--dims", nargs="+", type=int, default=[384, 192, 96])
    parser.add_argument("--dtypes", nargs="+", default=["float32", "float16", "int8", "binary"])
    given = parser.parse_args()
    print("\n".join(table(given.places, given.model, given.dims, given.dtypes, given.to)))


if __name__ == "__main__":
    main()
