"""A run begins with what its start encoder is, unless the user sets otherwise."""

import json

import pytest
import yaml

from sciembed_train.cli import main as train
from sciembed_train.commands import fit
from sciembed_train.config.recipe_options import RecipeCommandLine
from sciembed_train.encoder.encoder import Encoder
from sciembed_train.encoder.settings import EncoderSettings
from sciembed_train.sampling.base import format_example
from sciembed_train.text.input_format import InputFormat
from sciembed_train.training.configuration import RunConfiguration
from sciembed_train.training.start_encoder import apply_start, settle_start, start_of_recipe
from tests.helpers.paper_files import write_paper_files
from tests.helpers.prompted_models import PROMPTS, write_prompted

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


@pytest.mark.slow
def test_a_resumed_run_keeps_what_was_settled_when_it_began(toy, tmp_path, capsys):
    start = tmp_path / "start"
    encoder = EncoderSettings(str(toy.backbone), "mean", 20, normalize=True)
    Encoder(encoder).save(start)
    words = [
        *("-c", "specter", "--data.corpus", str(toy.corpus), "--data.batch_size", "8"),
        *("--model.encoder.backbone", str(start), "--root", str(tmp_path), "--run", "kept"),
        *("--trainer.accelerator", "cpu", "--trainer.precision", "32-true", "--no_export"),
    ]
    assert fit.main([*words, "--trainer.max_steps", "1"]) == 0
    # Who starts anew takes what the folder says now, and a run goes on as it was.
    changed = json.loads((start / "sciembed.json").read_text()) | {"max_length": 9}
    (start / "sciembed.json").write_text(json.dumps({**changed, "pooling": "cls"}))
    assert settled("fit", *words) == ("cls", True, 9)
    assert fit.main([*words, "--trainer.max_steps", "2", "--ckpt_path", "last"]) == 0
    saved = yaml.safe_load((tmp_path / "kept/config.yaml").read_text())
    encoder = saved["model"]["init_args"]["encoder"]
    assert (encoder["pooling"], encoder["normalize"], encoder["max_length"]) == ("mean", True, 20)
    capsys.readouterr()
    length = ["--model.encoder.max_length", "30", "--trainer.max_steps", "3"]
    assert fit.main([*words, *length, "--ckpt_path", "last"]) == 0
    saved = yaml.safe_load((tmp_path / "kept/config.yaml").read_text())
    encoder = saved["model"]["init_args"]["encoder"]
    assert (encoder["pooling"], encoder["max_length"]) == ("mean", 30)


def test_prepare_show_and_fit_read_the_same_texts(tiny_bert, tmp_path, capsys):
    write_paper_files(tmp_path)
    space = InputFormat(separator="space")
    Encoder(EncoderSettings(str(tiny_bert), "mean", 5, space)).save(tmp_path / "start")
    start = ["-c", "specter", "--model.encoder.backbone", str(tmp_path / "start")]
    files = ["--data.papers", str(tmp_path / "papers.jsonl")]
    files += ["--data.citations", str(tmp_path / "citations.csv")]
    root = ["--root", str(tmp_path / "runs"), "--data.batch_size", "8"]
    assert train(["prepare", *start, *files, "--to", str(tmp_path / "corpus")]) == 0
    capsys.readouterr()
    prepared = ["--data.corpus", str(tmp_path / "corpus")]
    shown = []
    for source in (prepared, files):
        assert train(["show", *start, *source, *root, "--count", "4"]) == 0
        first, _, rest = capsys.readouterr().out.partition("\n")
        assert "12 steps" in first or "steps of 8" in first
        shown.append(rest)
    assert shown[0] == shown[1]
    texts = [line.strip() for line in shown[0].splitlines() if line.strip().startswith("[CLS]")]
    assert len(texts) == 12
    assert all(1 <= text.count("word") <= 3 for text in texts)  # 5 tokens, [CLS] and [SEP] among
    assert all("[SEP]" not in text.removesuffix("[SEP]") for text in texts)
    for source in (prepared, files):
        words = [*start, *source, *root, "--run", "new", "--trainer.accelerator", "cpu"]
        run = RunConfiguration(RecipeCommandLine("fit", "", trains=True).read(words), fitting=True)
        assert (run.encoder.max_length, run.encoder.input_format) == (5, space)
        for example in run.examples.describe(run.data.corpus, run.plan, 4):
            assert format_example(example, run.data.tokenization.tokenizer.hf.decode) in shown[0]
    assert len(list((tmp_path / "runs/.cache").glob("*/corpus.json"))) == 1


def test_papers_are_trained_and_exported_behind_the_prompt_of_the_start(tiny_bert, tmp_path):
    write_paper_files(tmp_path)
    start = write_prompted(tiny_bert, tmp_path / "start")
    words = ["-c", "specter", "--model.encoder.backbone", str(start)]
    words += ["--data.papers", str(tmp_path / "papers.jsonl")]
    words += ["--data.citations", str(tmp_path / "citations.csv")]
    words += ["--root", str(tmp_path / "runs"), "--data.batch_size", "8", "--run", "new"]
    words += ["--trainer.accelerator", "cpu", "--trainer.max_steps", "1", "--verdict", "off"]
    words += ["--trainer.precision", "32-true", "--trainer.devices", "1"]
    run = RunConfiguration(RecipeCommandLine("fit", "", trains=True).read(words), fitting=True)
    tokenizer = run.data.tokenization.tokenizer
    prompt = tokenizer.encode([PROMPTS["passage"].strip()])[0]
    batch = run.examples.batch(run.plan.indices(0), 0, 0)
    for ids in batch.rows.ids.split(batch.rows.lengths.tolist()):
        assert ids[1 : 1 + len(prompt)].tolist() == prompt
    assert fit.main([*words, "--quiet"]) == 0
    exported = Encoder.load(tmp_path / "runs/new/export")
    assert exported.settings.input_format.prompt == PROMPTS["passage"]
    assert exported.settings.prompts == PROMPTS
    about = tmp_path / "runs/new/export/config_sentence_transformers.json"
    assert json.loads(about.read_text())["default_prompt_name"] == "document"
