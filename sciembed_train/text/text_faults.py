"""Texts that are no good abstracts: in another language than English, or with a publisher's words.

They are counted and reported, and stay in a corpus: what to do about them depends on the encoder.
"""

from __future__ import annotations

import re
from collections.abc import Callable

# Words of English that carry no subject. A text of some length without them is in another language,
# or no running text.
_ENGLISH = frozenset(
    (
        *("the", "of", "and", "in", "to", "a", "is", "for", "that", "with", "on", "are", "as"),
        *("we", "this", "by", "be", "an", "from", "which", "at", "it", "or", "was", "were", "has"),
        *("have", "can", "not", "these", "our", "their", "its", "using", "between", "such"),
        *("also", "than", "been", "but"),
    )
)
WORDS = 12  # a shorter text is not judged
SHARE = 0.08  # of English texts, from 0.2 to 0.5 are such words
_LOOKED_AT = 600  # characters of a text

# One of these is in whatever the pattern finds.
_SIGNS = ("©", "(c)", "copyright", "rights reserved", "published by", "open access", "licensee")
_PUBLISHER = re.compile(
    r"(?:©|\(c\)|copyright)\s*(?:\(c\)\s*)?(?:19|20)\d\d\b"
    r"|\ball rights reserved\b|\bpublished by (?:elsevier|john wiley|springer|oxford university)"
    r"|\bthis is an open access article\b|\blicensee (?:mdpi|biomed central)\b",
    re.IGNORECASE,
)


def is_foreign(text: str) -> bool:
    """Whether a text of `WORDS` words or more has hardly any of the commonest English ones."""
    words = text[:_LOOKED_AT].lower().split()
    if len(words) < WORDS:
        return False
    return sum(map(_ENGLISH.__contains__, words)) < SHARE * len(words)


def has_publisher_words(text: str) -> bool:
    """Whether a text has a copyright line or the like, which says nothing of its subject."""
    lower = text.lower()
    return any(map(lower.__contains__, _SIGNS)) and _PUBLISHER.search(text) is not None


class TextFaults:
    """Counts such papers, with the place of the first of each kind."""

    def __init__(self) -> None:
        self.foreign, self.publisher = 0, 0
        self.first: dict[str, str] = {}

    def add(self, where: Callable[[int], str], place: int, abstract: str) -> None:
        """Count a paper by its abstract; ``where`` shows the ``place`` where it stands."""
        if not abstract:
            return
        if is_foreign(abstract):
            self.foreign += 1
            self.first["foreign"] = self.first.get("foreign") or where(place)
        if has_publisher_words(abstract):
            self.publisher += 1
            self.first["publisher"] = self.first.get("publisher") or where(place)

    def notes(self) -> list[str]:
        """Notes on these papers."""
        lines = []
        if self.foreign:
            lines.append(
                f"{self.foreign:,} abstracts seem not to be in English (the first "
                f"{self.first['foreign']}). They are kept; most encoders of papers know English "
                "alone."
            )
        if self.publisher:
            lines.append(
                f"{self.publisher:,} abstracts hold a publisher's words, such as a copyright line "
                f"(the first {self.first['publisher']}). They are kept as they stand."
            )
        return lines
