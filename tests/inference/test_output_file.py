import json

import pytest

from sciembed_train.errors import UserError
from sciembed_train.inference.output_file import whole_file, writable, write_json


def test_a_writable_target_leaves_no_trace_but_its_folder(tmp_path):
    target = tmp_path / "new" / "results.json"
    assert writable(target) == target
    assert list((tmp_path / "new").iterdir()) == []


def test_a_folder_or_a_file_in_the_path_is_refused_by_the_options_name(tmp_path):
    with pytest.raises(UserError, match=r"--picture .* is a folder"):
        writable(tmp_path, "--picture")
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"--to .* cannot be written"):
        writable(tmp_path / "file" / "results.json")


def test_json_replaces_an_earlier_file_whole(tmp_path):
    target = tmp_path / "results.json"
    write_json(target, {"a": "x" * 1000})
    write_json(target, {"name": "Café"})
    assert json.loads(target.read_text(encoding="utf-8")) == {"name": "Café"}
    assert "Café" in target.read_text(encoding="utf-8")
    assert [path.name for path in tmp_path.iterdir()] == ["results.json"]


def test_after_an_error_there_is_no_file_and_the_one_of_before_stays(tmp_path):
    def half():
        with whole_file(tmp_path / "a.txt") as file:
            file.write("half")
            raise KeyError

    for before in ([], ["a.txt"]):
        with pytest.raises(KeyError):
            half()
        assert [path.name for path in tmp_path.iterdir()] == before
        with whole_file(tmp_path / "a.txt") as file:
            file.write("whole")
            assert [path.name for path in tmp_path.glob("a.txt")] == before
        assert (tmp_path / "a.txt").read_text() == "whole"
