"""Several processes that prepare one corpus together make what one process makes."""

import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sciembed_train.corpus import shared_work
from sciembed_train.corpus.shared_work import (
    FACTS,
    Lock,
    SharedWork,
    alone,
    own_name,
    remove_abandoned,
)
from sciembed_train.corpus.store.token_store import TokenStore
from sciembed_train.corpus.store.token_store_writing import join_stores, write_token_store
from sciembed_train.errors import UserError
from sciembed_train.progress import Progress
from sciembed_train.text.input_format import InputFormat
from sciembed_train.text.tokenizer import TextTokenizer
from tests.helpers.processes import ROOT
from tests.helpers.small_corpus import small_papers

# Small units, each of which takes a while, so that every process gets some.
CODE = """
import sys, time
from sciembed_train.corpus import token_task, token_writing
from sciembed_train.corpus.build import PrepareSettings, prepare
from sciembed_train.corpus.mining import triplet_mining
from sciembed_train.corpus.store import part_store, token_store_writing
from sciembed_train.progress import Progress

folder, to, tokenizer, together, pause = sys.argv[1:6]
triplet_mining.MIN_PAIRS = 600
triplet_mining.BYTES_PER_PAIR = 10**9
for module in (token_task, token_writing):
    module.SHARD_PAPERS = 32
for write in (token_store_writing.write_token_store, part_store.write_part_store):
    write.__kwdefaults__["shard_papers"] = 32
for task in (triplet_mining.TripletTask, token_task.TokenTask):
    def slowly(self, unit, to, do=task.do):
        do(self, unit, to)
        time.sleep(float(pause))
    task.do = slowly
prepare(
    PrepareSettings(
        papers=folder + "/papers.jsonl", citations=folder + "/citations.csv", to=to, memory="1GB",
        tokenizer=tokenizer, part_tokens=True, together=together == "together",
    ),
    Progress(),
)
"""


@pytest.fixture
def files(tmp_path):
    """150 papers that cite five others each."""
    papers = [
        {"paper_id": f"p{i:03d}", "title": f"word{i} paper", "abstract": f"on a{i % 7} b. Two."}
        for i in range(150)
    ]
    (tmp_path / "papers.jsonl").write_text("".join(json.dumps(p) + "\n" for p in papers))
    pairs = [(i, (i * 7 + 3 * k * k + 1) % 150) for i in range(150) for k in range(5)]
    rows = [f"p{a:03d},p{b:03d}\n" for a, b in pairs if a != b]
    (tmp_path / "citations.csv").write_text("citing,cited\n" + "".join(rows))
    return tmp_path


def start(files: Path, to: str, tokenizer: Path, together: bool, pause: float = 0.0):
    words = [
        str(files),
        str(files / to),
        str(tokenizer),
        "together" if together else "",
        str(pause),
    ]
    return subprocess.Popen(
        [sys.executable, "-c", CODE, *words], cwd=ROOT, stderr=subprocess.PIPE, text=True
    )


def done(process) -> str:
    said = process.communicate(timeout=240)[1]
    assert process.returncode == 0, said
    return said


def contents(corpus: Path) -> dict[str, str]:
    """The hash of every file; of the page only that it is there, for it has a date."""
    return {
        str(path.relative_to(corpus)): hashlib.sha256(
            b"" if path.suffix == ".html" or path.name == "checksums.json" else path.read_bytes()
        ).hexdigest()
        for path in sorted(corpus.rglob("*"))
        if path.is_file()
    }


@pytest.mark.slow
def test_two_processes_make_the_corpus_of_one(files, tiny_bert):
    done(start(files, "alone", tiny_bert, together=False))
    processes = [start(files, "shared", tiny_bert, together=True, pause=0.3) for _ in range(2)]
    said = [done(process) for process in processes]
    assert contents(files / "shared") == contents(files / "alone")
    leads = ["Another process leads" in text for text in said]
    assert sorted(leads) == [False, True]
    helper = said[leads.index(True)]
    for name in ("triplets", "tokens of papers", "tokens of titles and abstracts, each alone"):
        assert f"{name}: did" in helper
    assert {path.name for path in files.iterdir()} == {
        *("papers.jsonl", "citations.csv", "alone", "shared"),
    }


@pytest.mark.slow
def test_when_the_leader_is_killed_another_one_finishes_what_it_began(files, tiny_bert):
    done(start(files, "alone", tiny_bert, together=False))
    tasks, until = files / ".shared.together", time.monotonic() + 120
    first = start(files, "shared", tiny_bert, together=True, pause=8)
    try:
        while not list(tasks.glob("*/triplets/00000")):
            assert time.monotonic() < until
            time.sleep(0.05)
        second = start(files, "shared", tiny_bert, together=True)
        assert "Another process leads" in second.stderr.readline()
    finally:
        first.send_signal(signal.SIGKILL)
        first.communicate()
    said = done(second)
    assert "triplets: did" in said
    assert re.search(r"triplets: [1-9]\d* of \d+ shards are done, of a process that led", said)
    assert contents(files / "shared") == contents(files / "alone")
    assert not list(files.glob(".shared*"))


class Squares:
    """The square of each unit's number, in a file."""

    kind = name = title = "squares"
    unit = "numbers"

    def __init__(self, folder, units=5):
        self.folder, self.units, self.did = folder, units, []

    def do(self, unit, to):
        self.did.append(unit)
        to.write_text(str(unit * unit))

    def save(self, folder):
        return {"units": self.units}

    def adopt(self, facts):
        self.units = facts["units"]


def work_at(folder, key="key", **openers):
    return SharedWork(folder / "corpus", key, openers, Progress(quiet=True))


def stopped(work, task):
    """The exception of a process that is stopped when it has done a task."""
    return KeyboardInterrupt(work.share(task))


def test_units_that_an_earlier_process_did_are_not_done_again(tmp_path):
    work = work_at(tmp_path)
    with pytest.raises(KeyboardInterrupt), work.leading():
        raise stopped(work, Squares(tmp_path))
    left = work.tasks / "squares"
    dead = left / ".work.elsewhere-77"
    dead.mkdir()
    os.utime(dead, (1, 1))
    (left / own_name("00009")).touch()
    task = Squares(tmp_path, units=7)
    with work.leading():
        results = work.share(task)
        assert [path.read_text() for path in results] == ["0", "1", "4", "9", "16"]
        assert not dead.exists()  # of a dead process
        assert (left / own_name("00009")).exists()  # of this one
    assert task.did == []  # the units of the one that led before, all of which are done
    assert list(tmp_path.iterdir()) == []


def test_a_unit_that_fails_leaves_nothing(tmp_path):
    class Failing(Squares):
        def do(self, unit, to):
            super().do(unit, to)
            if unit == 2:
                raise ValueError("no square")

    with pytest.raises(ValueError, match="no square"):
        alone(Failing(tmp_path / "work"))
    assert sorted(path.name for path in (tmp_path / "work").iterdir()) == ["00000", "00001"]


@pytest.mark.parametrize("offers", [True, False])
def test_what_would_fail_again_leaves_no_folder(tmp_path, offers):
    work = work_at(tmp_path)

    def fail():
        if offers:
            work.share(Squares(tmp_path))
        return UserError("no triplet can be made")

    with pytest.raises(UserError, match="no triplet"), work.leading():
        raise fail()
    assert list(tmp_path.iterdir()) == []


def test_what_is_offered_under_another_key_is_left_alone(tmp_path):
    work = work_at(tmp_path)
    with pytest.raises(KeyboardInterrupt), work.leading():
        raise stopped(work, Squares(tmp_path))
    other = work_at(tmp_path, "other")
    with pytest.raises(ValueError, match="wrong"), other.leading():
        raise ValueError("wrong")
    with other.leading():
        pass
    assert (work.tasks / "squares" / "00004").read_text() == "16"
    remove_abandoned(tmp_path / "corpus")
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_begun_again_while_what_was_offered_is_removed(tmp_path, monkeypatch):
    """A result that is gone already, and a task that is still there, would be a unit to do."""
    work = work_at(tmp_path, squares=lambda folder, facts: pytest.fail("it was opened"))
    found = []

    def removed(path, **_):
        found.append((path, list(work.tasks.glob(f"*/{FACTS}"))))

    with work.leading():
        work.share(Squares(tmp_path))
        monkeypatch.setattr(shared_work.shutil, "rmtree", removed)
    assert found == [(work.tasks, [])]
    assert not work._help()


def test_a_task_that_is_half_written_is_not_opened(tmp_path):
    work = work_at(tmp_path, squares=lambda folder, facts: pytest.fail("it was opened"))
    (work.tasks / ".squares").mkdir(parents=True)
    (work.tasks / ".squares" / FACTS).touch()
    assert not work._help()


def test_a_place_that_cannot_be_written_is_one_message(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot be written"), work_at(tmp_path / "file").leading():
        pass


def test_one_holder_has_a_lock_and_not_one_of_a_file_that_was_removed(tmp_path, monkeypatch):
    path = tmp_path / "a.lock"
    first, second = Lock(path), Lock(path)
    assert first.take()
    assert not second.take()
    first.give_up()
    opened = os.open

    def remove_then_lock(*words):
        file = opened(*words)
        path.unlink()
        return file

    monkeypatch.setattr(shared_work.os, "open", remove_then_lock)
    assert not second.take()
    monkeypatch.undo()
    assert second.take()
    assert not Lock(tmp_path / "none" / "a.lock").take()


def test_joined_shards_are_the_store_that_is_written_at_once(tmp_path, tiny_bert):
    tokenizer, papers = TextTokenizer.load(tiny_bert), small_papers(50)
    whole = tmp_path / "whole"
    write_token_store(whole, tokenizer, InputFormat(), papers, shard_papers=16, name="a")
    shards = [tmp_path / str(first) for first in range(0, 50, 16)]
    for first, shard in zip(range(0, 50, 16), shards, strict=True):
        part = papers[first : first + 16]
        write_token_store(
            shard, tokenizer, InputFormat(), part, shard_papers=16, first=first, name="b"
        )
    for name in ("once", "again"):  # whoever leads next joins them once more
        join_stores(shards, tmp_path / name, "a")
        assert contents(tmp_path / name) == contents(whole)
        shutil.rmtree(tmp_path / name)
    assert len(TokenStore.open(shards[-1])) == 2


def test_the_job_array_runs_the_command_it_is_given(tmp_path):
    train = tmp_path / "train"
    train.write_text('#!/bin/sh\necho "$OMP_NUM_THREADS $@"\n')
    train.chmod(0o755)
    job = ROOT / "configs" / "machine" / "prepare.sbatch"
    ran = subprocess.run(
        ["bash", str(job), "-c", "specter", "--to", "corpus"],
        cwd=tmp_path,
        env={**os.environ, "SLURM_CPUS_PER_TASK": "8"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert ran.stdout == "8 prepare --together --memory 40GB -c specter --to corpus\n"
