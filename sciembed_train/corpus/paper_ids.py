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
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from sciembed_train.corpus.id_table import UNKNOWN, IdList, IdNumbers

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
    """The plain forms that an id is looked up by, most exact first; empty without another spelling.

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
        number: of each id as the papers have it, ascending.
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
        number = self.number.get(text)
        if number is None:
            number = self._find_plain(text)
            self._note(text, UNKNOWN if number is None else number)
        return UNKNOWN if number is None else number

    def find_all(self, texts: Sequence[str]) -> NDArray[np.int32]:
        """The number of each id's paper, as `find` has it, ``[N]``."""
        papers = self.exact.find_all(IdList.of(texts))
        rest = np.flatnonzero(papers == UNKNOWN).tolist()
        if rest:
            numbers = self._find_all_plain([texts[i] for i in rest])
            papers[rest] = numbers
            for i, number in zip(rest, numbers.tolist(), strict=True):
                self._note(texts[i], number)
        return papers

    @cached_property
    def exact(self) -> IdNumbers:
        """The numbers of ids as they stand."""
        return _table(self.number)

    def _note(self, text: str, number: int) -> None:
        """Count an id that names a paper by another spelling."""
        if number != UNKNOWN:
            self.spelled_otherwise += 1
            self.example = self.example or (text, number)

    def _find_plain(self, text: str) -> int | None:
        paper = self.other_ids.get(text)
        forms = plain_forms(text) if paper is None else ()
        if not forms:
            return paper
        plain = self._plain_forms
        for form in forms:
            # An id that is its own plain form, and the first of those that are spelled otherwise.
            numbers = self.number.get(form), plain.of_ids.get(form)
            if known := [number for number in numbers if number is not None]:
                return min(known)
            if (paper := plain.of_others.get(form)) is not None:
                return paper
        return plain.of_numbers.get(forms[0]) if len(forms) == 1 else None  # 17 may be CorpusId:17

    def _find_all_plain(self, texts: Sequence[str]) -> NDArray[np.int32]:
        """As `_find_plain` of each, `UNKNOWN` where there is none, ``[N]``."""
        papers = self._others.find_all(IdList.of(texts))
        forms: list[tuple[str, ...]] = [
            plain_forms(t) if n < 0 else () for t, n in zip(texts, papers.tolist(), strict=True)
        ]
        if not any(forms):
            return papers
        plain = self._plain_forms
        for place in range(max(map(len, forms))):
            rest = [i for i, form in enumerate(forms) if len(form) > place and papers[i] < 0]
            form = IdList.of(forms[i][place] for i in rest)
            exact, respelled = self.exact.find_all(form), plain.of_ids.find_all(form)
            first = np.where(
                (exact < 0) | (respelled < 0),
                np.maximum(exact, respelled),
                np.minimum(exact, respelled),
            )
            papers[rest] = np.where(first < 0, plain.of_others.find_all(form), first)
        rest = [i for i, form in enumerate(forms) if len(form) == 1 and papers[i] < 0]
        papers[rest] = plain.of_numbers.find_all(IdList.of(forms[i][0] for i in rest))
        return papers

    @cached_property
    def _others(self) -> IdNumbers:
        return _table(self.other_ids)

    @cached_property
    def _plain_forms(self) -> _PlainForms:
        return _PlainForms(
            of_ids=_forms(self.exact, _another_form),
            of_others=_forms(self._others, lambda text: plain_forms(text)[:1]),
            of_numbers=_forms(self.exact, lambda text: plain_forms(text)[1:]),
        )


@dataclass(frozen=True)
class _PlainForms:
    """The papers by plain forms.

    Args:
        of_ids: those of ids that are not their own plain form.
        of_others: those of other ids.
        of_numbers: the numbers of ids that have a prefix.
    """

    of_ids: IdNumbers
    of_others: IdNumbers
    of_numbers: IdNumbers


def _table(number: Mapping[str, int]) -> IdNumbers:
    if isinstance(number, IdNumbers):
        return number
    return IdNumbers(IdList.of(number), np.fromiter(number.values(), np.int32, len(number)))


def _forms(table: IdNumbers, forms: Callable[[str], Sequence[str]]) -> IdNumbers:
    """The numbers of a table by the ``forms`` of each id."""
    places = array("i")
    ids = IdList.of(_with_places(table.ids, forms, places))
    at = np.frombuffer(places, np.int32)
    return IdNumbers(ids, at if table.numbers is None else table.numbers[at])


def _another_form(text: str) -> Sequence[str]:
    """The plain form of an id, if that is not the id itself; it is for most."""
    return [form for form in plain_forms(text)[:1] if form != text]


def _with_places(
    texts: Iterable[str], forms: Callable[[str], Sequence[str]], places: array[int]
) -> Iterator[str]:
    """The ``forms`` of all texts; ``places`` gets the place of the text of each."""
    for place, text in enumerate(texts):
        for form in forms(text):
            places.append(place)
            yield form


def same_plain_form(number: Mapping[str, int]) -> list[tuple[str, str]]:
    """Pairs of ids that differ only in their spelling: an id, and the first one of its form."""
    known = _table(number)
    places = array("i")
    forms = IdList.of(_with_places(known.ids, _another_form, places))
    first = IdNumbers(forms).find_all(forms)
    is_known = known.find_all(forms) != UNKNOWN
    pairs = []
    for i in np.flatnonzero(is_known | (first != np.arange(len(first)))).tolist():
        before = forms[i] if is_known[i] else known.ids[places[int(first[i])]]
        pairs.append((known.ids[places[i]], before))
    return pairs
