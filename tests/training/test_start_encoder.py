"""A run begins with what its start encoder is, unless the user sets otherwise."""

import pytest
import yaml

from sciembed_train.commands import fit
from sciembed_train.config.recipe_options import RecipeCommandLine
from sciembed_train.encoder.encoder import Encoder
from sciembed_train.encoder.settings import EncoderSettings
from sciembed_train.training.start_encoder import apply_start, settle_start, start_of_recipe

OWN = "model: {init_args: {encoder: {pooling: cls}}}\n"


def settled(command, *words):
    recipe = RecipeCommandLine(command, "", trains=command == "fit").read(list(words))
    settle_start(recipe)
    encoder = recipe.encoder
    return encoder.pooling, encoder.normalize, encoder.max_length


@pytest.mark.parametrize("command", ["fit", "show"])
@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([], ("mean", True, 256)),
        (["--model.encoder.pooling", "cls"], ("cls", True, 256)),
        (["--model.init_args.encoder.pooling=cls"], ("cls", True, 256)),
        (["--model.encoder.max-length", "400"], ("mean", True, 400)),
        (["--model.encoder.normalize", "false"], ("mean", False, 256)),
        (["--no-model.encoder.normalize"], ("mean", False, 256)),
        (["--no-model.encoder.keep-start"], ("cls", False, 512)),
        (["-c", "OWN"], ("cls", True, 256)),
        (["-c", "OWN", "--model.encoder.pooling", "mean"], ("mean", True, 256)),
    ],
)
def test_words_and_own_files_stand_above_the_start_and_it_above_the_recipe(
    command, words, expected, minilm, tmp_path
):
    (tmp_path / "own.yaml").write_text(OWN)
    words = [str(tmp_path / "own.yaml") if word == "OWN" else word for word in words]
    more = ["--model.encoder.backbone", str(minilm)]
    assert settled(command, "-c", "specter", *words, *more) == expected


def test_a_published_start_that_the_recipe_names_changes_nothing(monkeypatch, tiny_bert):
    from sciembed_train.encoder.io import start_model

    monkeypatch.setattr(start_model, "find_folder", lambda name: tiny_bert)
    for recipe in ("aspire_cocite_biomed_spec", "aspire_ot_biomed", "specter", "own_adapter"):
        line = RecipeCommandLine("fit", "", trains=True)
        assert start_of_recipe(line.read(["-c", recipe])).settings == {}
    words = ["-c", "specter", "--model.encoder.backbone", "johngiorgi/declutr-small"]
    assert settled("fit", *words) == ("mean", False, 512)


def test_what_is_settled_is_not_settled_again(minilm):
    words = ["-c", "specter", "--model.encoder.backbone", str(minilm)]
    recipe = RecipeCommandLine("fit", "", trains=True).read(words)
    encoder = recipe.namespace.model.init_args.encoder
    apply_start(encoder, start_of_recipe(recipe))
    assert start_of_recipe(recipe).settings == {}


def test_a_run_reports_and_records_what_its_start_decided(toy, tmp_path, capsys):
    start = str(tmp_path / "start")
    Encoder(EncoderSettings(str(toy.backbone), "mean", 64, normalize=True)).save(start)
    more = ["--model.encoder.backbone", start, "--model.encoder.pooling", "cls", "--no-export"]
    lengths = ["--trainer.max_steps", "1", "--root", str(tmp_path), "--run", "kept"]
    words = [word for word in toy.arguments(*lengths, *more) if word != "--quiet"]
    assert fit.main(words) == 0
    printed = capsys.readouterr().err
    assert "unit length (sciembed.json" in printed
    assert "warning: encoder.pooling is cls, by your setting" in printed
    saved = yaml.safe_load((tmp_path / "kept/config.yaml").read_text())
    encoder = saved["model"]["init_args"]["encoder"]
    assert (encoder["pooling"], encoder["normalize"], encoder["keep_start"]) == ("cls", True, False)
