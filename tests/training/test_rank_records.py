import os
import subprocess
import sys
from dataclasses import replace

from sciembed_train.training.process_identity import Process
from sciembed_train.training.rank_records import RankRecords, RankState, ended, hanging


def state(rank, step=0, in_step=False, seconds=0.0, message=None, process=None):
    return RankState(rank, process or Process.this(), step, in_step, seconds, message=message)


def test_records_are_read_back_with_their_age(tmp_path):
    records = RankRecords(tmp_path, "key", 3)
    one, other = state(0, 5, True), replace(state(2, 4), place="x.py:3 (f)")
    records.write(one)
    records.write(other)
    os.utime(tmp_path / ".ranks" / "key-2.json", (1, 1))
    ((found, age),) = records.others(0)  # rank 1 has written none
    assert found == other
    assert age > 1e8
    assert found.doing() == "between steps, before step 5, at x.py:3 (f)"
    assert one.doing() == "making step 6"


def test_records_of_another_start_are_not_read(tmp_path):
    RankRecords(tmp_path, "before", 2).write(state(1))
    records = RankRecords(tmp_path, "now", 2)
    assert records.read(1) is None
    records.remove()
    records.remove()
    assert not list(tmp_path.iterdir())


def test_a_record_that_cannot_be_read_is_none(tmp_path):
    records = RankRecords(tmp_path, "key", 2)
    records.write(state(1))
    (tmp_path / ".ranks" / "key-1.json").write_text("{")
    assert records.read(1) is None


def test_all_ranks_can_be_told_to_end(tmp_path):
    records = RankRecords(tmp_path, "key", 2)
    records.write(state(0))
    assert records.end_of_all() is None
    records.end_all("rank 1 hangs")
    assert records.end_of_all() == "rank 1 hangs"


def test_of_ranks_that_ended_the_one_that_said_why_comes_first():
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    dead = replace(Process.this(), pid=child.pid, started="0")
    child.kill()
    child.communicate()
    living, killed = state(0), state(1, process=dead)
    speaking = state(2, message="ValueError: x", process=dead)
    assert ended([(living, 0.0)]) == []
    assert ended([(living, 0.0), (killed, 0.0), (speaking, 0.0)]) == [speaking, killed]


def test_a_rank_without_a_sign_of_life_hangs_whatever_it_does():
    own, silent, fine = state(0, 3), state(1, 3), state(2, 3)
    found = hanging(own, [(silent, 61.0), (fine, 2.0)], 60.0, 1.0)
    assert found == [(silent, "has sent no sign of life for 61 s")]
    assert hanging(own, [(silent, 59.0), (fine, 2.0)], 60.0, 1.0) == []


def test_a_rank_that_has_not_come_as_far_hangs():
    own = state(0, 3, True, 70.0)
    behind, within = state(1, 3, False, 71.0), state(2, 3, True, 69.0)
    found = hanging(own, [(behind, 1.0), (within, 1.0)], 60.0, 1.0)
    assert [rank for rank, _ in found] == [behind]


def test_where_all_are_in_the_same_step_all_are_named():
    own, other = state(0, 3, True, 70.0), state(1, 3, True, 70.0)
    found = hanging(own, [(other, 1.0)], 60.0, 1.0)
    assert [rank for rank, _ in found] == [own, other]


def test_a_step_that_takes_as_long_as_others_did_does_not_hang():
    own, other = state(0, 3, True, 70.0), state(1, 3, False, 70.0)
    assert hanging(own, [(other, 1.0)], 60.0, longest_step=30.0) == []
    assert hanging(own, [(other, 1.0)], 60.0, longest_step=20.0) != []
    saving = replace(own, in_step=False)  # as for an hour of writing, in which the others wait
    assert hanging(saving, [(other, 1.0)], 60.0, longest_step=1.0) == []
