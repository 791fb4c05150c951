import json

import pytest

from sciembed_train.config.output_settings import OutputSettings


@pytest.mark.parametrize(
    ("settings", "shown"), [({}, True), ({"json": True}, False), ({"quiet": True}, False)]
)
def test_progress_is_shown_where_a_person_reads(settings, shown):
    assert OutputSettings(**settings).progress == shown


def test_a_result_is_printed_as_text_as_json_or_not_at_all(capsys):
    values = {"folder": "Encöder"}
    OutputSettings().show("Written to Encöder.", values)
    assert capsys.readouterr().out == "Written to Encöder.\n"
    OutputSettings(json=True, quiet=True).show("Written.", values)
    assert json.loads(capsys.readouterr().out) == values
    OutputSettings(quiet=True).show("Written.", values)
    assert capsys.readouterr().out == ""
