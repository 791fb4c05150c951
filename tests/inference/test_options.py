import pytest

from sciembed_train.errors import UserError
from sciembed_train.inference.options import EmbedFileSettings, EmbedSettings, ScoreSettings


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
        ({"dim": 0}, "--dim is 0; expected 1 or more"),
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
        ({"scorer": "sentences", "dtype": "int8"}, "--dtype goes with --scorer document, not"),
        ({"dtype": "int4"}, "--dtype is int4; expected one of float32, float16, int8, binary"),
        ({"scorer": "document", "blur": 0.1}, "--blur goes with --scorer transport, not document"),
    ],
)
def test_settings_of_another_scorer_are_refused(settings, message):
    with pytest.raises(UserError, match=message):
        ScoreSettings(**settings)


def test_set_options_are_spelt_as_on_the_command_line():
    assert ScoreSettings().set_options == []
    assert ScoreSettings("transport", temperature=1.0).set_options == ["--scorer", "--temperature"]


@pytest.mark.parametrize(
    ("to", "in_shards"), [("v", True), ("a.b/v", True), ("v.x/", True), ("v.npy", False)]
)
def test_a_name_without_an_ending_is_a_folder_of_shards(to, in_shards):
    assert EmbedFileSettings("m", "p.jsonl", to).in_shards is in_shards


def test_a_share_is_a_number_of_a_number():
    assert EmbedFileSettings("m", "p.jsonl", "v", shards="3/8").share == (2, 8)
    assert EmbedFileSettings("m", "p.jsonl", "v").share is None
    for shards in ("0/8", "9/8", "3", "3/8/9", "a/b", "-1/2"):
        with pytest.raises(UserError, match=f"--shards is '{shards}'; expected one such as 3/8"):
            EmbedFileSettings("m", "p.jsonl", "v", shards=shards)
    with pytest.raises(UserError, match="--shard_size is 0"):
        EmbedFileSettings("m", "p.jsonl", "v", shard_size=0)
    with pytest.raises(UserError, match=r"--to v\.npy is a file"):
        EmbedFileSettings("m", "p.jsonl", "v.npy", shards="1/2")
