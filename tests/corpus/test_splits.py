import numpy as np
import pytest

from sciembed_train.corpus import row_blocks
from sciembed_train.corpus.splits import (
    assign_splits,
    check_disjoint,
    read_id_list,
    unknown_ids_error,
)
from sciembed_train.errors import UserError

IDS = [f"p{i}" for i in range(2000)]


def test_shares_are_held_out_by_a_hash_of_the_id():
    split = assign_splits(IDS, 0, 0.1, 0.2)
    assert abs((split == 1).sum() - 200) < 60
    assert abs((split == 2).sum() - 400) < 80
    assert assign_splits(IDS[::-1], 0, 0.1, 0.2)[::-1].tolist() == split.tolist()
    assert assign_splits(IDS, 1, 0.1, 0.2).tolist() != split.tolist()


def test_a_list_replaces_the_share_of_its_split():
    split = assign_splits(IDS, 0, 0.5, 0.2, {"dev": {"p1", "unknown"}})
    assert [i for i, number in enumerate(split) if number == 1] == [1]
    assert (split == 2).sum() > 300


def test_a_list_of_ids_is_read_line_by_line(tmp_path):
    path = tmp_path / "ids.txt"
    path.write_bytes(b" a \r\n\nb\n")
    assert read_id_list(path) == {"a", "b"}
    path.write_bytes(b"a\n\xff\n")
    with pytest.raises(UserError, match=r"ids\.txt:2: this is not UTF-8"):
        read_id_list(path)
    with pytest.raises(UserError, match="there is no such file"):
        read_id_list(tmp_path / "none.txt")


def test_an_id_in_two_lists_is_refused():
    check_disjoint({"dev": {"a"}, "test": {"b"}})
    with pytest.raises(UserError, match="1 ids are both dev and test queries, the first is 'b'"):
        check_disjoint({"dev": {"a", "b"}, "test": {"b"}})


def test_a_list_of_unknown_ids_is_named_with_its_first_id(tmp_path):
    error = unknown_ids_error(tmp_path / "dev.txt", {"y", "x"}, ["paper", "document"])
    assert "dev.txt: not one of its 2 ids is the id of a paper or document (the first is 'x')" in (
        str(error)
    )


def test_shares_do_not_depend_on_how_many_ids_are_hashed_together(monkeypatch):
    ids = [f"p{number}é" for number in range(50)]
    at_once = assign_splits(ids, 3, 0.2, 0.3)
    monkeypatch.setattr(row_blocks, "BLOCK", 7)
    assert np.array_equal(assign_splits(ids, 3, 0.2, 0.3), at_once)
    assert set(at_once.tolist()) == {0, 1, 2}
    assert not assign_splits(ids, 3, 0.0, 0.0).any()
