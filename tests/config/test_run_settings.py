import pytest

from sciembed_train.config.run_settings import (
    CheckpointSettings,
    RunSettings,
    StoppingSettings,
    check_name,
)
from sciembed_train.errors import UserError


def test_a_run_is_saved_by_its_loss_and_ends_early_only_where_it_is_asked_to():
    settings = RunSettings()
    assert settings.checkpoint.monitor == StoppingSettings().monitor == "val/loss"
    assert settings.early_stopping is None


@pytest.mark.parametrize("every", [0, -1])
def test_an_interval_below_one_step_is_refused(every):
    with pytest.raises(ValueError, match=rf"checkpoint\.every must be 1 or more; got {every}"):
        CheckpointSettings(every=every)


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", ".hidden", "/x", "a\nb", "a\0b", "\udc80"])
def test_a_name_that_is_a_path_or_not_printable_is_refused(name):
    with pytest.raises(UserError, match="is no name"):
        check_name(name)
    with pytest.raises(UserError, match="is no name"):
        RunSettings(run=name)


def test_a_name_that_no_file_system_takes_is_refused_on_one_short_line():
    check_name("é" * 100)
    for name in ("a" * 300, "é" * 101):
        with pytest.raises(UserError, match="is too long a name") as error:
            RunSettings(run=name)
        assert len(str(error.value)) < 200


@pytest.mark.parametrize("seed", [-5, 2**32])
def test_a_seed_that_numpy_does_not_take_is_refused(seed):
    with pytest.raises(UserError, match=f"seed_everything is {seed}; expected a number from 0"):
        RunSettings(seed_everything=seed)
    RunSettings(seed_everything=2**32 - 1)


@pytest.mark.parametrize("values", [{"patience": -1}, {"patience": 0}, {"min_delta": -0.1}])
def test_a_run_that_would_end_at_once_or_never_is_refused(values):
    with pytest.raises(UserError, match=next(iter(values))):
        StoppingSettings(**values)
