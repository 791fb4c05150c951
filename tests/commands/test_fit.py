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


@pytest.mark.parametrize("recipe", ["specter2_adapters", "aspire_ot_compsci"])
def test_methods_of_several_formats_or_of_sentences_have_no_nested_losses(recipe):
    words = ["-c", recipe, "--data.corpus", "/nowhere", "--model.matryoshka_dims", "[8]"]
    with pytest.raises(UserError, match="'matryoshka_dims' is not accepted"):
        fit.main(words)
