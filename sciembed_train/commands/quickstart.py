"""The command ``quickstart``: the whole path on a synthetic collection, without a network."""

from __future__ import annotations

import json
import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from sciembed_train.config.parser import CommandLine
from sciembed_train.config.program import program
from sciembed_train.config.run_settings import LARGEST_SEED
from sciembed_train.errors import UserError
from sciembed_train.quickstart import quickstart, table


@dataclass(frozen=True)
class QuickstartCommand:
    """What is made.

    Args:
        to: the folder to write; null for ``quickstart`` below where runs go.
        seed: of the collection, the first weights and the order of the examples.
        json: print the results as JSON alone.

    Raises:
        UserError: ``seed`` is out of range.
    """

    to: str | None = None
    seed: int = 0
    json: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.seed <= LARGEST_SEED:
            raise UserError(f"--seed must be from 0 to {LARGEST_SEED:,}; got {self.seed}.")


def command_line() -> CommandLine:
    """The options of ``train quickstart``."""
    line = CommandLine(
        "quickstart",
        "Make a small synthetic collection of papers, train SPECTER on it, export, embed and "
        "evaluate: the whole path in minutes, without a network.",
        examples=("", "--to first_try --seed 1"),
    )
    line.add(QuickstartCommand)
    return line


def main(argv: list[str]) -> int:
    """Run the command; 0 when done."""
    args = command_line().read(argv).get(QuickstartCommand)
    runs = os.environ.get("SCIEMBED_CHECKPOINTS") or "checkpoints"
    folder = Path(args.to) if args.to is not None else Path(runs) / "quickstart"

    def report(line: str) -> None:
        if not args.json:
            print(line, flush=True)

    began = time.perf_counter()
    report(f"A synthetic collection in {folder}, where matching words is not enough:")
    progress = sys.stderr.isatty() and not args.json
    results = quickstart(folder, args.seed, progress=progress, report=report)
    if args.json:
        print(json.dumps(results))
        return 0
    report("")
    report("Ranking all papers for each held-out paper, by what it cites:")
    report(table(results["scores"]))
    report("")
    seconds = time.perf_counter() - began
    report(f"{seconds:.0f} seconds in all. {NEXT.format(to=folder, program=program())}")
    sys.stdout.flush()
    return 0


NEXT = """\
The trained encoder is {to}/run/export; its README.md
says how to use it from Python. With your own papers (paper_id, title, abstract) and citations
(citing, cited), starting from a pretrained encoder:

  {program} fit -c own_citations --data.papers papers.jsonl --data.citations citations.tsv \\
      --model.encoder.backbone FOLDER_OR_NAME
  {program} embed --model checkpoints/own_citations/export --input papers.jsonl --to vectors.npy"""
