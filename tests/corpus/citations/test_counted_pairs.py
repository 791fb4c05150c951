import json

import numpy as np
import pytest

from sciembed_train.corpus.audit import Audit
from sciembed_train.corpus.citations.counted_pairs import read_cocitations
from sciembed_train.corpus.papers import Papers
from sciembed_train.corpus.readers.tables import Table
from sciembed_train.errors import UserError
from sciembed_train.progress import Progress, Stage


def read(path, names="abcde", without="e"):
    papers = Papers(list(names), {n: i for i, n in enumerate(names)}, np.ones(len(names), bool))
    why = np.array([n in without for n in names], np.int8)
    audit = Audit("cocitations")
    table = Table(path, "co-citations", needed=("paper_a",))
    rows, counts = read_cocitations(table, papers, why, audit, Stage(Progress(True), "x", None, ""))
    return dict(zip(map(tuple, rows.tolist()), counts.tolist(), strict=True)), audit


def test_counted_pairs_are_merged_in_either_order_and_keep_their_largest_count(tmp_path):
    path = tmp_path / "pairs.tsv"
    lines = ["a\tb\t3", "b\ta\t3", "c\tb\t", "a\tb\t2", "b\tc\t5", "a\ta\t1", "a\te\t1", "a\tx\t1"]
    path.write_text("\n".join(["paper_a\tpaper_b\tcount", *lines, "a\td\t0"]) + "\n")
    result, audit = read(path)
    assert result == {(0, 1): 3, (1, 2): 5}
    assert {reason: d.count for reason, d in audit.dropped.items()} == {
        "a paper with itself": 1,
        "no title and no abstract": 1,
        "unknown paper": 1,
        "a count of 0": 1,
        "given before": 3,
    }
    assert audit.rows == audit.kept + sum(d.count for d in audit.dropped.values())


def test_counts_may_be_left_out(tmp_path):
    path = tmp_path / "pairs.jsonl"
    path.write_text('{"paper_a": "c", "paper_b": "a"}\n{"paper_a": "a", "paper_b": "b", "n": 3}\n')
    assert read(path)[0] == {(0, 1): 1, (0, 2): 1}
    path = tmp_path / "empty.jsonl"
    path.write_text("")
    assert read(path)[0] == {}


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"paper_a": "a"}, "there is no `paper_b`; the fields are paper_a."),
        ({"paper_a": "a", "paper_b": 1.5}, "`paper_b` is the number 1.5; expected"),
        (
            {"paper_a": "a", "paper_b": "b", "count": -1},
            "`count` is the number -1; expected an integer of 0",
        ),
        ({"paper_a": "a", "paper_b": "b", "count": 1.5}, "`count` is the number 1.5; expected an"),
        ({"paper_a": "a", "paper_b": "b", "count": True}, "`count` is true"),
        ({"paper_a": "a", "paper_b": "b", "count": "often"}, "`count` is the text 'often'"),
        ({"paper_a": "a", "paper_b": "b", "count": 2**31}, "`count` is 2147483648; at most"),
    ],
)
def test_counted_pairs_that_cannot_be_read_say_why(tmp_path, row, message):
    path = tmp_path / "pairs.jsonl"
    path.write_text(json.dumps(row) + "\n")
    with pytest.raises(UserError) as error:
        read(path)
    assert f"{path}:1: {message}" in str(error.value)


def test_counted_pairs_in_a_table_need_their_header(tmp_path):
    path = tmp_path / "pairs.csv"
    path.write_text("a,b,3\n")
    with pytest.raises(UserError, match="the first line names the columns, and `paper_a` is not"):
        read(path)
