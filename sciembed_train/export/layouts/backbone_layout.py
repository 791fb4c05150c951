"""The folder of an encoder whose pooling no other library has: its backbone is a plain model."""

from __future__ import annotations

from pathlib import Path

from sciembed_train.encoder.encoder import Encoder
from sciembed_train.export.export_layout import Differences, Record
from sciembed_train.export.layouts.plain_layout import PlainLayout, save_encoder
from sciembed_train.export.library_vectors import sentence_transformers_refuses
from sciembed_train.export.sentence_transformers_files import REFUSED_POOLING, write_refusal
from sciembed_train.export.verification import (
    ExportError,
    compare,
    masked_lm_differences,
    probe_texts,
)


class BackboneLayout(PlainLayout):
    """The backbone for transformers; sentence-transformers refuses the folder."""

    template = "backbone.md.jinja"
    card_library = "sciembed_train"

    def write(self, encoder: Encoder, folder: Path, record: Record) -> None:
        """See `ExportLayout`."""
        save_encoder(encoder, folder, record)
        write_refusal(folder, encoder.dim, REFUSED_POOLING)

    def verify(self, encoder: Encoder, folder: Path, record: Record) -> Differences:
        """See `ExportLayout`; only this program can compute the vectors."""
        if sentence_transformers_refuses(folder, REFUSED_POOLING) is False:
            raise ExportError(
                "SentenceTransformer does not refuse the export of a model whose pooling it lacks. "
                "The export was removed."
            )
        texts = probe_texts(encoder)
        loaded = Encoder.load(folder, encoder.settings.pooling, forward="padded")
        library, vectors = "sciembed_train", loaded.encode_texts(texts)
        difference = compare(library, "embeddings", vectors, encoder.encode_texts(texts))
        return {library: difference} | masked_lm_differences(encoder, folder, texts)

    def card_entries(self, encoder: Encoder, record: Record) -> dict[str, str]:
        """See `ExportLayout`."""
        module, _, pooling = encoder.settings.pooling.rpartition(".")
        names = {"pooling_class": pooling, "pooling_module": module}
        return names | {"head_folder": "PATH_OF_THIS_MODEL"}
