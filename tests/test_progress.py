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
        "papers: 1,500 of 4,000 rows, 27 s left",  # 16 s for 1,500
        "papers: 3,100 of 4,000 rows, 9 s left",
        "papers: 3,900 rows, 40.0 s",
    ]
    assert progress.seconds == {"papers": 40.0}


def test_work_that_continues_is_as_fast_as_it_is_now(monkeypatch):
    stream, now = io.StringIO(), [0.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    with Progress(stream=stream).stage("papers", 4000, done=3000) as stage:
        now[0] = 20.0
        stage.reach(3200)
        stage.reach(3200, 3000)
        now[0] = 40.0
        stage.reach(3300, 3000)  # more than was expected
    assert stream.getvalue().splitlines()[:2] == [
        "papers: 3,200 of 4,000 rows, 80 s left",
        "papers: 3,300 of 3,000 rows",
    ]


def test_a_duration_is_rounded_to_what_matters():
    seconds = (0.4, 45, 99.4, 99.6, 3600, 5970, 9000)
    assert [module.duration(n) for n in seconds] == [
        *("0 s", "45 s", "99 s", "2 min", "60 min", "1.7 h", "2.5 h")
    ]


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
