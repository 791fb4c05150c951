"""Time of reading a file of citations, beside a loop over its rows; a table.

    python -m benchmarks.speed.citation_reading [--papers 300000] [--citations 2000000] [--rounds 3]

The loop is Python's csv reader with a dictionary of the papers' ids, and a set of the pairs that it
has seen: what a script for one collection does, and how this program read citations before. Both
give the same pairs, which is checked. A tenth of the ids are unknown. Both sides take turns in
one process; times are CPU seconds and wall seconds for a million rows.
"""

from __future__ import annotations

import csv
import os
import platform
import tempfile
import time
from pathlib import Path
from statistics import median

import numpy as np

from benchmarks import command_line
from sciembed_train.corpus.audit import Audit
from sciembed_train.corpus.citations.citation_files import CitationFiles
from sciembed_train.corpus.citations.citation_rows import read_citations
from sciembed_train.corpus.papers import Papers
from sciembed_train.corpus.readers.tables import Table
from sciembed_train.progress import Progress, Stage


def write_citations(path: Path, papers: int, rows: int) -> None:
    """Random citations; ids of nine letters and digits, as hashes are in no order."""
    rng = np.random.default_rng(0)
    with path.open("w", encoding="utf-8") as file:
        file.write("citing\tcited\n")
        for start in range(0, rows, 500_000):
            pairs = rng.integers(0, papers * 10 // 9, (min(500_000, rows - start), 2))
            file.write("".join(f"p{a:08d}\tp{b:08d}\n" for a, b in pairs.tolist()))


def by_loop(path: Path, number: dict[str, int]) -> np.ndarray:
    """Distinct pairs of known papers, ascending, row by row."""
    n, seen = len(number), set()
    with path.open(encoding="utf-8", newline="") as file:
        rows = csv.reader(file, delimiter="\t")
        next(rows)
        for a, b in rows:
            i, j = number.get(a), number.get(b)
            if i is not None and j is not None and i != j:
                seen.add(i * n + j)
    keys = np.sort(np.fromiter(seen, np.int64, len(seen)))
    return np.stack([keys // n, keys % n], axis=1)


def by_blocks(path: Path, papers: Papers, work: Path) -> np.ndarray:
    """The same by the program."""
    stage = Stage(Progress(quiet=True), "citations", None, "rows")
    table = Table(path, "citations")
    blocks = CitationFiles(table, papers.finder, {}).blocks()
    return read_citations(blocks, table, papers, Audit("citations"), stage, work)


def main() -> None:
    parser = command_line.parser(__doc__)
    parser.add_argument("--papers", type=int, default=300_000)
    parser.add_argument("--citations", type=int, default=2_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    ids = [f"p{i:08d}" for i in range(args.papers)]
    number = {paper_id: i for i, paper_id in enumerate(ids)}
    papers = Papers(ids, number, np.ones(len(ids), bool))
    times: dict[str, list[tuple[float, float]]] = {"loop": [], "blocks": []}
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        path = work / "citations.tsv"
        write_citations(path, args.papers, args.citations)
        sides = {
            "loop": lambda: by_loop(path, number),
            "blocks": lambda: by_blocks(path, papers, work),
        }
        for _ in range(args.rounds):
            results = []
            for side, run in sides.items():
                cpu, wall = time.process_time(), time.monotonic()
                results.append(run())
                times[side].append((time.process_time() - cpu, time.monotonic() - wall))
            assert np.array_equal(*results)
    millions = args.citations / 1e6
    print(
        f"{args.citations:,} citations of {args.papers:,} papers; {platform.machine()}, "
        f"{os.cpu_count()} cores, Python {platform.python_version()}\n"
    )
    print("| | CPU s a million, median | wall s a million, median |\n|---|---|---|")
    for side, found in times.items():
        cpu, wall = (median(values) / millions for values in zip(*found, strict=True))
        print(f"| {side} | {cpu:.2f} | {wall:.2f} |")
    for place, kind in enumerate(("CPU", "wall")):
        ratios = [a[place] / b[place] for a, b in zip(*times.values(), strict=True)]
        spread = ", ".join(f"{ratio:.1f}" for ratio in ratios)
        print(f"\nloop / blocks, {kind}: {median(ratios):.1f} ({spread})")


if __name__ == "__main__":
    main()
