# ruff: noqa: RUF001 - a Greek letter is what a formula becomes
import json

import pytest

from sciembed_train.encoder.encoder import Encoder
from sciembed_train.errors import UserError
from sciembed_train.text.input_format import InputFormat
from sciembed_train.text.tokenizer import TextTokenizer


@pytest.mark.parametrize(
    ("title", "abstract", "expected"),
    [
        ("a title", "an abstract", "a title[SEP]an abstract"),
        (" a title ", ["one.", " ", "two."], "a title[SEP]one. two."),
        ("a title", None, "a title"),
        (None, "an abstract", "an abstract"),
        ("", [], ""),
    ],
)
def test_title_and_abstract_are_joined_without_an_empty_field(title, abstract, expected):
    assert InputFormat().compose(title, abstract, "[SEP]") == expected


def test_separators_and_the_control_code_are_those_of_the_format():
    input_format = InputFormat(separator="space", sentences="sep", control_code="[PRX]")
    assert input_format.compose("t", ["a", "b"], "[SEP]") == "[PRX] t a[SEP]b"
    assert input_format.as_dict() == {
        "separator": "space",
        "sentences": "sep",
        "control_code": "[PRX]",
        "cleaning": "markup",
    }


def test_a_prompt_is_before_every_text_that_is_not_empty():
    form = InputFormat(prompt="passage: ")
    assert form.compose("t", "a", "[SEP]") == "passage: t[SEP]a"
    assert form.compose("", None, "[SEP]") == ""
    text, spans = form.compose_sentences("t", ["one.", "two."], "[SEP]")
    assert text == "passage: t[SEP]one. two."
    assert [text[a:b] for a, b in spans] == ["one.", "two."]
    assert InputFormat(prompt="p ", control_code="[PRX]").compose("t", None, "") == "p [PRX] t"
    assert InputFormat.recorded(form.as_dict()) == form
    assert "prompt" not in InputFormat().as_dict()
    assert "title_prompt" not in InputFormat().as_dict()
    titled = InputFormat(prompt="p: ", title_prompt="q: ")
    assert InputFormat.recorded(titled.as_dict()) == titled
    # Of papers and abstracts it is not; without one of their own, titles are read as these.
    assert titled.compose("A", "B", " ") == "p: A B"
    assert titled.of_titles().compose("A", None, " ") == "q: A"
    assert InputFormat(prompt="p: ").of_titles() == InputFormat(prompt="p: ")


@pytest.mark.parametrize("separator", ["sep", "space"])
def test_a_title_can_be_the_first_sentence(separator):
    form = InputFormat(separator=separator, prompt="passage: ", control_code="[PRX]")
    text, spans = form.compose_sentences("A t.", ["one.", "two."], "[SEP]", with_title=True)
    assert [text[a:b] for a, b in spans] == ["A t.", "one.", "two."]
    text, spans = form.compose_sentences("A t.", [], "[SEP]", with_title=True)
    assert [text[a:b] for a, b in spans] == ["A t."]
    text, spans = form.compose_sentences("", ["one."], "[SEP]", with_title=True)
    assert [text[a:b] for a, b in spans] == ["one."]


MARKUP = "The <i>E. coli</i> &amp; $\\alpha$ case"
CLEAN = "The E. coli & α case"


def test_markup_is_cleaned_before_title_and_abstract_are_joined():
    form = InputFormat()
    assert form.compose(MARKUP, MARKUP, "[SEP]") == f"{CLEAN}[SEP]{CLEAN}"
    text, spans = form.compose_sentences(MARKUP, [MARKUP, "\u200b", "<b>b</b>"], "[SEP]")
    assert text == f"{CLEAN}[SEP]{CLEAN} b"
    assert [text[a:b] for a, b in spans] == [CLEAN, "", "b"]


def test_what_only_says_that_there_is_none_is_no_field():
    form = InputFormat()
    assert form.compose("A title", "No abstract available.", "[SEP]") == "A title"
    assert form.compose("N/A", ["n/a"], "[SEP]") == ""
    assert form.compose_sentences("A title", ["N/A"], "[SEP]") == ("A title", [(7, 7)])


def test_a_recorded_format_without_cleaning_reads_the_raw_text():
    raw = InputFormat.recorded({"separator": "sep", "sentences": "joined", "control_code": ""})
    assert raw.cleaning == "none"
    assert raw.compose(MARKUP, "n/a", "[SEP]") == f"{MARKUP}[SEP]n/a"
    assert InputFormat.recorded(InputFormat().as_dict()) == InputFormat()


def test_the_token_store_is_another_one_where_the_cleaning_is(tiny_bert):
    tokenizer = TextTokenizer.load(tiny_bert)
    assert tokenizer.key(InputFormat()) != tokenizer.key(InputFormat(cleaning="none"))


def test_the_spans_of_sentences_leave_out_the_title_and_empty_sentences():
    text, spans = InputFormat().compose_sentences("one.", [" one. ", "", "two."], "[SEP]")
    assert [text[first:end] for first, end in spans] == ["one.", "two."]
    assert spans[0][0] == len("one.[SEP]")


@pytest.mark.parametrize("key", ["separator", "sentences"])
def test_a_format_that_is_not_built_is_refused_and_not_read_as_another(key, tiny_bert, tmp_path):
    Encoder.load(tiny_bert).save(tmp_path)
    record = json.loads((tmp_path / "sciembed.json").read_text())
    record["input_format"][key] = "newline"
    (tmp_path / "sciembed.json").write_text(json.dumps(record))
    with pytest.raises(UserError, match=rf"{key} is 'newline'; expected"):
        Encoder.load(tmp_path)
