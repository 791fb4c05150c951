import pytest

from sciembed_train.commands import fit
from sciembed_train.config.run_settings import RunSettings
from sciembed_train.errors import UserError
from sciembed_train.sampling.data_settings import DataSettings


def test_a_recipe_is_trained_and_the_code_of_a_signal_is_its_own(monkeypatch):
    seen = []
    monkeypatch.setattr(
        "sciembed_train.training.fit.fit", lambda recipe: seen.append(recipe) or (143, None)
    )
    words = ["-c", "specter", "--data.corpus", "corpus", "--data.batch_size", "8", "--run", "own"]
    assert fit.main(words) == 143
    (recipe,) = seen
    assert recipe.get(RunSettings).run == "own"
    assert recipe.get(DataSettings).batch_size == 8


def test_a_wrong_word_is_refused_before_torch_is_imported():
    with pytest.raises(UserError, match=r"data\.batch_size: Expected a int"):
        fit.main(["-c", "specter", "--data.batch_size", "many"])
