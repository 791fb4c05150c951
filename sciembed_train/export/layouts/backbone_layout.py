"""The folder of an encoder whose pooling no other library has: its backbone is a plain model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sciembed_train.encoder.encoder import Encoder
from sciembed_train.export.layouts.plain_layout import PlainLayout, save_encoder
from sciembed_train.export.library_vectors import sentence_transformers_refuses
from sciembed_train.export.model_card import card_metadata, card_values, render_card
from sciembed_train.export.sentence_transformers_files import REFUSED_POOLING, write_refusal
from sciembed_train.export.verification import (
    ExportError,
    compare,
    masked_lm_difference,
    probe_texts,
)


class BackboneLayout(PlainLayout):
    """The backbone for transformers; sentence-transformers refuses the folder."""

    def write(self, encoder: Encoder, folder: Path, record: dict[str, Any]) -> None:
        """See `ExportLayout`."""
        save_encoder(encoder, folder, record)
        write_refusal(folder, encoder.dim, REFUSED_POOLING)

    def verify(
        self, encoder: Encoder, folder: Path, record: dict[str, Any]
    ) -> dict[str, float | None]:
        """See `ExportLayout`; only this program can compute the vectors."""
        if sentence_transformers_refuses(folder, REFUSED_POOLING) is False:
            raise ExportError(
                "SentenceTransformer does not refuse the export of a model whose pooling it lacks. "
                "The export was removed."
            )
        texts = probe_texts(encoder)
        again = Encoder.load(folder, encoder.settings.pooling, forward="padded")
        differences: dict[str, float | None] = {
            "sciembed_train": compare(
                "sciembed_train",
                "embeddings",
                again.encode_texts(texts),
                encoder.encode_texts(texts),
            )
        }
        if encoder.head is not None:
            differences["AutoModelForMaskedLM"] = masked_lm_difference(encoder, folder, texts)
        return differences

    def describe(self, encoder: Encoder, record: dict[str, Any], name: str) -> str:
        """See `ExportLayout`."""
        module, _, pooling = encoder.settings.pooling.rpartition(".")
        values = {
            **card_values(encoder, record, name),
            "pooling_class": pooling,
            "pooling_module": module,
            "head_folder": "PATH_OF_THIS_MODEL",
        }
        return render_card(
            "backbone.md.jinja", card_metadata(record, sentence_transformers=False), values
        )
