"""Splits a long document into parts that a tokenizer reads to the same token ids."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

_SPACE = re.compile(r"(?<=\S) (?=\S)")


def split_at_spaces(text: str, size: int) -> Iterator[str]:
    """A text in parts of about ``size`` characters, each but the first beginning with a space.

    The parts joined are the text. No word is split, so a part is longer where no single space
    between two words comes earlier.
    """
    start = 0
    while len(text) - start > size:
        space = _SPACE.search(text, start + size)
        if space is None:
            break
        yield text[start : space.start()]
        start = space.start()
    yield text[start:] if start else text


def is_byte_level(tokenizer: Mapping[str, Any]) -> bool:
    """Whether a tokenizer, as its ``tokenizer.json`` spells it, works on bytes."""
    steps = _steps(tokenizer["pre_tokenizer"], "pretokenizers")
    return any(step["type"] == "ByteLevel" for step in steps)


def splits_at_spaces(tokenizer: Mapping[str, Any]) -> bool:
    """Whether a text may be split before a space between two words without a change of its ids.

    True where words are separated by white space before anything else is done, as most WordPiece,
    byte-level BPE and SentencePiece tokenizers do. Other tokenizers must get a text whole.
    """
    steps = _steps(tokenizer["pre_tokenizer"], "pretokenizers")
    drops_spaces = any(
        step["type"] in ("BertPreTokenizer", "Whitespace", "WhitespaceSplit") for step in steps
    )
    keeps_spaces = any(
        (step["type"] == "ByteLevel" and step.get("use_regex", True))
        or (step["type"] == "Metaspace" and step.get("split", True))
        for step in steps
    )
    # These treat the beginning of a text differently from the rest.
    changes_start = any(
        step["type"] in ("Prepend", "Strip")
        for step in _steps(tokenizer["normalizer"], "normalizers")
    )
    has_token_across_words = any(
        not token["special"]
        and (token["rstrip"] or (" " in token["content"] and token["content"].split()))
        for token in tokenizer["added_tokens"]
    )
    separates_words = drops_spaces or (keeps_spaces and not changes_start)
    return separates_words and not has_token_across_words


def _steps(component: Mapping[str, Any] | None, inner: str) -> list[Mapping[str, Any]]:
    """The steps of a normalizer or pre-tokenizer in order, nested sequences resolved."""
    if component is None:
        return []
    if component["type"] != "Sequence":
        return [component]
    return [step for part in component[inner] for step in _steps(part, inner)]
