import pytest

from sciembed_train.corpus.store.corpus_files import ParquetRows
from sciembed_train.corpus.store.some_papers import in_quotes, some_papers, titles_in_lines


@pytest.fixture
def path(tmp_path):
    import pyarrow as pa

    columns = {"paper": pa.int32(), "paper_id": pa.string(), "title": pa.string()}
    with ParquetRows(tmp_path / "papers.parquet", columns, group=3) as writer:
        for i in range(10):
            writer.add(i, f"p{i}", f"Title {i}" if i else None)
    return tmp_path / "papers.parquet"


def test_papers_are_found_in_any_part_of_the_file(path):
    rows = some_papers(path, [9, 2, 3, 2], ("paper", "title"))
    assert rows == {i: {"paper": i, "title": f"Title {i}"} for i in (2, 3, 9)}
    assert some_papers(path, []) == {}


def test_only_the_parts_that_hold_them_are_read(path, monkeypatch):
    import pyarrow.parquet as pq

    read, whole = [], pq.ParquetFile.read_row_group
    monkeypatch.setattr(
        *(pq.ParquetFile, "read_row_group"),
        lambda file, group, **options: read.append(group) or whole(file, group, **options),
    )
    some_papers(path, [4, 5, 9], ("paper",))
    assert read == [1, 3]


def test_a_paper_is_named_by_its_title_and_id_in_a_line(path):
    assert titles_in_lines(path, [9, 0]) == ['"Title 9" (p9)', "p0 (no title)"]
    long = in_quotes({"paper_id": "x", "title": "<i>word</i>\n " * 40})
    assert len(long) == 80 + len('"" (x)')
    assert long.startswith('"word word')
    assert long.endswith('..." (x)')
