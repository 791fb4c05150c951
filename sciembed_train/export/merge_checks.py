"""Whether encoders can be merged: the first difference of two, other than their weights."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from sciembed_train.encoder.encoder import Encoder

# Entries of a configuration that change no embedding: names, libraries, training.
_NO_PART = {
    *("_name_or_path", "architectures", "dtype", "torch_dtype", "transformers_version"),
    *("id2label", "label2id", "problem_type", "initializer_range", "initializer_factor"),
    *("use_cache", "gradient_checkpointing", "output_hidden_states", "output_attentions"),
    *("return_dict", "chunk_size_feed_forward", "finetuning_task", "task_specific_params"),
    *("tie_word_embeddings", "reference_compile", "classifier_pooling"),
}
# Sections of a tokenizer's file that record its last call.
_OF_CALLS = ("truncation", "padding", "version")


def first_difference(first: Encoder, other: Encoder) -> str | None:
    """Why the weights of two encoders may not be mixed; None where they may.

    Compares the backbone's configuration, the tokenizer, the pooling, the input format, and the
    names and shapes of the weights, in this order.

    Returns:
        What differs, and what it is in each: ``num_hidden_layers is 6 and 12``.
    """
    for name, first_value, other_value in _facts(first, other):
        if first_value != other_value:
            return f"{name} is {_short(first_value)} and {_short(other_value)}"
    return None


def _facts(first: Encoder, other: Encoder) -> Iterator[tuple[str, Any, Any]]:
    """Each fact by its name, of both encoders; the cheap ones first."""
    configs = first.backbone_config(), other.backbone_config()
    names = ["model_type", *sorted(configs[0].keys() | configs[1].keys())]
    for name in names:
        if name not in _NO_PART and "dropout" not in name:
            yield name, configs[0].get(name), configs[1].get(name)
    yield from _tokenizers(first, other)
    settings = first.settings, other.settings
    yield "pooling", settings[0].pooling, settings[1].pooling
    yield "use of control codes", settings[0].control_codes, settings[1].control_codes
    forms = vars(settings[0].input_format), vars(settings[1].input_format)
    for name in forms[0]:
        if name != "title_prompt":  # only of texts in training
            yield f"input_format.{name}", forms[0][name], forms[1][name]
    shapes = [{k: tuple(v.shape) for k, v in e.state_dict().items()} for e in (first, other)]
    for key in sorted(shapes[0].keys() | shapes[1].keys()):
        if not optional(key):
            yield f"the shape of {key}", shapes[0].get(key), shapes[1].get(key)


def optional(key: str) -> bool:
    """Whether a weight is of a part that no embedding passes through: pooler and word head."""
    return key.startswith(("backbone.pooler.", "head."))


def _tokenizers(first: Encoder, other: Encoder) -> Iterator[tuple[str, Any, Any]]:
    """The tokenizers' sections; of vocabularies, the token of the lowest id that differs."""
    tokenizers = first.tokenizer, other.tokenizer
    words = [{i: token for token, i in t.hf.get_vocab().items()} for t in tokenizers]
    if words[0] != words[1]:
        token_id = min(i for i in words[0] | words[1] if words[0].get(i) != words[1].get(i))
        yield f"the tokenizer's token {token_id}", words[0].get(token_id), words[1].get(token_id)
    yield "the tokenizer's start", tokenizers[0].prefix, tokenizers[1].prefix
    yield "the tokenizer's end", tokenizers[0].suffix, tokenizers[1].suffix
    files = [json.loads(t.backend.to_str()) for t in tokenizers]
    for section in files[0]:
        if section not in _OF_CALLS:
            yield f"the tokenizer's {section}", files[0][section], files[1].get(section)


def _short(value: Any) -> str:
    text = "absent" if value is None else str(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
