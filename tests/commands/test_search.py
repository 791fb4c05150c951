import json

import pytest

from sciembed_train import cli
from tests.helpers.small_index import TITLES, write_index
from tests.helpers.tiny_models import write_tiny_bert


@pytest.fixture(scope="module")
def small(tiny_bert, tmp_path_factory):
    return write_index(tmp_path_factory.mktemp("index"), tiny_bert)


def test_nearest_papers_are_printed_with_ids_titles_and_scores(small, capsys):
    words = ["search", "--index", str(small.index), "--device", "cpu", "--top", "3"]
    assert cli.main([*words, TITLES[12]]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"Nearest to {TITLES[12]!r}:"
    assert len(lines) == 4
    assert lines[1].split()[0::2][:2] == ["1", "p12"]
    assert lines[1].endswith(TITLES[12])
    assert cli.main([*words, "--paper", "p12", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["similarity"] == "euclidean"
    assert [len(query["nearest"]) for query in told["queries"]] == [3]


def test_a_query_is_a_text_of_any_length_and_several_lines(small, capsys):
    words = ["search", f"{TITLES[3]}\n" + "word9 " * 200, "--index", str(small.index)]
    assert cli.main([*words, "--device", "cpu", "--top", "2"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 3


def test_an_index_of_another_model_is_exit_2_and_one_message(small, tmp_path, capsys):
    other = write_tiny_bert(tmp_path / "other", seed=1)
    words = ["search", "a text", "--index", str(small.index), "--model", str(other)]
    assert cli.main([*words, "--device", "cpu"]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.count("\n") == 1
    assert "is an index of another model" in printed.err
