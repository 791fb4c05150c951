import inspect
import math
from dataclasses import fields

import pytest

from sciembed_train.config.trainer_settings import REFUSED, TrainerSettings
from sciembed_train.errors import UserError

# Lightning's own settings that are neither offered nor refused by name.
LEFT_OUT = {"limit_test_batches", "limit_predict_batches", "model_registry"}


OF_OUR_OWN = {"rank_timeout"}


def test_every_setting_of_lightnings_trainer_is_offered_or_refused_with_advice():
    from pytorch_lightning import Trainer

    theirs = set(inspect.signature(Trainer.__init__).parameters) - {"self"}
    ours = {field.name for field in fields(TrainerSettings)}
    assert ours - theirs == OF_OUR_OWN
    assert not ours & set(REFUSED)
    assert theirs - ours - set(REFUSED) <= LEFT_OUT


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"log_every_n_steps": 0}, "log_every_n_steps is 0; give 1 or more"),
        ({"log_every_n_steps": None}, "log_every_n_steps is None"),
        ({"limit_val_batches": 5}, "data.dev_examples limits validation"),
        ({"devices": -1}, "devices is -1; expected 1 or more, numbers of devices, or auto"),
        ({"devices": 0}, "devices is 0"),
        ({"devices": "two"}, "devices is 'two'"),
        ({"devices": "0,0"}, "devices is '0,0'"),
        ({"devices": []}, "devices is"),
        ({"devices": [0, -1]}, "devices is"),
        ({"accelerator": "tpu"}, "accelerator is 'tpu'; expected auto or cpu or gpu"),
        ({"num_nodes": 0}, "num_nodes is 0"),
        ({"rank_timeout": 0.0}, "rank_timeout is 0.0; expected 1 second or more, or null"),
        ({"max_steps": -2}, "max_steps is -2"),
        ({"max_epochs": -2}, "max_epochs is -2"),
        ({"num_sanity_val_steps": -2}, "num_sanity_val_steps is -2"),
        ({"check_val_every_n_epoch": 0}, "check_val_every_n_epoch is 0"),
        ({"val_check_interval": 0}, "val_check_interval=0"),
        ({"val_check_interval": 1.5}, "val_check_interval=1.5"),
        ({"val_check_interval": math.nan}, "val_check_interval=nan"),
        ({"max_time": "an hour"}, "max_time is 'an hour'; expected a time such as 01:12:00:00"),
        ({"max_time": {"moons": 1}}, "max_time is"),
        ({"profiler": "slow"}, "profiler is 'slow'; expected simple, advanced, pytorch"),
    ],
)
def test_values_out_of_their_range_are_refused(settings, message):
    with pytest.raises(UserError, match=message):
        TrainerSettings(**settings)


@pytest.mark.parametrize(
    "settings",
    [
        {"limit_val_batches": 0},
        {"devices": [1, 0]},
        {"devices": "0,1"},
        {"max_steps": -1, "max_epochs": -1},
        {"max_time": "00:12:00:00"},
        {"max_time": {"hours": 12}},
        {"val_check_interval": 1.0},
        {"profiler": "simple"},
    ],
)
def test_values_that_lightning_takes_are_taken(settings):
    TrainerSettings(**settings)
