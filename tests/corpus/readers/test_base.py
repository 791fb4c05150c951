from sciembed_train.corpus.audit import BadRow
from sciembed_train.corpus.readers.base import FileReader, named_columns


class TwoRows(FileReader):
    def rows(self, path, options):
        yield 1, {"citing": "a", "cited": "b"}
        yield 2, BadRow("broken", "this is broken.")


def test_a_reader_without_cells_of_its_own_gives_named_columns(tmp_path):
    cells = list(TwoRows().cells(tmp_path, ("cited", "citing"), ()))
    assert cells[0] == (1, ["b", "a"])
    assert isinstance(cells[1][1], BadRow)


def test_a_row_without_a_wanted_column_is_bad():
    ((number, bad),) = named_columns([(3, {"citing": 1, "to": 2})], ("citing", "cited"), ())
    assert number == 3
    assert bad == BadRow("there is no cited", "there is no `cited`; the fields are citing, to.")


def test_aliases_are_used_where_the_first_name_is_absent():
    rows = [(1, {"query_paper_id": "a", "positive_id": "b"})]
    cells = named_columns(rows, ("query", "positive"), ("query_paper_id", "positive_id"))
    assert list(cells) == [(1, ["a", "b"])]
