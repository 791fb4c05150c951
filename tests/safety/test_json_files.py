import pytest

from sciembed_train.errors import UserError
from sciembed_train.safety.json_files import read_json


@pytest.mark.parametrize("content", ["{", "[" * 100_000, "\x00"])
def test_what_is_no_json_is_said_with_the_file(content, tmp_path):
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(UserError, match=r"config\.json: is not valid JSON"):
        read_json(tmp_path / "config.json")


def test_a_file_that_is_not_there_is_said(tmp_path):
    with pytest.raises(UserError, match="cannot be read"):
        read_json(tmp_path / "config.json")
