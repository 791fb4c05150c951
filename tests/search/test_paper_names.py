import numpy as np
import pytest

from sciembed_train.errors import UserError
from sciembed_train.search import paper_names
from sciembed_train.search.paper_names import PaperNames, write_names, write_titles


def test_papers_are_found_by_row_and_by_id(tmp_path):
    ids = [f"W{n}" for n in np.random.default_rng(0).permutation(500)] + ["é", "日本", ""]
    write_names(tmp_path, ids, tmp_path)
    names = PaperNames(tmp_path)
    assert len(names) == 503
    assert [names.id(row) for row in range(503)] == ids
    assert [names.row(paper_id) for paper_id in ids] == list(range(503))
    assert names.row("W500") is None
    assert names.title(7) == ""


@pytest.mark.parametrize("backwards", [False, True])
def test_titles_come_in_any_order_and_others_are_left_out(tmp_path, backwards):
    ids = ["a", "b", "c", "d"]
    write_names(tmp_path, ids, tmp_path)
    titles = [("a", "Ä <b>"), ("x", "unknown"), ("b", ""), ("d", "the last")]
    names, titled = write_titles(tmp_path, titles[::-1] if backwards else titles)
    assert titled == 2
    assert [names.title(row) for row in range(4)] == ["Ä <b>", "", "", "the last"]


def test_ids_of_one_hash_are_told_apart_and_an_id_given_twice_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(paper_names, "_hash", lambda paper_id: 7)
    names = write_names(tmp_path, ["a", "b", "c"], tmp_path)
    assert [names.row(paper_id) for paper_id in "abcd"] == [0, 1, 2, None]
    monkeypatch.undo()
    with pytest.raises(UserError, match="two vectors of the paper 'a'"):
        write_names(tmp_path, ["a", "b", "a"], tmp_path)


def test_no_titles_at_all_can_be_opened(tmp_path):
    write_names(tmp_path, ["", "a"], tmp_path)
    assert PaperNames(tmp_path).title(1) == ""
