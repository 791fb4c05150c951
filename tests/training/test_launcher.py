import subprocess
import sys

from sciembed_train.training.launcher import wait_for_children


class Watch:
    """Takes down what it is told."""

    def __init__(self):
        self.told = []

    def child_ended(self, rank, code):
        self.told.append((rank, code))


def child(code):
    return subprocess.Popen([sys.executable, "-c", f"import sys; sys.exit({code})"])


def test_children_that_end_as_they_should_are_not_told_of():
    watch = Watch()
    wait_for_children([child(0), child(0)], watch)
    assert watch.told == []


def test_the_first_child_that_fails_is_told_of_while_others_run():
    watch = Watch()
    waiting = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        wait_for_children([waiting, child(7)], watch)
    finally:
        waiting.kill()
        waiting.communicate()
    assert watch.told == [(2, 7)]


def test_a_child_that_fails_last_is_told_of():
    watch, last = Watch(), child(5)
    last.wait()
    wait_for_children([last], watch)
    assert watch.told == [(1, 5)]
