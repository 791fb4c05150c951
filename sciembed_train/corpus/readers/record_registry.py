"""The record formats that are known, in the order in which they are tried on a file's first row."""

from __future__ import annotations

from sciembed_train.corpus.readers.record_formats import RecordFormat
from sciembed_train.corpus.readers.records.openalex import OpenAlex

# By the name that the setting ``format`` takes.
RECORD_FORMATS: dict[str, RecordFormat] = {
    "openalex": OpenAlex(),
}
