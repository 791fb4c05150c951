"""The command ``evaluate``: scores of a model, a baseline or a ranking on a benchmark."""

from __future__ import annotations

import argparse
import json

import sciembed_train as st
from sciembed_train.evaluation.benchmarks.registry import BENCHMARKS
from sciembed_train.inference.options import EmbedSettings, ScoreSettings


def main(argv: list[str] | None = None) -> int:
    """Run the command; 0 when done."""
    args = _parse(argv)
    scores = st.evaluate(
        args.model,
        args.benchmark,
        args.data,
        to=args.to,
        progress=not (args.quiet or args.json),
        ranking=args.ranking,
        papers=args.papers,
        facet=args.facet,
        split=args.split,
        tasks=tuple(args.tasks),
        seed=args.seed,
        embed=EmbedSettings.from_arguments(args),
        score=ScoreSettings.from_arguments(args),
    )
    if args.json:
        print(json.dumps(scores.as_dict(), ensure_ascii=False))
    elif not args.quiet:
        print(scores)
        if args.to is not None:
            print(f"Written to {args.to}.")
    return 0


def _parse(argv: list[str] | None) -> argparse.Namespace:
    known = "\n".join(f"  {name:<10} {b.summary}" for name, b in BENCHMARKS.items())
    parser = argparse.ArgumentParser(
        prog="train evaluate",
        description=f"Scores of a model, a baseline or a ranking.\n\nbenchmarks:\n{known}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument(
        "--model",
        metavar="FOLDER",
        help="a model folder or hub name; or the baselines bm25 and random",
    )
    what.add_argument("--ranking", metavar="FILE|FOLDER", help="ranked pools as JSON (csfcube)")
    add("--benchmark", required=True, choices=BENCHMARKS)
    add("--data", required=True, metavar="FOLDER")
    add("--papers", metavar="F", help="the file of papers, where it lies elsewhere")
    add("--facet", metavar="NAME", help="one facet only (csfcube); of --ranking FILE")
    add("--split", choices=("test", "dev"), default="test", help="whose queries (citations)")
    add("--tasks", nargs="+", default=[], metavar="NAME", help="these or their types (scirepeval)")
    add("--seed", type=int, default=0, help="of --model random")
    add("--to", metavar="results.json", help="write the results, every query's with them")
    add("--json", action="store_true", help="print the results as JSON instead of a table")
    add("--quiet", action="store_true", help="print nothing")
    ScoreSettings.add_arguments(parser)
    EmbedSettings.add_arguments(parser)
    return parser.parse_args(argv)
