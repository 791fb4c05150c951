import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sciembed_train.text.document_parts import is_byte_level, split_at_spaces, splits_at_spaces
from tests.helpers.tokenizers import TOKENIZERS, WORDS, load_once


@pytest.mark.parametrize("fixture", TOKENIZERS)
@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(words=st.lists(WORDS, min_size=1, max_size=40), size=st.integers(1, 30))
def test_a_text_in_parts_has_the_ids_of_the_whole(request, fixture, words, size):
    tokenizer = load_once(request.getfixturevalue(fixture))
    assert tokenizer._splits_at_spaces
    text = " ".join(words)
    parts = list(split_at_spaces(text, size))
    assert "".join(parts) == text
    assert [word for part in parts for word in part.split(" ") if word] == words
    whole, *rest = (
        [i for e in tokenizer._plain.encode_batch(p, add_special_tokens=False) for i in e.ids]
        for p in ([text], parts)
    )
    assert rest == [whole]


def test_a_text_without_spaces_is_one_part():
    assert list(split_at_spaces("a" * 100, 10)) == ["a" * 100]
    assert list(split_at_spaces("", 10)) == [""]


METASPACE = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": True}
ACROSS_WORDS = {"content": "new york", "special": False, "rstrip": False}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, True),
        ({"added_tokens": [ACROSS_WORDS]}, False),
        ({"pre_tokenizer": None}, False),
        ({"pre_tokenizer": METASPACE | {"split": False}}, False),
        ({"pre_tokenizer": METASPACE}, True),
        ({"pre_tokenizer": METASPACE, "normalizer": {"type": "Prepend", "prepend": "_"}}, False),
    ],
)
def test_only_tokenizers_that_separate_words_first_get_parts(tiny_bert, changes, expected):
    tokenizer = json.loads((tiny_bert / "tokenizer.json").read_text())
    assert splits_at_spaces(tokenizer | changes) == expected


def test_a_byte_level_step_is_seen_within_a_sequence(tiny_bert, tiny_roberta):
    bert, roberta = (
        json.loads((folder / "tokenizer.json").read_text()) for folder in (tiny_bert, tiny_roberta)
    )
    assert not is_byte_level(bert)
    assert is_byte_level(roberta)
    nested = {"type": "Sequence", "pretokenizers": [METASPACE, roberta["pre_tokenizer"]]}
    assert is_byte_level(bert | {"pre_tokenizer": nested})
