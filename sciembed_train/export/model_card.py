"""The model card of an exported encoder: what it is, how to use it, how it was made."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from sciembed_train.encoder.encoder import Encoder

_POOLED = {
    "cls": "hidden[:, 0]",
    "mean": "(hidden * mask).sum(1) / mask.sum(1)",
}
_NAMED = {"cls": "the last hidden state of the first token (CLS)", "mean": "the mean over tokens"}
_HUB_SAFE = set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_./")


def model_card(encoder: Encoder, record: dict[str, Any], name: str) -> str:
    """The text of ``README.md``.

    Args:
        encoder: what is exported.
        record: what goes into ``sciembed.json``.
        name: title of the card.
    """
    settings = encoder.settings
    return "\n".join(
        [
            *_metadata(encoder, record),
            f"# {name}",
            "",
            "An encoder for scientific papers: title and abstract in, one vector of "
            f"{encoder.dim} numbers out; papers with a smaller Euclidean distance are more alike."
            + _made_by(record),
            "",
            "| | |",
            "|---|---|",
            f"| vector | {encoder.dim} numbers, {_NAMED[settings.pooling]} of the last layer, "
            "not normalised |",
            f"| longest text | {settings.max_length} tokens; longer ones are cut at the end |",
            "| compared by | Euclidean distance, smaller is closer |",
            f"| backbone | {encoder.backbone.config.model_type}, "
            f"{encoder.backbone.config.num_hidden_layers} layers, "
            f"{sum(p.numel() for p in encoder.parameters()) / 1e6:.1f} million parameters, fp32 |",
            "",
            *_input_format(encoder),
            *_usage(encoder),
            *_training(record),
            *_limitations(encoder),
        ]
    )


def _metadata(encoder: Encoder, record: dict[str, Any]) -> Iterator[str]:
    method = record.get("method")
    tags = ["sentence-transformers", "feature-extraction", "sentence-similarity"]
    tags += ["scientific-documents", "sciembed_train", *([str(method)] if method else [])]
    yield "---"
    yield "library_name: sentence-transformers"
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
    method = record.get("method")
    return f" Trained with the method `{method}` of sciembed_train." if method else ""


def _input_format(encoder: Encoder) -> Iterator[str]:
    form, tokenizer = encoder.settings.form, encoder.tokenizer
    between = f"`{tokenizer.sep_token}`" if form.separator == "sep" else "one space"
    yield "## Input"
    yield ""
    yield (
        f"Title, {between}, abstract. A paper without an abstract is its title alone, with nothing "
        "after it."
    )
    if form.sentences == "sep":
        yield f"Between the sentences of an abstract stands `{tokenizer.sep_token}`."
    if form.control_code:
        yield f"Every text begins with `{form.control_code}` and one space."
    yield ""
    yield f"    {encoder.compose('A title', 'An abstract of a paper.')}"
    yield ""


def _usage(encoder: Encoder) -> Iterator[str]:
    form = encoder.settings.form
    separator = "{}.sep_token" if form.separator == "sep" else '" "'
    # Every text that the card's code makes goes through this one expression.
    text = "sep.join(part for part in (p['title'], p['abstract']) if part)"
    if form.control_code:
        text = f"{json.dumps(form.control_code + ' ')} + {text}"
    papers = [
        "papers = [",
        '    {"title": "A first title", "abstract": "What the paper says."},',
        '    {"title": "A title without an abstract", "abstract": ""},',
        "]",
    ]
    yield "## Use"
    yield ""
    yield "With `transformers`:"
    yield ""
    yield "```python"
    yield "import torch"
    yield "from transformers import AutoModel, AutoTokenizer"
    yield ""
    yield 'folder = "PATH_OR_NAME_OF_THIS_MODEL"'
    yield "tokenizer = AutoTokenizer.from_pretrained(folder)"
    yield "model = AutoModel.from_pretrained(folder).eval()"
    yield from papers
    yield f"sep = {separator.format('tokenizer')}"
    yield f"texts = [{text} for p in papers]"
    yield (
        "batch = tokenizer(texts, padding=True, truncation=True, "
        f'max_length={encoder.settings.max_length}, return_tensors="pt")'
    )
    yield "with torch.inference_mode():"
    yield "    hidden = model(**batch).last_hidden_state"
    if encoder.settings.pooling == "mean":
        yield 'mask = batch["attention_mask"].unsqueeze(-1)'
    yield f"embeddings = {_POOLED[encoder.settings.pooling]}"
    yield "distances = torch.cdist(embeddings, embeddings)"
    yield "```"
    yield ""
    yield "With `sentence-transformers` (5.2 or newer):"
    yield ""
    yield "```python"
    yield "from sentence_transformers import SentenceTransformer"
    yield ""
    yield 'model = SentenceTransformer("PATH_OR_NAME_OF_THIS_MODEL")'
    yield from papers
    yield f"sep = {separator.format('model.tokenizer')}"
    yield f"texts = [{text} for p in papers]"
    yield "embeddings = model.encode(texts)"
    yield "similarities = model.similarity(embeddings, embeddings)  # minus the Euclidean distance"
    yield "```"
    yield ""
    yield "With sciembed_train:"
    yield ""
    yield "    ./train embed --model FOLDER --input papers.jsonl --to vectors.npy"
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


def _limitations(encoder: Encoder) -> Iterator[str]:
    yield "## Limitations"
    yield ""
    if encoder.settings.pooling == "cls":
        yield "- `pooler_output` was not trained; use the first token's last hidden state."
    else:
        yield "- `pooler_output` was not trained; use the mean over tokens."
    yield (
        "- Trained for Euclidean distance between whole papers. Cosine gives other rankings, and "
        "short queries or single sentences are a different task."
    )
    yield "- Citations were the training signal, with their habits and biases."
    yield (
        f"- Text after {encoder.settings.max_length} tokens is not seen. Languages and fields "
        "other than those of the training papers were not tested."
    )
    yield "- Scores are not part of this card: measure on your own data with `./train evaluate`."
    yield ""
