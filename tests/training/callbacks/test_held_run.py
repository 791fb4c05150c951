import json
from dataclasses import asdict, replace

import pytest

from sciembed_train.errors import RunError
from sciembed_train.training.callbacks.held_run import HeldRun
from sciembed_train.training.process_identity import Process
from sciembed_train.training.run_lock import RunLock


def take_over(run):
    process = replace(Process.this(), host="node7")
    (run / "run.lock").write_text(json.dumps({"process": asdict(process), "since": "now"}))


def test_a_run_that_is_taken_over_saves_nothing_more_and_ends(tmp_path):
    with RunLock(heartbeat=0.0) as lock:
        lock.take(tmp_path)
        callback = HeldRun(lock)
        callback.on_save_checkpoint(None, None, {})
        callback.on_train_batch_end(None, None, None, None, 0)
        take_over(tmp_path)
        with pytest.raises(RunError, match="another fit has taken the run over"):
            callback.on_save_checkpoint(None, None, {})
        with pytest.raises(RunError, match="another fit has taken the run over"):
            callback.on_train_batch_end(None, None, None, None, 1)


def test_between_two_heartbeats_a_step_does_not_look(tmp_path):
    with RunLock() as lock:
        lock.take(tmp_path)
        callback = HeldRun(lock)
        take_over(tmp_path)
        callback.on_train_batch_end(None, None, None, None, 0)


def test_a_real_run_that_is_taken_over_ends_with_1_and_leaves_its_checkpoint(toy, capsys):
    from sciembed_train.cli import main

    run = toy.root / "taken"

    class TakenAtStepNine(HeldRun):
        def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
            if trainer.global_step == 9:
                take_over(run)
            super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sciembed_train.training.fit.HeldRun", TakenAtStepNine)
        assert main(["fit", *toy.arguments("--run", "taken")]) == 1
    said = capsys.readouterr().err
    assert "another fit has taken the run over (host node7" in said
    assert (run / "last.ckpt").is_file()  # of step 7
    assert not (run / "best.ckpt").exists()  # of step 10
    assert "node7" in (run / "run.lock").read_text()
