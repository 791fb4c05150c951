"""The command ``quickstart``: the whole path on a synthetic collection, without a network."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from pathlib import Path

from sciembed_train.errors import UserError
from sciembed_train.quickstart import quickstart, table


def main(argv: list[str]) -> int | None:
    """Run ``train quickstart``."""
    parser = argparse.ArgumentParser(
        prog="train quickstart",
        description="Make a small synthetic collection of papers, train SPECTER on it, export, "
        "embed and evaluate: the whole path in minutes, without a network.",
    )
    default = Path(os.environ.get("SCIEMBED_CHECKPOINTS") or "checkpoints") / "quickstart"
    parser.add_argument("--to", type=Path, default=default, metavar="FOLDER", help=f"({default})")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of everything (0)")
    parser.add_argument("--json", action="store_true", help="print the results as JSON alone")
    args = parser.parse_args(argv)
    if args.seed < 0:
        raise UserError(f"--seed must be 0 or more; got {args.seed}.")

    def report(line: str) -> None:
        if not args.json:
            print(line, flush=True)

    began = time.perf_counter()
    report(f"A synthetic collection in {args.to}, where matching words is not enough:")
    progress = sys.stderr.isatty() and not args.json
    results = quickstart(args.to, args.seed, progress=progress, report=report)
    if args.json:
        print(json.dumps(results))
        return 0
    report("")
    report("Ranking all papers for each held-out paper, by what it cites:")
    report(table(results["scores"]))
    report("")
    report(f"{time.perf_counter() - began:.0f} seconds in all. {NEXT.format(to=args.to)}")
    sys.stdout.flush()
    return 0


NEXT = """\
The trained encoder is {to}/run/export; its README.md
says how to use it from Python. With your own papers (paper_id, title, abstract) and citations
(citing, cited), starting from a pretrained encoder:

  ./train fit -c configs/specter.yaml --data.papers papers.jsonl --data.citations citations.tsv \\
      --model.encoder.backbone FOLDER_OR_NAME
  ./train embed --model checkpoints/specter/export --input papers.jsonl --to vectors.npy"""
