"""What a model's folder records of its pooling, length and input format."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sciembed_train.encoder.adapters.adapter_settings import AdapterSettings
from sciembed_train.encoder.heads.projection_files import FOLDER, projected_width
from sciembed_train.encoder.pooling.registry import (
    POOLINGS,
    check_recorded,
    gives_sentence_vectors,
)
from sciembed_train.errors import UserError
from sciembed_train.safety.find_model import find_folder
from sciembed_train.safety.json_files import read_json
from sciembed_train.text.input_format import InputFormat
from sciembed_train.text.prompts import paper_prompt

_LEGACY_POOLING = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}


@dataclass
class ModelMetadata:
    """What a model folder says about itself; None where it does not.

    Args:
        backbone: folder of the transformer itself.
        pooling: how its vectors are pooled.
        normalize: whether its vectors are scaled to unit length.
        projection: how many numbers a linear layer after the pooling gives; None without one.
        projection_folder: where its weights lie.
        projected_pooling: the pooling whose vectors it takes; None if that is not built here.
        max_length: tokens a text may have, special tokens included.
        input_format: how title and abstract were joined.
        similarity: how its vectors are compared, as the folder names it; for a folder of
            sentence-transformers that names nothing, that library's default, cosine.
        prompts: texts to put before others, by name, empty ones included; none if all are
            empty (`prompts`).
        prompt: of these, the one before papers, where ``input_format`` does not have it.
        texts: what it was trained to read: ``sentences`` each by itself, else whole papers.
        transport: settings of optimal transport, where its sentences are compared by it.
        adapters: of the backbone, with the folders they lie in.
        control_codes: whether it reads each text with the code of its format before it.
        record: the content of its ``sciembed.json``; empty where it has none.
        sources: which file each of these is from, by field: a path in the folder, or the
            library whose default it is.
        notes: what the folder asks for that is not done here.
    """

    backbone: Path
    pooling: str | None = None
    normalize: bool = False
    projection: int | None = None
    projection_folder: Path | None = None
    projected_pooling: str | None = None
    max_length: int | None = None
    input_format: InputFormat | None = None
    similarity: str | None = None
    prompts: dict[str, str] = field(default_factory=dict)
    prompt: str = ""
    texts: str | None = None
    transport: dict[str, Any] | None = None
    adapters: AdapterSettings | None = None
    control_codes: bool = False
    record: dict[str, Any] = field(default_factory=dict)
    sources: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    @property
    def per_sentence(self) -> bool:
        """Whether its vectors are of sentences in their papers, and none of a whole text."""
        return self.pooling is not None and gives_sentence_vectors(self.pooling)


def _pooling_of(config: dict[str, Any], where: Path) -> str:
    modes = config.get("pooling_mode")
    if modes is None:
        modes = [name for key, name in _LEGACY_POOLING.items() if config.get(key)]
    modes = [modes] if isinstance(modes, str) else list(modes)
    known = _poolings_by_mode()
    if len(modes) != 1 or modes[0] not in known:
        raise UserError(
            f"{where}: pools by {' + '.join(map(str, modes)) or 'nothing'}; this project has "
            f"{' and '.join(known)} of these. Name the pooling to use instead."
        )
    return known[modes[0]]


def _known_pooling(config: dict[str, Any], where: Path) -> str | None:
    """As `_pooling_of`; None for one that is not built here."""
    try:
        return _pooling_of(config, where)
    except UserError:
        return None


def _poolings_by_mode() -> dict[str, str]:
    """The poolings that sentence-transformers has too, by its names."""
    from sciembed_train.encoder.pooling.base import pooling_class  # which imports torch

    modes = {name: pooling_class(name).sentence_transformers_mode for name in POOLINGS}
    return {mode: name for name, mode in modes.items() if mode is not None}


def _read_sentence_transformers(folder: Path, pooling: str | None) -> ModelMetadata:
    """Pooling and length of a sentence-transformers folder, old layout or new."""
    where = folder / "modules.json"
    modules = read_json(where)
    try:
        parts = [(str(m["type"]).rsplit(".", 1)[-1], str(m["path"])) for m in modules]
    except (TypeError, KeyError) as error:
        raise UserError(
            f"{where}: expected a list of objects with `type` and `path`. Fetch the model again."
        ) from error
    for kind, path in parts:
        if not (folder / path).resolve().is_relative_to(folder.resolve()):
            raise UserError(f"{where}: the path {path!r} of {kind} leads out of the folder.")
    if not parts or parts[0][0] != "Transformer":
        first = parts[0][0] if parts else "nothing"
        raise UserError(f"{where}: the first module is {first}; expected Transformer.")
    metadata = ModelMetadata(folder / parts[0][1], pooling)
    pooled, pools_prompt = False, True
    for kind, path in parts[1:]:
        if kind == "Pooling" and not pooled:
            pooled = True
            config = folder / path / "config.json"
            content = _read_object(config)
            metadata.pooling = pooling or _pooling_of(content, config)
            metadata.projected_pooling = _known_pooling(content, config)
            pools_prompt = content.get("include_prompt") is not False
            metadata.sources["pooling"] = f"{path}/config.json"
        elif kind == "Dense" and pooled and metadata.projection is None and not metadata.normalize:
            content = _read_object(folder / path / "config.json")
            metadata.projection_folder = folder / path
            metadata.projection = projected_width(folder / path, content)
            metadata.sources["projection"] = f"{path}/config.json"
        elif kind == "Normalize" and pooled and not metadata.normalize:
            metadata.normalize = True
            metadata.sources["normalize"] = where.name
        else:
            raise UserError(
                f"{where}: the module {kind} is not one that this project runs here; it runs "
                "Transformer, Pooling, Dense and Normalize, once each and in this order. "
                "Without it the vectors would be others."
            )
    _read_comparison(folder, metadata)
    if metadata.prompts and not pools_prompt:
        metadata.prompts, metadata.prompt = {}, ""
        metadata.notes.append(
            f"{folder}: its pooling leaves out the tokens of a prompt (include_prompt is false), "
            "which is not built here: texts are read without its prompts."
        )
    _read_length(folder, metadata)
    return metadata


def _read_object(path: Path) -> dict[str, Any]:
    """The content of a JSON file that holds an object; empty where there is no file."""
    content = read_json(path) if path.is_file() else {}
    if not isinstance(content, dict):
        raise UserError(f"{path}: expected a JSON object. Fetch the model again.")
    return content


def _read_comparison(folder: Path, metadata: ModelMetadata) -> None:
    """Read how a sentence-transformers model compares its vectors, and its prompts."""
    config_path = folder / "config_sentence_transformers.json"
    content = _read_object(config_path)
    name, prompts = content.get("similarity_fn_name"), content.get("prompts")
    if name is not None and not (name == "dot" and metadata.normalize):
        metadata.similarity, metadata.sources["similarity"] = str(name), config_path.name
    else:  # of unit vectors the dot product is the cosine, which is also the library's default
        place = "modules.json" if metadata.normalize else "sentence-transformers' default"
        metadata.similarity, metadata.sources["similarity"] = "cosine", place
    if isinstance(prompts, dict) and any(prompts.values()):
        default = content.get("default_prompt_name")
        metadata.prompts = {str(key): str(text or "") for key, text in prompts.items()}
        metadata.prompt = paper_prompt(metadata.prompts, None if default is None else str(default))
        metadata.sources["prompts"] = config_path.name


def _read_length(folder: Path, metadata: ModelMetadata) -> None:
    """Read the most tokens of a text of a sentence-transformers model."""
    places = [(f"sentence_{kind}_config.json", "max_seq_length") for kind in ("bert", "roberta")]
    # sentence-transformers 5.7 and newer keep the length with the tokenizer alone. Tokenizers
    # without a limit carry a huge number.
    for name, key in (*places, ("tokenizer_config.json", "model_max_length")):
        path = metadata.backbone / name
        limit = _read_object(path).get(key)
        if isinstance(limit, int) and 0 < limit < 1_000_000:
            metadata.max_length = limit
            metadata.sources["max_length"] = path.relative_to(folder).as_posix()
            return


def read_metadata(folder: Path, pooling: str | None = None) -> ModelMetadata:
    """What ``sciembed.json``, else a sentence-transformers layout, says of a model folder.

    Args:
        folder: the model's folder.
        pooling: replaces the recorded one, which may then be one that is not built.

    Raises:
        UserError: a file is malformed or asks for what is not built.
    """
    _refuse_half(folder)
    path = folder / "sciembed.json"
    if not path.is_file():
        if (folder / "modules.json").is_file():
            return _read_sentence_transformers(folder, pooling)
        return ModelMetadata(folder)
    content: Any = read_json(path)
    try:
        place = str(content.get("backbone") or "")
        adapters = content.get("adapters")
        texts, transport = content.get("texts"), content.get("transport")
        fields = (
            *("pooling", "normalize", "projection", "max_length", "input_format"),
            *("similarity", "prompts"),
        )
        projection = content.get("projection")
        metadata = ModelMetadata(
            backbone=folder / place,
            pooling=pooling or str(content["pooling"]),
            max_length=int(content["max_length"]),
            input_format=InputFormat.recorded(content["input_format"]),
            # Older folders do not say it: all of them were trained for Euclidean distance.
            similarity=str(content.get("similarity") or "euclidean"),
            normalize=content.get("normalize") is True,
            projection=None if projection is None else int(projection),
            projection_folder=None if projection is None else folder / FOLDER,
            projected_pooling=None if projection is None else str(content["pooling"]),
            prompts=dict(content.get("prompts") or {}),
            texts=None if texts is None else str(texts),
            transport=dict(transport) if transport else None,
            adapters=None if adapters is None else AdapterSettings.from_folder(adapters, folder),
            control_codes=content.get("control_codes") is True,
            record=dict(content),
            sources=dict.fromkeys(fields, path.name),
        )
    except (AttributeError, TypeError, KeyError, ValueError) as error:
        raise UserError(
            f"{path}: `pooling`, `max_length` or `input_format` is missing, or one of them, "
            f"`transport` or `adapters` is wrong ({error}). Export the model again."
        ) from error
    if not metadata.backbone.resolve().is_relative_to(folder.resolve()):
        raise UserError(f"{path}: `backbone` is {place!r}, which leads out of the folder.")
    if pooling is None:
        check_recorded(str(metadata.pooling), path)
    return metadata


def _refuse_half(folder: Path) -> None:
    """Refuse ``st/`` and ``hf/`` of an encoder's folder, which are for other libraries."""
    record_path = folder.resolve().parent / "sciembed.json"
    if folder.resolve().name in ("st", "hf") and record_path.is_file():
        raise UserError(
            f"{folder}: is the part of an exported encoder that is meant for other libraries; give "
            f"the folder that holds it, {record_path.parent}."
        )


def tokenizer_folder(name_or_folder: str | Path) -> Path:
    """Where a model's tokenizer lies: beside its backbone, which may be in a sub-folder.

    Raises:
        UserError: as for `find_folder` and `read_metadata`.
    """
    folder = find_folder(name_or_folder)
    # Only the folder is needed: the pooling is checked when the encoder is made.
    return read_metadata(folder, pooling="mean").backbone
