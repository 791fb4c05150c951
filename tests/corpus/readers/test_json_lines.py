import pytest

from sciembed_train.corpus.audit import BadRow
from tests.helpers.data_files import read_table


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b'{"paper_id": 1', "not JSON"),
        (b"[1, 2]", "not an object"),
        (b"nonsense", "not JSON"),
        (b'{"paper_id": "\xff"}', "not UTF-8"),
        (b"[" * 100_000, "not JSON"),
        (b'{"paper_id": ' + b"9" * 5000 + b"}", "not JSON"),
    ],
)
def test_a_malformed_line_is_a_bad_row_and_the_next_is_read_table(tmp_path, line, reason):
    path = tmp_path / "p.jsonl"
    path.write_bytes(b'{"paper_id": 1}\n' + line + b'\n{"paper_id": 2}\n')
    (_, first), (place, bad), (_, last) = read_table(path)
    assert (first, last) == ({"paper_id": 1}, {"paper_id": 2})
    assert place == 2
    assert isinstance(bad, BadRow)
    assert bad.reason == reason
