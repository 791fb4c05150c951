import json

import pytest

from sciembed_train.encoder.encoder import Encoder
from sciembed_train.errors import UserError
from sciembed_train.text.input_format import InputFormat


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
    }


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
