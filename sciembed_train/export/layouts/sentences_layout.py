"""The folder of a multi-vector model, which sentence-transformers must refuse.

Its backbone is an ordinary Hugging Face model at the top of the folder: the sentences' vectors are
means of the states of its tokens. It has no other use, so sentence-transformers, which would take
the mean over all tokens, must refuse the folder.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from sciembed_train.encoder.encoder import Encoder
from sciembed_train.export.export_layout import Differences, ExportLayout, Record
from sciembed_train.export.layouts.plain_layout import save_encoder
from sciembed_train.export.library_vectors import sentence_transformers_refuses
from sciembed_train.export.published import OF_SENTENCES
from sciembed_train.export.sentence_probe import probe_papers, transformers_sentence_vectors
from sciembed_train.export.sentence_transformers_files import REFUSED, write_refusal
from sciembed_train.export.verification import ExportError, compare, compare_ids


class SentencesLayout(ExportLayout):
    """The backbone as a plain model, with modules that sentence-transformers refuses."""

    template = "sentences.md.jinja"

    def check(self, encoder: Encoder, record: Record) -> None:
        """See `ExportLayout`."""
        check_record(record)

    def write(self, encoder: Encoder, folder: Path, record: Record) -> None:
        """See `ExportLayout`."""
        save_encoder(encoder, folder, record)
        write_refusal(folder, encoder.dim)

    def verify(self, encoder: Encoder, folder: Path, record: Record) -> Differences:
        """See `ExportLayout`."""
        if sentence_transformers_refuses(folder, REFUSED) is False:
            raise ExportError(
                "SentenceTransformer does not refuse the export of a multi-vector model as it "
                "should, and so would give other embeddings and say nothing. The export was "
                "removed."
            )
        papers = probe_papers()
        ids, vectors = transformers_sentence_vectors(folder, encoder.settings.input_format, papers)
        compare_ids(encoder, [encoder.compose(*paper) for paper in papers], ids)
        expected = torch.cat(encoder.encode_sentences(papers))
        return {"AutoModel": compare("AutoModel", "sentence vectors", torch.cat(vectors), expected)}

    def card_entries(self, encoder: Encoder, record: Record) -> dict[str, Any]:
        """See `ExportLayout`."""
        code = encoder.settings.input_format.control_code
        return {
            "control_code_literal": json.dumps(f"{code} "),
            "transport_temperature": (record.get("transport") or {}).get("temperature"),
        }


def check_record(record: Record) -> None:
    """Raise ValueError unless the record holds how the model's papers are compared."""
    similarity, settings = record.get("similarity"), record.get("transport")
    if similarity not in OF_SENTENCES:
        raise ValueError(f"similarity is {similarity!r}; expected {' or '.join(OF_SENTENCES)}")
    if (similarity == "transport") != isinstance(settings, dict):
        raise ValueError(f"similarity is {similarity!r}, and transport is {settings!r}")
    if isinstance(settings, dict) and "temperature" not in settings:
        raise ValueError(f"transport is {settings!r}, without a temperature")
