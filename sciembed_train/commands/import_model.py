"""The command ``import``: a published model as a folder that is ready to fit, embed and evaluate.

What the weights do not say, how vectors are pooled and compared, is taken from the folder where it
records that, from the user, or from a table of published models; it is never guessed.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

from sciembed_train.errors import UserError
from sciembed_train.export import published
from sciembed_train.safety import read_json

if TYPE_CHECKING:
    from sciembed_train.encoder.encoder import Encoder

_OWN_ENTRIES = (
    *("version", "pooling", "max_length", "input_format", "dim", "versions"),
    *("backbone", "mix", "transport"),
)
_UNREAD = {
    ("adapter_config.json",): "an adapter without the model it belongs to",
}


def refuse_unread(folder: Path) -> None:
    """Refuse a folder of a layout that this version does not read.

    Raises:
        UserError: it is one.
    """
    for files, what in _UNREAD.items():
        if all((folder / name).is_file() for name in files):
            raise UserError(
                f"{folder}: holds {' and '.join(files)}: {what}, which this version does not "
                "read. Give the folder of a whole Hugging Face model."
            )


def import_model(args: argparse.Namespace) -> dict[str, Any]:
    """Write the folder; returns what it is and how it was compared.

    Raises:
        UserError: the source cannot be used, or does not say how it is used.
    """
    from sciembed_train.encoder.encoder import Encoder
    from sciembed_train.encoder.io.loading import find_folder, log
    from sciembed_train.export.aspire_layout import is_aspire
    from sciembed_train.export.export_folder import check_target
    from sciembed_train.text.input_format import InputFormat

    if args.max_length is not None and args.max_length < 1:
        raise UserError(f"--max-length is {args.max_length}; expected 1 or more.")
    source = find_folder(args.source)
    refuse_unread(source)
    check_target(Path(args.to).expanduser().absolute(), args.overwrite)
    if is_aspire(source):
        return _import_aspire(args, source)
    if args.base:
        raise UserError(
            f"--base is {args.base}, but {args.source} is a whole model; --base goes with the two "
            "files of an Aspire run."
        )
    known = published.what_is_known(args, source)
    if known.pooling is None or known.similarity is None:
        lacks, option = "pooled", "--pooling cls or mean and --similarity euclidean or cosine"
        if known.pooling is not None:
            several = known.pooling == "sentences"
            names = published.OF_SENTENCES if several else published.OF_TEXTS
            lacks, option = "compared", f"--similarity {' or '.join(names)}"
        raise UserError(
            f"{args.source}: does not say how its vectors are {lacks}, and it is no published "
            f"model of a known name. Give --method {' or '.join(published.METHODS)}, or {option}."
        )
    names = (*published.OF_TEXTS, *published.OF_SENTENCES)
    if known.similarity not in names:
        raise UserError(
            f"{args.source}: compares its vectors by {known.similarity}; this project has "
            f"{', '.join(names)}. Give --similarity."
        )
    encoder = Encoder.load(
        args.source,
        pooling=cast(Literal["cls", "mean", "mix", "sentences"], known.pooling),
        max_length=args.max_length,
        input_format=None
        if (source / "sciembed.json").is_file() or known.method not in published.METHODS
        else InputFormat(separator=published.METHODS[known.method].separator),
        # Nothing reads a text's tokens and has no vector of it.
        masked_lm=False if known.pooling == "sentences" else "auto",
    )
    architectures = [str(name) for name in encoder.backbone.config.architectures or []]
    if encoder.head is None and any("ForMaskedLM" in name for name in architectures):
        why = f"of {encoder.backbone.config.model_type} is not known here and"
        if known.pooling == "sentences":
            why = "is no part of a multi-vector model and"
        log.warning(f"{args.source}: the masked-language-modelling head {why} is left out.")
    return _write(args, source, known, encoder)


def _import_aspire(args: argparse.Namespace, source: Path) -> dict[str, Any]:
    """`import_model` of an Aspire run, whose own files say nearly all that is needed."""
    from sciembed_train.export.aspire_run import compared_by, load_aspire

    for option in ("method", "pooling"):
        if getattr(args, option):
            raise UserError(
                f"--{option} is {getattr(args, option)}, but {args.source} is an Aspire run, which "
                "says itself what it is. Leave the option out."
            )
    encoder = load_aspire(source, args.base, args.max_length)
    found = compared_by(source, args.similarity)
    settings = published.transport_of(args, found.similarity, found.transport)
    known = replace(found, transport=settings)
    return _write(args, source, known, encoder)


def _write(
    args: argparse.Namespace, source: Path, known: published.Known, encoder: Encoder
) -> dict[str, Any]:
    """Write the folder, and what it is."""
    from sciembed_train.export.export_folder import export_encoder

    facts = card(args, source, known)
    differences = export_encoder(encoder, args.to, facts, overwrite=args.overwrite)
    return {
        "source": args.source,
        "folder": args.to,
        "method": facts["method"],
        "pooling": encoder.settings.pooling,
        "similarity": known.similarity,
        **({"transport": known.transport} if known.transport else {}),
        "max_length": encoder.settings.max_length,
        "masked_lm_head": encoder.head is not None,
        "differences": differences,
    }


def card(args: argparse.Namespace, folder: Path, known: published.Known) -> dict[str, Any]:
    """What is written of the model's making: what it records itself, and where it came from."""
    own = folder / "sciembed.json"
    found = read_json(own) if own.is_file() else {}
    found = {key: value for key, value in found.items() if key not in _OWN_ENTRIES}
    # A folder's place says nothing to others, and something about the machine.
    name = folder.resolve().name if Path(args.source).expanduser().exists() else args.source
    recorded = found.pop("texts", "papers" if own.is_file() else "any")
    texts = known.texts or recorded
    digest = {}
    for path in (
        folder / "pytorch_model.bin",
        folder / "sent_encoder_cur_best.pt",
        folder / "model_cur_best.pt",
        folder / "model.safetensors",
    ):
        if path.is_file():
            with path.open("rb") as file:
                digest["imported_sha256"] = hashlib.file_digest(file, "sha256").hexdigest()
    return {
        **found,
        "method": known.method or found.get("method"),
        "similarity": known.similarity,
        **({"transport": known.transport} if known.transport else {}),
        **({"texts": texts} if texts != "papers" else {}),
        "base_model": found.get("base_model") or name,
        "imported_from": name,
        **digest,
    }


def main(argv: list[str]) -> int | None:
    """Run ``train import``."""
    args = _parse(argv)
    result = import_model(args)
    if args.json:
        print(json.dumps(result))
    elif not args.quiet:
        from sciembed_train.commands.export import describe_differences

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
