"""The model card of an exported encoder: what it is, how to use it, how it was made."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from sciembed_train.encoder.adapters.format_adapters import FormatAdapters
from sciembed_train.encoder.encoder import Encoder
from sciembed_train.encoder.pooling.layer_mix import LayerMix
from sciembed_train.export import adapter_card, adapter_folder, code_folder, multi_vector_card
from sciembed_train.export.card_usage import usage

_COMPARED = {
    "euclidean": "Euclidean distance, smaller is closer",
    "cosine": "cosine similarity, larger is closer",
    **multi_vector_card.COMPARED,
}
_ALIKE = {
    "euclidean": "with a smaller Euclidean distance",
    "cosine": "with a larger cosine similarity",
    "best_match": "of which two sentences have a smaller Euclidean distance",
    "transport": "whose sentences are moved onto each other at a smaller cost",
}
_WHAT = {
    "papers": "An encoder for scientific papers: title and abstract in, one vector",
    "sentences": "An encoder for sentences of scientific papers: a sentence in, one vector",
    "any": "An encoder for text: a text in, one vector",
}
_HUB_SAFE = set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_./")


def model_card(encoder: Encoder, record: dict[str, Any], name: str) -> str:
    """The text of ``README.md``.

    Args:
        encoder: what is exported.
        record: what goes into ``sciembed.json``.
        name: title of the card.
    """
    settings, similarity = encoder.settings, record["similarity"]
    texts = record.get("texts") or "papers"
    what, things = _WHAT[texts], "texts" if texts == "any" else texts
    if encoder.pooling.per_sentence:
        what = (
            "A multi-vector encoder for scientific papers: title and abstract in, for each "
            "sentence of the abstract a vector"
        )
    head = encoder.head is not None
    vector = encoder.format_reader.description or encoder.pooling.description
    return "\n".join(
        [
            *_metadata(encoder, record),
            f"# {name}",
            "",
            f"{what} of {encoder.dim} numbers out; {things} {_ALIKE[similarity]} are more alike."
            + _made_by(record),
            "",
            "| | |",
            "|---|---|",
            f"| vector | {encoder.dim} numbers, {vector}, not normalised |",
            *_shares(encoder),
            f"| longest text | {settings.max_length} tokens; longer ones are cut at the end |",
            f"| compared by | {_COMPARED[similarity]} |",
            f"| backbone | {encoder.backbone.config.model_type}, "
            f"{encoder.backbone.config.num_hidden_layers} layers, "
            f"{sum(p.numel() for p in encoder.parameters()) / 1e6:.1f} million parameters, fp32 |",
            *_adapters(encoder),
            *(["| head | masked language modelling, kept for `fill-mask` |"] if head else []),
            "",
            *_input_format(encoder, texts),
            *(_parts() if encoder.pooling.export_layout == "layer_mix" else []),
            *_usage(encoder, record, texts),
            *_training(record),
            *_limitations(encoder, record, texts),
        ]
    )


def _usage(encoder: Encoder, record: dict[str, Any], texts: str) -> Iterator[str]:
    layout = encoder.format_reader.export_layout or encoder.pooling.export_layout
    if layout == "sentences":
        return multi_vector_card.usage(encoder, record)
    if layout == "adapters":
        return adapter_card.usage(encoder, adapter_folder.why_no_own_code(encoder) is None)
    if layout == "control_codes":
        return code_folder.card(encoder)
    return usage(encoder, record["similarity"], texts)


def _metadata(encoder: Encoder, record: dict[str, Any]) -> Iterator[str]:
    method = record.get("method")
    # Of these no library gives the vectors from the top of the folder.
    layout = encoder.format_reader.export_layout or encoder.pooling.export_layout
    own = layout != "sentence_transformers"
    tags = ["feature-extraction", "sentence-similarity"]
    tags = tags if own else ["sentence-transformers", *tags]
    tags += ["scientific-documents", "sciembed_train", *([str(method)] if method else [])]
    yield "---"
    yield f"library_name: {'sciembed_train' if own else 'sentence-transformers'}"
    yield "pipeline_tag: sentence-similarity"
    base = hub_name(record.get("base_model"))
    if base:
        yield f"base_model: {json.dumps(base)}"
    yield "tags:"
    yield from (f"- {json.dumps(tag)}" for tag in tags)
    yield "---"
    yield ""


def hub_name(base: Any) -> str | None:
    """The base model's name if it may be one of the hub, else None."""
    name = str(base or "")
    parts = name.split("/")
    if len(parts) != 2 or not all(parts) or not set(name) <= _HUB_SAFE:
        return None
    return None if parts[0][0] in "._" else name


def _made_by(record: dict[str, Any]) -> str:
    method, source = record.get("method"), record.get("imported_from")
    if source:
        return f" Imported from `{source}`; its weights are unchanged."
    return f" Trained with the method `{method}` of sciembed_train." if method else ""


def _input_format(encoder: Encoder, texts: str) -> Iterator[str]:
    input_format, tokenizer = encoder.settings.input_format, encoder.tokenizer
    between = f"`{tokenizer.sep_token}`" if input_format.separator == "sep" else "one space"
    yield "## Input"
    yield ""
    if texts == "sentences":
        yield (
            "One sentence as it stands, by itself. Papers are compared by those two of their "
            "sentences that are nearest to each other."
        )
        yield ""
        return
    if texts == "any":
        yield "Any text as it stands: a sentence, a paragraph, an abstract, a section. Of a paper:"
        yield ""
    yield (
        f"Title, {between}, abstract. A paper without an abstract is its title alone, with nothing "
        "after it."
    )
    if input_format.sentences == "sep":
        yield f"Between the sentences of an abstract stands `{tokenizer.sep_token}`."
    if input_format.control_code:
        yield f"Every text begins with `{input_format.control_code}` and one space."
    if encoder.pooling.per_sentence:
        yield (
            "The sentences are read together and with the title, which has no vector of its own "
            "beside them."
        )
    yield ""
    yield f"    {encoder.compose('A title', ['An abstract of a paper.', 'Its next sentence.'])}"
    yield ""


def _shares(encoder: Encoder) -> Iterator[str]:
    if isinstance(encoder.pooling, LayerMix):
        shares = " ".join(f"{share:.3f}" for share in encoder.pooling.shares().tolist())
        yield f"| shares in the mix | {shares} (the embeddings, then the layers in order) |"


def _adapters(encoder: Encoder) -> Iterator[str]:
    if isinstance(encoder.format_reader, FormatAdapters):
        trained = sum(p.numel() for p in encoder.parameters() if p.requires_grad)
        settings = encoder.format_reader.settings
        each = trained // len(settings.formats)
        what = "adapters" if settings.fusion is None else f"fusions ({settings.fusion})"
        yield f"| {what} | {len(settings.formats)} of {each:,} parameters, {settings.config} |"


def _parts() -> Iterator[str]:
    yield "## Folders"
    yield ""
    yield "| | |"
    yield "|---|---|"
    yield (
        "| `st/` | for sentence-transformers, whose own modules make the mix; no code is needed. "
        "Its `0_Transformer` is the backbone alone, which gives other vectors |"
    )
    yield (
        "| `hf/` | for transformers: `layer_mix.py` makes the mix, so loading it needs "
        "`trust_remote_code=True`, and is refused without |"
    )
    yield "| this folder | for sciembed_train, which reads `sciembed.json` and runs no code of it |"
    yield ""
    yield (
        "A plain `AutoModel` loads none of the three, since its last layer would be another vector."
    )
    yield ""


def _training(record: dict[str, Any]) -> Iterator[str]:
    rows = list(_flat({k: v for k, v in record.items() if k not in ("version", "dim")}))
    yield "## Training"
    yield ""
    if not record.get("method"):
        yield "Nothing is recorded of how this encoder was trained."
        yield ""
    yield "| | |"
    yield "|---|---|"
    for key, value in rows:
        shown = str(value).replace("|", "\\|").replace("\n", " ")
        yield f"| {key} | {shown} |"
    yield ""


def _flat(values: dict[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    """Every entry of nested tables, with readable names."""
    for key, value in values.items():
        name = f"{before}{str(key).replace('_', ' ')}"
        if isinstance(value, dict):
            yield from _flat(value, f"{name}: ")
        elif value is not None and value != "":
            yield name, f"{value:,}" if isinstance(value, int) and "seed" not in name else value


def _pooler(encoder: Encoder) -> str:
    trained = "was not trained"
    if getattr(encoder.backbone, "pooler", None) is None:
        trained = "is no part of this model: `transformers` makes it of random weights"
    return f"- `pooler_output` {trained}; use {encoder.pooling.description}."


def _limitations(encoder: Encoder, record: dict[str, Any], texts: str) -> Iterator[str]:
    yield "## Limitations"
    yield ""
    if encoder.pooling.per_sentence:
        yield from multi_vector_card.limitations(record)
    elif encoder.format_reader.reads_formats:
        yield (
            "- Vectors of one format say nothing beside those of another, but for those of queries "
            "beside those of the papers they search."
        )
    elif encoder.pooling.export_layout != "layer_mix":
        yield _pooler(encoder)
    else:
        yield (
            "- The vector is the mix and nothing else: the last layer's own state, and any pooling "
            "over other tokens, give other rankings."
        )
    measure, other = "cosine", "Euclidean distance"
    if record["similarity"] != "cosine":
        measure, other = other, "Cosine"
    if not record.get("method"):
        yield f"- What it was trained for is not recorded. {other} may give other rankings."
    elif encoder.pooling.per_sentence:
        yield "- Citations were the training signal, with their habits and biases."
    elif texts == "sentences":
        yield (
            f"- Trained for {measure} between single sentences. {other} gives other rankings, and "
            "whole abstracts are a different task."
        )
        yield "- Sentences that cite the same papers were taken for alike, with their biases."
    elif texts == "papers":
        yield (
            f"- Trained for {measure} between whole papers. {other} gives other rankings, and "
            "short queries or single sentences are a different task."
        )
        of_tasks = encoder.format_reader.reads_formats or record["method"] == "multitask"
        signal = "The training tasks' labels and relations" if of_tasks else "Citations"
        yield f"- {signal} were the training signal, with their habits and biases."
    else:
        yield f"- Trained for {measure} between spans of text. {other} gives other rankings."
        yield (
            "- Spans that stand near each other in one document were taken for alike; citations "
            "and labels were not seen."
        )
    yield (
        f"- Text after {encoder.settings.max_length} tokens is not seen. Languages and fields "
        f"other than those of the training {'texts' if texts == 'any' else texts} were not tested."
    )
    yield "- Scores are not part of this card: measure on your own data with `./train evaluate`."
    yield ""
