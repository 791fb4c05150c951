import pytest

from sciembed_train.config.recipe_options import RecipeCommandLine
from sciembed_train.config.validation_settings import ValidationSettings
from sciembed_train.errors import UserError


def parsed(tmp_path, content="{}\n", *words):
    path = tmp_path / "mine.yaml"
    path.write_text(content)
    backbone = ("--model.encoder.backbone", "x")
    line = RecipeCommandLine("fit", "", trains=True)
    return line.read(["-c", "specter", "-c", str(path), *backbone, *words]).get(ValidationSettings)


def test_nothing_is_scored_unless_it_is_named(tmp_path):
    assert parsed(tmp_path).places == []


def test_places_come_from_a_recipe_and_the_command_line_once_each(tmp_path):
    assert parsed(tmp_path, "validation: [citations, a]\n").places == ["citations", "a"]
    assert parsed(tmp_path, "{}\n", "--validation", "citations").places == ["citations"]
    words = ("--validation", "[a, title_abstract, a]", "--validation_sample", "100")
    settings = parsed(tmp_path, "validation: [citations]\n", *words)
    assert settings.places == ["a", "title_abstract"]
    assert settings.validation_sample == 100


@pytest.mark.parametrize("key", ["validation_sample", "validation_seed"])
def test_numbers_below_zero_are_refused(key):
    with pytest.raises(UserError, match=f"{key} must be 0 or more; got -1"):
        ValidationSettings(**{key: -1})
