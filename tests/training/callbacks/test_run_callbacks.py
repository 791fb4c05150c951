from types import SimpleNamespace

from pytorch_lightning import Callback
from pytorch_lightning.callbacks import EarlyStopping

from sciembed_train.config.run_settings import CheckpointSettings, RunSettings, StoppingSettings
from sciembed_train.training.callbacks.run_callbacks import run_callbacks
from sciembed_train.training.rank_watch import RankWatch


def made(tmp_path, run, bar=False, own=()):
    data = SimpleNamespace(
        examples=SimpleNamespace(dev=[]), folder=tmp_path, share=lambda step: step, waited=0.0
    )
    return run_callbacks(
        tmp_path,
        data,
        run,
        log_every=1,
        facts={},
        write_limit=lambda tokens: None,
        bar=bar,
        own=own,
        watch=RankWatch(tmp_path, None),
    )


def names(callbacks):
    return [type(callback).__name__ for callback in callbacks]


def test_the_state_of_a_step_is_known_before_others_act_and_checkpoints_come_last(tmp_path):
    class Own(Callback):
        pass

    found = names(made(tmp_path, RunSettings(), own=[Own()]))
    # A step that is not finite ends the run before it is logged.
    assert found[:5] == ["RankErrors", "FiniteNumbers", "Signals", "Throughput", "StepMetrics"]
    assert found.index("StepMetrics") < found.index("WeightAveraging") < found.index("Own")
    assert found[-2:] == ["RankSteps", "RunCheckpoints"]
    assert "EarlyStopping" not in found


def test_a_run_ends_early_by_the_direction_of_its_score(tmp_path):
    for monitor, mode in (("val/loss", "min"), ("val/map", "max")):
        settings = RunSettings(
            checkpoint=CheckpointSettings(monitor="val/mrr"),
            early_stopping=StoppingSettings(patience=2, monitor=monitor, min_delta=0.1),
        )
        callbacks = made(tmp_path, settings)
        (stopping,) = (own for own in callbacks if isinstance(own, EarlyStopping))
        assert (stopping.monitor, stopping.mode, stopping.patience) == (monitor, mode, 2)
        assert callbacks[-1].monitor == "val/mrr"


def test_progress_is_a_bar_or_lines_and_nothing_of_a_quiet_run(tmp_path):
    assert "Bar" in names(made(tmp_path, RunSettings(), bar=True))
    assert "ProgressLines" in names(made(tmp_path, RunSettings()))
    quiet = names(made(tmp_path, RunSettings(quiet=True)))
    assert not {"Bar", "ProgressLines", "ValidationLines"} & set(quiet)
