"""Several processes that prepare one corpus together make what one process makes."""

import hashlib
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sciembed_train.corpus.shared_work import SharedWork, alone
from sciembed_train.progress import Progress
from tests.helpers.processes import ROOT

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


def test_two_processes_make_the_corpus_of_one(files, tiny_bert):
    done(start(files, "alone", tiny_bert, together=False))
    processes = [start(files, "shared", tiny_bert, together=True, pause=0.3) for _ in range(2)]
    said = [done(process) for process in processes]
    assert contents(files / "shared") == contents(files / "alone")
    leads = ["Another process leads" in text for text in said]
    assert sorted(leads) == [False, True]
    helper = said[leads.index(True)]
    for name in ("triplets: did", "tokens-", "part_tokens-"):
        assert name in helper
    assert {path.name for path in files.iterdir()} == {
        *("papers.jsonl", "citations.csv", "alone", "shared"),
    }


def test_when_the_leader_is_killed_another_one_finishes_what_it_began(files, tiny_bert):
    done(start(files, "alone", tiny_bert, together=False))
    tasks, until = files / ".shared.together", time.monotonic() + 120
    first = start(files, "shared", tiny_bert, together=True, pause=8)
    try:
        while not (units := list(tasks.glob("*/triplets/*.npz"))):
            assert time.monotonic() < until
            time.sleep(0.05)
        second = start(files, "shared", tiny_bert, together=True)
        assert "Another process leads" in second.stderr.readline()
        before = units[0].stat()
    finally:
        first.send_signal(signal.SIGKILL)
        first.communicate()
    assert "triplets: did" in done(second)
    assert before.st_size
    assert contents(files / "shared") == contents(files / "alone")
    assert not list(files.glob(".shared*"))


class Squares:
    """The square of each unit's number, in a file."""

    kind, name, unit = "squares", "squares", "numbers"

    def __init__(self, folder, units=5):
        self.folder, self.units, self.did = folder, units, []

    def result(self, unit):
        return self.folder / f"{unit:05d}"

    def do(self, unit, to):
        self.did.append(unit)
        to.write_text(str(unit * unit))

    def save(self, folder):
        return {"units": self.units}

    def adopt(self, facts):
        self.units = facts["units"]


def stop_after(results):
    return KeyboardInterrupt(results)


def test_units_that_an_earlier_process_did_are_not_done_again(tmp_path):
    work = SharedWork(tmp_path / "corpus", "key", {}, Progress(quiet=True))
    killed = work.leading()
    with pytest.raises(KeyboardInterrupt), killed:
        raise stop_after(work.share(Squares(tmp_path)))
    task = Squares(tmp_path, units=7)
    with work.leading():
        results = work.share(task)
        assert [path.read_text() for path in results] == ["0", "1", "4", "9", "16"]
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


def test_what_fails_before_anything_is_offered_leaves_no_folder(tmp_path):
    work = SharedWork(tmp_path / "corpus", "key", {}, Progress(quiet=True))
    with pytest.raises(ValueError, match="wrong file"), work.leading():
        raise ValueError("wrong file")
    assert list(tmp_path.iterdir()) == []
