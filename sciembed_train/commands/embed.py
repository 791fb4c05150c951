"""The command ``embed``: vectors of a file of papers, in the file's order."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict

import sciembed_train as st
from sciembed_train.inference.options import EmbedSettings


def main(argv: list[str] | None = None) -> int:
    """Run the command; 0 when done."""
    args = _parse(argv)
    embeddings = st.embed(
        args.model,
        args.input,
        args.to,
        max_bad_rows=args.max_bad_rows,
        restart=args.restart,
        progress=not (args.quiet or args.json),
        **asdict(EmbedSettings.from_arguments(args)),
    )
    if args.json:
        print(json.dumps(embeddings.as_dict(), ensure_ascii=False))
    elif not args.quiet:
        print(embeddings)
    return 0


def _parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="train embed",
        description="Vectors of a file of papers, or of their sentences where the model gives "
        "those. A run that was killed continues where it was.",
    )
    add = parser.add_argument
    add("--model", required=True, metavar="FOLDER", help="a model folder, run folder or hub name")
    add(
        "--input",
        required=True,
        metavar="F",
        help="papers: paper_id, title, abstract; .jsonl, .csv, .tsv, .parquet (.gz, .zst)",
    )
    add("--to", required=True, metavar="F", help="embeddings.jsonl, .npy (and .ids.txt), .parquet")
    add("--max-bad-rows", type=int, default=0, metavar="N", help="malformed rows to leave out")
    add("--restart", action="store_true", help="throw away an unfinished run")
    add("--json", action="store_true", help="print the counts as JSON")
    add("--quiet", action="store_true", help="print nothing and show no progress")
    EmbedSettings.add_arguments(parser)
    return parser.parse_args(argv)
