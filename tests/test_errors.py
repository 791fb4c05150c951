import os

from sciembed_train.errors import one_line, why_no_file


def test_what_is_there_in_place_of_a_file_is_said(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    assert why_no_file(tmp_path / "none") == "there is no such file"
    assert why_no_file(tmp_path / "none", "recipe") == "there is no such recipe"
    assert why_no_file(tmp_path) == "is a folder, and no file"
    assert "is a pipe or a device" in why_no_file(tmp_path / "pipe")
    assert "write what it gives to a file" in why_no_file("/dev/null")


def test_what_an_error_says_is_put_on_one_line():
    assert one_line(ValueError("first\n  second\t third ")) == "first second third"
