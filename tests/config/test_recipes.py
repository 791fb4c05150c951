import pytest

from sciembed_train.config import recipes
from sciembed_train.config.recipes import (
    describe_recipe,
    find_recipe,
    shipped_machines,
    shipped_recipes,
    split_recipes,
)
from sciembed_train.errors import UserError


def test_a_path_comes_before_a_shipped_recipe(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert find_recipe("specter").parts[-2:] == ("configs", "specter.yaml")
    assert find_recipe("specter.yaml") == find_recipe("specter")
    assert find_recipe("machine/cpu").parts[-3:] == ("configs", "machine", "cpu.yaml")
    (tmp_path / "specter").write_text("data: {}\n")
    assert str(find_recipe("specter")) == "specter"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("spector", r"spector: cannot be read: .* Did you mean specter\?"),
        ("zebra.yaml", "zebra.yaml: cannot be read: .*`recipes` lists"),
        ("../pyproject", "no such file"),
        (".", "it is a folder"),
    ],
)
def test_a_recipe_that_does_not_exist_is_refused(name, message):
    with pytest.raises(UserError, match=message):
        find_recipe(name)


def test_a_wheel_carries_recipes_inside_the_package(tmp_path, monkeypatch):
    (tmp_path / "configs" / "machine").mkdir(parents=True)
    (tmp_path / "configs" / "specter.yaml").write_text("# Ours, A et al. (2020). Expect: more.\n")
    (tmp_path / "configs" / "machine" / "tpu.yaml").write_text("trainer: {}\n")
    monkeypatch.setattr(recipes, "FOLDERS", (tmp_path / "none", tmp_path / "configs"))
    assert shipped_recipes() == {"specter": tmp_path / "configs" / "specter.yaml"}
    assert list(shipped_machines()) == ["machine/tpu"]
    assert describe_recipe(find_recipe("specter")) == "Ours, A et al. (2020)"


def test_every_shipped_recipe_is_described_in_a_line():
    assert {"specter", "declutr_small", "specter2_adapters"} <= set(shipped_recipes())
    described = {name: describe_recipe(path) for name, path in shipped_recipes().items()}
    assert described["specter"] == "SPECTER, Cohan et al. (2020)"
    assert all(10 < len(text) <= 100 for text in described.values()), described
    assert all(10 < len(describe_recipe(path)) <= 100 for path in shipped_machines().values())


def test_recipes_are_split_from_the_other_words():
    given = ["-c", "a.yaml", "--x", "1", "--config", "b.yaml", "--config=c.yaml"]
    assert split_recipes(given) == (["a.yaml", "b.yaml", "c.yaml"], ["--x", "1"])
    assert split_recipes([]) == ([], [])
    with pytest.raises(UserError, match="-c needs a recipe"):
        split_recipes(["--x", "-c"])
