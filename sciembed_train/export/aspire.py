"""Aspire's own layout of a bi-encoder that mixes its layers, written and read.

A folder of two files, as released in Aspire's zip files: ``run_info.json``, whose
``all_hparams["base-pt-layer"]`` names the model that gives architecture and tokenizer, and
``model_cur_best.pt``, a state dict with ``bert_encoder.*`` (a ``BertModel``) and
``bert_layer_weights.weight`` [1, layers + 1], before the softmax and the embeddings' first.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from sciembed_train.encoder import loading
from sciembed_train.encoder.encoder import Encoder, EncoderSettings, position_limit
from sciembed_train.encoder.mix import mixed_states
from sciembed_train.errors import UserError
from sciembed_train.export import hf
from sciembed_train.export.checkpoint_file import load_checkpoint
from sciembed_train.inputs import InputFormat

INFO, WEIGHTS = "run_info.json", "model_cur_best.pt"
_BERT, _MIX = "bert_encoder.", "bert_layer_weights.weight"
# A buffer that transformers had when the models were made; it was never trained.
_GONE = "bert_encoder.embeddings.position_ids"


def is_aspire(folder: Path) -> bool:
    """Whether a folder is in this layout."""
    return (folder / INFO).is_file() and (folder / WEIGHTS).is_file()


def export_aspire(
    encoder: Encoder, folder: str | Path, card: dict[str, Any], *, overwrite: bool = False
) -> dict[str, float | None]:
    """Write ``folder`` in Aspire's layout, and prove it by computing from its files alone.

    The original code loads the weights strictly into what ``base-pt-layer`` names, so the names
    are those of transformers from 4.31 on, without position ids, and the pooler is written too.

    Args:
        encoder: a BERT with pooling ``mix``, on any device; it is not changed.
        folder: made here.
        card: as for `hf.export_encoder`; ``base_model`` is what is named as ``base-pt-layer``.
        overwrite: replace an earlier export of this layout.

    Returns:
        The largest difference of an embedding's entry.

    Raises:
        UserError: the encoder is not of this kind, or the folder cannot be written.
        ExportError: the files give other embeddings.
    """
    folder = Path(folder).expanduser().absolute()
    hf.check_target(folder, overwrite, mark=WEIGHTS)
    kind, base = encoder.backbone.config.model_type, card.get("base_model")
    wants = "The layout aspire-full holds a BERT that mixes its layers (encoder.pooling mix)"
    if encoder.mix is None or kind != "bert":
        raise UserError(
            f"{wants}; this encoder is of model type {kind} with pooling "
            f"{encoder.settings.pooling}. Use the layout sentence-transformers."
        )
    if getattr(encoder.backbone, "pooler", None) is None:
        raise UserError(
            f"{wants}, with its pooler, which this one lacks. Use the layout sentence-transformers."
        )
    if not base:
        raise UserError(
            f"{wants} and names the model it was made from, which is not recorded of this one. Use "
            "the layout sentence-transformers."
        )
    encoder = hf.on_host(encoder)
    base = Path(str(base)).name if Path(str(base)).expanduser().exists() else str(base)
    info = {
        "all_hparams": {"model_name": "cospecter", "base-pt-layer": base, "fine_tune": True},
        "sciembed_train": {
            "max_length": encoder.settings.max_length,
            "input_format": encoder.settings.form.as_dict(),
        },
    }
    state = {f"{_BERT}{k}": v.detach().clone() for k, v in encoder.backbone.state_dict().items()}
    assert encoder.mix is not None
    state[_MIX] = encoder.mix.detach().clone()
    partial = folder.with_name(f".{folder.name}.{os.getpid()}.partial")
    try:
        try:
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir()
            text = json.dumps(info, indent=2) + "\n"
            (partial / INFO).write_text(text, encoding="utf-8")
            torch.save(state, partial / WEIGHTS)
        except OSError as error:
            raise UserError(f"{folder}: cannot be written ({error.strerror or error}).") from error
        texts = hf.probe_texts(encoder)
        found = _as_published(load_checkpoint(partial / WEIGHTS), encoder, texts)
        difference = hf.compare("Aspire's code", "embeddings", found, encoder.encode_texts(texts))
        hf.put_in_place(partial, folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return {"Aspire's layout": difference}


def _as_published(
    state: dict[str, Tensor], encoder: Encoder, texts: Sequence[str]
) -> Float[Tensor, "N D"]:
    """Embeddings by the published formula: all states stacked, mixed, and the first token's."""
    from transformers import AutoModel

    config = loading.build_config(encoder.backbone_config(), "the backbone")
    with torch.random.fork_rng(devices=[]), loading.quiet_transformers():
        model: Any = AutoModel.from_config(config, trust_remote_code=False).eval()
    model.load_state_dict({k.removeprefix(_BERT): v for k, v in state.items() if k != _MIX})
    shares = torch.softmax(state[_MIX], dim=1)
    vectors = []
    with torch.inference_mode():
        for ids in encoder.tokenizer.rows(texts, encoder.settings.max_length):
            states = model(input_ids=torch.tensor([ids]), output_hidden_states=True).hidden_states
            vectors.append(
                torch.nn.functional.linear(torch.stack(states, dim=3), shares)[:, 0, :, 0]
            )
    return torch.cat(vectors).clone()


def load_aspire(folder: Path, base: str | None = None, max_length: int | None = None) -> Encoder:
    """The encoder of a folder in Aspire's layout, with its weights unchanged.

    Args:
        folder: see `is_aspire`.
        base: folder or hub name of the model that gives architecture and tokenizer, instead of
            the one that ``run_info.json`` names.
        max_length: instead of 512, as the released models are used.

    Raises:
        UserError: a file is malformed, the base model cannot be had or does not fit, or it is a
            model of another kind.
    """
    from transformers import AutoModel

    where = folder / INFO
    info = loading.read_json(where)
    own: dict[str, Any] = {}
    try:
        base = base or str(info["all_hparams"]["base-pt-layer"])
        own = dict(info.get("sciembed_train") or {})
        form = InputFormat(**own.get("input_format", {"sentences": "sep"}))
    except (TypeError, KeyError, AttributeError) as error:
        raise UserError(
            f"{where}: has no all_hparams with base-pt-layer, the name of the model it was made "
            f"from ({error}). Give it with --base."
        ) from error
    state = load_checkpoint(folder / WEIGHTS)
    state.pop(_GONE, None)
    strange = [
        key
        for key, value in state.items()
        if not isinstance(value, Tensor) or not (key.startswith(_BERT) or key == _MIX)
    ]
    if strange or _MIX not in state:
        what = f"holds {strange[0]}" if strange else f"has no {_MIX}"
        raise UserError(
            f"{folder / WEIGHTS}: {what}, so it is no bi-encoder that mixes its layers; other "
            "Aspire models are not read by this version."
        )
    try:
        place = loading.read_recorded(loading.find_folder(base), "cls").backbone
    except UserError as error:
        raise UserError(f"{where} names the base model {base}: {error} (--base)") from error
    config, tokenizer = loading.checked_config(place), loading.load_tokenizer(place)
    mix = state.pop(_MIX)
    if config.model_type != "bert" or tuple(mix.shape) != (1, mixed_states(config)):
        raise UserError(
            f"{folder / WEIGHTS}: mixes {mix.numel()} states of a BERT; {base} is of model type "
            f"{config.model_type} with {mixed_states(config)} states. Give its own base with "
            "--base."
        )
    limit = min(512, position_limit(config) or 512)
    settings = EncoderSettings(
        str(folder), "mix", max_length or int(own.get("max_length", limit)), form
    )
    with torch.random.fork_rng(devices=[]), loading.quiet_transformers():
        backbone: Any = AutoModel.from_config(config, trust_remote_code=False).float()
    if not any(key.startswith(f"{_BERT}pooler.") for key in state):
        backbone.pooler = None
    encoder = Encoder(settings, backbone, tokenizer)
    content = {f"backbone.{k.removeprefix(_BERT)}": v for k, v in state.items()}
    try:
        encoder.load_state_dict({**content, "mix": mix}, strict=True)
    except RuntimeError as error:
        raise UserError(
            f"{folder / WEIGHTS}: does not fit the configuration of {base}: "
            f"{' '.join(str(error).split())[:300]}. Give its own base with --base."
        ) from error
    return encoder.eval()
