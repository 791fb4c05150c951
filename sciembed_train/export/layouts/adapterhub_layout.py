"""One adapter of an encoder in the layout of AdapterHub, without the backbone."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

from sciembed_train.encoder.adapters.adapter_files import CONFIG, save_adapter
from sciembed_train.encoder.adapters.adapter_settings import library
from sciembed_train.encoder.adapters.format_adapters import FormatAdapters, adapters_of
from sciembed_train.encoder.encoder import Encoder
from sciembed_train.encoder.io.load_backbone import quiet_transformers
from sciembed_train.encoder.io.model_metadata import read_metadata
from sciembed_train.errors import UserError
from sciembed_train.export.export_layout import Differences, ExportLayout, Record
from sciembed_train.export.library_vectors import model_vectors
from sciembed_train.export.model_card import render_card
from sciembed_train.export.verification import compare, probe_texts
from sciembed_train.safety.find_model import find_folder
from sciembed_train.text.input_format import FORMATS

LIBRARY = "AutoModel and adapters"


class AdapterHubLayout(ExportLayout):
    """One adapter, by its format or code or the only one, as the library ``adapters`` loads it."""

    marker = CONFIG

    def __init__(self, adapter: str | None = None) -> None:
        self.adapter = adapter

    def check(self, encoder: Encoder, record: Record) -> None:
        """See `ExportLayout`."""
        format_of(encoder, self.adapter)

    def write(self, encoder: Encoder, folder: Path, record: Record) -> None:
        """See `ExportLayout`."""
        code, base = FORMATS[format_of(encoder, self.adapter)], _base(encoder)
        save_adapter(encoder.backbone, code, folder, base, adapters_of(encoder).fingerprint)

    def verify(self, encoder: Encoder, folder: Path, record: Record) -> Differences:
        """See `ExportLayout`; the library loads the adapter into the backbone it was trained in."""
        from transformers import AutoModel

        backbone = read_metadata(find_folder(encoder.settings.backbone)).backbone
        with quiet_transformers():
            model: Any = AutoModel.from_pretrained(str(backbone), local_files_only=True)
        library().init(model)
        model.load_adapter(str(folder), set_active=True)
        # A call with truncation changes a tokenizer: the encoder's own must not be.
        tokenizer = copy.deepcopy(encoder.tokenizer.hf)
        tokenizer.model_max_length = encoder.settings.max_length
        texts = probe_texts(encoder)
        actual = model_vectors(encoder, model, tokenizer, texts)
        expected = encoder.encode_texts(texts, format=format_of(encoder, self.adapter))
        return {LIBRARY: compare(LIBRARY, "embeddings", actual, expected)}

    def describe(self, encoder: Encoder, record: Record, name: str) -> str:
        """See `ExportLayout`."""
        format = format_of(encoder, self.adapter)
        tags = ["adapter-transformers", encoder.backbone.config.model_type]
        values = {"format": format, "code": FORMATS[format], "base": _base(encoder)}
        metadata = {"library_name": "adapters", "tags": tags}
        return render_card("adapterhub.md.jinja", metadata, values | {"config_file": CONFIG})


def _base(encoder: Encoder) -> str:
    """The hub name of the backbone, or the name of its folder without the folders above it."""
    backbone = encoder.settings.backbone
    return Path(backbone).name if Path(backbone).expanduser().exists() else backbone


def format_of(encoder: Encoder, name: str | None) -> str:
    """The format of the adapter with a name (format or code); without a name, of the only one.

    Raises:
        UserError: the encoder has no such adapter, or several and none is named; or fuses them.
    """
    if not isinstance(encoder.format_reader, FormatAdapters):
        raise UserError("The checkpoint has no adapters, so --layout adapterhub has none to write.")
    if encoder.format_reader.settings.fusion is not None:
        raise UserError(
            "The checkpoint has fusions of adapters, so --layout adapterhub, which writes one "
            "adapter, would give other vectors. Export it whole: adapters/ and fusion/ of that "
            "folder are AdapterHub's."
        )
    formats = encoder.format_reader.names
    if name is None and len(formats) == 1:
        return formats[0]
    for format in formats:
        if name in (format, FORMATS[format]):
            return format
    choices = ", ".join(f"{format} ({FORMATS[format]})" for format in formats)
    problem = "--adapter is missing" if name is None else f"--adapter is {name!r}"
    raise UserError(f"{problem}; the checkpoint has {choices}.")
