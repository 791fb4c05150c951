import pytest

from sciembed_train.config.trainer_settings import TrainerSettings
from sciembed_train.errors import UserError
from sciembed_train.training.checkpoint_io import RunCheckpointIO
from sciembed_train.training.trainer import RunTrainer, as_launched, check_launched


@pytest.mark.parametrize("strategy", ["auto", "ddp", "fsdp"])
def test_every_strategy_writes_checkpoints_in_the_same_way(strategy):
    trainer = RunTrainer(
        strategy=strategy,
        accelerator="cpu",
        devices=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    assert isinstance(trainer.strategy.checkpoint_io, RunCheckpointIO)


def under(monkeypatch, processes, here):
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", str(processes))
    monkeypatch.setenv("LOCAL_WORLD_SIZE", str(here))


def test_devices_and_machines_are_those_that_torchrun_has_started(monkeypatch):
    under(monkeypatch, 4, 2)
    settings = as_launched(TrainerSettings())
    assert (settings.devices, settings.num_nodes) == (2, 2)
    given = TrainerSettings(devices=2, num_nodes=2)
    assert as_launched(given) == given


def test_without_a_launcher_the_settings_stay():
    assert as_launched(TrainerSettings()) == TrainerSettings()
    check_launched(TrainerSettings(), 8)


def test_the_one_process_of_a_launcher_takes_one_device_of_many(monkeypatch):
    under(monkeypatch, 1, 1)
    assert as_launched(TrainerSettings()).devices == 1


def test_other_devices_than_torchrun_has_started_are_refused(monkeypatch):
    under(monkeypatch, 2, 2)
    settings = as_launched(TrainerSettings(devices=1))
    with pytest.raises(UserError, match=r"torchrun started 2 processes.*Leave them out: they are"):
        check_launched(settings, 1)
    check_launched(settings, 2)


def test_a_launcher_that_names_no_machines_asks_for_the_numbers(monkeypatch):
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    settings = as_launched(TrainerSettings())
    assert settings.devices == "auto"
    with pytest.raises(UserError, match=r"Give --trainer\.devices"):
        check_launched(settings, 1)
