import pytest

from sciembed_train.corpus.readers.base import ReadOptions
from sciembed_train.corpus.readers.text_lines import TextLines
from sciembed_train.errors import UserError


def test_every_line_is_a_row_with_a_text(tmp_path):
    path = tmp_path / "x.txt"
    path.write_text("one\n\ntwo\n")
    rows = list(TextLines().rows(path, ReadOptions()))
    assert rows == [(1, {"text": "one"}), (2, {"text": ""}), (3, {"text": "two"})]


def test_a_binary_file_is_refused(tmp_path):
    path = tmp_path / "x.txt"
    path.write_bytes(b"a\0b")
    with pytest.raises(UserError, match="is not text"):
        list(TextLines().rows(path, ReadOptions()))
