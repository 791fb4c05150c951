import json

import numpy as np
import pytest

from sciembed_train.corpus.audit import BadRow
from sciembed_train.corpus.citations.citation_files import (
    CitationBlock,
    CitationFiles,
    reference_blocks,
)
from sciembed_train.corpus.paper_ids import PaperIds
from sciembed_train.corpus.papers import References
from sciembed_train.corpus.readers.tables import Table
from sciembed_train.corpus.store.corpus_files import ParquetRows
from sciembed_train.errors import UserError

IDS = PaperIds({"a": 0, "b": 1})


def read(path, **given):
    """Pairs and malformed rows with their places as shown, and the names of the columns."""
    table = Table(path, "citations")
    files = CitationFiles(table, IDS, given)
    found = []
    for block in files.blocks():
        if isinstance(block, CitationBlock):
            columns = (list(map(str, column)) for column in (block.citing, block.cited))
            found += zip(map(table.where, block.places.tolist()), *columns, strict=True)
        else:
            found.append((table.where(block[0]), block[1].reason))
    return [
        (place.removeprefix(f"{path}").lstrip("/"), *rest) for place, *rest in found
    ], files.names


def test_files_of_several_kinds_are_read_one_after_the_other(tmp_path):
    (tmp_path / "1.csv").write_text("cited,citing\na,b\n")
    (tmp_path / "2.tsv").write_text("a\tb\n")
    (tmp_path / "3.jsonl").write_text('{"id": "a", "references": ["b", {"paperId": "c"}]}\n')
    work = {"id": "https://openalex.org/W1", "referenced_works": ["https://openalex.org/W2"]}
    (tmp_path / "4.json").write_text(json.dumps([work]))
    (tmp_path / "5.csv").write_text("")
    rows, names = read(tmp_path)
    assert rows == [
        ("1.csv:2", "b", "a"),
        ("2.tsv:1", "a", "b"),
        ("3.jsonl:1", "a", "b"),
        ("3.jsonl:1", "a", "c"),
        ("4.json, record 1", "W1", "W2"),
    ]
    assert names["1.csv"] == ("citing", "cited")
    assert names["2.tsv"] == ("column 1", "column 2")
    assert names["3.jsonl"] == names["4.json"] == ("a paper", "each of its references")


def test_malformed_rows_are_given_with_their_places(tmp_path):
    (tmp_path / "c.jsonl").write_text('{"citing": "a", "cited": "b"}\n{"citing": "a"}\n[]\n')
    rows, _ = read(tmp_path / "c.jsonl")
    assert rows == [(":2", "there is no cited"), (":3", "not an object"), (":1", "a", "b")]


def test_rows_that_cite_nothing_by_name_are_refused(tmp_path):
    (tmp_path / "c.jsonl").write_text('{"x": "a", "y": "b"}\n')
    with pytest.raises(UserError, match=r"it has `x`, `y`\. Say which paper cites"):
        read(tmp_path / "c.jsonl")
    assert read(tmp_path / "c.jsonl", citing="y", cited="x")[0] == [(":1", "b", "a")]


def test_references_in_the_rows_of_papers_go_both_ways(tmp_path):
    import pyarrow as pa

    columns = {"place": pa.int64(), "row": pa.int32(), "other": pa.string(), "cites": pa.bool_()}
    with ParquetRows(tmp_path / "r.parquet", columns) as writer:
        writer.add(5, 0, "x", True)
        writer.add(6, 1, "y", False)
        writer.add(6, 1, "z", True)
    blocks = list(reference_blocks(References(tmp_path / "r.parquet", np.array([7, 3], np.int32))))
    found = [
        (int(place), str(citing), str(cited))
        for block in blocks
        if not isinstance(block, tuple)
        for place, citing, cited in zip(block.places, block.citing, block.cited, strict=True)
    ]
    assert found == [(5, "7", "x"), (6, "3", "z"), (6, "y", "3")]
    assert not any(isinstance(block, BadRow) for block in blocks)
