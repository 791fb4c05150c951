"""When two titles or texts are the same: the one rule for mining, masking, splits and evaluation.

One paper often stands in a collection under two ids, as a preprint and as an article, and its two
texts differ in case, punctuation or white space. Every comparison of two texts uses this module.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Sequence
from functools import lru_cache

from sciembed_train.text.cleaning import cleaned
from sciembed_train.text.document_parts import split_at_spaces

PART = 2**16  # characters that are normalised at once, so that a long document takes no more memory
_ASCII_MARKS = {code: None for code in range(128) if not chr(code).isalnum()}
_ASCII_OTHERS = re.compile(r"[\x00-/:-@\[-`{-\x7f]+")  # taken out first: they are no marks
_NOT_ALPHANUMERIC = re.compile(r"[\W_]+")  # \w is what str.isalnum takes, and the underscore


def normalised(text: str | None) -> str:
    """The letters and digits of a text without regard to case; empty where there are none.

    Unicode's NFKC comes first, so that ligatures and full-width forms become plain letters.
    Marks that are letters' own, such as the vowel signs of Devanagari, stay; markup is cleaned.
    """
    return _letters(cleaned(text or ""))


@lru_cache(maxsize=4)  # a title is asked for again beside its abstract
def _letters(plain: str) -> str:
    """As `normalised`, for a text that is cleaned already."""
    if plain.isascii():  # most texts, ten times as quickly
        return plain.lower().translate(_ASCII_MARKS)
    folded = unicodedata.normalize("NFKC", plain).casefold()
    return _NOT_ALPHANUMERIC.sub(_marks, _ASCII_OTHERS.sub("", folded))


def text_number(*parts: str | None) -> int:
    """A 64-bit number, the same for texts that are equal when normalised; 0 for an empty text.

    Several parts, such as title and abstract, count as one text.
    """
    digest = hashlib.blake2b(digest_size=8)
    has_letters = False
    for part in parts:
        text = cleaned(part or "")
        # A short text is not looked at again for markup: cleaning it once more changes nothing.
        short = part is None or len(part) <= PART
        pieces = (text,) if short else map(cleaned, split_at_spaces(text, PART))
        for letters in map(_letters, pieces):
            has_letters = has_letters or bool(letters)
            digest.update(letters.encode())
    return (int.from_bytes(digest.digest(), "big", signed=True) or 1) if has_letters else 0


def paper_number(title: str | None, abstract: str | Sequence[str] | None) -> int:
    """The `text_number` of a paper: papers with equal ones are one paper under several ids."""
    sentences = (abstract,) if abstract is None or isinstance(abstract, str) else abstract
    return text_number(title, *sentences)


def _marks(match: re.Match[str]) -> str:
    return "".join(
        c for c in match.group() if unicodedata.category(c) in ("Mn", "Mc") and not _selects(c)
    )


def _selects(character: str) -> bool:
    """Whether a mark chooses between pictures of the same character."""
    return "\ufe00" <= character <= "\ufe0f" or "\U000e0100" <= character <= "\U000e01ef"
