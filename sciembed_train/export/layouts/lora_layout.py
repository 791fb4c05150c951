"""Only the low-rank updates of an encoder, in the layout of ``peft``, without the backbone.

``adapter_config.json`` names the backbone, so that sentence-transformers loads the folder as a
whole model; ``peft`` and ``transformers`` load the updates onto the backbone.
"""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import torch

from sciembed_train.encoder.adapters.lora import LORA_CONFIG, library, save_lora
from sciembed_train.encoder.encoder import Encoder
from sciembed_train.encoder.io.load_backbone import (
    checked_config,
    load_backbone,
    quiet_transformers,
)
from sciembed_train.encoder.io.model_metadata import read_metadata
from sciembed_train.errors import UserError
from sciembed_train.export.export_layout import (
    Differences,
    ExportLayout,
    Record,
    public_name,
)
from sciembed_train.export.library_vectors import model_vectors, sentence_transformers_vectors
from sciembed_train.export.model_card import card_values, hub_name, render_card
from sciembed_train.export.sentence_transformers_files import write_sentence_transformers
from sciembed_train.export.verification import compare, compare_where_installed, probe_texts
from sciembed_train.safety.find_model import find_folder


class LoraLayout(ExportLayout):
    """Updates with a tokenizer and the files of sentence-transformers.

    Args:
        base: folder or hub name of the backbone that the updates were trained in; None takes the
            name that training was given.
    """

    marker = LORA_CONFIG

    def __init__(self, base: str | None = None) -> None:
        self.base = base

    def check(self, encoder: Encoder, record: Record) -> None:
        """See `ExportLayout`."""
        if encoder.settings.lora is None:
            raise UserError(
                "The checkpoint was trained without encoder.lora, so --layout lora has no low-rank "
                "updates to write. Export the whole encoder: leave --layout out."
            )
        if encoder.pooling.sentence_transformers_mode is None:
            raise UserError(
                f"The checkpoint's pooling is {encoder.settings.pooling}, which sentence-"
                "transformers has no module for, so --layout lora would write a folder without "
                "it. Export the whole encoder: leave --layout out."
            )
        self._backbone_folder(encoder)

    def write(self, encoder: Encoder, folder: Path, record: Record) -> None:
        """See `ExportLayout`."""
        folder.mkdir(parents=True, exist_ok=True)
        save_lora(encoder.backbone, self._name(encoder), folder)
        tokenizer = copy.deepcopy(encoder.tokenizer.hf)
        tokenizer.model_max_length = encoder.settings.max_length
        tokenizer.save_pretrained(str(folder))
        # Where no class is named, the tokenizer loader of sentence-transformers 5.7 looks into
        # config.json; and transformers 5 takes a folder with that file for a whole model.
        path = folder / "tokenizer_config.json"
        content = json.loads(path.read_text(encoding="utf-8"))
        text = json.dumps({**content, "processor_class": "AutoTokenizer"}, indent=2)
        path.write_text(f"{text}\n", encoding="utf-8")
        mode = str(encoder.pooling.sentence_transformers_mode)
        write_sentence_transformers(folder, encoder, mode, _similarity(record))

    def verify(self, encoder: Encoder, folder: Path, record: Record) -> Differences:
        """See `ExportLayout`; both libraries load the backbone that the updates were trained in."""
        place = self._backbone_folder(encoder)
        base: Any = load_backbone(place, checked_config(place))
        with quiet_transformers():
            model = library().PeftModel.from_pretrained(base, str(folder))
        tokenizer = copy.deepcopy(encoder.tokenizer.hf)
        tokenizer.model_max_length = encoder.settings.max_length
        texts, prompt = probe_texts(encoder), encoder.settings.input_format.prompt
        expected = encoder.merged().encode_texts(texts)
        vectors = model_vectors(encoder, model.eval(), tokenizer, texts)
        # Many models store weights in half precision; updates are in fp32.
        options = {"model_kwargs": {"torch_dtype": torch.float32}}
        st_vectors = sentence_transformers_vectors(folder, texts, prompt, **options)
        return {
            "peft": compare("peft", "embeddings", vectors, expected),
            "SentenceTransformer": compare_where_installed(
                "SentenceTransformer", st_vectors, expected
            ),
        }

    def describe(self, encoder: Encoder, record: Record, name: str) -> str:
        """See `ExportLayout`."""
        base = public_name(self._name(encoder))
        record = {**record, "similarity": _similarity(record)}
        values = {"base": base} | card_values(encoder, record, name)
        metadata = {
            "library_name": "peft",
            "base_model": hub_name(base),
            "tags": ["sentence-transformers", "lora", "scientific-documents", "sciembed_train"],
        }
        return render_card("lora.md.jinja", metadata, values)

    def _name(self, encoder: Encoder) -> str:
        return self.base or encoder.settings.backbone

    def _backbone_folder(self, encoder: Encoder) -> Path:
        """Where the backbone's weights lie.

        Raises:
            UserError: it is not there, or lies in a sub-folder, where other libraries do not look.
        """
        name = self._name(encoder)
        folder = find_folder(name)
        place = read_metadata(folder, pooling=encoder.settings.pooling).backbone
        if place.resolve() != folder.resolve():
            raise UserError(
                f"{name}: its backbone lies in {place}, where no other library looks for the "
                "backbone of low-rank updates. Export the whole encoder: leave --layout out."
            )
        return folder


def _similarity(record: Record) -> str:
    return str(record.get("similarity") or "euclidean")
