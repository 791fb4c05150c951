"""The verb ``import``: a published model as a folder that is ready to fit, embed and evaluate.

What the weights do not say, how vectors are pooled and compared, is taken from the folder where it
records that, from the user, or from a table of published models; it is never guessed.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

from sciembed_train.errors import UserError
from sciembed_train.safety import read_json


@dataclass(frozen=True)
class Published:
    """How the models of a method are used as published.

    Args:
        names: what their names look like, in a hub name or a place in the hub's cache.
        pooling, similarity: how their vectors are made and compared.
        texts: ``papers``, or ``any`` text.
        separator: what joins title and abstract; a model that was trained on running text has
            never seen a separator inside one.
    """

    names: str
    pooling: str
    similarity: str
    texts: str
    separator: Literal["sep", "space"]


# DeCLUTR: Giorgi et al. (2021), section 3.1. SPECTER: Cohan et al. (2020), section 2.
METHODS: dict[str, Published] = {
    "declutr": Published(r"johngiorgi(/|--)declutr-[\w.-]+", "mean", "cosine", "any", "space"),
    "specter": Published(
        r"(?<![\w-])allenai(/|--)specter(2_base)?(?![\w-])", "cls", "euclidean", "papers", "sep"
    ),
}
# sentence-transformers compares by cosine where a folder of its own names nothing.
_LIBRARY_DEFAULT = "cosine"
_OWN_ENTRIES = (
    *("version", "pooling", "max_length", "input_format", "dim", "versions"),
    *("backbone", "mix"),
)
_UNREAD = {
    ("adapter_config.json",): "an adapter without the model it belongs to",
}


@dataclass(frozen=True)
class Known:
    """What is known of a source, from the command line, its folder or its name; else None."""

    method: str | None
    pooling: str | None
    similarity: str | None
    texts: str | None


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


def published_as(*names: Any) -> str | None:
    """The method of the published model that one of the names is of."""
    for method, published in METHODS.items():
        if any(re.search(published.names, str(name or "")) for name in names):
            return method
    return None


def what_is_known(args: argparse.Namespace, folder: Path) -> Known:
    """Method, pooling and similarity: the command line's first, then the folder's, then the name's.

    Raises:
        UserError: a recorded file is malformed.
    """
    from sciembed_train.encoder.loading import checked_config, read_recorded

    given = METHODS.get(args.method or "")
    recorded = read_recorded(folder, args.pooling or (given and given.pooling))
    method, similarity = args.method, recorded.similarity
    if recorded.pooling is None:
        # What the configuration names may be the model this one was fine-tuned from; that is
        # used as its base was, unless its folder says otherwise.
        config = checked_config(recorded.backbone)
        method = method or published_as(args.source, config.name_or_path, folder)
    elif not (folder / "sciembed.json").is_file():
        method = method or published_as(args.source)
        similarity = similarity or _LIBRARY_DEFAULT
    published = METHODS.get(method or "")
    return Known(
        method,
        recorded.pooling or args.pooling or (published and published.pooling),
        args.similarity
        or (given and given.similarity)
        or similarity
        or (published and published.similarity),
        published and published.texts,
    )


def import_model(args: argparse.Namespace) -> dict[str, Any]:
    """Write the folder; returns what it is and how it was compared.

    Raises:
        UserError: the source cannot be used, or does not say how it is used.
    """
    from sciembed_train.encoder.encoder import Encoder
    from sciembed_train.encoder.loading import find_folder, log
    from sciembed_train.export.aspire import is_aspire
    from sciembed_train.export.hf import SIMILARITIES, check_target, export_encoder
    from sciembed_train.inputs import InputFormat

    if args.max_length is not None and args.max_length < 1:
        raise UserError(f"--max-length is {args.max_length}; expected 1 or more.")
    source, target = find_folder(args.source), Path(args.to)
    refuse_unread(source)
    check_target(target.expanduser().absolute(), args.overwrite)
    if is_aspire(source):
        return _import_aspire(args, source)
    if args.base:
        raise UserError(
            f"--base is {args.base}, but {args.source} is a whole model; --base goes with the two "
            "files of an Aspire run."
        )
    known = what_is_known(args, source)
    if known.pooling is None or known.similarity is None:
        lacks, option = "pooled", "--pooling cls or mean and --similarity euclidean or cosine"
        if known.pooling is not None:
            lacks, option = "compared", "--similarity euclidean or cosine"
        raise UserError(
            f"{args.source}: does not say how its vectors are {lacks}, and it is no published "
            f"model of a known name. Give --method {' or '.join(METHODS)}, or {option}."
        )
    if known.similarity not in SIMILARITIES:
        raise UserError(
            f"{args.source}: compares its vectors by {known.similarity}; this project has "
            f"{' and '.join(SIMILARITIES)}. Give --similarity."
        )
    encoder = Encoder.load(
        args.source,
        pooling=cast(Literal["cls", "mean", "mix"], known.pooling),
        max_length=args.max_length,
        form=None
        if (source / "sciembed.json").is_file() or known.method not in METHODS
        else InputFormat(separator=METHODS[known.method].separator),
        masked_lm="auto",
    )
    architectures = [str(name) for name in encoder.backbone.config.architectures or []]
    if encoder.head is None and any("ForMaskedLM" in name for name in architectures):
        log.warning(
            f"{args.source}: the masked-language-modelling head of "
            f"{encoder.backbone.config.model_type} is not known here and is left out."
        )
    facts = card(args, source, known)
    differences = export_encoder(encoder, target, facts, overwrite=args.overwrite)
    return {
        "source": args.source,
        "folder": args.to,
        "method": facts["method"],
        "pooling": encoder.settings.pooling,
        "similarity": known.similarity,
        "max_length": encoder.settings.max_length,
        "masked_lm_head": encoder.head is not None,
        "differences": differences,
    }


def _import_aspire(args: argparse.Namespace, source: Path) -> dict[str, Any]:
    """`import_model` of the two files of an Aspire bi-encoder, which say all that is needed."""
    from sciembed_train.export.aspire import load_aspire
    from sciembed_train.export.hf import export_encoder

    for option in ("method", "pooling", "similarity"):
        if getattr(args, option):
            raise UserError(
                f"--{option} is {getattr(args, option)}, but {args.source} is an Aspire run: a "
                "learned mix of layers, compared by Euclidean distance. Leave the option out."
            )
    encoder = load_aspire(source, args.base, args.max_length)
    # Mysore et al. (2022): ranked by minus the Euclidean distance.
    known = Known("cocite", "mix", "euclidean", "papers")
    facts = card(args, source, known)
    differences = export_encoder(encoder, args.to, facts, overwrite=args.overwrite)
    return {
        "source": args.source,
        "folder": args.to,
        "method": facts["method"],
        "pooling": "mix",
        "similarity": known.similarity,
        "max_length": encoder.settings.max_length,
        "masked_lm_head": False,
        "differences": differences,
    }


def card(args: argparse.Namespace, folder: Path, known: Known) -> dict[str, Any]:
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
        **({"texts": texts} if texts == "any" else {}),
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
        from sciembed_train.export.command import describe_differences

        pooled = {
            "cls": "the first token's state",
            "mean": "the mean over tokens",
            "mix": "a learned mix of every layer's first-token state",
        }
        compared = {"cosine": "cosine", "euclidean": "Euclidean distance"}
        head = "with" if result["masked_lm_head"] else "without"
        print(f"{args.source} -> {args.to}")
        print(
            f"{pooled[result['pooling']]}, compared by {compared[result['similarity']]}, at "
            f"most {result['max_length']} tokens, {head} a masked-language-modelling head"
        )
        print(describe_differences(result["differences"]))
    sys.stdout.flush()
    return 0


def _parse(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="train import",
        description="Make a published model ready to fit, embed and evaluate: DeCLUTR, SPECTER, "
        "Aspire's bi-encoders as its own code wrote them (run_info.json, model_cur_best.pt), or "
        "any sentence-transformers folder with CLS or mean pooling. The folder that is written "
        "says how its vectors are made, keeps a masked-language-modelling head, and is proved by "
        "loading it back.",
    )
    add = parser.add_argument
    add("source", help="the folder of a Hugging Face or sentence-transformers model, or a hub name")
    add("--to", required=True, metavar="FOLDER", help="the folder to write")
    add(
        "--method",
        choices=list(METHODS),
        help="use the model as this method's published ones are used (declutr: mean and cosine; "
        "specter: cls and euclidean)",
    )
    add("--pooling", choices=("cls", "mean"), help="instead of what the folder records")
    add("--similarity", choices=("euclidean", "cosine"), help="what vectors are compared by")
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
