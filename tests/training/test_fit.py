import json
import os
import shutil
import subprocess
import sys

import pytest
import torch
import yaml

from sciembed_train import cli
from sciembed_train.commands import fit, validate
from sciembed_train.errors import UserError
from tests.helpers.runs import ROOT, STEPS, losses, rows


def test_a_run_has_its_files_and_is_not_overwritten(toy, whole, capsys):
    assert {path.name for path in whole.iterdir()} == {
        *("config.yaml", "metrics.csv", "report.html", "last.ckpt", "best.ckpt")
    }
    config = yaml.safe_load((whole / "config.yaml").read_text())
    assert config["run"] == "whole"
    assert config["data"]["batch_size"] == 8
    # What `auto` meant on this machine.
    assert config["model"]["init_args"]["encoder"]["attention"] == "by_text"
    assert cli.main(["fit", *toy.arguments("--run", "whole")]) == 2
    assert "--ckpt_path last" in capsys.readouterr().err


def test_the_table_has_the_promised_columns(whole):
    train = next(row for row in rows(whole) if row["train/loss"])
    names = ["loss", "lr", "grad_norm", "active_share", "tokens_per_second", "data_time_share"]
    for name in [*names, "peak_memory_gb", "useful_token_share", "negatives"]:
        assert float(train[f"train/{name}"]) >= 0
    assert float(train["train/tokens_per_second"]) > 0
    assert 0 < float(train["train/active_share"]) <= 1


def test_the_best_checkpoint_has_the_best_score(whole):
    scores = {int(r["step"]): float(r["val/loss"]) for r in rows(whole) if r["val/loss"]}
    best = torch.load(whole / "best.ckpt", weights_only=True)
    assert best["sciembed"]["training"]["steps"] == min(scores, key=scores.__getitem__)
    assert best["global_step"] == best["sciembed"]["training"]["steps"]


def test_another_score_can_say_which_is_best(toy):
    more = ["--run", "by_mrr", "--checkpoint.monitor", "val/mrr", "--trainer.max_steps", "30"]
    assert fit.main(toy.arguments(*more)) == 0
    run = toy.root / "by_mrr"
    scores = {int(r["step"]): float(r["val/mrr"]) for r in rows(run) if r["val/mrr"]}
    best = torch.load(run / "best.ckpt", weights_only=True)["global_step"]
    assert scores[best] == max(scores.values())


def test_a_short_width_is_validated_and_can_choose_the_best_step(toy, capsys):
    more = ["--model.matryoshka_dims", "[32, 4]", "--checkpoint.monitor", "val/map_4"]
    words = [word for word in toy.arguments("--run", "short", *more) if word != "--no_export"]
    words[words.index("--quiet")] = "--trainer.enable_progress_bar=false"
    capsys.readouterr()
    words += ["--trainer.max_steps", "30", "--early_stopping.monitor", "val/map_4"]
    assert fit.main(words) == 0
    said = capsys.readouterr().err
    run = toy.root / "short"
    table = {int(row["step"]): row for row in rows(run) if row["val/map"]}
    assert all(row["val/map_32"] == row["val/map"] for row in table.values())
    shorter = {step: float(row["val/map_4"]) for step, row in table.items()}
    best = torch.load(run / "best.ckpt", weights_only=True)["global_step"]
    assert shorter[best] == max(shorter.values()) != float(table[best]["val/map"])
    report = (run / "report.html").read_text()
    assert "map_4 by step" in report
    assert "val/map_4 is best" in report
    full = float(table[best]["val/map"])
    share = f"val/map_4 {shorter[best]:.4f} ({shorter[best] / full:.1%} of it)"
    assert f"widths:  val/map {full:.4f}, val/map_32 {full:.4f} (100.0% of it), {share}" in said
    # The first numbers of what the export gives, ranked by the checkpoint's own validation.
    words = toy.arguments("--ckpt_path", str(run / "best.ckpt"), *more, "--json")
    words = [word for word in words if word not in ("--no_export", "--quiet")]
    assert validate.main(words) == 0
    scores = json.loads(capsys.readouterr().out)
    assert scores["val/map_4"] == pytest.approx(shorter[best], abs=1e-5)


def test_training_lowers_the_loss_of_its_own_triplets(toy, whole):
    found = [float(v) for _, v in sorted(losses(whole).items())]
    assert sum(found[-12:]) < 0.9 * sum(found[:12])


def test_early_stopping_ends_the_run(toy):
    stop = ["--early_stopping.patience", "1", "--early_stopping.min_delta", "100"]
    assert fit.main(toy.arguments("--run", "early", *stop)) == 0
    assert max(losses(toy.root / "early")) == 20


def test_the_held_out_ranking_chooses_the_best_step_and_ends_the_run(toy):
    by_map = ["--checkpoint.monitor", "val/map", "--early_stopping.monitor", "val/map"]
    more = ["--run", "by_map", *by_map, "--early_stopping.patience", "1"]
    assert fit.main(toy.arguments(*more)) == 0
    run = toy.root / "by_map"
    maps = {int(row["step"]): float(row["val/map"]) for row in rows(run) if row["val/map"]}
    *before, last = maps
    best = -1.0
    for step in before:  # each was better than all before it, or the run had ended there
        assert maps[step] > best
        best = maps[step]
    assert maps[last] <= best or last == STEPS
    chosen = torch.load(run / "best.ckpt", weights_only=True)["global_step"]
    assert maps[chosen] == max(maps.values())


def test_a_run_that_ends_before_its_length_is_saved_without_validation_too(toy):
    more = ["--trainer.limit_val_batches", "0", "--trainer.callbacks", "tests.helpers.runs.EndAt"]
    assert fit.main(toy.arguments("--run", "ends", *more, "--trainer.callbacks.step", "3")) == 0
    last = torch.load(toy.root / "ends" / "last.ckpt", weights_only=True)
    assert last["global_step"] == 3


def test_validate_prints_the_scores_of_a_checkpoint(toy, whole, capsys):
    words = [w for w in toy.arguments() if w not in ("--no_export", "--quiet")]
    capsys.readouterr()
    assert validate.main([*words, "--ckpt_path", str(whole / "last.ckpt"), "--json"]) == 0
    scores = json.loads(capsys.readouterr().out)
    last = [row for row in rows(whole) if row["val/loss"]][-1]
    for name in ("val/loss", "val/mrr", "val/recall@10", "val/map"):
        assert scores[name] == pytest.approx(float(last[name]), abs=1e-5)
    with pytest.raises(UserError, match="--ckpt_path FILE is missing"):
        validate.main(words)
    words += ["--ckpt_path", str(whole / "last.ckpt"), "--trainer.limit_val_batches", "0"]
    with pytest.raises(UserError, match="leaves nothing to validate"):
        validate.main(words)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--data.seed", "3"], r"trained with data\.seed=0; now it is 3"),
        (["--data.batch_size", "4"], r"trained with data\.batch_size=8; now it is 4"),
    ],
)
def test_a_continued_run_keeps_its_data(toy, whole, words, expected):
    with pytest.raises(UserError, match=expected):
        fit.main(toy.arguments("--run", "whole", "--ckpt_path", "last", *words))


def test_a_checkpoint_of_another_model_is_refused(toy, whole, tmp_path):
    from tests.helpers.tiny_models import write_tiny_bert

    other = write_tiny_bert(tmp_path / "other", max_positions=100)
    more = ["--run", "whole", "--ckpt_path", "last", "--model.encoder.backbone", str(other)]
    with pytest.raises(UserError, match=r"weights are of another model: .*position_embeddings"):
        fit.main(toy.arguments(*more))


def test_a_checkpoint_whose_vectors_were_pooled_otherwise_is_refused(toy, whole):
    more = ["--run", "whole", "--ckpt_path", "last", "--model.encoder.pooling", "mean"]
    with pytest.raises(UserError, match=r"trained by pooling cls, and the recipe has pooling mean"):
        fit.main(toy.arguments(*more))


def test_a_checkpoint_of_another_method_is_not_validated(toy, whole, tmp_path):
    content = torch.load(whole / "last.ckpt", weights_only=True)
    content["sciembed"]["method"] = "cocite"
    torch.save(content, tmp_path / "other.ckpt")
    words = ["-c", str(whole / "config.yaml"), "--ckpt_path", str(tmp_path / "other.ckpt")]
    with pytest.raises(UserError, match=r"trained by method cocite, and the recipe has .* specter"):
        validate.main(words)


def test_a_checkpoint_that_would_run_code_is_refused(toy, tmp_path):
    import pickle

    path = tmp_path / "evil.ckpt"
    path.write_bytes(pickle.dumps({"state_dict": os.system}))
    with pytest.raises(UserError, match="can be read safely"):
        fit.main(toy.arguments("--run", "evil", "--ckpt_path", str(path)))
    torch.save({"state_dict": os.system}, path)
    with pytest.raises(UserError, match=r"can be read safely: it asks for posix\.system\. Only"):
        fit.main(toy.arguments("--run", "evil", "--ckpt_path", str(path)))


@pytest.mark.parametrize("size", [0, 5000])
def test_a_checkpoint_that_was_cut_short_is_told(toy, whole, tmp_path, size):
    path = tmp_path / "short.ckpt"
    path.write_bytes((whole / "last.ckpt").read_bytes()[:size])
    with pytest.raises(UserError, match=r"short\.ckpt: is cut short"):
        fit.main(toy.arguments("--run", "short", "--ckpt_path", str(path)))


def test_a_run_is_not_continued_from_a_checkpoint_with_a_flipped_bit(toy, whole, tmp_path, capsys):
    from sciembed_train.cli import main

    run = tmp_path / "flipped"
    shutil.copytree(whole, run)
    content = bytearray((run / "last.ckpt").read_bytes())
    content[len(content) // 2] ^= 1
    (run / "last.ckpt").write_bytes(content)
    words = toy.arguments("--run", "flipped", "--root", str(tmp_path), "--ckpt_path", "last")
    assert main(["fit", *words]) == 2
    (said,) = capsys.readouterr().err.strip().splitlines()
    assert f"{run / 'last.ckpt'}: is damaged" in said
    assert f"Use {run / 'best.ckpt'} in its place" in said


@pytest.mark.slow
def test_fit_needs_neither_a_database_nor_parquet(toy):
    """Nor any optional package: they are made impossible to import."""
    code = (
        "import sys\n"
        "for name in ('duckdb', 'pyarrow', 'datasets', 'wandb', 'adapters', 'bm25s',"
        " 'sentence_transformers'):\n"
        "    sys.modules[name] = None\n"
        "from sciembed_train.cli import main\n"
        "sys.exit(main(sys.argv[1:]))\n"
    )
    words = toy.arguments("--run", "bare", "--trainer.max_steps", "2", "--verdict", "auto")
    words.remove("--no_export")
    words.remove("--quiet")
    done = subprocess.run(
        [sys.executable, "-c", code, "fit", *words], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert (toy.root / "bare" / "export" / "model.safetensors").is_file()
    assert "There is no verdict: reading the papers' texts needs pyarrow" in done.stderr


def test_the_texts_that_are_cut_are_said_before_the_first_step(toy, capsys):
    arguments = toy.arguments("--run", "cut", "--trainer.max_steps", "1")
    arguments = [word for word in arguments if not word.startswith("--quiet")]
    assert cli.main(["fit", *arguments, "--model.encoder.max_length", "8"]) == 0
    said = capsys.readouterr().err
    assert "papers" in said
    assert "are cut at 8 tokens (max_length): " in said
