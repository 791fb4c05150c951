import pytest

from sciembed_train.corpus.readers.base import ReadOptions
from sciembed_train.corpus.readers.parquet_file import ParquetFile
from sciembed_train.errors import UserError
from tests.helpers.data_files import ROWS, encode, rows_by_place


def test_rows_are_numbered_by_row(tmp_path):
    path = tmp_path / "p.parquet"
    path.write_bytes(encode("parquet"))
    rows = list(ParquetFile().rows(path, ReadOptions()))
    assert rows == list(zip([1, 2, 3], ROWS, strict=True))
    assert rows_by_place(path)[2][0].endswith("p.parquet, row 3")


def test_another_file_is_refused(tmp_path):
    path = tmp_path / "p.parquet"
    path.write_bytes(b"no Parquet file")
    with pytest.raises(UserError, match="this is not a Parquet file"):
        list(ParquetFile().rows(path, ReadOptions()))
