"""Kill training runs at random moments and continue them: is anything lost?

    python -m benchmarks.faults.kills --to FOLDER [--kills 20] [--methods specter] [--tmpdir DIR]

For each method a synthetic collection is trained twice from the same corpus and seed: once without
interruption, and once in processes that get SIGKILL after a random time and are continued with
``--ckpt_path last``; when there were so many kills, the run may end. A time is drawn from the
seconds until the first step and the `WITHIN` steps after it, checkpoints among them. Then the two
are compared: every tensor of the weights and of AdamW's state, and every loss of ``metrics.csv``,
bit by bit. ``--tmpdir`` is TMPDIR of the runs; give one on another file system, as clusters have.
The table names what was left there.

A step is *made again* that was logged before a kill and is after its last checkpoint. *Back* is the
time from the start of a continued run to the first step that it logs, the import of torch included.
"""

from __future__ import annotations

import csv
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import command_line

STEPS, EVERY, VALIDATION = 500, 10, 40
WITHIN = 25  # steps after the first, in which a process is killed
# The recipe of each method, and what of the collection it is given.
METHODS: dict[str, tuple[str, ...]] = {
    "specter": ("-c", "specter"),
    "specter2_base": ("-c", "specter2_base"),
    "specter2_adapters": (
        *("-c", "specter2_adapters", "--model.encoder.adapters.formats"),
        "[classification, regression, proximity]",
    ),
    "own_citations": ("-c", "own_citations"),
    "cocite": (
        *("-c", "aspire_cocite_compsci_spec"),
        *("--data.cocitation_mining.cocitations_from", "references"),
    ),
    "ot_aspire": (
        *("-c", "aspire_ot_compsci"),
        *("--data.cocitation_mining.cocitations_from", "references"),
    ),
    "declutr": (
        *("-c", "declutr_base", "--data.sampling.max_span", "24", "--data.sampling.min_span", "8"),
        *("--data.sampling.short_documents", "adapt"),
    ),
}  # fmt: skip
TIMED = ("tokens_per_second", "time", "memory", "peak")  # columns that differ from run to run


@dataclass
class Outcome:
    """Of one method: what was counted."""

    kills: int = 0
    without_checkpoint: int = 0
    made_again: list[int] = field(default_factory=list)
    back: list[float] = field(default_factory=list)
    unequal: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)


def collection(folder: Path, layers: int = 2, width: int = 64) -> dict[str, Path]:
    """A synthetic collection, its abstracts as documents, and an untrained BERT of 4 heads."""
    from sciembed_train.synthetic import (
        SyntheticSettings,
        train_tokenizer,
        write_bert,
        write_collection,
    )

    made = write_collection(folder / "synthetic", SyntheticSettings(papers=400))
    papers = folder / "synthetic" / "papers.jsonl"
    texts = [json.loads(line) for line in papers.read_text().splitlines()]
    documents = folder / "synthetic" / "documents.jsonl"
    rows = (
        {"paper_id": p["paper_id"], "text": f"{p['title']} {p['abstract']} " * 3} for p in texts
    )
    documents.write_text("".join(json.dumps(row) + "\n" for row in rows))
    words = [f"{p['title']} {p['abstract']}" for p in texts]
    write_tasks(folder / "tasks", texts)
    tokenizer = train_tokenizer(words, 1000)
    write_bert(folder / "backbone", tokenizer, layers=layers, width=width, heads=4)
    del made
    return {
        "papers": papers,
        "citations": folder / "synthetic" / "citations.tsv",
        "documents": documents,
        "tasks": folder / "tasks" / "tasks.json",
        "backbone": folder / "backbone",
    }


def write_tasks(folder: Path, papers: list[dict[str, Any]]) -> None:
    """Three tasks in SciRepEval's form: a class, a number, and triplets of papers."""
    folder.mkdir()
    records = [
        {"corpus_id": i, "title": p["title"], "abstract": p["abstract"]}
        for i, p in enumerate(papers)
    ]
    classed = [{**r, "kind": "abc"[i % 3], "size": i / len(records)} for i, r in enumerate(records)]
    thirds = zip(records, records[1:], records[2:], strict=False)
    triplets = [{"query": q, "pos": p, "neg": n} for q, p, n in thirds]
    for name, rows in (("records", classed), ("triplets", triplets)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "labels.txt").write_text("a\nb\nc\n")
    one, three = {"train": "records.jsonl"}, {"train": "triplets.jsonl"}
    tasks = [
        {"name": "kind", "type": "classification", "labels": "labels.txt", "labels_field": "kind"},
        {"name": "size", "type": "regression", "labels_field": "size"},
        {"name": "papers", "type": "triplet"},
    ]
    codes = (("[CLF]", one), ("[RGN]", one), ("[PRX]", three))
    for task, (code, data) in zip(tasks, codes, strict=True):
        task |= {"ctrl_token": code, "data_files": data}
    (folder / "tasks.json").write_text(json.dumps(tasks))


def data_of(method: str, files: dict[str, Path]) -> tuple[str, ...]:
    """What of the collection a method is trained on."""
    if method == "declutr":
        return ("--data.fulltexts", str(files["documents"]))
    if method == "specter2_adapters":
        return ("--data.tasks", str(files["tasks"]))
    return ("--data.papers", str(files["papers"]), "--data.citations", str(files["citations"]))


def words_of(method: str, files: dict[str, Path], root: Path, run: str, steps: int) -> list[str]:
    """The command line of a run."""
    return [
        *(sys.executable, "-m", "sciembed_train.cli", "fit", *METHODS[method]),
        *data_of(method, files),
        *("--model.encoder.backbone", str(files["backbone"]), "--model.encoder.max_length", "64"),
        *("--data.batch_size", "8", "--trainer.max_epochs", "-1"),
        *("--trainer.max_steps", str(steps), "--trainer.val_check_interval", str(VALIDATION)),
        *("--trainer.num_sanity_val_steps", "0", "--trainer.log_every_n_steps", "1"),
        *("--trainer.accelerator", "cpu", "--trainer.devices", "1", "--verdict", "off"),
        *("--checkpoint.every", str(EVERY), "--no_export", "--root", str(root), "--run", run),
    ]


def step_of(run: Path) -> int | None:
    """The step of a run's ``last.ckpt``, None where there is none yet."""
    import torch

    path = run / "last.ckpt"
    return torch.load(path, weights_only=True, mmap=True)["global_step"] if path.exists() else None


def table_of(run: Path) -> tuple[int, int]:
    """Which file a run's ``metrics.csv`` is (a continued run writes another), and its last step."""
    path = run / "metrics.csv"
    if not path.exists():
        return 0, 0
    last = path.read_text().rpartition("\n")[0].rpartition("\n")[2].split(",")[0]
    return path.stat().st_ino, int(last) if last.isdecimal() else 0


def timed(words: list[str], run: Path, steps: int) -> tuple[float, float]:
    """Make a whole run; returns the seconds until its first step, and those of a step."""
    started, begin = time.monotonic(), None
    with (run.parent / f"{run.name}.log").open("w+") as log:
        process = subprocess.Popen(words, stdout=log, stderr=log)
        while process.poll() is None:
            time.sleep(0.05)
            if begin is None and table_of(run)[1]:
                begin = time.monotonic() - started
        if process.returncode != 0 or begin is None:
            log.seek(0)
            raise RuntimeError(f"{run.name}: {log.read()[-3000:]}")
    return begin, (time.monotonic() - started - begin) / steps


def kill_and_continue(
    words: list[str], run: Path, kills: int, latest_kill: float, tmpdir: Path, seed: int
) -> Outcome:
    """Kill a run so often, each time after at most so many seconds, and let it end."""
    random, outcome = np.random.default_rng(seed), Outcome()
    environment = {**os.environ, "TMPDIR": str(tmpdir)}
    while True:
        step = step_of(run)
        if step is None:
            shutil.rmtree(run, ignore_errors=True)  # begun and killed before its first checkpoint
        more = [] if step is None else ["--ckpt_path", "last"]
        log = (run.parent / f"{run.name}.log").open("a+b")
        before, _ = table_of(run)
        back = None
        size, started = log.seek(0, os.SEEK_END), time.monotonic()
        process = subprocess.Popen([*words, *more], stdout=log, stderr=log, env=environment)
        limit = random.uniform(0.1, 1.0) * latest_kill if outcome.kills < kills else 1e9
        while process.poll() is None and time.monotonic() - started < limit:
            time.sleep(0.05)
            if step is not None and back is None:
                file, latest = table_of(run)
                if file != before and latest > step:
                    back = time.monotonic() - started
                    outcome.back.append(back)
        if process.poll() is not None:
            log.seek(size)
            said = log.read().decode(errors="replace")
            if process.returncode != 0:
                raise RuntimeError(
                    f"a continued run ended with {process.returncode}:\n{said[-3000:]}"
                )
            break
        process.send_signal(signal.SIGKILL)
        process.wait()
        outcome.kills += 1
        saved = step_of(run)
        outcome.without_checkpoint += saved is None
        outcome.made_again.append(max(0, table_of(run)[1] - (saved or 0)))
    outcome.left = [p.name for p in tmpdir.iterdir()]
    outcome.left += [p.name for p in run.iterdir() if "partial" in p.name or p.name.startswith(".")]
    return outcome


def differences(one: Path, other: Path) -> list[str]:
    """What of two runs is not equal bit by bit, in ``last.ckpt`` and ``metrics.csv``."""
    import torch

    found: list[str] = []

    def compare(a: Any, b: Any, at: str) -> None:
        if isinstance(a, torch.Tensor):
            if not torch.equal(a, b):
                found.append(at)
        elif isinstance(a, dict):
            if a.keys() != b.keys():
                found.append(f"{at} (keys)")
            for key in a.keys() & b.keys():
                compare(a[key], b[key], f"{at}.{key}")
        elif isinstance(a, list | tuple):
            for i, (x, y) in enumerate(zip(a, b, strict=True)):
                compare(x, y, f"{at}.{i}")
        elif a != b:
            found.append(at)

    first, second = (torch.load(run / "last.ckpt", weights_only=True) for run in (one, other))
    for key in ("global_step", "state_dict", "optimizer_states"):
        compare(first[key], second[key], key)
    tables = []
    for run in (one, other):
        with (run / "metrics.csv").open() as file:
            tables.append(list(csv.DictReader(file)))
    if len(tables[0]) != len(tables[1]):
        found.append(f"metrics.csv ({len(tables[0])} rows and {len(tables[1])})")
    for row, again in zip(*tables, strict=False):
        for key, value in row.items():
            if value != again.get(key) and not any(name in key for name in TIMED):
                found.append(f"metrics.csv, step {row['step']}, {key}")
    return found


def main() -> None:
    """See the module."""
    parser = command_line.parser(__doc__)
    parser.add_argument("--to", type=Path, required=True)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--steps", type=int, default=STEPS, help="of a run; quick ones need more")
    parser.add_argument("--methods", nargs="*", default=list(METHODS), choices=list(METHODS))
    parser.add_argument("--tmpdir", type=Path, help="TMPDIR of the runs; TO/tmp by default")
    args = parser.parse_args()
    args.to.mkdir(parents=True)
    steps = args.steps
    files = collection(args.to)
    os.environ |= {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    print(f"{platform.processor() or platform.machine()}, Python {platform.python_version()}")
    columns = ("method", "kills", "of these before a checkpoint", "steps made again, most")
    columns += ("back after, median and most (s)", "not equal", "left behind")
    print(f"| {' | '.join(columns)} |")
    print("|---" * len(columns) + "|")
    for number, method in enumerate(args.methods):
        tmpdir = (args.tmpdir or args.to / "tmp") / method
        tmpdir.mkdir(parents=True)
        root = args.to / "runs"
        root.mkdir(exist_ok=True)
        first = words_of(method, files, root, f"{method}-first", steps=1)  # makes the corpus
        subprocess.run(first, capture_output=True, check=True)
        whole = root / f"{method}-whole"
        begin, step = timed(words_of(method, files, root, whole.name, steps), whole, steps)
        killed = words_of(method, files, root, f"{method}-killed", steps)
        run = root / f"{method}-killed"
        latest = begin + WITHIN * step
        outcome = kill_and_continue(killed, run, args.kills, latest, tmpdir, number)
        if outcome.kills < args.kills:
            raise RuntimeError(
                f"{method}: was done after {outcome.kills} kills: give more than --steps {steps}"
            )
        unequal = differences(whole, run)
        print(
            f"| {method} | {outcome.kills} | {outcome.without_checkpoint} "
            f"| {max(outcome.made_again)} of {steps} "
            f"| {np.median(outcome.back):.1f}, {max(outcome.back):.1f} "
            f"| {', '.join(unequal[:3]) or 'nothing'} | {', '.join(outcome.left) or 'nothing'} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
