import pytest

from sciembed_train.training.run import Run


def test_a_run_has_its_best_checkpoint_its_export_and_its_last_scores(tmp_path):
    (tmp_path / "last.ckpt").write_text("")
    assert Run.open(tmp_path).checkpoint == tmp_path / "last.ckpt"
    (tmp_path / "best.ckpt").write_text("")
    (tmp_path / "export").mkdir()
    (tmp_path / "metrics.csv").write_text(
        "step,train/loss,val/map,val/loss\n10,1.0,,\n10,,0.25,0.5\n20,0.9,,\n20,,0.5,nan\n30,x"
    )
    run = Run.open(tmp_path)
    assert run.checkpoint == tmp_path / "best.ckpt"
    assert run.export == tmp_path / "export"
    assert run.step == 30
    assert run.scores == {"val/map": 0.5, "val/loss": 0.5}
    assert repr(run) == f"Run({tmp_path}, step 30: val/map 0.5000, val/loss 0.5000)"
    assert "<td>0.5000</td>" in run._repr_html_()


def test_a_run_without_validation_has_no_score(tmp_path):
    run = Run.open(tmp_path)
    assert (run.checkpoint, run.export, run.step, run.scores) == (None, None, 0, {})
    with pytest.raises(FileNotFoundError, match="no folder of a run"):
        Run.open(tmp_path / "none")
