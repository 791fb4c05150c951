"""The interface of record formats: how the fields of a row describe a paper and what it cites.

A file's *format* (`base.FileReader`) says what its rows are; the *record format* what is in a row.
Each is a class in a file of `records` and a line in `record_registry`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar


@dataclass(frozen=True)
class PaperRecord:
    """A paper as its row describes it, unchecked; `validation.read_paper` checks it.

    Args:
        paper_id: its id.
        title, abstract: texts, or None; an abstract may be a list of sentences.
        year: of publication, or None.
        other_ids: by which it is also found: DOI, arXiv id and the like, with their prefix
            (``doi:``, ``arxiv:``, ``pmid:``, ``corpusid:``).
        references: ids of the papers that it cites; empty also where the row does not say.
        cited_by: ids of papers that cite it.
        fields_of_study: their names; they are only counted.
        completes: the row only adds an abstract to the paper of this id, which another row has.
    """

    paper_id: Any
    title: Any = None
    abstract: Any = None
    year: Any = None
    other_ids: Sequence[Any] = ()
    references: Sequence[Any] = ()
    cited_by: Sequence[Any] = ()
    fields_of_study: Sequence[str] = ()
    completes: bool = False


class RecordFormat(ABC):
    """Reads rows of one record format as papers.

    Attributes:
        name: as a message calls its rows, such as ``OpenAlex works``.
        has_references: whether rows of the format can name the papers that they cite.
    """

    name: ClassVar[str]
    has_references: ClassVar[bool] = True

    @abstractmethod
    def recognises(self, row: Mapping[str, Any]) -> bool:
        """Whether a row, the first of its file, has the fields by which the format is known."""

    def names_references(self, row: Mapping[str, Any]) -> bool:
        """Whether rows with the fields of this one can name the papers that they cite."""
        return self.has_references

    @abstractmethod
    def paper(self, row: Mapping[str, Any]) -> PaperRecord:
        """The paper that a row describes.

        Raises:
            BadRow: a field that is needed is not there, or has a wrong type.
        """
