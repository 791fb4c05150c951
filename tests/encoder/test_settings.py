"""Settings of an encoder: what is refused, what comes back, and that they need no torch."""

import json
import subprocess
import sys
from typing import get_args

import pytest

from sciembed_train.encoder.settings import Attention, EncoderSettings
from sciembed_train.encoder.unpadded import attention
from sciembed_train.errors import UserError
from sciembed_train.text.input_format import InputFormat


def test_settings_are_read_without_torch():
    # One process alone: this one has torch already.
    code = (
        "import sys, sciembed_train.encoder.settings; "
        "sys.exit(bool({'torch', 'transformers'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_every_attention_of_the_settings_is_there():
    assert get_args(Attention) == attention.NAMES


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("backbone", ""),
        ("pooling", "max"),
        ("forward", "fast"),
        ("max_length", 2),
        ("max_tokens_per_forward", 0),
        ("dropout", 1.0),
        ("dropout", -0.1),
    ],
)
def test_a_wrong_setting_is_refused_with_its_key_and_value(key, value):
    with pytest.raises(UserError, match=f"encoder.{key} is {value!r}"):
        EncoderSettings(**{"backbone": "x", key: value})


def test_settings_survive_json():
    settings = EncoderSettings(
        "x", "mean", input_format=InputFormat("space", "sep", "[CLF]"), dropout=0.0
    )
    assert EncoderSettings.from_dict(json.loads(json.dumps(settings.as_dict()))) == settings


@pytest.mark.parametrize(
    "settings", [{"pooling": "mix"}, {"pooling": "sentences"}, {"control_codes": True}]
)
def test_vectors_that_are_never_scaled_are_refused(settings):
    with pytest.raises(UserError, match=r"encoder\.normalize is True; expected false"):
        EncoderSettings("x", normalize=True, **settings)
