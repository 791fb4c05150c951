import pytest

from sciembed_train.config.messages import own_message, shorten, unknown_key
from sciembed_train.errors import UserError
from sciembed_train.losses.triplet import triplet_margin

LONG = """Parser key "model":
  Does not validate against any of the Union subtypes
  Subtypes: [<class 'a.Method'>, <class 'NoneType'>]
  Errors:
    - Problem with given class_path 'a.Specter':
        Group 'encoder' does not accept option 'poolng'
    - Expected a <class 'NoneType'>
  Given value type: <class 'dict'>
  Given value: {'class_path': 'a.Specter'}
"""


def test_a_message_is_one_line_with_the_place(tmp_path):
    recipe = tmp_path / "r.yaml"
    recipe.write_text("model:\n  init_args:\n    encoder:\n      poolng: cls\n")
    assert shorten(LONG, ["-c", str(recipe)]) == (
        f"{recipe}:4: model: Problem with given class_path 'a.Specter': "
        "Group 'encoder' does not accept option 'poolng'"
    )


def test_a_key_of_the_command_line_is_not_looked_for_in_files(tmp_path):
    recipe = tmp_path / "r.yaml"
    recipe.write_text("data:\n  batch_size: 8\n")
    message = "Parser key \"data.batch_size\":\n  Expected a <class 'int'>. Got value: x"
    words = ["-c", str(recipe), "--data.batch_size", "x"]
    assert shorten(message, words) == "data.batch_size: Expected a int. Got value: x"
    assert shorten(message, words[:2]).startswith(f"{recipe}:2: ")
    recipe.write_text("data:\n  class_path: a.B\n")
    message = "Parser key \"data\":\n  Problem with given class_path 'a.B':\n"
    message += "    Option 'x' is not accepted"
    assert shorten(message, [*words[:2], "--data.x", "1"]).startswith("data: Problem with")


def test_our_own_words_are_found_below_a_librarys():
    def wrapped(raiser):
        try:
            try:
                raiser()
            except ValueError as error:
                raise ValueError("a library's long story") from error
        except ValueError as error:
            return error

    def user_error():
        raise UserError("mend this")

    def elsewhere():
        int("x")

    import torch

    assert own_message(wrapped(user_error)) == "mend this"
    assert "margin" in own_message(wrapped(lambda: triplet_margin(*torch.zeros(2, 1), margin=-1.0)))
    assert own_message(wrapped(elsewhere)) is None


def test_a_config_without_settings_is_refused(tmp_path):
    from sciembed_train.config.messages import check_files

    (tmp_path / "a.yaml").write_bytes(b"a: \xff")
    with pytest.raises(UserError, match=r"a\.yaml: is no UTF-8 text"):
        check_files([tmp_path / "a.yaml"])


def test_the_key_that_is_not_known_is_found_in_a_message():
    assert unknown_key(LONG) == "poolng"
    assert unknown_key("unrecognized arguments: --data.batchsize") == "data.batchsize"
    below = "Problem with given class_path 'a.B':\n  Option 'maxlength' is not accepted"
    assert unknown_key(below) == "maxlength"
    assert unknown_key("Expected a <class 'int'>. Got value: x") is None
