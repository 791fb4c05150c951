"""A suite's time beside that of `embed` on its distinct texts, and again from the cache.

    OMP_NUM_THREADS=1 python -m benchmarks.speed.suite --suite ../shared/data --model MODEL
        --to FOLDER [--rounds 2] [--quick] [--only NAME ...]

Each round, in turn and as whole commands: `embed` of the distinct texts that the suite embeds,
`evaluate --suite` into an empty folder, and the same command again, which finds all scores. The
texts are taken from a run of the suite that embeds nothing; entries whose vectors are of sentences
or by format do not count on either side.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

from benchmarks import command_line
from sciembed_train.evaluation.cached_embedding import CachedEmbedding
from sciembed_train.evaluation.suite.run_suite import run_suite
from sciembed_train.evaluation.suite.suite_settings import SuiteSettings
from sciembed_train.inference.embedding import Prompted, Text, composed
from sciembed_train.inference.options import EmbedSettings


def main() -> None:
    parser = command_line.parser(__doc__)
    parser.add_argument("--suite", required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--to", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--only", nargs="*", default=[])
    args = parser.parse_args()
    args.to.mkdir(parents=True, exist_ok=True)
    texts = args.to / "texts.jsonl"
    options = [*(["--quick"] if args.quick else []), *(f"--only={name}" for name in args.only)]
    print(f"{write_texts(texts, args):,} distinct texts", flush=True)
    suite = args.to / "suite"
    evaluate = ["evaluate", "--suite", args.suite, "--model", args.model, "--to", str(suite)]
    ratios = []
    for at in range(args.rounds):
        shutil.rmtree(suite, ignore_errors=True)
        vectors = args.to / f"vectors{at}.npy"
        plain = ["--model", args.model, "--input", str(texts), "--to", str(vectors)]
        embed = seconds(["embed", *plain])
        first = seconds([*evaluate, *options])
        again = seconds([*evaluate, *options])
        ratios.append(first / embed)
        print(
            f"round {at + 1}: embed {embed:.0f} s, "
            f"suite {first:.0f} s ({first / embed:.2f} times), again {again:.0f} s",
            flush=True,
        )
    print(f"suite over embed: {min(ratios):.2f} to {max(ratios):.2f}")


def write_texts(to: Path, args: argparse.Namespace) -> int:
    """Write the distinct texts of the suite as papers; how many there are."""
    distinct: dict[str, Text | Prompted] = {}

    def note(
        self: CachedEmbedding,
        texts: Iterable[Text | Prompted],
        count: int,
        settings: EmbedSettings,
        done: Callable[[int], Any] | None = None,
    ) -> np.ndarray:
        for text in texts:
            distinct.setdefault(composed(self.encoder, text), text)
        rng = np.random.default_rng(count)
        return rng.standard_normal((count, self.encoder.dim), dtype=np.float32)

    scratch = args.to / "noted"
    wanted = SuiteSettings(
        suite=args.suite, model=[args.model], to=str(scratch), quick=args.quick, only=args.only
    )
    with mock.patch.object(CachedEmbedding, "texts", note):
        run_suite(wanted, quiet=True)
    shutil.rmtree(scratch)
    with to.open("w", encoding="utf-8") as file:
        for at, text in enumerate(distinct.values()):
            title, abstract = text[:2]  # a prompt of its own comes third
            whole = abstract if isinstance(abstract, str | None) else " ".join(map(str, abstract))
            file.write(json.dumps({"paper_id": f"t{at}", "title": title, "abstract": whole}) + "\n")
    return len(distinct)


def seconds(words: list[str]) -> float:
    """What a command of the project takes."""
    start = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "sciembed_train.cli", *words],
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise SystemExit(f"failed ({done.returncode}):\n{done.stdout[-2000:]}{done.stderr[-4000:]}")
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
