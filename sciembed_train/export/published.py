"""How a model without a record is used: by its name or the user's options, never guessed.

Importing this module imports no torch.
"""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from sciembed_train.encoder.io.published_models import METHODS, published_model
from sciembed_train.encoder.pooling.registry import gives_sentence_vectors
from sciembed_train.errors import UserError
from sciembed_train.safety.json_files import read_json

log = logging.getLogger("sciembed_train")

# Similarities of sentence vectors, and of the vectors of whole texts.
OF_SENTENCES = ("best_match", "transport")
OF_TEXTS = ("euclidean", "cosine")
TEMPERATURES = (
    "Aspire's transport models were trained with 5000, which gives all sentences the same weight; "
    "its released demo has 1"
)


@dataclass(frozen=True)
class ImportSettings:
    """What is imported, and how it is used where its folder does not record that.

    Args:
        source: the folder of a Hugging Face or sentence-transformers model or of an Aspire run, or
            a hub name.
        to: the folder to write.
        method: use the model as this method's published ones are used (declutr: mean and cosine;
            specter, scincl and cocite: cls and euclidean; cosentbert: the same of sentences;
            tsaspire: sentences and best_match; otaspire: sentences and transport).
        pooling: instead of what the folder records; ``sentences`` is a vector for each sentence, in
            its paper.
        similarity: what vectors are compared by; the last two go with pooling ``sentences``.
        temperature: of optimal transport, where nothing records it: 5000 as Aspire trained, 1 as in
            its demo.
        max_length: tokens of a text, special ones included.
        base: of an Aspire run, the folder or name of its base model, instead of the one that its
            run_info.json names.
        overwrite: replace an earlier import or export.
        onnx: write the whole encoder as an ONNX graph, too: pooling and normalisation are inside;
            embed and evaluate take it with --backend onnx.
        openvino: write it as a graph for OpenVINO with weights of 8 bits, too, for --backend
            openvino.
    """

    source: str
    to: str
    method: (
        Literal["declutr", "specter", "scincl", "cocite", "cosentbert", "tsaspire", "otaspire"]
        | None
    ) = None
    pooling: Literal["cls", "mean", "sentences"] | None = None
    similarity: Literal["euclidean", "cosine", "best_match", "transport"] | None = None
    temperature: float | None = None
    max_length: int | None = None
    base: str | None = None
    overwrite: bool = False
    onnx: bool = False
    openvino: bool = False

    def __post_init__(self) -> None:
        if self.temperature is not None and not 0 < self.temperature < math.inf:
            raise UserError(f"--temperature is {self.temperature}; expected a number above 0.")
        if self.max_length is not None and self.max_length < 3:
            raise UserError(f"--max-length is {self.max_length}; expected 3 tokens or more.")


@dataclass(frozen=True)
class Known:
    """How a source is used, from the options, its folder or its name; None where unknown."""

    method: str | None
    pooling: str | None
    similarity: str | None
    texts: str | None
    transport: dict[str, float] | None = None


def published_as(*names: Any) -> str | None:
    """The method of the published model with one of these names; the first match counts."""
    published = published_model(*names)
    return published and published.method


def what_is_known(request: ImportSettings, folder: Path) -> Known:
    """Method, pooling and similarity: from the options, else the folder, else the name.

    Raises:
        UserError: a recorded file is malformed, or the values do not fit together.
    """
    from sciembed_train.encoder.io.load_backbone import checked_config
    from sciembed_train.encoder.io.model_metadata import read_metadata

    requested = METHODS.get(request.method or "")
    recorded = read_metadata(folder, request.pooling or (requested and requested.pooling))
    method, similarity = request.method, recorded.similarity
    if recorded.pooling is None and method is None:
        method = published_as(request.source, folder)
        # The configuration may name the base that this model was fine-tuned from. It is used as
        # its base is, unless its folder records something else.
        checked_config(recorded.backbone)
        base = read_json(recorded.backbone / "config.json").get("_name_or_path")
        complete = request.pooling and request.similarity
        if method is None and not complete and (method := published_as(base)) is not None:
            log.warning(
                f"{request.source}: its configuration names {base}, so it is used like the models "
                f"of {method}. If it is another model made from that one, give --method, or "
                "--pooling and --similarity."
            )
    elif recorded.pooling is not None and not (folder / "sciembed.json").is_file():
        method = method or published_as(request.source)
    published = METHODS.get(method or "")
    pooling = recorded.pooling or request.pooling or (published and published.pooling)
    similarity = (
        request.similarity
        or (requested and requested.similarity)
        or similarity
        or (published and published.similarity)
    )
    transport = transport_of(request, similarity, recorded.transport)
    if pooling and similarity and gives_sentence_vectors(pooling) != (similarity in OF_SENTENCES):
        raise UserError(
            f"{request.source}: pooling {pooling} and similarity {similarity} do not fit together: "
            f"{' and '.join(OF_SENTENCES)} compare the vectors of sentences (pooling sentences), "
            "euclidean and cosine one vector of a text. Give --pooling and --similarity."
        )
    return Known(method, pooling, similarity, published and published.texts, transport)


def transport_of(
    request: ImportSettings, similarity: str | None, recorded: dict[str, Any] | None
) -> dict[str, float] | None:
    """Settings of optimal transport where papers are compared by it; ``--temperature`` wins.

    Raises:
        UserError: the temperature is neither recorded nor an option, or is an option of a model
            that is compared by something else.
    """
    from sciembed_train.losses.transport import TransportSettings

    if similarity != "transport":
        if request.temperature is not None:
            raise UserError(
                f"--temperature is {request.temperature:g}, but {request.source} is not compared "
                "by optimal transport. Leave it out, or give --similarity transport."
            )
        return None
    values = dict(recorded or {})
    if request.temperature is not None:
        values["temperature"] = request.temperature
    if "temperature" not in values:
        raise UserError(
            f"{request.source}: is compared by optimal transport, and does not record the "
            f"temperature, on which results depend. Give --temperature: {TEMPERATURES}."
        )
    try:
        return TransportSettings(**{name: float(value) for name, value in values.items()}).as_dict()
    except (TypeError, ValueError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(
            f"{request.source}: its transport settings are {values}; expected temperature, blur "
            "and scaling."
        ) from error
