import pytest

from sciembed_train.corpus.audit import BadRow
from sciembed_train.corpus.fulltext.fulltext_records import Paragraph, read_fulltext


def text_of(row, stem=""):
    record = read_fulltext(row, stem)
    return " ".join(" ".join(part.split()) for part in record.parts() if part.strip())


def paragraph(text, section="", **more):
    return {"text": text, "section": section, "cite_spans": [], "ref_spans": [], **more}


BODY = [paragraph("First [1].", "Introduction"), paragraph("Second.", "Method", eq_spans=[])]
HEAD = [paragraph("What it is.", "Abstract")]


@pytest.mark.parametrize(
    ("row", "text"),
    [
        ({"text": "one two"}, "one two"),
        ({"text": "one\n\n two", "title": "T", "abstract": "A."}, "T A. one two"),
        ({"text": ["one", "two"], "abstract": ["A.", "B."]}, "A. B. one two"),
        ({"title": "T", "abstract": "A.", "year": 2000}, "T A."),
        ({"title": "T", "abstract": None}, "T"),
        ({"text": "one", "body_text": None, "pdf_parse": None, "title": "T"}, "T one"),
        ({"title": float("nan"), "text": ""}, ""),
    ],
)
def test_plain_records_put_title_and_abstract_at_the_head(row, text):
    assert text_of(row) == text


def test_every_generation_of_s2orc_gives_the_same_text():
    parts = {"abstract": HEAD, "body_text": BODY, "ref_entries": {}, "bib_entries": {}}
    back = {"back_matter": [paragraph("We thank everybody.", "Acknowledgements")]}
    metadata = {"title": "The title", "authors": [], "year": "2000"}
    of_2019 = {"paper_id": "1", "metadata": {**metadata, "abstract": None}, "latex_parse": None}
    records = [
        {**of_2019, "grobid_parse": parts},
        {**of_2019, "metadata": {**metadata, "abstract": "What it is."}, "grobid_parse": parts},
        {"paper_id": "1", "metadata": metadata, **parts, **back},
        {"paper_id": "1", "title": "The title", "abstract": "", "pdf_parse": {**parts, **back}},
        {"paper_id": "1", "title": "The title", "abstract": "What it is.", "pdf_parse": parts},
    ]
    for record in records:
        assert text_of(record) == "The title What it is. First [1]. Second."
        assert read_fulltext(record).shape == "s2orc"
    # That of 2020 keeps the title elsewhere.
    assert text_of({"paper_id": "1", **parts}) == "What it is. First [1]. Second."
    sections = [p.section for p in read_fulltext(records[0]).paragraphs()]
    assert sections == ["Abstract", "Introduction", "Method"]


def test_a_latex_parse_is_preferred_and_loses_its_markers():
    equation = {"start": 4, "end": 15, "text": "INLINEFORM0", "latex": "\\alpha _i"}
    record = {
        "paper_id": "1",
        "metadata": {"title": "T"},
        "grobid_parse": {"abstract": [], "body_text": [paragraph("the a i of [1]")]},
        "latex_parse": {
            "abstract": [],
            "body_text": [paragraph("the INLINEFORM0 of BIBREF1 .", eq_spans=[equation])],
        },
    }
    assert text_of(record) == "T the \u03b1_i of."
    empty = {**record, "latex_parse": {"abstract": [], "body_text": []}}
    assert text_of(empty) == "T the a i of [1]"


def test_unarxive_records_lose_markers_and_keep_where_they_cite():
    spans = [{"start": 5, "end": 19, "text": "{{cite:abc}}", "ref_id": "abc"}]
    record = {
        "paper_id": "2212.1",
        "metadata": {"title": "On $\\beta$"},
        "abstract": paragraph("  We show $x_1$.\n", "Abstract"),
        "body_text": [
            {
                **paragraph("Found{{cite:abc}}, for {{formula:f}}  (Fig. REF ).", "I"),
                "cite_spans": spans,
            }
        ],
        "bib_entries": {},
        "ref_entries": {"f": {"latex": "k=3", "type": "formula"}, "g": {"caption": "c"}},
    }
    assert text_of(record) == "On β We show x_1. Found, for k=3 (Fig.)."
    last = list(read_fulltext(record).paragraphs())[-1]
    assert last == Paragraph(
        "I", "Found{{cite:abc}}, for {{formula:f}}  (Fig. REF ).", spans, {"f": "k=3"}
    )


def test_doc2jsons_id_cut_at_a_dot_is_told_by_the_file():
    record = {"paper_id": "2020", "title": "T", "pdf_parse": {"body_text": BODY}}
    assert read_fulltext(record, "2020.acl-main.207").paper_id == "2020.acl-main.207"
    assert read_fulltext(record, "2020").paper_id == "2020"
    assert read_fulltext({**record, "paper_id": "20"}, "2020.acl-main.207").paper_id == "20"


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"body": "x", "id": 3}, "there is no `text`, .* the fields are body, id"),
        ({}, "the fields are none"),
        ({"text": 17}, "`text` is the number 17; expected text or null"),
        ({"text": {"a": 1}}, "`text` is an object with 'a'; expected text or null"),
        ({"text": ["a", None]}, "part 2 of `text` is null; expected text"),
        ({"text": "a", "title": ["T"]}, "`title` is a list of 1; expected text or null"),
        ({"text": "a", "abstract": 3}, "`abstract` is the number 3"),
        ({"body_text": "text"}, "`body_text` is the text 'text'; expected a list of paragraphs"),
        ({"body_text": [{"section": "I"}]}, "paragraph 1 of `body_text` has null for `text`"),
        ({"body_text": ["a"]}, "paragraph 1 of `body_text` has the text 'a' for `text`"),
        ({"body_text": [], "metadata": "x"}, "`metadata` is the text 'x'; expected an object"),
        ({"body_text": [], "abstract": {"section": "A"}}, "paragraph 1 of `abstract` has null"),
        ({"body_text": None}, "there is no `text`"),
        ({"pdf_parse": {"body_text": 3}}, "`body_text` is the number 3; expected a list"),
    ],
)
def test_a_wrong_record_is_malformed_and_says_why(row, message):
    with pytest.raises(BadRow) as error:
        read_fulltext(row)
    result = error.value
    import re

    assert re.search(message, result.message)
