"""Aspire's own layouts of its models: what the files are, and writing them.

A folder of two files, as released in Aspire's zip files: ``run_info.json``, whose
``all_hparams["base-pt-layer"]`` names the model that gives architecture and tokenizer, and a state
dict. That of a bi-encoder which mixes its layers has ``bert_encoder.*`` (a ``BertModel``) and
``bert_layer_weights.weight`` [1, layers + 1], before the softmax and the embeddings' first; that
of a multi-vector model ``bert_encoder.*`` alone; that of the sentence encoder is a ``BertModel``'s.
Reading them is in `aspire_run`.
"""

from __future__ import annotations

import copy
import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from sciembed_train.encoder.encoder import Encoder
from sciembed_train.encoder.io.load_backbone import build_config, quiet_transformers
from sciembed_train.encoder.pooling.layer_mix import LayerMix
from sciembed_train.errors import UserError
from sciembed_train.export import export_folder, multi_vector
from sciembed_train.export.checkpoint_file import load_checkpoint

INFO, MIX = "run_info.json", "bert_layer_weights.weight"


@dataclass(frozen=True)
class Kind:
    """One of the models that Aspire's code writes.

    Args:
        names: as its configurations call the model; the first is written.
        weights: the file of the state dict.
        prefix: what stands before a ``BertModel``'s names in it.
        pooling: of the encoder that it is here.
        texts: what it reads, ``papers`` or ``sentences``.
        method: that trains it here.
    """

    names: tuple[str, ...]
    weights: str
    prefix: str
    pooling: Literal["mix", "sentences", "cls"]
    texts: str
    method: str


BIENCODER = Kind(("cospecter",), "model_cur_best.pt", "bert_encoder.", "mix", "papers", "cocite")
MULTI_VECTOR = Kind(
    ("miswordbienc", "sbalisentbienc"),
    *("model_cur_best.pt", "bert_encoder.", "sentences", "papers", "sentencecocite"),
)
SENTENCE_ENCODER = Kind(
    ("cosentbert",), "sent_encoder_cur_best.pt", "", "cls", "sentences", "cocite"
)
KINDS = (BIENCODER, MULTI_VECTOR, SENTENCE_ENCODER)


def is_aspire(folder: Path) -> bool:
    """Whether a folder is in one of these layouts."""
    has_weights = any((folder / kind.weights).is_file() for kind in KINDS)
    return (folder / INFO).is_file() and has_weights


def export_aspire(
    encoder: Encoder, folder: str | Path, card: dict[str, Any], *, overwrite: bool = False
) -> dict[str, float | None]:
    """Write ``folder`` in Aspire's layout, and prove it by computing from its files alone.

    The original code loads the weights strictly into what ``base-pt-layer`` names, so the names
    are those of transformers from 4.31 on, without position ids, and the pooler is written too.

    Args:
        encoder: a BERT that mixes its layers, gives vectors of sentences, or reads single
            sentences (``card["texts"]``), on any device; it is not changed.
        folder: made here.
        card: as for `export_folder.export_encoder`; ``base_model`` is what is named as
            ``base-pt-layer``.
        overwrite: replace an earlier export of this layout.

    Returns:
        The largest difference of an embedding's entry.

    Raises:
        UserError: the encoder is not of these kinds, or the folder cannot be written.
        ExportError: the files give other embeddings.
    """
    folder = Path(folder).expanduser().absolute()
    export_folder.check_target(folder, overwrite, mark=INFO)
    kind, base = _kind_for(encoder, card), card.get("base_model")
    encoder = export_folder.on_host(encoder)
    base = Path(str(base)).name if Path(str(base)).expanduser().exists() else str(base)
    own = {key: card[key] for key in ("similarity", "transport") if key in card}
    info = {
        "all_hparams": {
            "model_name": kind.names[0],
            "base-pt-layer": base,
            **(_aggregation(card) if kind is MULTI_VECTOR else {}),
            "fine_tune": True,
        },
        "sciembed_train": {
            "max_length": encoder.settings.max_length,
            "input_format": encoder.settings.input_format.as_dict(),
            **own,
        },
    }
    states = encoder.backbone.state_dict()
    state = {f"{kind.prefix}{name}": v.detach().clone() for name, v in states.items()}
    if isinstance(encoder.pooling, LayerMix):
        state[MIX] = encoder.pooling.mix.detach().clone()
    partial = folder.with_name(f".{folder.name}.{os.getpid()}.partial")
    try:
        try:
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir()
            text = json.dumps(info, indent=2) + "\n"
            (partial / INFO).write_text(text, encoding="utf-8")
            torch.save(state, partial / kind.weights)
        except OSError as error:
            raise UserError(f"{folder}: cannot be written ({error.strerror or error}).") from error
        found, wanted = _as_published(load_checkpoint(partial / kind.weights), kind, encoder)
        difference = export_folder.compare("Aspire's code", "embeddings", found, wanted)
        export_folder.put_in_place(partial, folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return {"Aspire's layout": difference}


def _kind_for(encoder: Encoder, card: dict[str, Any]) -> Kind:
    """The kind of model that an encoder is.

    Raises:
        UserError: it is none of them, or lacks what the layout names.
    """
    model_type, pooling = encoder.backbone.config.model_type, encoder.settings.pooling
    texts = card.get("texts") or "papers"
    fitting = [kind for kind in KINDS if (kind.pooling, kind.texts) == (pooling, texts)]
    wants = (
        "The layout aspire-full holds a BERT that mixes its layers (encoder.pooling mix), gives "
        "vectors of sentences (sentences), or reads single sentences (cls)"
    )
    instead = "Use the layout sentence-transformers."
    if not fitting or model_type != "bert":
        raise UserError(
            f"{wants}; this encoder is of model type {model_type} with pooling {pooling}, for "
            f"{texts}. {instead}"
        )
    if getattr(encoder.backbone, "pooler", None) is None:
        raise UserError(f"{wants}, with its pooler, which this one lacks. {instead}")
    if not card.get("base_model"):
        raise UserError(
            f"{wants} and names the model it was made from, which is not recorded of this one. "
            f"{instead}"
        )
    if fitting[0] is MULTI_VECTOR:
        multi_vector.check_record(card)
    return fitting[0]


def _aggregation(card: dict[str, Any]) -> dict[str, Any]:
    """How papers are compared, as the original configurations say it."""
    if card["similarity"] == "best_match":
        return {"score_aggregation": "l2max"}
    settings = card["transport"]
    return {
        "score_aggregation": "l2wasserstein",
        "geoml_blur": settings["blur"],
        "geoml_scaling": settings["scaling"],
        "sent_sm_temp": settings["temperature"],
    }


def _as_published(
    state: dict[str, Tensor], kind: Kind, encoder: Encoder
) -> tuple[Float[Tensor, "N D"], Float[Tensor, "N D"]]:
    """Embeddings by the published formulas, and the encoder's own.

    Of a bi-encoder all states are stacked, mixed, and the first token's taken.
    """
    from transformers import AutoModel

    config = build_config(encoder.backbone_config(), "the backbone")
    with torch.random.fork_rng(devices=[]), quiet_transformers():
        model: Any = AutoModel.from_config(config, trust_remote_code=False).eval()
    model.load_state_dict({k.removeprefix(kind.prefix): v for k, v in state.items() if k != MIX})
    length = encoder.settings.max_length
    if kind is MULTI_VECTOR:
        papers = multi_vector.probe_papers()
        tokenizer = copy.deepcopy(encoder.tokenizer.hf)  # a call with truncation changes it
        tokenizer.model_max_length = length
        _, found = multi_vector.by_a_loop(tokenizer, model, encoder.settings.input_format, papers)
        return torch.cat(found), torch.cat(encoder.encode_sentences(papers))
    texts, vectors = export_folder.probe_texts(encoder), []
    with torch.inference_mode():
        for ids in encoder.tokenizer.rows(texts, length):
            given = torch.tensor([ids])
            if kind is SENTENCE_ENCODER:
                vectors.append(model(input_ids=given).last_hidden_state[:, 0])
                continue
            states = torch.stack(model(given, output_hidden_states=True).hidden_states, dim=3)
            shares = torch.softmax(state[MIX], dim=1)
            vectors.append(torch.nn.functional.linear(states, shares)[:, 0, :, 0])
    return torch.cat(vectors).clone(), encoder.encode_texts(texts)
