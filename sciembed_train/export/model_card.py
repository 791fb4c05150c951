"""The model card of an export: values of the encoder and its record, in a template.

The prose and the code that a card shows are in ``templates/``; each layout has a template of its
own. `card_values` gives the values that all of them read.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from sciembed_train.encoder.encoder import Encoder
from sciembed_train.encoder.settings import is_causal
from sciembed_train.text.input_format import InputFormat
from sciembed_train.text.prompts import query_prompt
from sciembed_train.text.tokenizer import LINE_BREAK

_UNIT_LENGTH = "embeddings = torch.nn.functional.normalize(embeddings)"
_PROJECTION = [
    'projection = load_file(cached_file(folder, "2_Dense/model.safetensors"))["linear.weight"]',
    "embeddings = embeddings @ projection.T",
]
_HUB_CHARACTERS = set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_./")


def render_card(template: str, metadata: Mapping[str, Any], values: Mapping[str, Any]) -> str:
    """The text of a ``README.md``: a template with a metadata block for the Hugging Face hub.

    ``metadata`` are arguments of ``huggingface_hub.ModelCardData``; entries of None are left out.

    Raises:
        ValueError: the metadata block is malformed.
        jinja2.UndefinedError: the template reads a value that is missing.
    """
    from huggingface_hub import ModelCard, ModelCardData
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("sciembed_train.export"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    data = ModelCardData(**{key: value for key, value in metadata.items() if value is not None})
    text = environment.get_template(template).render(values, card_data=data.to_yaml())
    # ModelCard reads the block as the hub does; its `validate` would ask the hub itself.
    card = ModelCard(text)
    if card.data.to_dict() != data.to_dict():
        raise ValueError(f"the metadata block of {template} does not hold {data.to_dict()}")
    return str(card)


def card_metadata(record: Mapping[str, Any], library: str) -> dict[str, Any]:
    """The metadata block of an encoder's card, whose library gives the vectors."""
    method = record.get("method")
    return {
        "library_name": library,
        "pipeline_tag": "sentence-similarity",
        "base_model": hub_name(record.get("base_model")),
        "tags": [
            *([library] if library != "sciembed_train" else []),
            *("feature-extraction", "sentence-similarity"),
            *("scientific-documents", "sciembed_train"),
            *([str(method)] if method else []),
        ],
    }


def card_values(encoder: Encoder, record: Mapping[str, Any], name: str) -> dict[str, Any]:
    """The values that every encoder's template reads; ``name`` is the title of the card."""
    settings, config = encoder.settings, encoder.backbone.config
    input_format, separator = settings.input_format, encoder.tokenizer.sep_token
    return {
        "name": name,
        "dim": encoder.dim,
        "vector": encoder.format_reader.description or _vector(encoder),
        "normalize": settings.normalize,
        "projected": encoder.projection is not None,
        "matryoshka_dims": record.get("matryoshka_dims") or [],
        "shorter_dim": max(
            (d for d in record.get("matryoshka_dims") or [] if d < encoder.dim), default=None
        ),
        "max_length": settings.max_length,
        "model_type": config.model_type,
        "layers": config.num_hidden_layers,
        "parameters": f"{sum(p.numel() for p in encoder.parameters()) / 1e6:.1f}",
        "has_head": encoder.head is not None,
        "is_decoder": is_causal(config),
        "has_pooler": getattr(encoder.backbone, "pooler", None) is not None,
        "similarity": record["similarity"],
        "texts": record.get("texts") or "papers",
        "method": record.get("method"),
        "imported_from": record.get("imported_from"),
        "merged": merged_models(record.get("merged") or {}),
        "verdict": record.get("verdict"),
        "training_titles": record.get("training_titles"),
        "graphs": record.get("graphs") or {},
        "adapted": encoder.settings.adapters is not None,
        "trained_on_tasks": encoder.format_reader.reads_formats
        or record.get("method") == "multitask",
        "separator_token": separator if input_format.separator == "sep" else None,
        "line_break": separator == LINE_BREAK,
        "sentence_separator": separator if input_format.sentences == "sep" else None,
        "control_code": input_format.control_code,
        "prompt": input_format.prompt,
        "quoted_prompt": json.dumps(input_format.prompt, ensure_ascii=False),
        "query_prompt": query_prompt(settings.prompts, input_format.prompt),
        "cleans": input_format.cleaning == "markup",
        "example": encoder.compose("A title", ["An abstract of a paper.", "Its next sentence."]),
        "text_expression": text_expression(input_format),
        "pooling_code": [
            *encoder.pooling.card_code,
            *(_PROJECTION if encoder.projection is not None else []),
            *([_UNIT_LENGTH] if settings.normalize and encoder.pooling.card_code else []),
        ],
        "training_rows": list(training_rows(record)),
    }


def _vector(encoder: Encoder) -> str:
    """What a vector is, for a sentence."""
    suffix = "" if encoder.projection is None else ", through the linear layer in `2_Dense`"
    return encoder.pooling.description + suffix


def merged_models(merged: Mapping[str, Any]) -> str:
    """The models that a merged encoder was made of, with their weights, for a sentence."""
    return " and ".join(f"`{name}` ({model['weight']:g})" for name, model in merged.items())


def text_expression(input_format: InputFormat) -> str:
    """The Python expression that makes the text of a paper ``p``, with ``sep`` as separator."""
    joined = "sep.join(part for part in (p['title'], p['abstract']) if part)"
    if not input_format.control_code:
        return joined
    return f"{json.dumps(input_format.control_code + ' ')} + {joined}"


def hub_name(base: Any) -> str | None:
    """The base model's name if it may be one of the hub, else None."""
    name = str(base or "")
    parts = name.split("/")
    if len(parts) != 2 or not all(parts) or not set(name) <= _HUB_CHARACTERS:
        return None
    return None if parts[0][0] in "._" else name


def training_rows(record: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Every entry of the record with a readable name, as cells of a Markdown table."""
    shown = {
        key: value
        for key, value in record.items()
        if key not in ("version", "dim", "verdict", "training_titles", "graphs")
    }
    for key, value in _flat_entries(shown):
        yield key, str(value).replace("|", "\\|").replace("\n", " ")


def _flat_entries(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every entry of nested tables, with the names of the tables before its own."""
    for key, value in values.items():
        name = f"{prefix}{str(key).replace('_', ' ')}"
        if isinstance(value, dict):
            yield from _flat_entries(value, f"{name}: ")
        elif value is not None and value != "":
            yield name, f"{value:,}" if isinstance(value, int) and "seed" not in name else value
