import json
import os
import subprocess
import sys

import pytest
import torch
import yaml

from sciembed_train import cli
from sciembed_train.commands import fit, prepare, show, validate
from sciembed_train.corpus.store.corpus_folder import Corpus
from sciembed_train.errors import UserError
from tests.helpers.runs import ROOT, finish, losses, rows, start
from tests.helpers.small_corpus import small_papers


def refused(toy, capsys, *more):
    """The message of a command line that must exit with 2, start nothing and leave nothing."""
    there = {p.name for p in toy.root.iterdir()} if toy.root.exists() else set()
    assert cli.main(["fit", *toy.arguments("--run", "refused", *more)]) == 2
    assert ({p.name for p in toy.root.iterdir()} if toy.root.exists() else set()) == there
    said = capsys.readouterr().err
    assert "Traceback" not in said
    return said


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--data.batch_size", "7", "--trainer.devices", "2"], "use a multiple of 2, such as 6"),
        (["--data.batch_size", "1000"], "fewer than one batch of data.batch_size=1000"),
        (["--data.batch_size", "many"], "data.batch_size: Expected a int. Got value: many"),
        (["--data.batch_siz", "8"], "unrecognized arguments: --data.batch_siz"),
        (["--model.encoder.bakbone", "x"], "--encoder.bakbone=x"),
        (["--model.encoder.backbone", "/nowhere"], "/nowhere: there is no such folder"),
        (["--model.encoder.max_length", "1000"], "encoder.max_length is 1000"),
        (["--model.optim.lr", "0"], "optim.lr must be above 0; got 0.0"),
        (["--model.optim.schedule", "cosine"], "slanted_triangular"),
        (["--model.margin", "-1"], "margin is in the unit of the distance"),
        (["--trainer.precision", "bf17"], "trainer.precision"),
        (["--trainer.gradient_clip_val", "1"], "set model.optim.clip_norm"),
        (["--trainer.accumulate_grad_batches", "4"], "data.batch_size is the number of"),
        (["--trainer.max_epochs", "-1"], "give trainer.max_epochs or trainer.max_steps"),
        (["--trainer.val_check_interval", "1.5"], "trainer.val_check_interval=1.5"),
        (["--trainer.limit_train_batches", "3"], "use trainer.max_steps"),
        (["--trainer.limit_val_batches", "5"], "data.dev_examples limits validation"),
        (["--trainer.limit_val_batches", "0", "--early_stopping.patience", "1"], "leaves valid"),
        (["--trainer.log_every_n_steps", "0"], "trainer.log_every_n_steps is 0; give 1 or more"),
        (["--trainer.log_every_n_steps", "null"], "trainer.log_every_n_steps is None"),
        (["--trainer.strategy", "deepspeed"], "trainer.strategy=deepspeed is not supported"),
        (["--checkpoint.monitor", "val/ndcg"], "val/loss, val/mrr, val/recall@10, val/map"),
        (["--checkpoint.every", "0"], "checkpoint.every must be 1 or more"),
        (["--early_stopping.patience", "long"], "patience"),
        (["--data.corpus", "/nowhere"], "/nowhere is no corpus"),
        (["--data.papers", "a.jsonl"], "data.corpus and data.papers are both given"),
        (["--model.encoder.poolng", "cls"], "Did you mean --model.encoder.pooling?"),
        (["--data.batchsize", "8"], "Did you mean --data.batch_size?"),
        (["--papers", "F"], "Did you mean --data.papers?"),
        (["--ckpt_path", "last"], "Leave --ckpt_path out to start anew"),
        (["--ckpt_path", "other.ckpt"], "there is no other.ckpt"),
        (["--run", "../x"], "is no name of a folder"),
        (["--root", "/proc/x"], "cannot be written"),
    ],
)
def test_a_mistake_is_told_in_one_message(toy, capsys, words, expected):
    assert expected in refused(toy, capsys, *words)


def test_a_corpus_without_this_encoders_tokens_leaves_no_run(toy, capsys):
    assert "holds no tokens" in refused(
        toy, capsys, "--model.encoder.input_format.separator", "space"
    )


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_an_absent_accelerator_is_told(toy, capsys):
    assert "trainer.accelerator=gpu" in refused(toy, capsys, "--trainer.accelerator", "gpu")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("model: [\n", r"bad\.yaml:2: is not YAML"),
        ("- a\n", r"bad\.yaml: holds no settings"),
        ("data:\n  batch_size: 8\n  seeed: 3\n", r"bad\.yaml:3: .*'seeed'"),
        ("data:\n  batch_size: [8]\n", r"bad\.yaml:2: data\.batch_size: Expected a int"),
    ],
)
def test_a_mistake_in_a_file_is_told_with_its_line(text, expected, tmp_path):
    recipe = tmp_path / "bad.yaml"
    recipe.write_text(text)
    with pytest.raises(UserError, match=expected):
        fit.main(["-c", str(ROOT / "configs" / "specter.yaml"), "-c", str(recipe)])


def test_a_missing_recipe_and_a_missing_method_are_told(capsys):
    with pytest.raises(UserError, match=r"none\.yaml: cannot be read"):
        fit.main(["-c", "none.yaml"])
    with pytest.raises(UserError, match="model"):
        fit.main([])


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


def test_training_lowers_the_loss_of_its_own_triplets(toy, whole):
    found = [float(v) for _, v in sorted(losses(whole).items())]
    assert sum(found[-12:]) < 0.9 * sum(found[:12])


def test_early_stopping_ends_the_run(toy):
    stop = ["--early_stopping.patience", "1", "--early_stopping.min_delta", "100"]
    assert fit.main(toy.arguments("--run", "early", *stop)) == 0
    assert max(losses(toy.root / "early")) == 20


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


def test_missing_citations_are_told_before_anything_is_prepared(tmp_path):
    papers = tmp_path / "papers.jsonl"
    papers.write_text('{"paper_id": 1, "title": "a", "abstract": "b"}\n')
    words = ["-c", str(ROOT / "configs" / "specter.yaml"), "--root", str(tmp_path / "runs")]
    with pytest.raises(UserError, match=r"--data\.citations F is missing"):
        fit.main([*words, "--data.papers", str(papers)])
    assert not (tmp_path / "runs").exists()


def test_raw_files_are_prepared_once(toy, tmp_path):
    papers, citations = tmp_path / "papers.jsonl", tmp_path / "citations.csv"
    with papers.open("w") as file:
        for paper in small_papers(80):
            row = {key: paper[key] for key in ("paper_id", "title", "abstract")}
            file.write(json.dumps(row) + "\n")
    pairs = [(a, (a * 7 + k * 11 + 1) % 80) for a in range(80) for k in range(6)]
    citations.write_text("citing,cited\n" + "".join(f"p{a},p{b}\n" for a, b in pairs if a != b))
    words = toy.arguments("--trainer.max_steps", "2", "--root", str(tmp_path))
    at = words.index("--data.corpus")
    words[at : at + 2] = ["--data.papers", str(papers), "--data.citations", str(citations)]
    assert fit.main([*words, "--run", "a"]) == 0
    assert fit.main([*words, "--run", "b"]) == 0
    cache = [p for p in (tmp_path / ".cache").iterdir() if p.is_dir()]
    assert len(cache) == 1
    assert losses(tmp_path / "a") == losses(tmp_path / "b")
    shown = ["--data.papers", str(papers), "--data.citations", str(citations)]
    shown += ["-c", "specter", "--model.encoder.backbone", str(toy.backbone), "--count", "1"]
    assert show.main([*shown, "--root", str(tmp_path)]) == 0
    assert [p for p in (tmp_path / ".cache").iterdir() if p.is_dir()] == cache
    to = ["--to", str(tmp_path / "corpus")]
    assert prepare.main([*[w for w in shown if w not in ("--count", "1")], *to, "--quiet"]) == 0
    made = Corpus.open(tmp_path / "corpus").info
    assert {key: made[key] for key in made if key != "created"} == {
        key: value for key, value in Corpus.open(cache[0]).info.items() if key != "created"
    }
    config = yaml.safe_load((tmp_path / "a" / "config.yaml").read_text())
    assert config["data"]["corpus"] is None
    assert config["data"]["papers"] == str(papers)


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
    words = toy.arguments("--run", "bare", "--trainer.max_steps", "2")
    words.remove("--no_export")
    done = subprocess.run(
        [sys.executable, "-c", code, "fit", *words], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert (toy.root / "bare" / "export" / "model.safetensors").is_file()


def test_wandb_offline_writes_into_the_run_and_a_continued_run_is_the_same_one(toy):
    pytest.importorskip("wandb")
    words = toy.arguments("--run", "logged", "--wandb")
    run = toy.root / "logged"
    code, said = finish(start("fit", *words, "--trainer.max_steps", "2"))
    assert code == 0, said
    number = (run / "wandb_run.txt").read_text().strip()
    more = ["--trainer.max_steps", "4", "--ckpt_path", "last"]
    code, said = finish(start("fit", *words, *more))
    assert code == 0, said
    made = sorted((run / "wandb").glob("offline-run-*"))
    assert len(made) == 2
    assert all(path.name.endswith(number) for path in made)


def test_a_rank_that_fails_ends_the_others(toy):
    more = ["--run", "fails", "--trainer.devices", "2"]
    words = toy.arguments(*more, "--trainer.callbacks", "tests.helpers.runs.FailOnSecondRank")
    code, said = finish(start("fit", *words), timeout=120)
    assert code not in (0, 2)
    assert "the second rank fails" in said
