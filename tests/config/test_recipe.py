import pytest

from sciembed_train.config.recipe import recipe_settings
from sciembed_train.corpus.mining.triplet_mining import TripletMining
from sciembed_train.errors import UserError
from sciembed_train.text.input_format import InputFormat


def write(path, text):
    path.write_text(text)
    return path


RECIPE = """
seed_everything: 7
data:
  class_path: sciembed_train.sampling.data_module.TrainingData
  init_args:
    batch_size: 32
    dev_share: 0.1
    seed: 3
    triplets: {per_query: 4, hard: 1}
model:
  class_path: sciembed_train.methods.specter.Specter
  init_args:
    encoder:
      class_path: sciembed_train.encoder.encoder.EncoderSettings
      init_args:
        backbone: some/folder
        input_format: {separator: space}
"""


@pytest.mark.parametrize("classes", [True, False])
def test_a_recipe_says_what_to_mine_and_how_to_tokenise(tmp_path, classes):
    text = RECIPE
    if not classes:
        text = """
data:
  dev_share: 0.1
  seed: 3
  triplets: {per_query: 4, hard: 1}
model:
  encoder: {backbone: some/folder, input_format: {separator: space}}
"""
    assert recipe_settings([write(tmp_path / "r.yaml", text)]) == {
        "dev_share": 0.1,
        "seed": 3,
        "triplets": TripletMining(per_query=4, hard=1),
        "input_format": InputFormat(separator="space"),
        "tokenizer": "some/folder",
    }


def test_later_recipes_stand_above_earlier_ones(tmp_path):
    first = write(tmp_path / "a.yaml", RECIPE)
    second = write(tmp_path / "b.yaml", "data: {seed: 4, triplets: {hard: 2}}\ntrainer: {}\n")
    found = recipe_settings([first, second])
    assert found["seed"] == 4
    assert found["triplets"] == TripletMining(per_query=4, hard=2)
    assert found["tokenizer"] == "some/folder"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("data: {triplets: {hardness: 2}}", "data.triplets has the unknown key 'hardness'"),
        ("data: {triplets: {hard: two}}", "data.triplets.hard is 'two'; expected int, such as 2"),
        ("data: {triplets: {require_hard: 1}}", "require_hard is 1; expected bool"),
        ("data: {dev_share: much}", "dev_share is 'much'; expected a number"),
        ("data: {seed: 1.5}", "seed is 1.5; expected an integer"),
        ("data: [", "is no YAML"),
        ("just text", "is no recipe"),
        (
            "model: {encoder: {input_format: {separator: tab}}}",
            "separator is 'tab'; it is one of sep, space",
        ),
    ],
)
def test_a_wrong_recipe_is_refused_with_the_key(tmp_path, text, message):
    with pytest.raises(UserError, match=message):
        recipe_settings([write(tmp_path / "r.yaml", text)])


def test_a_missing_recipe_is_refused(tmp_path):
    with pytest.raises(UserError, match="cannot be read"):
        recipe_settings([tmp_path / "none.yaml"])


@pytest.mark.parametrize(("pooling", "wanted"), [("sentences", True), ("cls", False)])
def test_pooling_by_sentences_asks_for_tokens_of_sentences(tmp_path, pooling, wanted):
    path = tmp_path / "r.yaml"
    path.write_text(f"model: {{init_args: {{encoder: {{pooling: {pooling}, backbone: b}}}}}}\n")
    assert recipe_settings([path]) == {"tokenizer": "b", "sentence_tokens": wanted}
