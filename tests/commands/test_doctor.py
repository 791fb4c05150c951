import json

import pytest

from sciembed_train.commands import doctor
from sciembed_train.errors import UserError


def test_the_exit_code_follows_the_findings(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert doctor.main([]) == 0
    assert "Nothing stands in the way" in capsys.readouterr().out
    monkeypatch.setattr(
        "sciembed_train.diagnostics.checks.versions", lambda: {"lightning": "2.6.3"}
    )
    assert doctor.main(["--json"]) == 1
    answer = json.loads(capsys.readouterr().out)
    assert answer["ready"] is False
    assert {"about", "name", "state", "detail"} == set(answer["findings"][0])


@pytest.mark.parametrize(
    ("words", "named"), [(["-c", "specter"], "-c"), (["--data.batch_size", "8"], "data.batch_size")]
)
def test_settings_that_nothing_would_read_are_refused(words, named):
    with pytest.raises(UserError, match=rf"{named} .*--gpus"):
        doctor.main(words)
