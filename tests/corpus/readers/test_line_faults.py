import json

import pytest

from sciembed_train.corpus.readers.line_faults import json_problem


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('["a', "Unterminated string starting"),
        ('["a\tb"]', "Invalid control character"),
        ("[1 2]", "Expecting ',' delimiter"),
        ("[" * 100_000, "lists or objects stand within one another too deeply"),
        ("9" * 5000, "a number has too many digits"),
    ],
)
def test_a_fault_of_json_is_told_in_words_without_its_place(text, said):
    with pytest.raises((ValueError, RecursionError)) as error:
        json.loads(text)
    assert json_problem(error.value) == said
