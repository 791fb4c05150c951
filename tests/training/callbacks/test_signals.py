import signal
from types import SimpleNamespace

import pytest
import torch

from sciembed_train.training.callbacks.signals import Signals

TRAINER, METHOD = SimpleNamespace(is_global_zero=True), SimpleNamespace()


@pytest.mark.parametrize(
    ("received", "total", "agreed"),
    [
        (0, 0.0, 0),
        (0, 2.0, signal.SIGINT),  # another rank's
        (0, 15.0, signal.SIGTERM),
        (2, 17.0, signal.SIGINT),  # different ones: each rank keeps its own
        (0, 30.0, signal.SIGTERM),  # of two other ranks
    ],
)
def test_ranks_agree_by_the_sum_of_their_signals(received, total, agreed):
    signals = Signals()
    signals.agree(received, total)
    assert signals.agreed == agreed


def test_after_a_validation_a_signal_of_this_rank_is_known():
    signals = Signals()
    assert signals.agreed_after_validation(torch.device("cpu")) == 0
    signals.received = int(signal.SIGINT)
    assert signals.agreed_after_validation(torch.device("cpu")) == signal.SIGINT


def test_the_first_signal_is_noted_and_handlers_come_back(capsys):
    before = signal.getsignal(signal.SIGTERM)
    signals = Signals()
    signals.on_train_start(TRAINER, METHOD)
    signal.raise_signal(signal.SIGTERM)
    assert signals.received == signal.SIGTERM
    assert "SIGTERM: saving after this step" in capsys.readouterr().err
    signals.on_train_end(TRAINER, METHOD)
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_second_signal_ends_the_process_at_once():
    signals = Signals()
    signals.on_train_start(TRAINER, METHOD)
    try:
        signal.raise_signal(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    finally:
        signals.on_exception(TRAINER, METHOD, KeyboardInterrupt())


@pytest.mark.slow
def test_a_second_sigterm_gives_up_the_lock_of_the_run(tmp_path):
    import subprocess
    import sys

    script = """
import signal, sys, time
from pathlib import Path
from types import SimpleNamespace
from sciembed_train.training.callbacks.signals import Signals
from sciembed_train.training.run_lock import RunLock
with RunLock() as lock:
    lock.take(Path(sys.argv[1]))
    Signals().on_train_start(SimpleNamespace(is_global_zero=True), None)
    signal.raise_signal(signal.SIGTERM)
    assert (Path(sys.argv[1]) / "run.lock").is_file()
    signal.raise_signal(signal.SIGTERM)
"""
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path)], check=False)
    assert done.returncode == -signal.SIGTERM
    assert list(tmp_path.iterdir()) == []
