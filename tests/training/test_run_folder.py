import os

import pytest

from sciembed_train.errors import UserError
from sciembed_train.training.run_folder import (
    MetricsCsv,
    check_writable,
    find_start,
    root_folder,
    writing_errors,
)


def test_rows_are_kept_over_a_resume_and_columns_may_come_later(tmp_path):
    path = tmp_path / "metrics.csv"
    first = MetricsCsv(path)
    for step in (1, 2, 3):
        first.log_metrics({"train/loss": step / 3}, step=step)
    first.log_metrics({"val/loss": 0.5}, step=3)
    first.log_metrics({"train/loss": 9.0}, step=4)
    again = MetricsCsv(path)
    again.keep_until(3)
    again.log_metrics({"train/loss": 4 / 3}, step=4)
    rows = again.rows()
    assert [row["step"] for row in rows] == ["1", "2", "3", "3", "4"]
    found = [float(row["train/loss"]) for row in rows if row["train/loss"]]
    assert found == [1 / 3, 2 / 3, 1.0, 4 / 3]  # to the last bit
    assert [row["val/loss"] for row in rows] == ["", "", "", "0.5", ""]


def test_a_line_cut_short_by_a_kill_is_dropped(tmp_path):
    path = tmp_path / "metrics.csv"
    path.write_text("step,train/loss\n1,0.5\n2,0.")
    log = MetricsCsv(path)
    assert [row["step"] for row in log.rows()] == ["1"]
    log.keep_until(5)
    assert path.read_text().splitlines() == ["step,train/loss", "1,0.5"]


def test_keeping_nothing_needs_no_file(tmp_path):
    MetricsCsv(tmp_path / "metrics.csv").keep_until(0)
    assert not (tmp_path / "metrics.csv").exists()


def test_a_new_folder_is_a_new_run_and_an_old_one_must_be_continued(tmp_path):
    run = tmp_path / "run"
    assert find_start(run, None) is None
    run.mkdir()
    assert find_start(run, None) is None
    (run / "last.ckpt").touch()
    with pytest.raises(UserError, match=r"exists\. Continue it with --ckpt_path last"):
        find_start(run, None)
    assert find_start(run, "last") == run / "last.ckpt"
    assert find_start(tmp_path / "other", str(run / "last.ckpt")) == run / "last.ckpt"
    assert find_start(tmp_path / "other", str(run)) == run / "last.ckpt"
    with pytest.raises(UserError, match=r"There is .*last\.ckpt"):
        find_start(run, "best.ckpt")


def test_a_pipe_is_no_checkpoint_and_is_called_a_pipe(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UserError, match="is a pipe or a device"):
        find_start(tmp_path / "run", str(tmp_path / "pipe"))


def test_the_root_can_be_set_for_all_runs(monkeypatch, tmp_path):
    monkeypatch.delenv("SCIEMBED_CHECKPOINTS", raising=False)
    assert str(root_folder()) == "checkpoints"
    monkeypatch.setenv("SCIEMBED_CHECKPOINTS", str(tmp_path))
    assert root_folder() == tmp_path


def test_writable_is_tried_and_leaves_nothing(tmp_path):
    check_writable(tmp_path / "a" / "b")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot be written"):
        check_writable(tmp_path / "file" / "run")


def test_what_the_system_refuses_names_the_folder_and_the_way_out(tmp_path):
    refused = pytest.raises(UserError, match=r"run cannot be written: Is a directory .*Give --root")
    with refused, writing_errors(tmp_path / "run"):
        tmp_path.write_text("")
