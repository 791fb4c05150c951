"""The folder of an encoder that reads control codes: a plain model for each format.

The vector is the state of the code, which follows ``[CLS]``; other libraries take the first
token's. A layer tells positions apart only by their embeddings, so in ``hf/CODE`` the code comes
first, and the table of positions is reordered with it: the code keeps the position it was trained
at, and so does ``[CLS]`` after it. The tokenizer puts both before every text; no code file is
needed. ``base/`` is what was trained, for this program.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jaxtyping import Float
from safetensors.torch import load_file, save_file
from torch import Tensor

from sciembed_train.encoder.encoder import Encoder
from sciembed_train.encoder.format_reader import BASE_PLACE
from sciembed_train.encoder.unpadded.bert import Bert
from sciembed_train.encoder.unpadded.forward import family_of, why_not_unpadded
from sciembed_train.export.export_layout import Differences, Record
from sciembed_train.export.layouts.plain_layout import PlainLayout, save_encoder
from sciembed_train.export.library_vectors import (
    sentence_transformers_vectors,
    transformers_vectors,
)
from sciembed_train.export.sentence_transformers_files import write_sentence_transformers
from sciembed_train.export.verification import (
    check_refused,
    compare_where_installed,
    probe_texts,
)
from sciembed_train.text.input_format import FORMATS

_TABLE = "embeddings.position_embeddings.weight"
_SPECIAL = ("unk_token", "sep_token", "pad_token", "cls_token", "mask_token")


class ControlCodesLayout(PlainLayout):
    """``base/``, and a plain model for each format in ``hf/``."""

    template = "control_codes.md.jinja"
    card_library = "sciembed_train"

    def write(self, encoder: Encoder, folder: Path, record: Record) -> None:
        """See `ExportLayout`."""
        save_encoder(encoder, folder, record)
        write_parts(encoder, folder, record["similarity"])

    def verify(self, encoder: Encoder, folder: Path, record: Record) -> Differences:
        """See `ExportLayout`."""
        check_refused(folder, ("",), "its control code")
        differences: Differences = {}
        if why_no_whole_models(encoder) is not None:
            return differences
        texts = probe_texts(encoder)
        prompt = encoder.settings.input_format.prompt
        for name, code in FORMATS.items():
            model, expected = folder / "hf" / code, encoder.encode_texts(texts, format=name)
            ids = probe_ids(encoder, texts, code)
            vectors = {
                "AutoModel": transformers_vectors(encoder, model, texts, ids),
                "SentenceTransformer": sentence_transformers_vectors(model, texts, prompt),
            }
            for library, actual in vectors.items():
                difference = compare_where_installed(f"{library} ({code})", actual, expected)
                largest = differences.get(library) or 0.0
                differences[library] = None if difference is None else max(difference, largest)
        return differences

    def card_entries(self, encoder: Encoder, record: Record) -> dict[str, Any]:
        """See `ExportLayout`."""
        return {
            "formats": FORMATS,
            "format_reader": "code",
            "shown_code": FORMATS["proximity"],
            "whole_models": why_no_whole_models(encoder) is None,
        }


def why_no_whole_models(encoder: Encoder) -> str | None:
    """Why there is no plain model for each format; None where there is."""
    reason = why_not_unpadded(encoder.backbone)
    if reason is None and not isinstance(family_of(encoder.backbone), Bert):
        reason = f"{encoder.backbone.config.model_type} has no table of positions"
    return None if reason is None else f"positions are turned in BERT's family alone, and {reason}"


def write_parts(encoder: Encoder, folder: Path, similarity: str) -> None:
    """Write ``hf/`` of a folder that `Encoder.save` wrote, where the backbone allows it."""
    if why_no_whole_models(encoder) is not None:
        return
    base = folder / BASE_PLACE
    state = load_file(base / "model.safetensors")
    config = encoder.backbone.config
    family = family_of(encoder.backbone)
    assert isinstance(family, Bert)
    first = config.pad_token_id + 1 if family.positions_after_padding else 0
    (table,) = [key for key in state if key.endswith(_TABLE)]
    state[table] = turned(state[table], first, len(encoder.tokenizer.prefix))
    for code in FORMATS.values():
        model = folder / "hf" / code
        model.mkdir(parents=True)
        shutil.copyfile(base / "config.json", model / "config.json")
        save_file(state, model / "model.safetensors", metadata={"format": "pt"})
        _tokenizer(encoder, code).save_pretrained(str(model))
        write_sentence_transformers(model, encoder, "cls", similarity)


def turned(table: Float[Tensor, "P H"], first: int, prefix: int) -> Float[Tensor, "P H"]:
    """A table of positions for texts with the code before the prefix instead of after it.

    ``first`` is the position of a text's first token, ``prefix`` the number of special tokens
    there.
    """
    rows = table.clone()
    rows[first] = table[first + prefix]
    rows[first + 1 : first + prefix + 1] = table[first : first + prefix]
    return rows


def _tokenizer(encoder: Encoder, code: str) -> Any:
    """A tokenizer of transformers that puts a code and the prefix before every text."""
    from tokenizers import Tokenizer
    from tokenizers.processors import TemplateProcessing
    from transformers import PreTrainedTokenizerFast

    tokenizer = encoder.tokenizer
    backend = Tokenizer.from_str(tokenizer.backend.to_str())
    names = tokenizer.hf.convert_ids_to_tokens
    first_tokens, last_tokens = (
        [code, *names(list(tokenizer.prefix))],
        names(list(tokenizer.suffix)),
    )
    # A tokenizer of another class would replace this template by its own when it is loaded.
    backend.post_processor = TemplateProcessing(
        single=[*first_tokens, "$A", *last_tokens],
        pair=[*first_tokens, "$A", *last_tokens, "$B:1", *(f"{token}:1" for token in last_tokens)],
        special_tokens=[
            (token, backend.token_to_id(token)) for token in {*first_tokens, *last_tokens}
        ],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        model_max_length=encoder.settings.max_length,
        model_input_names=list(tokenizer.hf.model_input_names),
        **{
            name: getattr(tokenizer.hf, name)
            for name in _SPECIAL
            if getattr(tokenizer.hf, name) is not None
        },
    )


def probe_ids(encoder: Encoder, texts: Sequence[str], code: str) -> list[list[int]]:
    """Token ids of texts as the tokenizer of ``hf/CODE`` must give them."""
    number = encoder.tokenizer.hf.convert_tokens_to_ids(code)
    return [
        [number, *row] for row in encoder.tokenizer.rows(texts, encoder.settings.max_length - 1)
    ]
