"""Time and memory of preparing a large invented corpus: one table.

    python -m benchmarks.speed.mining [--papers 1000000] [--citations 10000000] [--tokenizer FOLDER]
        [--hubs 0] [--hub-citers 1000000] [--long-lists 0] [--inputs FOLDER]

The graph is invented: topics of very unequal size, numbers of references with a heavy tail, most
references inside the topic, all to earlier papers, popular ones far more often; where asked, a few
hubs that a million papers cite and papers with very long lists of references. Preparing runs in a
process of its own, whose peak resident memory (database included: it is in that process) is read
from the system for each stage.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks import command_line
from sciembed_train.progress import Progress, Stage

PAPERS = 1_000_000  # whose citations are invented together
REFERENCES = 50_000  # of a long list
Keys = NDArray[np.int64]


def invent_citations(n: int, wanted: int, seed: int = 0, others: Keys | None = None) -> Keys:
    """At most ``wanted`` distinct citations of ``n`` papers, ``citing * n + cited`` in no order.

    They are to earlier papers; ``others`` are added.
    """
    rng = np.random.default_rng(seed)
    topics = max(n // 500, 1)
    share = 1 / np.arange(1, topics + 1) ** 0.8
    topic = rng.choice(topics, n, p=share / share.sum())
    degree = rng.lognormal(0, 0.9, n)
    degree = np.minimum(
        (degree * 1.2 * wanted / degree.sum() + rng.random(n)).astype(np.int64), 400
    )
    members = np.argsort(topic, kind="stable")
    starts = np.searchsorted(topic[members], np.arange(topics))
    place = np.empty(n, np.int64)
    place[members] = np.arange(n) - starts[topic[members]]
    parts = []
    for low in range(0, n, PAPERS):
        citing = np.repeat(np.arange(low, min(low + PAPERS, n)), degree[low : low + PAPERS])
        # A popular paper is one whose place among the earlier ones is low: u^3 piles up near 0.
        popular = rng.random(len(citing)) ** 3
        inside = rng.random(len(citing)) < 0.75
        earlier = np.where(inside, place[citing], citing)
        chosen = (popular * earlier).astype(np.int64)
        cited = np.where(inside, members[np.minimum(starts[topic[citing]] + chosen, n - 1)], chosen)
        parts.append(np.unique((citing * n + cited)[(earlier > 0) & (cited != citing)]))
    keys = np.concatenate(parts)
    del parts
    rng.shuffle(keys)
    keys = keys[:wanted]
    if others is not None:
        keys = np.unique(np.concatenate([keys, others]))
        rng.shuffle(keys)
    return keys


def invent_hubs(n: int, hubs: int, citers: int, lists: int, references: int) -> Keys:
    """Citations as keys: of each of some hubs by many papers, and of many papers by some."""
    rng = np.random.default_rng(2)
    chosen = rng.choice(n, hubs + lists, replace=False)
    keys = [np.empty(0, np.int64)]
    for number, paper in enumerate(chosen.tolist()):
        many = rng.choice(n, min(citers if number < hubs else references, n), replace=False)
        many = many[many != paper]
        keys.append(many * n + paper if number < hubs else paper * n + many)
    return np.concatenate(keys)


def write_inputs(
    folder: Path,
    n: int,
    wanted: int,
    words: int,
    hubs: int = 0,
    hub_citers: int = 1_000_000,
    long_lists: int = 0,
) -> tuple[Path, Path]:
    """Files of invented papers and citations, in no order; those that are there are kept."""
    said = json.dumps([n, wanted, words, hubs, hub_citers, long_lists])
    papers, citations, note = (folder / name for name in ("papers.jsonl", "citations.tsv", "made"))
    if note.is_file():
        if note.read_text() != said:
            raise SystemExit(f"{folder} holds other inputs: {note.read_text()}. Remove it.")
        return papers, citations
    others = None
    if hubs or long_lists:
        others = invent_hubs(n, hubs, hub_citers, long_lists, REFERENCES)
    keys = invent_citations(n, wanted, others=others)
    del others
    rng = np.random.default_rng(1)
    names = _names(rng.permutation(10 * n)[:n], 10 * n)
    _write_citations(citations, keys, names, n)
    del keys
    consonants, vowels = list("bcdfglmnprstv"), list("aeiou")
    syllables = [c + v for c in consonants for v in vowels]
    vocabulary = ["".join(rng.choice(syllables, k)) for k in rng.integers(2, 5, 20_000)]
    with papers.open("w", encoding="utf-8") as file:
        for start in range(0, n, 10_000):
            count = min(10_000, n - start)
            drawn = (rng.random((count, words + 8)) ** 2 * len(vocabulary)).astype(int)
            ids = names[start : start + count].tobytes().decode()
            width = names.shape[1]
            for i, row in enumerate(drawn.tolist()):
                text = [vocabulary[w] for w in row]
                paper_id, title = ids[i * width : (i + 1) * width], " ".join(text[:8])
                file.write(
                    f'{{"paper_id": "{paper_id}", "title": "{title}", '
                    f'"abstract": "{" ".join(text[8:])}"}}\n'
                )
    note.write_text(said)
    return papers, citations


def _names(numbers: np.ndarray, below: int) -> np.ndarray:
    """Ids such as P00000017 as rows of letters ``[P, letters]`` uint8."""
    width = max(8, len(str(below - 1)))
    names = np.empty((len(numbers), width + 1), np.uint8)
    names[:, 0] = ord("P")
    for place in range(width):
        names[:, width - place] = ord("0") + numbers // 10**place % 10
    return names


def _write_citations(path: Path, keys: Keys, names: np.ndarray, n: int) -> None:
    width = names.shape[1]
    with path.open("wb") as file:
        file.write(b"citing\tcited\n")
        for start in range(0, len(keys), 500_000):
            citing, cited = np.divmod(keys[start : start + 500_000], n)
            lines = np.empty((len(citing), 2 * width + 2), np.uint8)
            lines[:, :width], lines[:, width] = names[citing], ord("\t")
            lines[:, width + 1 : -1], lines[:, -1] = names[cited], ord("\n")
            file.write(lines.tobytes())


class MeasuredProgress(Progress):
    """Keeps the peak of resident memory of each stage too, in bytes, where the system tells it."""

    def __init__(self) -> None:
        super().__init__()
        self.peaks: dict[str, int] = {}
        self.peak = 0

    @contextmanager
    def stage(
        self, name: str, total: int | None = None, unit: str = "rows", done: int = 0
    ) -> Iterator[Stage]:
        """As `Progress.stage`."""
        self.note_peak()
        with super().stage(name, total, unit, done) as stage:
            yield stage
        self.peaks[name] = self.note_peak()

    def note_peak(self) -> int:
        """The peak since this was asked last; `peak` has the highest of all."""
        status = Path("/proc/self/status")
        if not status.is_file():
            return 0
        peak = int(status.read_text().split("VmHWM:")[1].split()[0]) * 1024
        Path("/proc/self/clear_refs").write_text("5")  # begins a new peak
        self.peak = max(self.peak, peak)
        return peak


def run_prepare(arguments: dict) -> None:
    """The measured process: prepares, and prints what it took as JSON."""
    from sciembed_train.corpus.build import prepare
    from sciembed_train.corpus.prepare_settings import PrepareSettings

    progress = MeasuredProgress()
    started = time.monotonic()
    corpus = prepare(PrepareSettings(**arguments), progress)
    told = {
        "seconds": progress.seconds | {"all": time.monotonic() - started},
        "cpu": time.process_time(),
        "peaks": progress.peaks,
        "peak": max(progress.note_peak(), progress.peak),
        "counts": corpus.info["counts"],
        "tokens": sum(store["tokens"] for store in corpus.info["token_stores"].values()),
    }
    print(json.dumps(told))


def main() -> None:
    parser = command_line.parser(__doc__)
    parser.add_argument("--papers", type=int, default=1_000_000)
    parser.add_argument("--citations", type=int, default=10_000_000)
    parser.add_argument("--words", type=int, default=60, help="of an abstract")
    parser.add_argument("--hubs", type=int, default=0, help="papers that very many cite")
    parser.add_argument("--hub-citers", type=int, default=1_000_000, help="how many, at most all")
    parser.add_argument(
        "--long-lists", type=int, default=0, help=f"papers with {REFERENCES:,} references"
    )
    parser.add_argument("--inputs", type=Path, help="keep the invented files here, and use them")
    parser.add_argument("--memory", default="4GB")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--tokenizer", help="also tokenise the texts with this")
    parser.add_argument("--measured", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.measured:
        run_prepare(json.loads(args.measured))
        return
    made = args.papers, args.citations, args.words, args.hubs, args.hub_citers, args.long_lists
    if args.inputs is not None:
        args.inputs.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=args.inputs) as name:
        folder = Path(name)
        papers, citations = write_inputs(args.inputs or folder, *made)
        sizes = papers.stat().st_size / 1e6, citations.stat().st_size / 1e6
        arguments = {
            "papers": str(papers),
            "citations": str(citations),
            "to": str(folder / "corpus"),
            "memory": args.memory,
            "threads": args.threads,
            "tokenizer": args.tokenizer,
        }
        command = [sys.executable, "-m", __spec__.name, "--measured", json.dumps(arguments)]
        # With the terminal's error stream the child says how far it is.
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        told = json.loads(done.stdout)
    import duckdb

    counts = told["counts"]
    print(f"papers {counts['papers']:,} ({sizes[0]:.0f} MB), ", end="")
    print(f"citations {counts['citations']:,} ({sizes[1]:.0f} MB), memory {args.memory}; ", end="")
    print(f"Python {platform.python_version()}, DuckDB {duckdb.__version__}, ", end="")
    print(f"{os.cpu_count()} cores")
    print("\n| stage | seconds | peak GB |\n|---|---|---|")
    for stage, seconds in told["seconds"].items():
        peak = told["peaks"].get(stage, told["peak"])
        print(f"| {stage} | {seconds:.1f} | {peak / 1e9:.2f} |")
    total = sum(counts["triplets"].values())
    print(f"\n{total:,} triplets, {sum(counts['hard'].values()):,} with a hard negative; ", end="")
    print(f"{told['tokens']:,} tokens; ", end="")
    print(f"{told['cpu']:.0f} CPU seconds; peak memory {told['peak'] / 1e9:.2f} GB")


if __name__ == "__main__":
    main()
