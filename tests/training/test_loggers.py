"""The loggers of a run."""

import sys

import pytest

from sciembed_train.config.run_settings import RunSettings
from sciembed_train.errors import UserError
from sciembed_train.training.loggers import log_summary, run_loggers
from sciembed_train.training.run_folder import MetricsCsv
from tests.helpers.runs import finish, start
from tests.helpers.verdict_results import LOSS, write_results


@pytest.mark.slow
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


@pytest.mark.parametrize("place", ["elsewhere", ""])
def test_wandb_writes_where_its_own_variable_says(tmp_path, monkeypatch, place):
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_DIR", str(tmp_path / place) if place else "")
    made = run_loggers(tmp_path / "run", "run", RunSettings(wandb=True), None)[-1]
    assert made.save_dir == str(tmp_path / (place or "run"))


def test_the_table_of_metrics_comes_first_and_the_users_own_are_kept(tmp_path):
    own = MetricsCsv(tmp_path / "own.csv")
    for more in (own, [own]):
        first, second = run_loggers(tmp_path, "run", RunSettings(), more)
        assert first.path == tmp_path / "metrics.csv"
        assert second is own
    assert len(run_loggers(tmp_path, "run", RunSettings(), True)) == 1


def test_without_its_package_the_message_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(UserError, match=r"pip install 'sciembed_train\[wandb\]'"):
        run_loggers(tmp_path, "run", RunSettings(wandb=True), None)


def test_the_verdict_goes_into_the_summary_of_wandb(tmp_path):
    wandb = pytest.importorskip("wandb")
    from pytorch_lightning.loggers import WandbLogger

    results = write_results(LOSS).as_dict()
    logger = WandbLogger(save_dir=str(tmp_path), project="p", offline=True)
    try:
        log_summary([MetricsCsv(tmp_path / "metrics.csv"), logger], results)
        summary = dict(logger.experiment.summary)
    finally:
        wandb.finish()
    assert summary["verdict/outcome"] == "WORSE"
    assert summary["verdict/line"] == results["verdict"]["line"]
    assert summary["verdict/alpha"] == 0.4
    assert summary["verdict/citations/after"] == 0.34
    assert summary["verdict/my <guard>/difference"] == pytest.approx(-0.05)
