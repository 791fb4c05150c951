from pathlib import Path

import pytest

from sciembed_train.corpus.audit import BadRow
from sciembed_train.corpus.build import prepare
from sciembed_train.corpus.prepare_settings import PrepareSettings
from sciembed_train.corpus.readers.base import FileReader
from sciembed_train.corpus.readers.files import read_lines
from sciembed_train.corpus.readers.registry import (
    FULLTEXT_READERS,
    READERS,
    reader_of,
    stem_of,
)

FIELDS = {"ID": "paper_id", "TI": "title", "AB": "abstract"}


class Ris(FileReader):
    """A format that the package does not know: one tag a line, ``ER`` after each record."""

    def rows(self, path, options):
        row, first = {}, 1
        for number, line in read_lines(path):
            if isinstance(line, BadRow):
                yield number, line
                continue
            tag, value = line[:2], line[6:]
            if tag == "ER":
                yield first, row
                row, first = {}, number + 1
            elif tag in FIELDS:
                row[FIELDS[tag]] = value


def test_a_reader_from_outside_the_package_serves_prepare(tmp_path, monkeypatch):
    monkeypatch.setitem(READERS, ".ris", Ris())
    path = tmp_path / "papers.ris"
    path.write_text(
        "TY  - JOUR\nID  - a\nTI  - One\nAB  - First.\nER  -\n"
        "TY  - JOUR\nID  - b\nTI  - Two\nER  -\n"
        "TY  - JOUR\nTI  - no id\nER  -\n"
    )
    corpus = prepare(PrepareSettings(papers=path, to=tmp_path / "corpus", max_bad_rows=1))
    assert corpus.paper_ids() == ["a", "b"]
    assert [paper["abstract"] for paper in corpus.papers()] == ["First.", ""]
    report = (tmp_path / "corpus" / "report.json").read_text()
    assert f"{path}:10" in report
    assert reader_of(Path("more.ris.gz"), FULLTEXT_READERS) is READERS[".ris"]


@pytest.mark.parametrize(
    ("name", "known"),
    [
        ("a.jsonl", True),
        ("a.JSONL.GZ", True),
        ("a.csv.zst", True),
        ("a.parquet", True),
        ("a.parquet.gz", False),
        ("a.gz", False),
        ("a.txt", False),
        ("a", False),
    ],
)
def test_a_reader_is_found_by_the_ending(name, known):
    assert (reader_of(Path(name)) is not None) == known


def test_plain_text_is_for_full_texts_alone():
    assert reader_of(Path("a.txt.gz"), FULLTEXT_READERS) is not None
    assert stem_of(Path("x/a.b.jsonl.gz")) == "a.b"
    assert stem_of(Path("a.txt.gz"), FULLTEXT_READERS) == "a"
    assert stem_of(Path("a.txt")) == "a.txt"
