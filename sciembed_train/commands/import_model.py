"""The command ``import``: a published model as a folder ready to fit, embed and evaluate."""

from __future__ import annotations

import argparse
import json
import sys

from sciembed_train.export import published
from sciembed_train.export.export_checkpoint import describe_differences
from sciembed_train.export.import_model import import_model
from sciembed_train.export.published import ImportRequest


def main(argv: list[str]) -> int | None:
    """Run ``train import``."""
    args = _parse(argv)
    settings = {name: getattr(args, name) for name in ImportRequest.__dataclass_fields__}
    result = import_model(ImportRequest(**settings))
    if args.json:
        print(json.dumps(result))
    elif not args.quiet:
        pooled = {
            "cls": "the first token's state",
            "mean": "the mean over tokens",
            "mix": "a learned mix of every layer's first-token state",
            "sentences": "the mean over the tokens of each sentence in its paper",
        }
        compared = {
            "cosine": "cosine",
            "euclidean": "Euclidean distance",
            "best_match": "the smallest distance of two sentences",
            "transport": "optimal transport between sentences",
        }
        head = "with" if result["masked_lm_head"] else "without"
        print(f"{args.source} -> {args.to}")
        by = compared[result["similarity"]]
        if result["similarity"] == "transport":
            by += f" (temperature {result['transport']['temperature']:g})"
        print(
            f"{pooled[result['pooling']]}, compared by {by}, at "
            f"most {result['max_length']} tokens, {head} a masked-language-modelling head"
        )
        print(describe_differences(result["differences"]))
    sys.stdout.flush()
    return 0


def _parse(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="train import",
        description="Make a published model ready to fit, embed and evaluate: DeCLUTR, SPECTER, "
        "Aspire's models from the hub or as its own code wrote them (run_info.json and "
        "model_cur_best.pt or sent_encoder_cur_best.pt), or any sentence-transformers folder with "
        "CLS or mean pooling. The folder that is written "
        "says how its vectors are made, keeps a masked-language-modelling head, and is proved by "
        "loading it back.",
    )
    add = parser.add_argument
    add("source", help="the folder of a Hugging Face or sentence-transformers model, or a hub name")
    add("--to", required=True, metavar="FOLDER", help="the folder to write")
    add(
        "--method",
        choices=list(published.METHODS),
        help="use the model as this method's published ones are used (declutr: mean and cosine; "
        "specter: cls and euclidean; cosentbert: the same of sentences; tsaspire: sentences and "
        "best_match; otaspire: sentences and transport)",
    )
    add(
        "--pooling",
        choices=("cls", "mean", "sentences"),
        help="instead of what the folder records; sentences: a vector for each, in its paper",
    )
    add(
        "--similarity",
        choices=(*published.OF_TEXTS, *published.OF_SENTENCES),
        help="what vectors are compared by; the last two go with --pooling sentences",
    )
    add(
        "--temperature",
        type=float,
        metavar="T",
        help="of transport, where nothing records it: 5000 as Aspire trained, 1 as in its demo",
    )
    add("--max-length", type=int, metavar="N", help="tokens of a text, special ones included")
    add(
        "--base",
        metavar="MODEL",
        help="of an Aspire run: folder or name of the model it was made from, instead of the one "
        "that its run_info.json names",
    )
    add("--overwrite", action="store_true", help="replace an earlier import or export")
    add("--json", action="store_true", help="print the result as JSON")
    add("--quiet", action="store_true", help="print nothing when all is well")
    return parser.parse_args(argv)
