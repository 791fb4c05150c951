"""DeCLUTR from documents to an exported encoder, through the command line."""

import json

import pytest
import torch
import yaml

from sciembed_train.cli import main
from sciembed_train.commands import fit
from sciembed_train.encoder.encoder import Encoder
from sciembed_train.text.input_format import InputFormat
from tests.helpers.document_files import write_documents
from tests.helpers.runs import CONFIGS, finish, losses, rows, start
from tests.helpers.small_corpus import write_small_corpus

NO_MLM = ["--model.mlm_weight", "0", "--data.sampling.mlm_probability", "0"]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("declutr")
    write_documents(folder / "documents.jsonl", 60)
    return folder


@pytest.fixture
def words(place, tiny_bert):
    """The words of a run of 8 steps on the documents, validated in the middle and at the end."""

    def given(run, *more):
        return [
            *("-c", str(CONFIGS / "declutr_small.yaml")),
            *("--data.fulltexts", str(place / "documents.jsonl"), "--data.dev_share", "0.2"),
            *("--data.sampling.max_span", "16", "--data.sampling.min_span", "4"),
            *("--data.batch_size", "4", "--model.encoder.backbone", str(tiny_bert)),
            *("--model.encoder.max_length", "32", "--trainer.max_steps", "8"),
            *("--trainer.val_check_interval", "4", "--trainer.log_every_n_steps", "1"),
            *("--trainer.accelerator", "cpu", "--trainer.devices", "1"),
            *("--trainer.precision", "32-true", "--model.optim.lr", "1e-3"),
            *("--root", str(place / "runs"), "--run", run, "--quiet", *more),
        ]

    return given


@pytest.fixture(scope="module")
def done(place, tiny_bert):
    """Where the run of `words` ended, made once."""
    return place / "runs" / "whole"


def made(words, done):
    if not (done / "export").is_dir():
        assert fit.main(words("whole")) == 0
    return done


def test_one_command_from_documents_to_an_exported_masked_lm(words, done):
    from transformers import AutoModelForMaskedLM, pipeline

    run = made(words, done)
    assert {p.name for p in run.iterdir()} >= {"config.yaml", "last.ckpt", "best.ckpt", "export"}
    logged = rows(run)
    assert {"train/contrastive_loss", "train/mlm_loss"} <= logged[0].keys()
    scores = [row for row in logged if row["val/loss"]]
    assert len(scores) == 2
    for row in scores:
        total = float(row["val/contrastive_loss"]) + float(row["val/mlm_loss"])
        assert float(row["val/loss"]) == pytest.approx(total, rel=1e-6)
        assert 0 <= float(row["val/partner_accuracy"]) <= 1
    record = json.loads((run / "export" / "sciembed.json").read_text())
    assert record["pooling"] == "mean"
    assert record["similarity"] == "cosine"
    assert record["training"]["training_documents"] > 20
    _, info = AutoModelForMaskedLM.from_pretrained(run / "export", output_loading_info=True)
    assert not info["missing_keys"]
    guesses = pipeline("fill-mask", model=str(run / "export"))("word1 [MASK] word2")
    assert len(guesses) == 5


def test_the_best_checkpoint_is_chosen_by_the_score_that_is_asked_for(words, done, place):
    run = place / "runs" / "chosen"
    choice = ["--checkpoint.monitor", "val/partner_accuracy", "--no_export"]
    assert fit.main(words("chosen", *choice)) == 0
    assert losses(run) == losses(made(words, done))
    scores = {int(r["step"]): float(r["val/partner_accuracy"]) for r in rows(run) if r["val/loss"]}
    best = torch.load(run / "best.ckpt", weights_only=True)
    assert scores[best["global_step"]] == max(scores.values())


def test_a_run_that_was_stopped_goes_on_with_the_next_document(words, done, place):
    whole = made(words, done)
    stop = ["--trainer.callbacks", "tests.helpers.runs.StopAt", "--trainer.callbacks.step", "5"]
    assert fit.main(words("stopped", *stop)) == 143
    assert fit.main(words("stopped", "--ckpt_path", "last", "--no_export")) == 0
    assert losses(place / "runs" / "stopped") == losses(whole)


@pytest.mark.slow
def test_two_processes_make_the_same_run(words, done, place):
    """The same spans and masks; sums in another order, so equal to fp32's precision only."""
    again = ["--no_export", "--model.encoder.dropout", "0", "--data.batch_size", "8"]
    codes = [
        finish(start("fit", *words(f"world{n}", *again, "--trainer.devices", str(n))))
        for n in (1, 2)
    ]
    assert [code for code, _ in codes] == [0, 0], codes
    one, two = (losses(place / "runs" / f"world{n}") for n in (1, 2))
    assert one.keys() == two.keys()
    for step, loss in one.items():
        assert float(two[step]) == pytest.approx(float(loss), rel=1e-4)


def test_another_sampling_cannot_continue_a_run(words, done, place, capsys):
    run = made(words, done)
    other = words("whole", "--ckpt_path", "last", "--data.sampling.num_positives", "1")
    assert main(["fit", *other]) == 2
    assert (
        "trained on other documents: the corpus or data.sampling is not" in capsys.readouterr().err
    )
    assert run.is_dir()


def test_another_loss_cannot_continue_a_run(words, done, capsys):
    made(words, done)
    more = ["--ckpt_path", "last", "--trainer.max_steps", "12", "--no_export"]
    assert main(["fit", *words("whole", *more, "--model.temperature", "0.1")]) == 2
    assert "trained with model.init_args.temperature=0.05; now it is 0.1" in capsys.readouterr().err


def test_a_run_that_is_done_has_nothing_to_continue(words, done, capsys):
    run = made(words, done)
    before = (run / "last.ckpt").read_bytes()
    assert main(["fit", *words("whole", "--ckpt_path", "last")]) == 0
    assert "has made 8 steps and the run has 8: nothing is left" in capsys.readouterr().err
    assert (run / "last.ckpt").read_bytes() == before


def test_training_goes_on_from_an_export(words, done, place):
    export = made(words, done) / "export"
    again = ["--model.encoder.backbone", str(export), "--trainer.max_steps", "1"]
    assert fit.main(words("again", *again, "--model.optim.lr", "1e-12")) == 0
    before = Encoder.load(export, masked_lm=True).state_dict()
    after = Encoder.load(place / "runs" / "again" / "export", masked_lm=True).state_dict()
    assert before.keys() == after.keys()
    assert all((before[k] - after[k]).abs().max() < 1e-6 for k in before)


def test_an_export_is_fine_tuned_on_citations(words, done, place, tiny_bert):
    export = made(words, done) / "export"
    # The export records the separator that it was trained with, which its fine-tuning keeps.
    space = InputFormat(separator="space")
    write_small_corpus(place / "triplets", tiny_bert, input_format=space)
    code = fit.main(
        [
            *("-c", str(CONFIGS / "specter.yaml"), "--data.corpus", str(place / "triplets")),
            *("--model.encoder.backbone", str(export), "--model.encoder.pooling", "mean"),
            *("--model.encoder.max_length", "32", "--data.batch_size", "8"),
            *("--trainer.max_steps", "2", "--trainer.accelerator", "cpu"),
            *("--root", str(place / "runs"), "--run", "citations", "--quiet"),
        ]
    )
    assert code == 0
    assert (place / "runs" / "citations" / "export" / "model.safetensors").is_file()
    assert Encoder.load(place / "runs" / "citations" / "export").settings.input_format == space


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--data.papers", "x.jsonl"], "data.papers is not used by data.sampling SpanSampling"),
        (["--data.batch_size", "5000"], "fewer than one batch"),
        (["--data.sampling.max_span", "40", "--data.batch_size", "40"], "are shorter than 160 tok"),
        (["--data.sampling.max_span", "2"], "max_span must be min_span=4 or more; got 2"),
        (["--data.sampling.max_span", "512"], "Nothing to train on"),
        (["--model.mlm_weight", "0"], "mlm_probability still masks"),
        (["--model.contrastive_weight", "0"], "num_positives=2 spans of each anchor"),
        (["--model.temperature", "0"], "temperature must be above 0"),
        (["--checkpoint.monitor", "val/map"], "val/partner_accuracy"),
        ([*NO_MLM, "--checkpoint.monitor", "val/mlm_loss"], "with these settings are val/loss,"),
        ([*NO_MLM, "--early_stopping.monitor", "val/mlm_loss"], "with these settings are val"),
    ],
)
def test_a_mistake_is_told_in_one_message(words, capsys, more, said):
    assert main(["fit", *words("mistake", *more)]) == 2
    told = capsys.readouterr().err
    assert said in told
    assert told.count("\n") <= 2


def test_spans_for_a_method_on_triplets_are_refused(words, place, capsys):
    given = words("mixed")
    given[1] = str(place / "mixed.yaml")
    recipe = yaml.safe_load((CONFIGS / "declutr_small.yaml").read_text())
    recipe["model"]["class_path"] = "sciembed_train.methods.specter.Specter"
    for key in ("temperature", "contrastive_weight", "mlm_weight"):
        del recipe["model"]["init_args"][key]
    (place / "mixed.yaml").write_text(yaml.safe_dump(recipe))
    assert main(["fit", *given]) == 2
    assert "Specter trains on triplets" in capsys.readouterr().err


def test_show_spells_the_spans_out(place, tiny_bert, capsys):
    code = main(
        [
            *("show", "-c", str(CONFIGS / "declutr_small.yaml"), "--count", "2"),
            *("--data.sampling.max_span", "16", "--data.sampling.init_args.min_span=4"),
            *("--data.fulltexts", str(place / "documents.jsonl")),
            *("--model.encoder.backbone", str(tiny_bert), "--cache", str(place / "cache")),
        ]
    )
    out = capsys.readouterr().out
    assert code == 0
    assert out.count("document d") == 2
    assert out.count("positive of anchor 2") == 4
    assert "[MASK]" in out
