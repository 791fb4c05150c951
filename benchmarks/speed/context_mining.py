"""Time and memory of mining co-citations from full texts: one table.

    python -m benchmarks.speed.context_mining --data DATA [--copies 1 4 16] [--sentence-pairs]

The full texts are those of unarXive. Copy after copy they get ids of their own, and so do the works
that they cite, so that the corpus grows in papers, contexts and pairs alike; the cited works, which
have no text there, get an invented title. Preparing runs in a process of its own, whose CPU time
and peak resident memory (database included: it is in that process) are read from the system.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks import command_line
from benchmarks.texts import lines
from sciembed_train.corpus.citations.citing_sentences import candidate_ids
from sciembed_train.corpus.mining.cocitation_settings import Sentences

FULLTEXTS = Path("unarxive") / "arXiv_src_2212_086.jsonl.gz"


def write_inputs(folder: Path, records: list[dict], copies: int) -> tuple[int, int]:
    """Files of full texts and of the works they cite; how many of each."""
    works = 0
    with (folder / "fulltexts.jsonl").open("w") as texts, (folder / "papers.jsonl").open("w") as to:
        for copy in range(copies):
            known: set[str] = set()
            for record in records:
                ids = {name: found[0] for name, found in candidate_ids(record).items() if found}
                row = dict(record)
                row["paper_id"] = f"{record['paper_id']}-{copy}"
                row["bib_entries"] = {
                    name: {"ids": {"work": f"{work}-{copy}"}} for name, work in ids.items()
                }
                texts.write(json.dumps(row) + "\n")
                for work in set(ids.values()) - known:
                    row = {"paper_id": f"{work}-{copy}", "title": f"a work known as {work}"}
                    to.write(json.dumps(row) + "\n")
                known |= set(ids.values())
            works += len(known)
    return copies * len(records), works


def run_prepare(folder: Path, sentence_pairs: Sentences) -> None:
    """The measured process: prepares, and prints what it took as JSON."""
    from sciembed_train.corpus.build import prepare
    from sciembed_train.corpus.mining.cocitation_settings import CocitationMining
    from sciembed_train.corpus.prepare_settings import PrepareSettings
    from sciembed_train.progress import Progress

    progress = Progress()
    started = time.monotonic()
    mining = CocitationMining(cocitations_from="fulltexts", sentence_pairs=sentence_pairs)
    settings = PrepareSettings(
        papers=folder / "papers.jsonl",
        fulltexts=folder / "fulltexts.jsonl",
        to=folder / "corpus",
        cocitation_mining=mining,
        threads=1,
    )
    corpus = prepare(settings, progress)
    told = {
        "seconds": progress.seconds | {"all": time.monotonic() - started},
        "cpu": time.process_time(),
        "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "counts": corpus.info["counts"],
    }
    print(json.dumps(told))


def main() -> None:
    parser = command_line.parser(__doc__)
    parser.add_argument("--data", type=Path, help="the folder that holds unarxive")
    parser.add_argument("--copies", type=int, nargs="+", default=[1, 4, 16])
    parser.add_argument("--sentence-pairs", choices=("none", "set", "paper"), default="none")
    parser.add_argument("--measured", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.measured:
        run_prepare(args.measured, args.sentence_pairs)
        return
    if args.data is None:
        parser.error("give --data")
    import duckdb
    import syntok  # noqa: F401  # told early where it is not installed

    records = lines(args.data / FULLTEXTS)
    print(f"Python {platform.python_version()}, DuckDB {duckdb.__version__}, ", end="")
    print(f"{os.cpu_count()} cores, one thread, sentence pairs: {args.sentence_pairs}\n")
    print("| full texts | works | contexts | pairs | CPU s | full texts/CPU s | peak MB |")
    print("|---|---|---|---|---|---|---|")
    for copies in args.copies:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            texts, works = write_inputs(folder, records, copies)
            command = [sys.executable, "-m", __spec__.name, "--measured", name]
            command += ["--sentence-pairs", args.sentence_pairs]
            done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
            told = json.loads(done.stdout)
        counts = told["counts"]
        cells = [texts, works, counts["contexts"], sum(counts["cocitations"].values())]
        rate, peak = texts / told["cpu"], told["peak"] / 1e6
        print(f"| {' | '.join(f'{c:,}' for c in cells)} ", end="")
        print(f"| {told['cpu']:.1f} | {rate:.1f} | {peak:,.0f} |", flush=True)


if __name__ == "__main__":
    main()
