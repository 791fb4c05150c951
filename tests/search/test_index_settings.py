import pytest

from sciembed_train.errors import UserError
from sciembed_train.search.index_settings import IndexSettings, SearchSettings


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"top": 0}, "--top is 0; expected a number from 1 to 1000"),
        ({"port": 70000}, "--port is 70000"),
        ({"device": "gpu"}, "--device is 'gpu'"),
        ({"max_bad_rows": -1}, "--max-bad-rows is -1"),
        ({"query": None}, "Give one of these"),
        ({"query": " \n"}, "The query is blank"),
        ({"paper": "W1"}, "Give one of these"),
        ({"page": True}, "Give one of these"),
    ],
)
def test_what_cannot_be_searched_for_is_refused(settings, message):
    with pytest.raises(UserError, match=message):
        SearchSettings("index", **{"query": "a text", **settings})


def test_an_index_of_an_unknown_kind_is_refused():
    with pytest.raises(UserError, match="--kind is 'tree'; expected flat, ivf or hnsw"):
        IndexSettings("v", "i", kind="tree")
