"""OpenAlex works, of its API and of its snapshot."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from sciembed_train.corpus.audit import BadRow
from sciembed_train.corpus.readers.record_formats import PaperRecord, RecordFormat
from sciembed_train.corpus.readers.records.fields import names_of
from sciembed_train.corpus.readers.records.plain_papers import listed
from sciembed_train.corpus.validation import missing_field, spell


class OpenAlex(RecordFormat):
    """Works: ids are URLs, and an abstract is a list of places for each word.

    Source: https://docs.openalex.org/api-entities/works/work-object
    """

    name = "OpenAlex works"

    def recognises(self, row: Mapping[str, Any]) -> bool:
        """By the address of the id, or by fields that no other format has."""
        named = "openalex.org/" in str(row.get("id", ""))
        return named or ("id" in row and "abstract_inverted_index" in row)

    def paper(self, row: Mapping[str, Any]) -> PaperRecord:
        """A work; its id is ``W`` with digits."""
        if row.get("id") is None:
            raise missing_field("id", row)
        title = row.get("display_name")
        abstract = abstract_of(row.get("abstract_inverted_index"))
        other_ids = [row.get("doi"), *_prefixed(row.get("ids"))]
        works = listed(row.get("referenced_works"), "referenced_works")
        return PaperRecord(
            _short(row["id"]),
            row.get("title") if title is None else title,
            row.get("abstract") if abstract is None else abstract,  # the tables of its website
            year=row.get("publication_year"),
            other_ids=[value for value in other_ids if value],
            references=[_short(work) for work in works],
            fields_of_study=_fields(row),
        )


def _fields(row: Mapping[str, Any]) -> list[str]:
    """The field of the first topic, else the concepts of the highest level."""
    topic = row.get("primary_topic")
    if isinstance(topic, Mapping):
        return names_of(topic.get("field"))
    concepts = row.get("concepts")
    known = concepts if isinstance(concepts, list | tuple) else ()
    return names_of([c for c in known if isinstance(c, Mapping) and c.get("level") == 0])


def abstract_of(index: Any) -> str | None:
    """The text of an ``abstract_inverted_index``, ``{word: [places]}``; None if there is none.

    Raises:
        BadRow: it is no such index.
    """
    if index is None or index != index or index == "":
        return None
    words: dict[int, str] = {}
    try:
        if isinstance(index, str):  # in a table
            index = json.loads(index)
        for word, places in index.items():
            for place in places:
                words[int(place)] = word
    except (AttributeError, TypeError, ValueError):
        raise BadRow(
            "abstract_inverted_index has a wrong type",
            f"`abstract_inverted_index` is {spell(index)}; expected an object with a list of "
            "places for each word.",
        ) from None
    return " ".join(words[place] for place in sorted(words))


def _short(work: Any) -> Any:
    """``W17`` of ``https://openalex.org/W17``."""
    return work.rpartition("/")[2] if isinstance(work, str) else work


def _prefixed(ids: Any) -> list[str]:
    """The other ids of a work with their prefix."""
    if not isinstance(ids, Mapping):
        return []
    numbers = {"pmid": "pmid", "mag": "mag"}
    return [
        f"{prefix}:{str(ids[name]).rstrip('/').rpartition('/')[2]}"
        for name, prefix in numbers.items()
        if ids.get(name)
    ]
