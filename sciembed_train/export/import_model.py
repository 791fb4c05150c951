"""A published model as a folder that is ready to fit, embed and evaluate.

The weights do not show how vectors are pooled and compared. That is taken from the folder's
records, from the user, or from a table of published models; it is never guessed.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sciembed_train.encoder.io.published_models import METHODS
from sciembed_train.encoder.pooling.registry import gives_sentence_vectors
from sciembed_train.errors import UserError
from sciembed_train.export import published
from sciembed_train.export.published import ImportSettings
from sciembed_train.safety.json_files import read_json

if TYPE_CHECKING:
    from sciembed_train.encoder.encoder import Encoder

log = logging.getLogger("sciembed_train")


_OWN_ENTRIES = (
    *("version", "pooling", "normalize", "max_length", "input_format", "dim", "versions"),
    *("prompts", "backbone", "mix", "transport", "projection"),
)
POOLING = {
    "cls": "the first token's state",
    "mean": "the mean over tokens",
    "mix": "a learned mix of every layer's first-token state",
    "sentences": "the mean over the tokens of each sentence in its paper",
}
SIMILARITY = {
    "cosine": "cosine",
    "euclidean": "Euclidean distance",
    "best_match": "the smallest distance of two sentences",
    "transport": "optimal transport between sentences",
}
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


def import_model(request: ImportSettings) -> dict[str, Any]:
    """Write the folder, and return its method, pooling, similarity and verified differences.

    Raises:
        UserError: the source cannot be used, or nothing records how it is used.
    """
    from sciembed_train.encoder.encoder import Encoder
    from sciembed_train.export.layouts.aspire_layout import is_aspire
    from sciembed_train.export.target_folder import check_target
    from sciembed_train.safety.find_model import find_folder
    from sciembed_train.text.input_format import InputFormat

    if request.max_length is not None and request.max_length < 1:
        raise UserError(f"--max-length is {request.max_length}; expected 1 or more.")
    source = find_folder(request.source)
    refuse_unread(source)
    check_target(Path(request.to).expanduser().absolute(), request.overwrite)
    if is_aspire(source):
        return _import_aspire(request, source)
    if request.base:
        raise UserError(
            f"--base is {request.base}, but {request.source} is a whole model; --base goes with "
            "the two files of an Aspire run."
        )
    known = published.what_is_known(request, source)
    if known.pooling is None or known.similarity is None:
        verb, option = "pooled", "--pooling cls or mean and --similarity euclidean or cosine"
        if known.pooling is not None:
            multi_vector = gives_sentence_vectors(known.pooling)
            names = published.OF_SENTENCES if multi_vector else published.OF_TEXTS
            verb, option = "compared", f"--similarity {' or '.join(names)}"
        raise UserError(
            f"{request.source}: does not record how its vectors are {verb}, and its name is not "
            f"of a published model. Give --method {' or '.join(METHODS)}, or {option}."
        )
    names = (*published.OF_TEXTS, *published.OF_SENTENCES)
    if known.similarity not in names:
        raise UserError(
            f"{request.source}: compares its vectors by {known.similarity}; this project has "
            f"{', '.join(names)}. Give --similarity."
        )
    encoder = Encoder.load(
        request.source,
        pooling=known.pooling,
        max_length=request.max_length,
        input_format=None
        if (source / "sciembed.json").is_file() or known.method not in METHODS
        else InputFormat(separator=METHODS[known.method].separator),
        # A multi-vector model has no use for a head.
        masked_lm=False if gives_sentence_vectors(known.pooling) else "auto",
    )
    architectures = [str(name) for name in encoder.backbone.config.architectures or []]
    if encoder.head is None and any("ForMaskedLM" in name for name in architectures):
        reason = f"of {encoder.backbone.config.model_type} is not known here and"
        if encoder.pooling.per_sentence:
            reason = "is no part of a multi-vector model and"
        log.warning(f"{request.source}: the masked-language-modelling head {reason} is left out.")
    return _write(request, source, known, encoder)


def _import_aspire(request: ImportSettings, source: Path) -> dict[str, Any]:
    from sciembed_train.export.aspire_run import compared_by, load_aspire

    for option in ("method", "pooling"):
        if getattr(request, option):
            raise UserError(
                f"--{option} is {getattr(request, option)}, but {request.source} is an Aspire run, "
                "which records that itself. Leave the option out."
            )
    encoder = load_aspire(source, request.base, request.max_length)
    recorded = compared_by(source, request.similarity)
    settings = published.transport_of(request, recorded.similarity, recorded.transport)
    known = replace(recorded, transport=settings)
    return _write(request, source, known, encoder)


def _write(
    request: ImportSettings, source: Path, known: published.Known, encoder: Encoder
) -> dict[str, Any]:
    """Write the folder, and return the facts of the imported model."""
    from sciembed_train.encoder.backends.graph_files import wanted_graphs
    from sciembed_train.export.export_folder import export_encoder

    facts = card(request, source, known)
    differences = export_encoder(
        encoder,
        request.to,
        facts,
        overwrite=request.overwrite,
        graphs=wanted_graphs(request.onnx, request.openvino),
    )
    return {
        "source": request.source,
        "folder": request.to,
        "method": facts["method"],
        "pooling": encoder.settings.pooling,
        "similarity": known.similarity,
        **({"transport": known.transport} if known.transport else {}),
        "max_length": encoder.settings.max_length,
        "masked_lm_head": encoder.head is not None,
        "differences": differences,
    }


def card(request: ImportSettings, folder: Path, known: published.Known) -> dict[str, Any]:
    """The record of the model's training: its own entries, and where it was imported from."""
    record_path = folder / "sciembed.json"
    record = read_json(record_path) if record_path.is_file() else {}
    record = {key: value for key, value in record.items() if key not in _OWN_ENTRIES}
    # A folder's path is of no use to others, and reveals something about the machine.
    name = folder.resolve().name if Path(request.source).expanduser().exists() else request.source
    recorded = record.pop("texts", "papers" if record_path.is_file() else "any")
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
        **record,
        "method": known.method or record.get("method"),
        "similarity": known.similarity,
        **({"transport": known.transport} if known.transport else {}),
        **({"texts": texts} if texts != "papers" else {}),
        "base_model": record.get("base_model") or name,
        "imported_from": name,
        **digest,
    }


def describe_import(result: Mapping[str, Any]) -> str:
    """How an imported model's vectors are made and compared, for people."""
    compared = SIMILARITY[result["similarity"]]
    if result["similarity"] == "transport":
        compared += f" (temperature {result['transport']['temperature']:g})"
    head = "with" if result["masked_lm_head"] else "without"
    return (
        f"{POOLING[result['pooling']]}, compared by {compared}, at most {result['max_length']} "
        f"tokens, {head} a masked-language-modelling head"
    )
