"""Papers by their ids, however an id is spelled.

Two files of one collection often spell the ids of papers differently. An id that is not found as it
stands is looked up by its *plain form*, for which this is the rule:

- DOI: without ``https://doi.org/``, ``http://dx.doi.org/`` and ``doi:``, in lower case;
- arXiv: without ``https://arxiv.org/abs/``, ``arXiv:`` and the version, so ``1706.03762v5`` is
  ``1706.03762``; the DOIs ``10.48550/arXiv...`` are arXiv ids;
- OpenAlex: ``https://openalex.org/w123`` is ``W123``;
- Semantic Scholar: the 40 hexadecimal digits in lower case, also at the end of a page's address;
- numbers: ``17.0`` is ``17``, and ``CorpusId:17``, ``S2:17``, ``MAG:17``, ``PMID:17`` and
  ``https://pubmed.ncbi.nlm.nih.gov/17`` are ``17`` where no paper has the number with that prefix.

Other ids are found as they stand and not in another case or with another prefix.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import cached_property
from itertools import chain

import numpy as np
from numpy.typing import NDArray

UNKNOWN = -1

_DOI = re.compile(r"(?:https?://(?:dx\.)?doi\.org/|doi:\s*)?(10\.\d{4,9}/\S+)", re.IGNORECASE)
_ARXIV_DOI = re.compile(r"10\.48550/arxiv\.(.+)", re.IGNORECASE)
_ARXIV = re.compile(
    r"(?:https?://(?:www\.)?arxiv\.org/(?:abs|pdf)/|arxiv:\s*)?"
    r"(\d{4}\.\d{4,5}|[a-z-]+(?:\.[a-z]{2})?/\d{7})(?:v\d+)?(?:\.pdf)?",
    re.IGNORECASE,
)
_OPENALEX = re.compile(
    r"(?:https?://(?:api\.)?openalex\.org/(?:works/)?|openalex:\s*)?(W\d+)", re.I
)
_S2 = re.compile(
    r"(?:https?://(?:www|api)\.semanticscholar\.org/\S*?/|s2:\s*)?([0-9a-f]{40})", re.IGNORECASE
)
_NUMBER = re.compile(
    r"(?:(corpusid|s2|mag|pmid|pubmed):\s*|https?://(pubmed)\.ncbi\.nlm\.nih\.gov/)?"
    r"(\d+)(?:\.0+)?/?",
    re.IGNORECASE,
)
_ONE_PREFIX = {"s2": "corpusid", "pubmed": "pmid"}  # of those that mean the same


def plain_forms(text: str) -> tuple[str, ...]:
    """What an id is looked up by, the most exact first; empty where it has no other spelling.

    A number with a prefix has two: with it, and alone.
    """
    if text.isalnum():  # most ids, quickly
        if text.isdigit():
            return (text,)
        if len(text) != 40 and text[0] not in "Ww":
            return ()
    if match := _DOI.fullmatch(text):
        doi = match[1].lower()
        arxiv = _ARXIV_DOI.fullmatch(doi)
        return plain_forms(f"arxiv:{arxiv[1]}") or (f"doi:{doi}",) if arxiv else (f"doi:{doi}",)
    if match := _NUMBER.fullmatch(text):
        kind = (match[1] or match[2] or "").lower()
        return (f"{_ONE_PREFIX.get(kind, kind)}:{match[3]}", match[3]) if kind else (match[3],)
    if match := _ARXIV.fullmatch(text):
        return (f"arxiv:{match[1].lower()}",)
    if match := _OPENALEX.fullmatch(text):
        return (match[1].upper(),)
    if match := _S2.fullmatch(text):
        return (match[1].lower(),)
    return ()


class PaperIds:
    """Finds a paper's number by any spelling of its id, or by another id that it has.

    Args:
        number: of each id as the papers have it.
        other_ids: of ids that papers have besides: DOI, arXiv, ...

    Where two papers have one plain form, it names the first of them.
    """

    def __init__(
        self, number: Mapping[str, int], other_ids: Mapping[str, int] | None = None
    ) -> None:
        self.number = number
        self.other_ids = other_ids or {}
        self.spelled_otherwise = 0  # ids found by their plain form
        self.example: tuple[str, int] | None = None  # one of them, and its paper

    def find(self, text: str) -> int:
        """The number of the paper with this id; `UNKNOWN` if there is none."""
        found = self.number.get(text)
        if found is None:
            found = self._find_plain(text)
        return UNKNOWN if found is None else found

    def find_all(self, texts: Sequence[str]) -> NDArray[np.int32]:
        """The number of each id's paper, `UNKNOWN` where there is none, ``[N]``."""
        found = list(map(self.number.get, texts))
        for i, number in enumerate(found):
            if number is None:
                other = self._find_plain(texts[i])
                found[i] = UNKNOWN if other is None else other
        return np.array(found, np.int32)

    def _find_plain(self, text: str) -> int | None:
        found = self.other_ids.get(text)
        forms = plain_forms(text) if found is None else ()
        if forms:
            plain, numbers = self._plain_forms
            found = next((plain[form] for form in forms if form in plain), None)
            if found is None and len(forms) == 1:  # 17 may be CorpusId:17
                found = numbers.get(forms[0])
        if found is not None:
            self.spelled_otherwise += 1
            self.example = self.example or (text, found)
        return found

    @cached_property
    def _plain_forms(self) -> tuple[dict[str, int], dict[str, int]]:
        """The papers by their plain forms, and by the numbers of ids that have a prefix."""
        plain: dict[str, int] = {}
        numbers: dict[str, int] = {}
        for text, number in chain(self.number.items(), self.other_ids.items()):
            for form in plain_forms(text)[:1]:
                plain.setdefault(form, number)
        for text, number in self.number.items():
            for form in plain_forms(text)[1:]:
                numbers.setdefault(form, number)
        return plain, numbers


def same_plain_form(number: Mapping[str, int]) -> list[tuple[str, str]]:
    """Pairs of ids that differ only in their spelling: an id, and the first one of its form."""
    first: dict[str, str] = {}
    pairs = []
    for text in number:
        for form in plain_forms(text)[:1]:
            if form == text:  # most: nothing has to be kept of them
                continue
            before = form if form in number else first.setdefault(form, text)
            if before != text:
                pairs.append((text, before))
    return pairs
