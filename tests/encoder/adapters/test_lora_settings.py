"""The settings of low-rank updates: their ranges, what goes with them, and plain values."""

import json

import pytest

from sciembed_train.encoder.adapters.adapter_settings import AdapterSettings
from sciembed_train.encoder.adapters.lora_settings import LoraSettings
from sciembed_train.encoder.settings import EncoderSettings
from sciembed_train.errors import UserError


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"rank": 0}, "encoder.lora.rank is 0; expected 1 or more"),
        ({"alpha": 0.0}, "encoder.lora.alpha is 0.0; expected above 0"),
        ({"dropout": 1.0}, "encoder.lora.dropout is 1.0; expected at least 0"),
        ({"targets": ("",)}, "encoder.lora.targets"),
    ],
)
def test_values_out_of_their_range_are_refused(values, message):
    with pytest.raises(UserError, match=message):
        LoraSettings(**values)


@pytest.mark.parametrize(
    ("key", "value"),
    [("adapters", AdapterSettings()), ("control_codes", True), ("compile", True)],
)
def test_what_does_not_go_with_it_is_refused(key, value):
    with pytest.raises(UserError, match=f"expected null, since encoder.{key} is set"):
        EncoderSettings("start", lora=LoraSettings(), **{key: value})


def test_they_come_back_from_plain_values():
    lora = LoraSettings(3, 5.0, 0.1, ("query", "value"))
    settings = EncoderSettings("start", lora=lora)
    values = json.loads(json.dumps(settings.as_dict()))  # where a tuple becomes a list
    assert EncoderSettings.from_dict(values) == settings
    values.pop("lora")  # of a checkpoint from before there was any
    assert EncoderSettings.from_dict(values).lora is None
