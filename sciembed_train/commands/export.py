"""The command ``export``: a checkpoint or a run as a folder that other libraries load."""

from __future__ import annotations

import argparse
import json
import sys

import sciembed_train as st
from sciembed_train.export.export_checkpoint import LAYOUTS


def main(argv: list[str]) -> int | None:
    """Run ``train export``."""
    parser = argparse.ArgumentParser(
        prog="train export",
        description="Write a trained encoder as a folder that transformers and "
        "sentence-transformers load, proved by loading it back. (That of a multi-vector model is "
        "refused by sentence-transformers, which has no vectors of sentences in their papers.)",
    )
    parser.add_argument("source", help="a .ckpt file or a run's folder (best.ckpt, else last.ckpt)")
    parser.add_argument("--to", required=True, metavar="FOLDER", help="the folder to write")
    parser.add_argument(
        "--layout",
        default="sentence-transformers",
        choices=LAYOUTS,
        help="a Hugging Face folder that sentence-transformers loads as well (default); or one "
        "adapter without its backbone, as the library adapters loads it; or the two files of "
        "Aspire's own code, for a BERT that mixes its layers, gives vectors of the sentences of "
        "papers, or reads single sentences",
    )
    parser.add_argument(
        "--adapter",
        metavar="NAME",
        help="of --layout adapterhub: the adapter's format or code, such as proximity or [PRX]",
    )
    parser.add_argument(
        "--base",
        metavar="FOLDER",
        help="where the frozen backbone of adapters is, if no longer where it was in training",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace an earlier export")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    parser.add_argument("--quiet", action="store_true", help="print nothing when all is well")
    args = parser.parse_args(argv)
    export = st.export_encoder(
        args.source,
        args.to,
        layout=args.layout,
        adapter=args.adapter,
        base=args.base,
        overwrite=args.overwrite,
    )
    if args.json:
        print(json.dumps(export.as_dict()))
    elif not args.quiet:
        print(export)
    sys.stdout.flush()
    return 0
