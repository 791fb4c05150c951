"""One adapter of an encoder as a folder of AdapterHub's, without the backbone."""

from __future__ import annotations

import copy
import os
import shutil
from pathlib import Path
from typing import Any

from sciembed_train.encoder.adapters.adapter_files import CONFIG, save_adapter
from sciembed_train.encoder.adapters.adapter_settings import library
from sciembed_train.encoder.adapters.format_adapters import FormatAdapters, adapters_of
from sciembed_train.encoder.encoder import Encoder
from sciembed_train.encoder.io.find_model import find_folder
from sciembed_train.encoder.io.load_backbone import quiet_transformers
from sciembed_train.encoder.io.model_metadata import read_metadata
from sciembed_train.errors import UserError
from sciembed_train.export.adapter_folder import library_vectors
from sciembed_train.export.export_folder import (
    check_target,
    compare,
    on_host,
    probe_texts,
    put_in_place,
)
from sciembed_train.text.input_format import FORMATS

LIBRARY = "AutoModel and adapters"


def format_of(encoder: Encoder, name: str | None) -> str:
    """The format of an adapter that is named by its format or its code; of the only one, unnamed.

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
    known = encoder.format_reader.names
    if name is None and len(known) == 1:
        return known[0]
    for one in known:
        if name in (one, FORMATS[one]):
            return one
    said = ", ".join(f"{one} ({FORMATS[one]})" for one in known)
    what = "--adapter is missing" if name is None else f"--adapter is {name!r}"
    raise UserError(f"{what}; the checkpoint has {said}.")


def export_adapter(
    encoder: Encoder, folder: str | Path, name: str | None, *, overwrite: bool = False
) -> dict[str, float | None]:
    """Write one adapter's files, and prove them by putting them into the backbone again.

    Args:
        encoder: with adapters; it is not changed.
        folder: made here.
        name: the adapter's format or code; None for the only one.
        overwrite: replace an adapter that is already there.

    Returns:
        The largest difference of an embedding's entry, as the library computes it.

    Raises:
        UserError: there is no such adapter, or the folder cannot be written.
        ExportError: the library computes something else from the folder.
    """
    format = format_of(encoder, name)
    folder = Path(folder).expanduser().absolute()
    check_target(folder, overwrite, CONFIG)
    encoder = on_host(encoder)
    place = encoder.settings.backbone
    # A folder's place says nothing to others, and something about the machine.
    base = Path(place).name if Path(place).expanduser().exists() else place
    partial = folder.with_name(f".{folder.name}.{os.getpid()}.partial")
    try:
        shutil.rmtree(partial, ignore_errors=True)
        fingerprint = adapters_of(encoder).fingerprint
        save_adapter(encoder.backbone, FORMATS[format], partial, base, fingerprint)
        (partial / "README.md").write_text(_card(encoder, format, base), encoding="utf-8")
        difference = _verify(encoder, partial, format)
        put_in_place(partial, folder)
    except OSError as error:
        raise UserError(f"{folder}: cannot be written ({error.strerror or error}).") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return {LIBRARY: difference}


def _verify(encoder: Encoder, folder: Path, format: str) -> float:
    """The largest difference to what the library computes with the adapter in the backbone."""
    from transformers import AutoModel

    backbone = read_metadata(find_folder(encoder.settings.backbone)).backbone
    texts = probe_texts(encoder)
    with quiet_transformers():
        model: Any = AutoModel.from_pretrained(str(backbone), local_files_only=True)
    library().init(model)
    model.load_adapter(str(folder), set_active=True)
    # Called with a cut, a tokenizer keeps it: the encoder's own must not be.
    tokenizer = copy.deepcopy(encoder.tokenizer.hf)
    tokenizer.model_max_length = encoder.settings.max_length
    found = library_vectors(encoder, model, tokenizer, texts)
    return compare(LIBRARY, "embeddings", found, encoder.encode_texts(texts, format=format))


def _card(encoder: Encoder, format: str, base: str) -> str:
    return f"""---
library_name: adapters
tags:
- adapter-transformers
- {encoder.backbone.config.model_type}
---

# Adapter {FORMATS[format]} for {base}

Scientific papers as vectors for {format.replace("_", " ")}. The adapter serves in `{base}` alone,
the model whose weights have the fingerprint in `{CONFIG}` (`base_fingerprint`).

```python
from adapters import AutoAdapterModel

model = AutoAdapterModel.from_pretrained("{base}").eval()
model.load_adapter("PATH_OF_THIS_ADAPTER", set_active=True)
```
"""
