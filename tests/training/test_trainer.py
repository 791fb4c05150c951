import pytest
import torch

from sciembed_train.config.trainer_settings import TrainerSettings
from sciembed_train.errors import UserError
from sciembed_train.training.trainer import RunCheckpointIO, as_launched, check_launched


def test_a_checkpoint_comes_back_and_nothing_lies_beside_it(tmp_path):
    path = tmp_path / "run" / "last.ckpt"
    RunCheckpointIO().save_checkpoint({"step": 3, "weight": torch.ones(2)}, path)
    assert [file.name for file in path.parent.iterdir()] == ["last.ckpt"]
    content = torch.load(path, weights_only=True)
    assert content["step"] == 3
    assert torch.equal(content["weight"], torch.ones(2))


def test_a_save_that_fails_leaves_the_checkpoint_before(tmp_path):
    path = tmp_path / "last.ckpt"
    RunCheckpointIO().save_checkpoint({"step": 3}, path)
    with pytest.raises((AttributeError, TypeError), match="pickle"):
        RunCheckpointIO().save_checkpoint({"step": 4, "bad": (x for x in ())}, path)
    assert torch.load(path, weights_only=True) == {"step": 3}


def test_options_of_other_file_systems_are_refused(tmp_path):
    with pytest.raises(TypeError, match="storage_options"):
        RunCheckpointIO().save_checkpoint({}, tmp_path / "a.ckpt", storage_options={"key": "x"})


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
