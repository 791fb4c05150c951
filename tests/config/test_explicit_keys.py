"""Which settings of the encoder are the user's own, and which the recipe's."""

import pytest

from sciembed_train.config.explicit_keys import explicit_keys

RECIPE = """
model:
  class_path: sciembed_train.methods.specter.Specter
  init_args:
    encoder: {backbone: base, pooling: cls, input_format: {separator: sep}}
"""


@pytest.fixture
def write(tmp_path):
    def to(name, text):
        (tmp_path / name).write_text(text)
        return tmp_path / name

    return to


@pytest.mark.parametrize(
    ("words", "keys"),
    [
        ([], set()),
        (["--model.encoder.pooling", "mean"], {"pooling"}),
        (["--model.encoder.pooling=mean"], {"pooling"}),
        (["--model.init_args.encoder.pooling", "mean"], {"pooling"}),
        (["--model.encoder.input_format.separator", "space"], {"input_format.separator"}),
        (["--model.encoder.input_format", "{sentences: sep}"], {"input_format.sentences"}),
        (["--model", "{init_args: {encoder: {max_length: 9}}}"], {"max_length"}),
        (["--model.optim.lr", "1"], set()),
    ],
)
def test_the_words_of_the_command_line_are_the_users(write, words, keys):
    found = explicit_keys([write("recipe.yaml", RECIPE)], words)
    assert found.keys == keys
    assert found.recipe_backbone == "base"


def test_files_after_the_one_that_names_the_method_are_the_users(write):
    recipe = write("recipe.yaml", RECIPE)
    machine = write("machine.yaml", "trainer: {devices: 1}\nmodel: {encoder: {pooling: mix}}\n")
    own = write("own.yaml", "model: {init_args: {encoder: {pooling: mean, backbone: mine}}}\n")
    found = explicit_keys([machine, recipe, own], [])
    assert found.keys == {"pooling", "backbone"}
    assert found.recipe_backbone == "base"
    assert explicit_keys([machine, recipe], []).keys == frozenset()


def test_the_first_file_is_the_recipe_where_none_names_a_method(write):
    first = write("first.yaml", "model: {encoder: {backbone: base, pooling: mean}}\n")
    second = write("second.yaml", "model: {encoder: {max_length: 9}}\n")
    found = explicit_keys([first, second], [])
    assert (found.keys, found.recipe_backbone) == ({"max_length"}, "base")


def test_an_empty_file_and_no_file_set_nothing(write):
    for files in ([], [write("empty.yaml", "")]):
        found = explicit_keys(files, [])
        assert (found.keys, found.recipe_backbone) == (frozenset(), None)
