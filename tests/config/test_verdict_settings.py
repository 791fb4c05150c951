import pytest

from sciembed_train.config.recipe_options import RecipeCommandLine
from sciembed_train.config.verdict_settings import VerdictSettings
from sciembed_train.errors import UserError


def parsed(tmp_path, content="", *words):
    path = tmp_path / "mine.yaml"
    path.write_text(content or "{}\n")
    line = RecipeCommandLine("fit", "", trains=True)
    recipe = line.read(
        ["-c", "own_citations", "-c", str(path), "--model.encoder.backbone", "x", *words]
    )
    return recipe.get(VerdictSettings)


@pytest.mark.parametrize(
    ("content", "active"),
    [("", True), ("verdict: auto\n", True), ("verdict: off\n", False), ("verdict: 'off'\n", False)],
)
def test_a_plain_off_in_yaml_is_off(tmp_path, content, active):
    assert parsed(tmp_path, content).active is active


def test_the_command_line_stands_above_the_recipe(tmp_path):
    content = "verdict: off\nguards: [a, b]\nalphas: [0.5]\n"
    settings = parsed(tmp_path, content, "--verdict", "auto", "--guards", "c", "--resamples", "10")
    assert settings.active
    assert (settings.folders, settings.alphas, settings.resamples) == (["c"], [0.5], 10)
    assert parsed(tmp_path, content).folders == ["a", "b"]
    assert parsed(tmp_path).folders == []
    assert parsed(tmp_path).alphas is None


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"alphas": []}, "alphas is"),
        ({"alphas": [0.0, 1.0]}, "shares above 0 and at most 1"),
        ({"alphas": [1.1]}, "shares above 0 and at most 1"),
        ({"resamples": 0}, "resamples must be 1 or more; got 0"),
    ],
)
def test_values_out_of_range_are_refused(values, message):
    with pytest.raises(UserError, match=message):
        VerdictSettings(**values)


def test_published_models_are_exported_as_trained():
    line = RecipeCommandLine("fit", "", trains=True)
    for recipe in ("specter", "specter2_base", "aspire_cocite_compsci_spec"):
        read = line.read(["-c", recipe, "--model.encoder.backbone", "x"])
        assert list(read.get(VerdictSettings).alphas) == [1.0]
