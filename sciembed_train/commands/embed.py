"""The command ``embed``: vectors of a file of papers, in the file's order."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from sciembed_train.errors import UserError
from sciembed_train.inference.embed_file import ENDINGS, embed, ids_path
from sciembed_train.inference.options import EmbedSettings
from sciembed_train.inference.output_file import writable


def main(argv: list[str] | None = None) -> int:
    """Run the command; 0 when done."""
    args = _parse(argv)
    quiet = args.quiet or args.json
    target = Path(args.to)
    if target.suffix not in ENDINGS:
        raise UserError(f"--to {target}: the ending says no format; use {', '.join(ENDINGS)}.")
    writable(target)
    settings = EmbedSettings.from_arguments(args)

    from sciembed_train.inference.embedding import open_encoder
    from sciembed_train.inference.paper_file import PaperFile

    papers = PaperFile(args.input, args.max_bad_rows)
    if not len(papers):
        raise UserError(f"{args.input} holds no paper.")
    encoder = open_encoder(args.model, settings)
    summary = embed(encoder, papers, target, settings, restart=args.restart, quiet=quiet)
    if args.json:
        print(json.dumps(summary, ensure_ascii=False))
    elif not args.quiet:
        print(describe(summary, target))
    return 0


def describe(summary: dict[str, Any], target: Path) -> str:
    """What was written, for people."""
    what = f"{summary['papers']:,} embeddings"
    empty = "the empty text's vector"
    if "sentences" in summary:
        what = (
            f"{summary['sentences']:,} embeddings of the sentences of {summary['papers']:,} papers"
        )
        empty = "they have no vector"
    ids = f" (ids in {ids_path(target)})" if target.suffix == ".npy" else ""
    lines = [f"{what} of width {summary['dim']} in {target}{ids}."]
    for key, text in (
        ("continued_from", "papers were done already by a run that had stopped"),
        ("without_text", f"papers have no title and no abstract: {empty}"),
        ("malformed_left_out", "malformed rows were left out"),
    ):
        if summary[key]:
            lines.append(f"{summary[key]:,} {text}.")
    return "\n".join(lines)


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
