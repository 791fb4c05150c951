"""One list of what was left out, from a report of any shape."""

from sciembed_train.corpus.data_page.left_out import LeftOut, left_out, notes

REPORT = {
    "papers": {
        "rows": 10,
        "kept": 7,
        "malformed": {"no title": {"count": 1, "examples": ["p:3"]}},
        "dropped": {"no text": {"count": 2, "examples": ["p:4", "p:5"]}},
        "read": ["p: OpenAlex works"],
        "notes": ["p: OpenAlex works", "much markup"],
    },
    "triplets": {
        "queries": {"train": 4},
        "queries left out": {"count": 5, "by split": {"train": 5}, "examples": ["a"]},
        "never": {"count": 0, "examples": []},
    },
    "co-cited pairs": {"cited papers left out": {"filtered": {"count": 3, "examples": []}}},
}


def test_the_largest_reason_comes_first_wherever_it_stands():
    found = left_out(REPORT)
    assert [each.line for each in found] == [
        "5 (triplets): queries left out",
        "3 (co-cited pairs): filtered",
        "2 rows of papers: no text",
        "1 malformed rows of papers: no title",
    ]
    assert found[2] == LeftOut("papers", "no text", 2, ["p:4", "p:5"], rows=True)


def test_notes_do_not_repeat_how_an_input_was_read():
    assert notes(REPORT) == ["much markup"]
