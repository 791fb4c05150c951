import pytest

from sciembed_train.config.run_settings import CheckpointSettings, RunSettings, StoppingSettings


def test_a_run_is_saved_by_its_loss_and_ends_early_only_where_it_is_asked_to():
    settings = RunSettings()
    assert settings.checkpoint.monitor == StoppingSettings().monitor == "val/loss"
    assert settings.early_stopping is None


@pytest.mark.parametrize("every", [0, -1])
def test_an_interval_below_one_step_is_refused(every):
    with pytest.raises(ValueError, match=rf"checkpoint\.every must be 1 or more; got {every}"):
        CheckpointSettings(every=every)
