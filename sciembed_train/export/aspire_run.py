"""Reading Aspire's own runs: two files as its code wrote them (see `aspire_layout`)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sciembed_train.encoder.encoder import Encoder
from sciembed_train.encoder.io.load_backbone import (
    check_size,
    checked_config,
    load_tokenizer,
    quiet_transformers,
)
from sciembed_train.encoder.io.model_metadata import read_metadata
from sciembed_train.encoder.pooling.layer_mix import layer_states
from sciembed_train.encoder.settings import EncoderSettings, position_limit
from sciembed_train.errors import UserError
from sciembed_train.export.checkpoint_file import load_checkpoint
from sciembed_train.export.layouts.aspire_layout import (
    BIENCODER,
    INFO,
    KINDS,
    MIX,
    MULTI_VECTOR,
    Kind,
)
from sciembed_train.export.published import OF_SENTENCES, Known
from sciembed_train.safety.find_model import find_folder
from sciembed_train.safety.json_files import read_json
from sciembed_train.text.input_format import InputFormat

# A buffer that transformers had when the models were made; it was never trained.
_GONE = "embeddings.position_ids"
# What papers are ranked by, from the name in a run's configuration. Attention over all pairs and
# the two nearest pairs are for training; such models rank by the nearest pair.
_AGGREGATIONS = {
    "l2wasserstein": "transport",
    **dict.fromkeys(("l2max", "l2lse", "l2top2", "l2attention"), "best_match"),
}


def kind_of(folder: Path) -> Kind:
    """The kind of model of a run, by its configuration, else by its files."""
    hparams = _section(folder, "all_hparams")
    for kind in KINDS:
        if hparams.get("model_name") in kind.names:
            return kind
    return next(kind for kind in KINDS if (folder / kind.weights).is_file())


def _section(folder: Path, name: str) -> dict[str, Any]:
    """A table of the run's information, empty where it has none."""
    info = read_json(folder / INFO)
    section = (info.get(name) or {}) if isinstance(info, dict) else info
    if not isinstance(section, dict):
        raise UserError(
            f"{folder / INFO}: `{name}` is no table as Aspire's code writes it. Copy it again."
        )
    return section


def compared_by(folder: Path, similarity: str | None) -> Known:
    """How a run's vectors are used: what papers are ranked by, and the transport settings.

    ``similarity`` replaces the recorded one; only multi-vector models have a choice.

    Raises:
        UserError: a multi-vector run does not record it, or it is not supported.
    """
    kind, hparams = kind_of(folder), _section(folder, "all_hparams")
    if kind is not MULTI_VECTOR:
        if similarity is not None:
            raise UserError(
                f"--similarity is {similarity}, but {folder} is an Aspire run whose vectors are "
                "compared by Euclidean distance. Leave the option out."
            )
        # Mysore et al. (2022): ranked by minus the Euclidean distance.
        return Known(kind.method, kind.pooling, "euclidean", kind.texts)
    section = _section(folder, "sciembed_train")
    aggregation = hparams.get("score_aggregation")
    similarity = similarity or section.get("similarity") or _AGGREGATIONS.get(str(aggregation))
    if similarity not in OF_SENTENCES:
        raise UserError(
            f"{folder / INFO}: score_aggregation is {aggregation!r}, which does not record how "
            f"papers are compared. Give --similarity {' or '.join(OF_SENTENCES)}."
        )
    transport = section.get("transport")
    if similarity == "transport" and transport is None:
        if hparams.get("geoml_reach") is not None:
            raise UserError(
                f"{folder / INFO}: geoml_reach is {hparams['geoml_reach']}, unbalanced transport, "
                "which is not supported. Give --similarity best_match."
            )
        names = {"sent_sm_temp": "temperature", "geoml_blur": "blur", "geoml_scaling": "scaling"}
        transport = {ours: hparams[name] for name, ours in names.items() if name in hparams}
    return Known(kind.method, kind.pooling, similarity, kind.texts, transport)


def load_aspire(folder: Path, base: str | None = None, max_length: int | None = None) -> Encoder:
    """The encoder of a run's folder, with its weights unchanged.

    ``base`` replaces the model that ``run_info.json`` names, which gives architecture and
    tokenizer; ``max_length`` replaces 512, with which the released models are used.

    Raises:
        UserError: a file is malformed, the base model is missing or does not fit, or it is a model
            of another kind.
    """
    from transformers import AutoModel

    where, kind = folder / INFO, kind_of(folder)
    section = _section(folder, "sciembed_train")
    given_base, base = base, base or _section(folder, "all_hparams").get("base-pt-layer")
    if not base:
        raise UserError(
            f"{where}: has no all_hparams with base-pt-layer, the name of its base model. Give it "
            "with --base."
        )
    # As trained: a bi-encoder with a separator between sentences, the others without.
    sentences = "sep" if kind is BIENCODER else "joined"
    try:
        recorded = section.get("input_format")
        input_format = (
            InputFormat(sentences=sentences) if recorded is None else InputFormat.recorded(recorded)
        )
    except TypeError as error:
        raise UserError(f"{where}: `input_format` is wrong ({error}). Export it again.") from error
    state = _read_state(folder / kind.weights, kind)
    try:
        place = read_metadata(find_folder(base, fetch=given_base is not None), "cls").backbone
    except UserError as error:
        raise UserError(
            f"{where} names the base model {base}. {error} Say where it is with --base."
        ) from error
    config, tokenizer = checked_config(place), load_tokenizer(place)
    mix = state.pop(MIX, None)
    if config.model_type != "bert" or (
        mix is not None and tuple(mix.shape) != (1, layer_states(config))
    ):
        holds = "holds a BERT" if mix is None else f"mixes {mix.numel()} states of a BERT"
        raise UserError(
            f"{folder / kind.weights}: {holds}; {base} is of model type {config.model_type} with "
            f"{layer_states(config)} states. Give its own base with --base."
        )
    limit = min(512, position_limit(config) or 512)
    length = max_length or int(section.get("max_length", limit))
    settings = EncoderSettings(str(folder), kind.pooling, length, input_format)
    size = sum(tensor.nbytes for tensor in state.values())
    check_size(AutoModel, config, size, f"{base}: config.json")
    with torch.random.fork_rng(devices=[]), quiet_transformers():
        backbone: Any = AutoModel.from_config(config, trust_remote_code=False).float()
    if not any(key.startswith("pooler.") for key in state):
        backbone.pooler = None
    encoder = Encoder(settings, backbone, tokenizer)
    content = {f"backbone.{name}": tensor for name, tensor in state.items()}
    try:
        encoder.load_state_dict(content if mix is None else {**content, "mix": mix}, strict=True)
    except RuntimeError as error:
        raise UserError(
            f"{folder / kind.weights}: does not fit the configuration of {base}: "
            f"{' '.join(str(error).split())[:300]}. Give its own base with --base."
        ) from error
    return encoder.eval()


def _read_state(path: Path, kind: Kind) -> dict[str, Tensor]:
    """A run's tensors by a ``BertModel``'s names, and the mix by its own."""
    state = load_checkpoint(path, own=False)
    state.pop(f"{kind.prefix}{_GONE}", None)
    mixes = kind is BIENCODER
    unexpected = [
        key
        for key, value in state.items()
        if not isinstance(value, Tensor)
        or not (
            (mixes and key == MIX)
            or key.startswith(kind.prefix or ("embeddings.", "encoder.", "pooler."))
        )
    ]
    if unexpected or (mixes and MIX not in state):
        problem = f"holds {unexpected[0]}" if unexpected else f"has no {MIX}"
        expected = {
            "mix": "bi-encoder that mixes its layers",
            "sentences": "multi-vector model",
            "cls": "sentence encoder",
        }[kind.pooling]
        raise UserError(
            f"{path}: {problem}, so it is no {expected}, as the model_name in {INFO} says "
            f"({', '.join(name for k in KINDS for name in k.names)} are read). Other Aspire "
            "models are not read by this version."
        )
    return {key.removeprefix(kind.prefix) if key != MIX else key: v for key, v in state.items()}
