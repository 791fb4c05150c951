import inspect
from dataclasses import fields

import pytest

from sciembed_train.config.trainer_settings import REFUSED, TrainerSettings
from sciembed_train.errors import UserError

# Lightning's own settings that are neither offered nor refused by name.
LEFT_OUT = {"limit_test_batches", "limit_predict_batches", "model_registry"}


def test_every_setting_of_lightnings_trainer_is_offered_or_refused_with_advice():
    from pytorch_lightning import Trainer

    theirs = set(inspect.signature(Trainer.__init__).parameters) - {"self"}
    ours = {field.name for field in fields(TrainerSettings)}
    assert ours <= theirs
    assert not ours & set(REFUSED)
    assert theirs - ours - set(REFUSED) <= LEFT_OUT


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"log_every_n_steps": 0}, "log_every_n_steps is 0; give 1 or more"),
        ({"log_every_n_steps": None}, "log_every_n_steps is None"),
        ({"limit_val_batches": 5}, "data.dev_examples limits validation"),
    ],
)
def test_values_out_of_their_range_are_refused(settings, message):
    with pytest.raises(UserError, match=message):
        TrainerSettings(**settings)
    TrainerSettings(limit_val_batches=0)
