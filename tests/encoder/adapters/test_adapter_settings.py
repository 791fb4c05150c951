"""Settings of adapters, and the library's configuration of them."""

import sys

import pytest

from sciembed_train.encoder.adapters.adapter_settings import (
    AdapterSettings,
    configuration,
)
from sciembed_train.errors import UserError


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"formats": ()}, "expected some of classification, regression"),
        ({"formats": ("proximity", "proximity")}, "each once"),
        ({"formats": ("search",)}, "has 'search'; expected some of classification"),
        ({"formats": ("proximity",), "start": {"regression": "x"}}, "start names 'regression'"),
        ({"reduction": 0}, "reduction is 0"),
    ],
)
def test_settings_out_of_range_are_refused(given, says):
    with pytest.raises(UserError, match=says):
        AdapterSettings(**given)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"config": "no_such"}, "cannot make .* it has compacter, "),
        ({"config": "seq_bn[reduction"}, "cannot make"),
        ({"config": "lora", "reduction": 8}, "has no reduction"),
        ({"config": "prompt_tuning"}, "its own vectors before the text"),
        ({"config": "mtl_lora"}, "a task's number"),
    ],
)
def test_configurations_that_cannot_be_run_are_refused(given, says):
    pytest.importorskip("adapters")
    with pytest.raises(UserError, match=says):
        configuration(AdapterSettings(**given))


def test_the_reduction_is_the_settings_own():
    pytest.importorskip("adapters")
    assert configuration(AdapterSettings())["reduction_factor"] == 16
    assert configuration(AdapterSettings(reduction=4))["reduction_factor"] == 4
    named = configuration(AdapterSettings(config="seq_bn[reduction_factor=32]"))
    assert named["reduction_factor"] == 32


def test_settings_come_back_from_plain_values():
    import json
    from dataclasses import asdict

    settings = AdapterSettings(formats=("proximity",), start={"proximity": "here"}, reduction=8)
    assert AdapterSettings.from_dict(json.loads(json.dumps(asdict(settings)))) == settings


def test_without_the_library_the_message_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "adapters", None)
    with pytest.raises(UserError, match=r"adapters 1\.3.*needs transformers 4\.57\.6.*hf/"):
        configuration(AdapterSettings())
