"""A plain model: the backbone at the top, for transformers and sentence-transformers."""

from __future__ import annotations

import json
from pathlib import Path

from sciembed_train.encoder.encoder import Encoder
from sciembed_train.encoder.io.encoder_folder import backbone_place
from sciembed_train.export.export_layout import Differences, ExportLayout, Record
from sciembed_train.export.library_vectors import (
    sentence_transformers_vectors,
    transformers_vectors,
)
from sciembed_train.export.published import OF_TEXTS
from sciembed_train.export.sentence_transformers_files import write_sentence_transformers
from sciembed_train.export.verification import (
    compare_where_installed,
    masked_lm_differences,
    probe_texts,
)

# Entries of saved tokenizers that may record the lengths of an earlier training.
_LEFTOVERS = (
    *("max_length", "padding", "padding_strategy", "pad_to_multiple_of", "stride"),
    *("truncation", "truncation_strategy", "name_or_path"),
)


class PlainLayout(ExportLayout):
    """A Hugging Face folder that sentence-transformers loads as well."""

    template = "plain.md.jinja"
    card_library = "sentence-transformers"

    def check(self, encoder: Encoder, record: Record) -> None:
        """See `ExportLayout`."""
        if record["similarity"] not in OF_TEXTS:
            raise ValueError(
                f"similarity is {record['similarity']!r}; expected {' or '.join(OF_TEXTS)}"
            )

    def write(self, encoder: Encoder, folder: Path, record: Record) -> None:
        """See `ExportLayout`."""
        save_encoder(encoder, folder, record)
        pooling = str(encoder.pooling.sentence_transformers_mode)
        write_sentence_transformers(folder, encoder, pooling, record["similarity"])

    def verify(self, encoder: Encoder, folder: Path, record: Record) -> Differences:
        """See `ExportLayout`."""
        texts = probe_texts(encoder)
        prompt = encoder.settings.input_format.prompt
        expected = encoder.encode_texts(texts)
        vectors = {
            "AutoModel": transformers_vectors(encoder, folder, texts),
            "SentenceTransformer": sentence_transformers_vectors(folder, texts, prompt),
        }
        if encoder.pooling.reads == "last_token":
            # The last token's place depends on the side that a user's tokenizer pads.
            vectors |= {
                f"AutoModel, padded on the {side}": transformers_vectors(
                    encoder, folder, texts, padding_side=side
                )
                for side in ("left", "right")
            }
        differences = {
            library: compare_where_installed(library, actual, expected)
            for library, actual in vectors.items()
        }
        return differences | masked_lm_differences(encoder, folder, texts)

    def card_entries(self, encoder: Encoder, record: Record) -> dict[str, str]:
        """See `ExportLayout`."""
        folders = ("transformers_folder", "sentence_transformers_folder", "head_folder")
        entries: dict[str, str] = dict.fromkeys(folders, "PATH_OR_NAME_OF_THIS_MODEL")
        for hint in ("trust", "sentence_transformers_trust", "download_hint"):
            entries[hint] = ""
        return entries


def save_encoder(encoder: Encoder, folder: Path, record: Record) -> None:
    """Write the encoder with its record, without the lengths of an earlier training."""
    encoder.save(folder, record)
    path = folder / backbone_place(encoder.parts) / "tokenizer_config.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    for key in _LEFTOVERS:
        content.pop(key, None)
    content["model_max_length"] = encoder.settings.max_length
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
