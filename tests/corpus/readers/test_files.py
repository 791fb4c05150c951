import gzip

import pytest

from sciembed_train.corpus.audit import BadRow
from sciembed_train.corpus.readers.files import missing_package, read_lines, refuse_binary, sha256
from sciembed_train.errors import UserError
from tests.helpers.data_files import ROWS, compress, encode, read_table


def test_damaged_and_unreadable_files_are_refused(tmp_path):
    import zstandard

    whole = encode("jsonl", ROWS * 5000)
    (tmp_path / "cut.jsonl.gz").write_bytes(gzip.compress(whole)[:-500])
    (tmp_path / "not.jsonl.gz").write_bytes(whole)
    (tmp_path / "cut.jsonl.zst").write_bytes(zstandard.compress(whole)[:-50])
    (tmp_path / "not.jsonl.zst").write_bytes(whole)
    (tmp_path / "not.parquet").write_bytes(whole)
    (tmp_path / "cut.parquet").write_bytes(encode("parquet")[:-10])
    for path in tmp_path.iterdir():
        with pytest.raises(UserError, match=rf"{path.name}.* (damaged|not a Parquet file)"):
            read_table(path)
    (tmp_path / "wide.csv").write_bytes("paper_id,title\n".encode("utf-16"))
    with pytest.raises(UserError, match="is UTF-16; save it as UTF-8"):
        read_table(tmp_path / "wide.csv")


def test_several_compressed_frames_are_read_as_one_file(tmp_path):
    for ending in (".gz", ".zst"):
        path = tmp_path / f"p.jsonl{ending}"
        path.write_bytes(b"".join(compress(encode("jsonl", [row]), ending) for row in ROWS))
        assert [row for _, row in read_table(path)] == ROWS


def test_lines_are_numbered_and_bytes_that_are_no_text_are_reported(tmp_path):
    path = tmp_path / "x.txt"
    path.write_bytes(b"\xef\xbb\xbfone\r\n\n  \n\xff\nlast")
    (first, bad, last) = read_lines(path)
    assert (first, last) == ((1, "one"), (5, "last"))
    assert bad[0] == 4
    assert isinstance(bad[1], BadRow)
    assert "byte 0xff at position 1" in bad[1].message
    assert [number for number, _ in read_lines(path, empty=True)] == [1, 2, 3, 4, 5]


def test_a_binary_file_is_refused_with_the_place_of_its_byte(tmp_path):
    path = tmp_path / "x.txt"
    path.write_bytes(b"ab\0c")
    with pytest.raises(UserError, match="NUL byte at position 3"):
        refuse_binary(path)
    with pytest.raises(UserError, match=r"none\.txt cannot be read"):
        sha256(tmp_path / "none.txt")


def test_a_missing_library_is_named_with_the_command_that_installs_it():
    error = missing_package("zstandard", ".zst files")
    assert ".zst files need the package zstandard" in str(error)
    assert "pip install" in str(error)
