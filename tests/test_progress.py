import io

import pytest

from sciembed_train import progress as module
from sciembed_train.progress import Progress


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_elsewhere_than_on_a_terminal_a_line_comes_now_and_then(monkeypatch):
    stream, now = io.StringIO(), [0.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    progress = Progress(stream=stream)
    with progress.stage("papers", 4000) as stage:
        for done in range(0, 4000, 100):
            now[0] += 1.0
            stage.reach(done)
    assert stream.getvalue().splitlines() == [
        "papers: 1,500 of 4,000 rows",
        "papers: 3,100 of 4,000 rows",
        "papers: 3,900 rows, 40.0 s",
    ]
    assert progress.seconds == {"papers": 40.0}


def test_a_terminal_has_a_bar_that_goes_away():
    stream = Terminal()
    with Progress(stream=stream).stage("tokens", 10, "papers") as stage:
        stage.reach(10)
    assert "tokens:" in stream.getvalue()
    assert stream.getvalue().splitlines()[-1].startswith("tokens: 10 papers, ")


def test_quiet_says_nothing_and_a_stage_that_fails_has_no_time():
    stream = Terminal()
    progress = Progress(quiet=True, stream=stream)
    with pytest.raises(RuntimeError), progress.stage("papers"):
        raise RuntimeError
    assert stream.getvalue() == ""
    assert progress.seconds == {}
