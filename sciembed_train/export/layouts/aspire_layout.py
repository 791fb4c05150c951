"""Aspire's own layouts of its models: the files, and writing them.

A folder of two files, as released in Aspire's zip files: ``run_info.json``, whose
``all_hparams["base-pt-layer"]`` names the model that gives architecture and tokenizer, and a state
dict. A bi-encoder that mixes its layers has ``bert_encoder.*`` (a ``BertModel``) in it and
``bert_layer_weights.weight`` [1, layers + 1], before the softmax and the embeddings' first; a
multi-vector model only ``bert_encoder.*``; the sentence encoder a ``BertModel``'s own names.
Reading them is in `aspire_run`.
"""

from __future__ import annotations

import copy
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from sciembed_train.encoder.encoder import Encoder
from sciembed_train.encoder.io.load_backbone import (
    build_config,
    checked_config,
    load_backbone,
    load_tokenizer,
    quiet_transformers,
)
from sciembed_train.encoder.pooling.layer_mix import LayerMix
from sciembed_train.errors import UserError
from sciembed_train.export.checkpoint_file import load_checkpoint
from sciembed_train.export.export_layout import Differences, ExportLayout, Record
from sciembed_train.export.layouts.sentences_layout import check_record
from sciembed_train.export.model_card import hub_name
from sciembed_train.export.sentence_probe import loop_sentence_vectors, probe_papers
from sciembed_train.export.verification import compare, probe_texts

INFO, MIX = "run_info.json", "bert_layer_weights.weight"


@dataclass(frozen=True)
class Kind:
    """One of the models that Aspire's code writes.

    Args:
        names: of the model in Aspire's configurations; the first is written.
        weights: the file of the state dict.
        prefix: of a ``BertModel``'s names in that file.
        pooling: of the encoder here.
        texts: what it reads, ``papers`` or ``sentences``.
        method: the one that trains it here.
    """

    names: tuple[str, ...]
    weights: str
    prefix: str
    pooling: Literal["mix", "sentences", "cls"]
    texts: str
    method: str


BIENCODER = Kind(
    names=("cospecter",),
    weights="model_cur_best.pt",
    prefix="bert_encoder.",
    pooling="mix",
    texts="papers",
    method="cocite",
)
MULTI_VECTOR = Kind(
    names=("miswordbienc", "sbalisentbienc"),
    weights="model_cur_best.pt",
    prefix="bert_encoder.",
    pooling="sentences",
    texts="papers",
    method="sentencecocite",
)
SENTENCE_ENCODER = Kind(
    names=("cosentbert",),
    weights="sent_encoder_cur_best.pt",
    prefix="",
    pooling="cls",
    texts="sentences",
    method="cocite",
)
KINDS = (BIENCODER, MULTI_VECTOR, SENTENCE_ENCODER)


def is_aspire(folder: Path) -> bool:
    """Whether a folder is in one of Aspire's layouts."""
    has_weights = any((folder / kind.weights).is_file() for kind in KINDS)
    return (folder / INFO).is_file() and has_weights


class AspireLayout(ExportLayout):
    """``run_info.json`` and a state dict, as Aspire's own code loads them.

    The original code loads the weights strictly into the model that ``base-pt-layer`` names, so
    the names are those of transformers from 4.31 on, without position ids, and the pooler is
    written too. The encoder must be a BERT that mixes its layers, gives vectors of sentences, or
    reads single sentences (``texts`` of the record).

    Args:
        base: what ``base-pt-layer`` names, for ``AutoModel`` and ``AutoTokenizer``: a hub name, or
            a folder, whose absolute path is written. None for the record's ``base_model``, which
            must then be a hub name: the record has only the last part of a folder's path.
    """

    marker = INFO

    def __init__(self, base: str | Path | None = None) -> None:
        self.base = base

    def check(self, encoder: Encoder, record: Record) -> None:
        """See `ExportLayout`."""
        _kind_for(encoder, record)
        name = self._base(record)
        if Path(name).is_dir():
            _check_folder(Path(name), encoder)

    def _base(self, record: Record) -> str:
        """The name or the absolute path for ``base-pt-layer``.

        Raises:
            UserError: neither is known, or there is no such folder.
        """
        if self.base is None:
            recorded = hub_name(record.get("base_model"))
            if recorded is None:
                trained = Path(str(record.get("base_model") or "")).name
                known = f"was trained from the folder {trained}" if trained else "records none"
                raise UserError(
                    "The layout aspire-full names a base model, from which Aspire's code takes "
                    f"architecture and tokenizer (base-pt-layer in {INFO}). This encoder {known}, "
                    "so there is no name that it could open: give a hub name or a folder with "
                    "--base."
                )
            return recorded
        folder = Path(self.base).expanduser()
        if folder.is_dir():
            return str(folder.resolve())
        name = str(self.base)
        if folder.exists() or ("/" in name and hub_name(name) is None):
            raise UserError(f"--base is {name}: there is no such folder, and it is no hub name.")
        return name

    def write(self, encoder: Encoder, folder: Path, record: Record) -> None:
        """See `ExportLayout`."""
        kind = _kind_for(encoder, record)
        info = {
            "all_hparams": {
                "model_name": kind.names[0],
                "base-pt-layer": self._base(record),
                **(_aggregation(record) if kind is MULTI_VECTOR else {}),
                "fine_tune": True,
            },
            "sciembed_train": {
                "max_length": encoder.settings.max_length,
                "input_format": encoder.settings.input_format.as_dict(),
                **{key: record[key] for key in ("similarity", "transport") if key in record},
            },
        }
        tensors = encoder.backbone.state_dict()
        state = {f"{kind.prefix}{name}": v.detach().clone() for name, v in tensors.items()}
        if isinstance(encoder.pooling, LayerMix):
            state[MIX] = encoder.pooling.mix.detach().clone()
        folder.mkdir(exist_ok=True)
        (folder / INFO).write_text(json.dumps(info, indent=2) + "\n", encoding="utf-8")
        torch.save(state, folder / kind.weights)

    def verify(self, encoder: Encoder, folder: Path, record: Record) -> Differences:
        """See `ExportLayout`; the published formulas, computed from the files alone."""
        kind = _kind_for(encoder, record)
        state = load_checkpoint(folder / kind.weights, own=False)
        actual, expected = _published_vectors(state, kind, encoder)
        return {"Aspire's layout": compare("Aspire's code", "embeddings", actual, expected)}


def _kind_for(encoder: Encoder, record: Record) -> Kind:
    """The kind of model that an encoder is."""
    model_type, pooling = encoder.backbone.config.model_type, encoder.settings.pooling
    texts = record.get("texts") or "papers"
    fitting = [kind for kind in KINDS if (kind.pooling, kind.texts) == (pooling, texts)]
    rule = (
        "The layout aspire-full holds a BERT that mixes its layers (encoder.pooling mix), gives "
        "vectors of sentences (sentences), or reads single sentences (cls)"
    )
    remedy = "Use the layout sentence-transformers."
    if not fitting or model_type != "bert":
        raise UserError(
            f"{rule}; this encoder is of model type {model_type} with pooling {pooling}, for "
            f"{texts}. {remedy}"
        )
    if getattr(encoder.backbone, "pooler", None) is None:
        raise UserError(f"{rule}, with its pooler, which this one lacks. {remedy}")
    if fitting[0] is MULTI_VECTOR:
        check_record(record)
    return fitting[0]


def _check_folder(folder: Path, encoder: Encoder) -> None:
    """Check that the weights fit a folder's base model, and that its tokenizer is the same.

    Raises:
        UserError: they do not, or the folder is no model that ``AutoModel`` loads.
    """
    base = load_backbone(folder, checked_config(folder))
    shapes, expected = (
        {n: t.shape for n, t in m.state_dict().items()} for m in (base, encoder.backbone)
    )
    # A base without a pooler gets a random one, which the loaded weights replace.
    differing = sorted(
        name
        for name in shapes.keys() | expected.keys()
        if shapes.get(name) != expected.get(name)
        and not (name.startswith("pooler.") and name not in shapes)
    )
    if differing:
        raise UserError(
            f"--base is {folder}: its {differing[0]} is {_shape(shapes.get(differing[0]))}, this "
            f"encoder's {_shape(expected.get(differing[0]))}. Give the model that it was trained "
            "from."
        )
    if load_tokenizer(folder).hf.get_vocab() != encoder.tokenizer.hf.get_vocab():
        raise UserError(
            f"--base is {folder}: its tokenizer has other tokens than this encoder's. Give the "
            "model that it was trained from."
        )


def _shape(shape: torch.Size | None) -> str:
    """A tensor's shape in words."""
    return "missing" if shape is None else "x".join(map(str, shape))


def _aggregation(record: Record) -> dict[str, Any]:
    """How papers are compared, by the names of the original configurations."""
    if record["similarity"] == "best_match":
        return {"score_aggregation": "l2max"}
    settings = record["transport"]
    return {
        "score_aggregation": "l2wasserstein",
        "geoml_blur": settings["blur"],
        "geoml_scaling": settings["scaling"],
        "sent_sm_temp": settings["temperature"],
    }


def _published_vectors(
    state: dict[str, Tensor], kind: Kind, encoder: Encoder
) -> tuple[Float[Tensor, "N D"], Float[Tensor, "N D"]]:
    """Embeddings by the published formulas, and the encoder's own.

    For a bi-encoder all states are stacked, mixed, and the first token's taken.
    """
    from transformers import AutoModel

    config = build_config(encoder.backbone_config(), "the backbone")
    with torch.random.fork_rng(devices=[]), quiet_transformers():
        model: Any = AutoModel.from_config(config, trust_remote_code=False).eval()
    model.load_state_dict({k.removeprefix(kind.prefix): v for k, v in state.items() if k != MIX})
    length = encoder.settings.max_length
    if kind is MULTI_VECTOR:
        papers = probe_papers()
        tokenizer = copy.deepcopy(encoder.tokenizer.hf)  # a call with truncation changes it
        tokenizer.model_max_length = length
        _, actual = loop_sentence_vectors(tokenizer, model, encoder.settings.input_format, papers)
        return torch.cat(actual), torch.cat(encoder.encode_sentences(papers))
    texts, vectors = probe_texts(encoder), []
    with torch.inference_mode():
        for ids in encoder.tokenizer.rows(texts, length):
            rows = torch.tensor([ids])
            if kind is SENTENCE_ENCODER:
                vectors.append(model(input_ids=rows).last_hidden_state[:, 0])
                continue
            states = torch.stack(model(rows, output_hidden_states=True).hidden_states, dim=3)
            shares = torch.softmax(state[MIX], dim=1)
            vectors.append(torch.nn.functional.linear(states, shares)[:, 0, :, 0])
    return torch.cat(vectors).clone(), encoder.encode_texts(texts)
