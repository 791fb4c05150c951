import io
from types import SimpleNamespace

import pytest

from sciembed_train.corpus.audit import (
    EXAMPLES,
    Audit,
    BadRow,
    Dropped,
    checked_rows,
    count_and_examples,
    in_brackets,
    list_reasons,
    usable_rows,
)
from sciembed_train.errors import UserError
from sciembed_train.progress import Progress


def test_malformed_rows_are_refused_above_the_budget_with_the_first_of_each_kind():
    audit = Audit("papers", max_bad_rows=2)
    audit.rows = 20113
    audit.bad(BadRow("x", "`abstract` is the number 17; expected text."), "p.jsonl:1042")
    audit.check()
    for line in (1050, 1051):
        audit.bad(BadRow("x", "other"), f"p.jsonl:{line}")
    with pytest.raises(UserError) as refused:
        audit.check()
    assert str(refused.value) == (
        "p.jsonl:1042: `abstract` is the number 17; expected text. 3 of 20,113 rows are like "
        "this. Correct them, or skip them with --max-bad-rows 3 (in fit --data.max_bad_rows 3)."
    )
    audit.bad(BadRow("y", "there is no `title`."), "p.jsonl:7")
    with pytest.raises(UserError) as refused:
        audit.check()
    assert str(refused.value).splitlines()[1:] == [
        "p.jsonl:7: there is no `title`. 1 of 20,113 rows is like this.",
        "Correct them, or skip them with --max-bad-rows 4 (in fit --data.max_bad_rows 4).",
    ]


def test_the_account_counts_all_and_lists_a_few():
    audit = Audit("citations")
    for line in range(50):
        audit.drop("given before", f"c.csv:{line}")
    message = audit.as_dict()["dropped"]["given before"]
    assert message["count"] == 50
    assert message["examples"] == [f"c.csv:{line}" for line in range(20)]


def test_many_rows_are_counted_with_the_first_places():
    audit = Audit("citations")
    audit.drop_many("given before", 0, [])
    assert audit.dropped == {}
    audit.drop_many("given before", 30, map(str, range(30)))
    audit.drop_many("given before", 5, ["later"])
    assert audit.dropped["given before"] == Dropped(35, [str(i) for i in range(EXAMPLES)])


def test_rows_that_cannot_be_read_are_counted_and_refused_at_the_end():
    audit = Audit("papers")
    rows = [(1, "a"), (2, BadRow("broken", "this is broken.")), (3, "b")]
    with Progress(stream=io.StringIO()).stage("papers") as stage:
        checked = checked_rows(rows, "row {}".format, audit, stage)
        assert [next(checked), next(checked)] == [(1, "a"), (3, "b")]
        with pytest.raises(UserError, match=r"row 2: this is broken\. 1 of 3 rows is like this"):
            next(checked)
    assert stage.done == 3


def test_reasons_are_listed_with_counts_and_places():
    reasons = {"empty": Dropped(1200, ["p:1", "p:2"]), "odd": {"count": 1, "examples": []}}
    assert list_reasons(reasons) == "1,200: empty; 1: odd"
    assert list_reasons(reasons, places=True) == "1,200: empty, the first at p:1; 1: odd"
    assert (in_brackets("a"), in_brackets(list_reasons({}))) == (" (a)", "")


def test_the_rows_that_can_be_used_are_told_with_why_others_cannot():
    audit = Audit("citations", max_bad_rows=1)
    audit.rows, audit.kept = 1200, 1199
    audit.bad(BadRow("broken", "this is broken."), "c.csv:7")
    assert usable_rows(audit.as_dict(), "citations") == (
        "Of 1,200 citations 1,199 can be used (1: broken, the first at c.csv:7)."
    )


def test_examples_are_the_first_names_in_order():
    names = [f"n{i:02}" for i in range(30)]
    assert count_and_examples(reversed(names)) == {"count": 30, "examples": names[:EXAMPLES]}


def test_where_nearly_all_rows_are_malformed_the_advice_is_the_columns():
    table = SimpleNamespace(columns=["id", "name"])
    audit = Audit("papers", table=table)
    audit.rows = 250
    for line in range(247):
        audit.bad(BadRow("there is no title", "there is no `title`."), f"p.jsonl:{line + 1}")
    with pytest.raises(UserError) as refused:
        audit.check()
    assert str(refused.value) == (
        "p.jsonl:1: there is no `title`. 247 of 250 rows are like this.\n"
        "Nearly all rows of papers are like this, so it is the file that does not fit. Its first "
        "row has `id`, `name`. Expected are `paper_id`, `title` and `abstract` (text, a list of "
        "sentences, or null). Rename the columns or convert the values, or name the file that you "
        "meant."
    )


def test_how_an_input_was_read_heads_the_notes():
    audit = Audit("papers")
    audit.notes.append("a note")
    audit.say_read("p.csv: rows with a column for each field")
    audit.say_read("c.csv: a cites b")
    found = audit.as_dict()
    assert found["read"] == ["p.csv: rows with a column for each field", "c.csv: a cites b"]
    assert found["notes"] == [*found["read"], "a note"]
