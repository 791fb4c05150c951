"""The formats of files that are read, by the ending of a file's name."""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Mapping
from pathlib import Path

from sciembed_train.corpus.readers.base import FileReader
from sciembed_train.corpus.readers.bibtex_file import BibtexFile
from sciembed_train.corpus.readers.delimited import Delimited
from sciembed_train.corpus.readers.files import COMPRESSED, open_bytes, reading
from sciembed_train.corpus.readers.json_lines import JsonLines
from sciembed_train.corpus.readers.json_members import JsonMembers
from sciembed_train.corpus.readers.parquet_file import ParquetFile
from sciembed_train.corpus.readers.pubmed_xml import PubmedXml
from sciembed_train.corpus.readers.tagged_text import MEDLINE, RIS
from sciembed_train.corpus.readers.text_lines import TextLines
from sciembed_train.errors import UserError

READERS: dict[str, FileReader] = {
    ".jsonl": JsonLines(),
    ".ndjson": JsonLines(),
    ".json": JsonMembers(),
    ".csv": Delimited(",", "csv"),
    ".tsv": Delimited("\t", "tsv"),
    ".parquet": ParquetFile(),
}
# Papers may also be in the formats of reference managers and of PubMed.
PAPER_READERS: Mapping[str, FileReader] = ChainMap(
    READERS, {".xml": PubmedXml(), ".nbib": MEDLINE, ".bib": BibtexFile(), ".ris": RIS}
)
# Full texts may also be plain text.
FULLTEXT_READERS: Mapping[str, FileReader] = ChainMap(READERS, {".txt": TextLines()})


def reader_of(path: Path, readers: Mapping[str, FileReader] = READERS) -> FileReader | None:
    """The reader of a file by the ending of its name; None if there is none."""
    endings = [suffix.lower() for suffix in path.suffixes]
    compressed = bool(endings) and endings[-1] in COMPRESSED
    if compressed:
        endings.pop()
    reader = readers.get(endings[-1]) if endings else None
    if reader is not None and compressed and not reader.may_be_compressed:
        return None
    return reader


def reader_of_dump(path: Path, readers: Mapping[str, FileReader] = READERS) -> FileReader | None:
    """The reader of JSON Lines for a file without another ending than that of its compression.

    Dumps of OpenAlex and Semantic Scholar are named so. None where the file holds something else.
    """
    if path.suffix.lower() not in COMPRESSED:
        return None
    try:
        with reading(path), open_bytes(path) as file:
            begins = file.read(1 << 10).lstrip()
    except UserError:  # it is not what its ending says, or the library is not installed
        return None
    return readers.get(".jsonl") if begins.startswith(b"{") else None


def stem_of(path: Path, readers: Mapping[str, FileReader] = READERS) -> str:
    """A file's name without the endings that say its format and compression."""
    name = path.name
    while Path(name).suffix.lower() in (*COMPRESSED, *readers):
        name = Path(name).stem
    return name
