import pytest

from sciembed_train.errors import UserError
from sciembed_train.inference.options import EmbedSettings, ScoreSettings


@pytest.mark.parametrize(("token", "name"), [("[PRX]", "proximity"), ("proximity", "proximity")])
def test_a_format_is_named_by_its_code_or_its_name(token, name):
    assert EmbedSettings(format_token=token).format == name


def test_no_format_token_is_no_format():
    assert EmbedSettings().format is None


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"batch_tokens": 0}, "--batch-tokens is 0; expected 1 or more"),
        ({"max_length": -1}, "--max-length is -1; expected 1 or more"),
        ({"format_token": "[ABC]"}, r"--format-token is \[ABC\]; expected one of \[CLF\]"),
    ],
)
def test_values_out_of_range_are_refused(settings, message):
    with pytest.raises(UserError, match=message):
        EmbedSettings(**settings)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"scorer": "best_match", "similarity": "cosine"}, "--similarity goes with --scorer"),
        ({"scorer": "document", "blur": 0.1}, "--blur goes with --scorer transport, not document"),
    ],
)
def test_settings_of_another_scorer_are_refused(settings, message):
    with pytest.raises(UserError, match=message):
        ScoreSettings(**settings)


def test_set_options_are_spelt_as_on_the_command_line():
    assert ScoreSettings().set_options == []
    assert ScoreSettings("transport", temperature=1.0).set_options == ["--scorer", "--temperature"]
