"""Which prompt goes before which text."""

import pytest

from sciembed_train.errors import UserError
from sciembed_train.text.prompts import named_prompt, paper_prompt, query_prompt, role_of

E5 = {"query": "query: ", "passage": "passage: "}


def test_names_stand_for_roles():
    assert role_of("query") == "query"
    assert {role_of(name) for name in ("document", "passage", "corpus")} == {"document"}
    assert role_of("Clustering") == role_of("STS") == "task"


@pytest.mark.parametrize(
    ("prompts", "default", "papers", "words"),
    [
        (E5, None, "passage: ", "query: "),
        ({"query": "q: "}, None, "", "q: "),  # of queries alone
        ({"query": "q: ", "document": ""}, "query", "", "q: "),
        ({"query": "q: "}, "query", "", "q: "),
        ({"document": "d: ", "passage": "p: "}, None, "d: ", "d: "),
        ({"STS": "s: "}, None, "", ""),
        ({"STS": "s: "}, "STS", "s: ", "s: "),
        ({"query": "", "document": "d: "}, None, "d: ", ""),
        ({}, None, "", ""),
    ],
)
def test_papers_get_that_of_documents_and_searches_that_of_queries(prompts, default, papers, words):
    assert paper_prompt(prompts, default) == papers
    assert query_prompt(prompts, papers) == words


def test_a_name_is_one_of_the_models():
    assert named_prompt(E5, "passage", "e5", "--prompt") == "passage: "
    assert named_prompt(E5, "none", "e5", "--prompt") == named_prompt({}, "none", "m", "-") == ""
    with pytest.raises(
        UserError, match=r"--prompt is 'STS', .* expected one of query, passage, none"
    ):
        named_prompt(E5, "STS", "e5", "--prompt")
    with pytest.raises(UserError, match="--prompt is 'query', but m has no prompts"):
        named_prompt({}, "query", "m", "--prompt")
