"""The command ``align``: which sentences of co-cited papers are similar, by an encoder of
sentences."""

from __future__ import annotations

import argparse
import json
from typing import get_args

from sciembed_train.corpus.alignment.alignments import MARKER, AlignSettings, By, alignment_folder
from sciembed_train.corpus.store.corpus_folder import Corpus
from sciembed_train.inference.alignment import aligned
from sciembed_train.progress import Progress


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="train align",
        description="Say which sentences of co-cited papers say alike, by an encoder of sentences.",
    )
    add = parser.add_argument
    add("corpus", metavar="CORPUS", help="a folder made by prepare, with co-cited papers")
    add("--model", required=True, metavar="FOLDER", help="encodes each sentence by itself")
    add("--similarity", choices=get_args(By)[1:], help="instead of what the model records")
    add("--contexts", type=int, metavar="N", default=10, help="most of a pair looked at (10)")
    add("--seed", type=int, metavar="N", default=0, help="of their choice (0)")
    add("--name", default="", help="of the alignment; of the model and the settings by default")
    add("--device", default="auto", help="auto (default), cpu, cuda, cuda:1, ...")
    add("--quiet", action="store_true", help="print nothing but errors")
    add("--json", action="store_true", help="print the summary as JSON")
    return parser


def main(argv: list[str]) -> int:
    """The command ``train align``."""
    args = _parser().parse_args(argv)
    settings = AlignSettings(args.similarity or "recorded", args.contexts, args.seed)
    corpus = Corpus.open(args.corpus)
    progress = Progress(quiet=args.quiet or args.json)
    name = aligned(corpus, args.model, settings, args.name, progress, args.device)
    folder = alignment_folder(corpus, name)
    info = json.loads((folder / MARKER).read_text(encoding="utf-8"))
    if args.json:
        print(json.dumps({"alignment": str(folder), "name": name, **info}))
    elif not args.quiet:
        told = [
            f"{split} {c['pairs']:,} ({c['with_contexts']:,} with citing sentences)"
            for split, c in info["counts"].items()
        ]
        print(f"{folder}: pairs aligned by {info['similarity']}: {', '.join(told)}")
        if not any(c["with_contexts"] for c in info["counts"].values()):
            print("no pair has a citing sentence: only data.sampling.align abstract can use it")
    return 0
