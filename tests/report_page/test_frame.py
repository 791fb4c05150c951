"""The frame of a page: what comes in as text stays text."""

from html.parser import HTMLParser

from sciembed_train.report_page.frame import (
    fact_table,
    in_words,
    ordered_list,
    page,
    paragraph,
    table,
    text_list,
)

EVIL = '<script>alert("1")</script>'


class Tags(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.found, self.text = [], ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.found.append(tag)

    def handle_data(self, data):
        self.text += data


def test_no_text_becomes_a_tag():
    parts = [
        *(paragraph(EVIL), paragraph(EVIL, "dim"), fact_table({EVIL: EVIL})),
        *(table([EVIL], [[EVIL]]), text_list([EVIL])),
    ]
    tags = Tags(page(EVIL, parts))
    assert not {"script", "link", "img"} & set(tags.found)
    assert tags.text.count(EVIL) == 9


def test_a_page_loads_nothing_and_fits_a_phone_and_the_dark():
    text = page("a page", [])
    assert "default-src 'none'; style-src 'unsafe-inline'" in text
    assert 'name="viewport" content="width=device-width' in text
    assert "prefers-color-scheme:dark" in text
    assert not [word for word in ("http://", "https://", "url(", "@import", "src=") if word in text]


def test_whole_numbers_of_a_table_stand_to_the_right():
    found = table(("split", "papers"), [("train", 12345)])
    assert "<td>train</td>" in found
    assert '<td class="number">12,345</td>' in found


def test_values_are_told_in_words():
    assert in_words({"train": 1234, "dev": 0}) == "train 1,234, dev 0"
    assert in_words({}) == "none"
    assert ordered_list(["<b>a</b>"]) == "<ol><li><b>a</b></li></ol>"
