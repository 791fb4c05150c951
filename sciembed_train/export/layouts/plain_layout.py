"""A plain model: the backbone at the top, for transformers and sentence-transformers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from sciembed_train.encoder.encoder import Encoder
from sciembed_train.encoder.io.encoder_folder import backbone_place
from sciembed_train.export.export_layout import ExportLayout
from sciembed_train.export.library_vectors import (
    sentence_transformers_vectors,
    transformers_vectors,
)
from sciembed_train.export.model_card import card_metadata, card_values, render_card
from sciembed_train.export.published import OF_TEXTS
from sciembed_train.export.sentence_transformers_files import write_sentence_transformers
from sciembed_train.export.verification import (
    compare_where_installed,
    masked_lm_difference,
    probe_texts,
)

# What saved tokenizers may carry of the lengths of an earlier training.
_LEFTOVERS = (
    "max_length",
    "padding",
    "padding_strategy",
    "pad_to_multiple_of",
    "stride",
    "truncation",
    "truncation_strategy",
    "name_or_path",
)


class PlainLayout(ExportLayout):
    """A Hugging Face folder that sentence-transformers loads as well."""

    def check(self, encoder: Encoder, record: dict[str, Any]) -> None:
        """See `ExportLayout`."""
        if record["similarity"] not in OF_TEXTS:
            raise ValueError(
                f"similarity is {record['similarity']!r}; expected {' or '.join(OF_TEXTS)}"
            )

    def write(self, encoder: Encoder, folder: Path, record: dict[str, Any]) -> None:
        """See `ExportLayout`."""
        save_encoder(encoder, folder, record)
        write_sentence_transformers(
            folder,
            dim=encoder.dim,
            pooling=str(encoder.pooling.sentence_transformers_mode),
            max_length=encoder.settings.max_length,
            similarity=record["similarity"],
        )

    def verify(
        self, encoder: Encoder, folder: Path, record: dict[str, Any]
    ) -> dict[str, float | None]:
        """See `ExportLayout`."""
        texts = probe_texts(encoder)
        expected = encoder.encode_texts(texts)
        vectors = {
            "AutoModel": transformers_vectors(encoder, folder, texts),
            "SentenceTransformer": sentence_transformers_vectors(folder, texts),
        }
        differences = {
            library: compare_where_installed(library, actual, expected)
            for library, actual in vectors.items()
        }
        if encoder.head is not None:
            differences["AutoModelForMaskedLM"] = masked_lm_difference(encoder, folder, texts)
        return differences

    def describe(self, encoder: Encoder, record: dict[str, Any], name: str) -> str:
        """See `ExportLayout`."""
        place = "PATH_OR_NAME_OF_THIS_MODEL"
        values = {
            **card_values(encoder, record, name),
            "transformers_folder": place,
            "sentence_transformers_folder": place,
            "head_folder": place,
            "trust": "",
            "download_hint": "",
        }
        return render_card(
            "plain.md.jinja", card_metadata(record, sentence_transformers=True), values
        )


def save_encoder(encoder: Encoder, folder: Path, record: dict[str, Any]) -> None:
    """Write the encoder with its record, and take an earlier training's lengths out of it."""
    encoder.save(folder, record)
    path = folder / backbone_place(encoder.parts) / "tokenizer_config.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    for key in _LEFTOVERS:
        content.pop(key, None)
    content["model_max_length"] = encoder.settings.max_length
    text = json.dumps(content, indent=2, ensure_ascii=False) + "\n"
    path.write_text(text, encoding="utf-8")
