import gzip

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sciembed_train.corpus.readers import column_blocks as module
from sciembed_train.corpus.readers.column_blocks import ColumnBlock, column_blocks
from sciembed_train.corpus.readers.delimited import Delimited

CSV = Delimited(",", "csv")


def read(path, columns=(0, 1), header=False):
    found = []
    for block in column_blocks(CSV, path, columns, ("citing", "cited"), header):
        if isinstance(block, ColumnBlock):
            cells = zip(*(map(str, column) for column in block.columns), strict=True)
            found += zip(block.lines.tolist(), cells, strict=True)
        else:
            found.append((block[0], block[1].reason))
    return found


def row_by_row(path, columns=(0, 1), header=False):
    found = []
    for line, cells in CSV.lines(path, int(header)):
        if not isinstance(cells, list):
            found.append((line, cells.reason))
        elif len(cells) <= max(columns):
            found.append((line, "wrong number of columns"))
        else:
            found.append((line, tuple(cells[column] for column in columns)))
    return found


CELL = st.sampled_from(["a", "bc", "", " d", "é", '"q,q"', '"two\nlines"'])
LINE = st.lists(CELL, min_size=1, max_size=4).map(",".join)


@settings(max_examples=150, deadline=None)
@given(st.lists(LINE, max_size=12), st.sampled_from(["\n", "\r\n"]), st.booleans(), st.booleans())
def test_blocks_are_the_rows_of_the_file(tmp_path_factory, lines, end, ended, header):
    path = tmp_path_factory.mktemp("b") / "c.csv"
    text = end.join(lines) + (end if ended else "")
    path.write_bytes((f"citing,cited{end}" if header else "").encode() + text.encode())
    assert sorted(read(path, header=header)) == sorted(row_by_row(path, header=header))


@pytest.mark.parametrize("size", [1, 7, 64])
def test_parts_of_any_size_give_the_same_rows(tmp_path, monkeypatch, size):
    path = tmp_path / "c.csv.gz"
    text = "".join(f"p{i},{i}\n" for i in range(50)) + '"p,50",50\nlast,1'
    path.write_bytes(gzip.compress(text.encode()))
    monkeypatch.setattr(module, "PART", size)
    monkeypatch.setattr(module, "ROWS", 3)
    rows = read(path)
    assert len(rows) == 52
    assert rows[49:] == [(50, ("p49", "49")), (51, ("p,50", "50")), (52, ("last", "1"))]


def test_chosen_columns_are_given_in_their_order(tmp_path):
    path = tmp_path / "c.csv"
    path.write_text("\ufeffi,x,y\n0,a,b\n1,c,d\n")
    assert read(path, (2, 1), header=True) == [(2, ("b", "a")), (3, ("d", "c"))]


def test_faults_have_their_lines(tmp_path):
    path = tmp_path / "c.csv"
    path.write_bytes(b"a,b\nc\n\nd,\xff\ne,f\n")
    rows = read(path)
    assert rows == [
        (2, "wrong number of columns"),
        (4, "not UTF-8"),
        (1, ("a", "b")),
        (5, ("e", "f")),
    ]


def test_plain_files_are_parsed_in_blocks(tmp_path):
    path = tmp_path / "c.csv"
    path.write_text("".join(f"{i},{i + 1}\n" for i in range(1000)))
    (block,) = column_blocks(CSV, path, (0, 1), ("citing", "cited"), False)
    assert isinstance(block, ColumnBlock)
    np.testing.assert_array_equal(block.lines, np.arange(1, 1001))
    assert not isinstance(block.columns[0], list)
