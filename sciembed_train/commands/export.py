"""The command ``export``: a checkpoint or a run as a folder that other libraries load."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from sciembed_train.errors import UserError
from sciembed_train.export.checkpoint_file import load_checkpoint

# What of a checkpoint's facts stands beside the counts, not among them.
_HEADS = ("recipe", "seed", "base_model", "base_model_sha256", "texts")


def find_checkpoint(source: str | Path) -> Path:
    """The checkpoint file that ``source`` names: itself, or a run's best, else its last.

    Raises:
        UserError: there is none.
    """
    path = Path(source).expanduser()
    if path.is_file():
        return path
    if not path.is_dir():
        raise UserError(f"{source}: does not exist; give a .ckpt file or a run's folder.")
    for name in ("best.ckpt", "last.ckpt"):
        if (path / name).is_file():
            return path / name
    raise UserError(
        f"{source}: holds neither best.ckpt nor last.ckpt; give a .ckpt file or a run's folder, "
        "such as checkpoints/NAME."
    )


def card_of(checkpoint: dict[str, Any]) -> dict[str, Any]:
    """What a checkpoint knows of its training, for `export_encoder`."""
    record = checkpoint.get("sciembed")
    record = record if isinstance(record, dict) else {}
    training = {"steps": checkpoint.get("global_step"), **dict(record.get("training") or {})}
    card: dict[str, Any] = {
        "method": record.get("method"),
        # Checkpoints without the entry were all trained for it.
        "similarity": record.get("similarity") or "euclidean",
        **{key: record[key] for key in ("transport", "texts") if record.get(key)},
    }
    if "training_documents" in training:
        card["texts"] = "any"
    card.update({key: training.pop(key) for key in _HEADS if key in training})
    # Not the checkpoint's own `epoch`: to Lightning the whole run is one pass of the loader.
    if training.get("steps_per_epoch"):
        training["epochs"] = round(training["steps"] / training["steps_per_epoch"], 2)
    return {**card, "training": training}


def describe_differences(differences: dict[str, float | None]) -> str:
    """One line saying what was compared, and what was not."""
    said = [
        f"{library} differs by {value:.1e}"
        for library, value in differences.items()
        if value is not None
    ]
    missing = [library for library, value in differences.items() if value is None]
    line = f"loaded back and compared: {', '.join(said)} at most"
    if missing:
        line += f"; not compared, since it is not installed: {', '.join(missing)}"
    return line


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
        choices=["sentence-transformers", "adapterhub", "aspire-full"],
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
    alone = args.layout == "adapterhub"
    if args.adapter is not None and not alone:
        raise UserError("--adapter goes with --layout adapterhub, which writes one adapter alone.")

    checkpoint = find_checkpoint(args.source)
    content = load_checkpoint(checkpoint)
    from sciembed_train.encoder.adapters.adapter_files import CONFIG
    from sciembed_train.encoder.io.encoder_checkpoint import encoder_from_checkpoint
    from sciembed_train.export.adapterhub import export_adapter
    from sciembed_train.export.aspire_layout import INFO, export_aspire
    from sciembed_train.export.export_folder import check_target, export_encoder

    folder = Path(args.to)
    write, mark = export_encoder, "sciembed.json"
    if args.layout == "aspire-full":
        write, mark = export_aspire, INFO
    if alone:
        mark = CONFIG
    check_target(folder.expanduser().absolute(), args.overwrite, mark)
    encoder = encoder_from_checkpoint(content, str(checkpoint), args.base)
    if alone:
        differences = export_adapter(encoder, folder, args.adapter, overwrite=args.overwrite)
    else:
        differences = write(encoder, folder, card_of(content), overwrite=args.overwrite)
    if args.json:
        result = {"checkpoint": str(checkpoint), "folder": str(folder), "differences": differences}
        print(json.dumps(result))
    elif not args.quiet:
        print(f"{checkpoint} -> {folder}")
        print(describe_differences(differences))
    sys.stdout.flush()
    return 0
