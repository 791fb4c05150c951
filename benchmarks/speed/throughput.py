"""Training triplets per second of this project, of the sentence-transformers trainer, of a loop.

All sides train the same encoder on the same triplets in the same order with the same loss
(triplet margin 1, Euclidean, CLS), learning rate, AdamW, clipping at 1 and dropout, and texts cut
at the same length (256 tokens on a processor, 512 on a GPU). Each measurement is a process of its
own; the sides take turns, so that a busy moment of the machine falls on all of them.

``ours``   this project, its defaults
``compiled``  the same with ``encoder.compile``; left out on a processor unless it is named
``st``     the sentence-transformers trainer with its defaults: three forward passes a step (two
           from version 6 on), each padded to its longest text, tokenised in the training loop
``best``   the same on a GPU with what makes it fastest: texts without padding through flash
           attention where that is installed, tokenised in four processes
``plain``  a loop of ten lines over transformers: three padded forward passes, no trainer

    python -m benchmarks.speed.throughput --data ../shared/data [--rows minilm-32 ...] [--to FILE]

``--texts collections``: every paper with an abstract of seven collections, in triplets that share
no paper, so that encoding each paper once gains nothing. ``abstracts``: without the two
collections of shorter abstracts. ``cacm``: the triplets that SPECTER's rules mine from CACM's
citations; half of its papers have no abstract.

Prints one table: triplets per second and this project's ratio to each side (median over the rounds,
with the range), share of the computed tokens that are real, on a GPU the share of its bf16 peak
that real tokens use if each goes through every layer (the peak is that of the product of two
8192 x 8192 matrices of random numbers, measured here), peak memory, and the largest difference of
the loss curves. A side that has not
memory enough gets that printed, not a ratio.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from benchmarks import command_line
from benchmarks.encoders import minilm
from benchmarks.speed.training_baselines import (
    max_length,
    on_gpu,
    run_ours,
    run_plain,
    run_st,
    texts_of,
    unpadded,
)
from benchmarks.texts import distinct_triplets, lines, real_papers

# name: (encoder, triplets a step, timed steps, dropout)
ROWS = {
    "dry": ("minilm", 4, 1, 0.0),  # to see that it runs
    "minilm-32": ("minilm", 32, 4, 0.0),
    "minilm-128": ("minilm", 128, 2, 0.0),
    "scibert-shape-8": ("scibert-shape", 8, 3, 0.0),
    "scibert-shape-32": ("scibert-shape", 32, 20, 0.0),
    "scibert-shape-128": ("scibert-shape", 128, 10, 0.0),
    "scibert-shape-1024": ("scibert-shape", 1024, 4, 0.0),
    "scibert-shape-32-dropout": ("scibert-shape", 32, 20, 0.1),
    "scibert-shape-128-dropout": ("scibert-shape", 128, 10, 0.1),
    "scibert-shape-1024-dropout": ("scibert-shape", 1024, 4, 0.1),
}
CPU_ROWS = ("minilm-32", "minilm-128", "scibert-shape-8")
GPU_ROWS = tuple(name for name in ROWS if name not in ("dry", *CPU_ROWS))
SHAPES = {"minilm": (6, 384), "scibert-shape": (12, 768)}  # layers, width


def backbone(name: str, dropout: float, folder: Path) -> Path:
    """A folder with the encoder: a packaged BERT, or random weights in SciBERT's shape."""
    from transformers import AutoTokenizer, BertConfig, BertModel

    target = folder / f"{name}-{dropout}"
    if target.exists():
        return target
    tokenizer = AutoTokenizer.from_pretrained(minilm())
    tokenizer.backend_tokenizer.no_truncation()
    tokenizer.backend_tokenizer.no_padding()
    tokenizer.model_max_length = 512
    if name == "minilm":
        model = BertModel.from_pretrained(minilm())
    else:
        import torch

        torch.manual_seed(0)
        model = BertModel(BertConfig(vocab_size=len(tokenizer)))
    model.config.hidden_dropout_prob = dropout
    model.config.attention_probs_dropout_prob = dropout
    model.save_pretrained(target)
    tokenizer.save_pretrained(target)
    return target


def flops(lengths: np.ndarray, shape: str) -> float:
    """Multiplications and additions of a training step over texts of these lengths.

    As if every layer were computed for every token, whatever a side leaves out.
    """
    layers, width = SHAPES[shape]
    n = lengths.astype(np.float64)
    return 3 * layers * float((24 * width**2 * n + 4 * width * n**2).sum())


def worker(job: dict) -> None:
    import warnings

    import torch

    warnings.filterwarnings("ignore")
    run = {"ours": run_ours, "compiled": run_ours, "plain": run_plain}.get(job["side"], run_st)
    try:
        result = run(job)
    except torch.OutOfMemoryError:
        result = {"killed": True, "peak_gb": torch.cuda.max_memory_allocated() / 1e9}
    Path(job["result"]).write_text(json.dumps(result))


def measure(job: dict) -> dict:
    """Run one side in a process of its own."""
    result = Path(job["result"])
    result.unlink(missing_ok=True)
    done = subprocess.run(
        [sys.executable, "-m", __spec__.name, "--worker", json.dumps(job)],
        env={
            **os.environ,
            "HF_HUB_OFFLINE": "1",
            "WANDB_MODE": "disabled",
            "GOMP_SPINCOUNT": "10000",  # what this project's command line sets, for both sides
        },
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    if not result.exists():
        if done.returncode in (-9, 137):
            return {"killed": True, "peak_gb": None}
        raise SystemExit(f"{job['side']} failed ({done.returncode}):\n{done.stderr[-3000:]}")
    return json.loads(result.read_text())


def prepare_inputs(data: Path, texts: str, folder: Path) -> tuple[Path, np.ndarray | None]:
    """A papers file, and triplets in which no paper appears twice (None: to be mined)."""
    if texts == "cacm":
        return data / "cacm" / "papers.jsonl", None
    papers = real_papers(data)
    if texts == "collections":
        for name in ("cisi", "cacm"):
            more = lines(data / name / "papers.jsonl")
            papers += [
                {"paper_id": str(len(papers) + i), "title": p["title"], "abstract": p["abstract"]}
                for i, p in enumerate(p for p in more if p.get("title") and p.get("abstract"))
            ]
    path = folder / "papers.jsonl"
    path.write_text("".join(json.dumps(p) + "\n" for p in papers))
    return path, distinct_triplets(len(papers), len(papers) // 3, seed=0)


def make_corpus(papers: Path, triplets: np.ndarray | None, tokenizer: Path, target: Path) -> Path:
    """The corpus of the given triplets, or of those mined from citations, through ``prepare``."""
    from sciembed_train.corpus.build import prepare
    from sciembed_train.corpus.prepare_settings import PrepareSettings

    if triplets is None:
        return prepare(
            PrepareSettings(papers=papers, citations=papers.with_name("citations.tsv"),
                            to=target, tokenizer=tokenizer)
        ).folder  # fmt: skip
    pairs = target.parent / "triplets.csv"
    rows = [",".join(map(str, row)) for row in triplets]
    pairs.write_text("\n".join(["query,positive,negative", *rows]) + "\n")
    if not target.exists():
        prepare(
            PrepareSettings(papers=str(papers), pairs=str(pairs), to=str(target),
                            tokenizer=str(tokenizer), dev_share=0.0, test_share=0.0)
        )  # fmt: skip
    return target


def epoch_order(corpus: Path) -> np.ndarray:
    """The triplets in the order in which the project meets them in its first epoch."""
    from sciembed_train.corpus.store.corpus_folder import Corpus
    from sciembed_train.sampling.plan import epoch_order as order

    triplets = Corpus.open(corpus).triplets("train")
    return np.asarray(triplets)[order(len(triplets), seed=0, epoch=0)]


SIDES = ("ours", "compiled", "st", "best", "plain")
GPU_SIDES = ("compiled", "best")


def default_sides() -> list[str]:
    """All that this machine is for; what cannot be compiled is said."""
    from sciembed_train.encoder.unpadded.bert import Bert
    from sciembed_train.encoder.unpadded.compiled_layer import compiled_on
    from sciembed_train.errors import UserError

    if not on_gpu():
        return [side for side in SIDES if side not in GPU_SIDES]
    try:
        compiled_on("cuda", Bert.after_attention)
    except UserError as error:
        print(f"without the side compiled: {error}", file=sys.stderr)
        return [side for side in SIDES if side != "compiled"]
    return list(SIDES)


def lengths_of(job: dict, texts: list[str]) -> np.ndarray:
    """Tokens of every text, cut as it is trained."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(job["backbone"])
    sizes = [len(tokenizer(text)["input_ids"]) for text in texts]
    return np.minimum(np.array(sizes), max_length())


def summary(name: str, job: dict, found: dict[str, list[dict]], peak: float | None) -> list[str]:
    """A line for each side of a row."""
    shape = ROWS[name][0]
    texts = texts_of(job)
    order = np.load(job["order"])[: job["batch"] * (job["steps"] + 1)]
    lengths = lengths_of(job, texts)
    work = flops(lengths[order.ravel()], shape) / len(order)  # of a triplet
    middle = statistics.median
    ours = [r.get("triplets_per_second") for r in found.get("ours", [{}])]
    made = []
    for side, results in found.items():
        if any(r.get("killed") for r in results):
            memory = results[0]["peak_gb"]
            said = f"{memory:.1f} (too little)" if memory else "more than there is"
            made.append(
                f"| {name} | {job['precision']} | {side} | out of memory | - | - | - | {said} | - |"
            )
            continue
        rates = [r["triplets_per_second"] for r in results]
        if side == "ours" or None in ours:
            ratio = "-"
        else:
            ratios = [a / b for a, b in zip(ours, rates, strict=True)]
            ratio = f"{middle(ratios):.2f} ({min(ratios):.2f}-{max(ratios):.2f})"
        useful = results[0]["useful"]
        share = "-" if peak is None else f"{middle(rates) * work / peak:.2f}"
        apart = "-"
        if side != "ours" and not job["dropout"] and None not in ours:
            curves = [np.array(r[0]["losses"]) for r in (found["ours"], results)]
            apart = f"{np.abs(curves[0] - curves[1]).max():.1e}"
        cells = [
            name, job["precision"], side, f"{middle(rates):.2f}", ratio,
            "-" if useful is None else f"{useful:.2f}", share,
            f"{max(r['peak_gb'] for r in results):.1f}", apart,
        ]  # fmt: skip
        made.append("| " + " | ".join(cells) + " |")
    return made


def heading(peak: float | None) -> list[str]:
    """The machine, and the head of the table."""
    import torch

    device = torch.cuda.get_device_name() if on_gpu() else "no GPU"
    where = f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, {device}"
    where += f", torch {torch.__version__}"
    if peak is not None:
        where += f"; bf16 peak {peak / 1e12:.0f} TFLOP/s; unpadded st: {unpadded() is not None}"
    head = (
        "| row | precision | side | triplets/s | ours is faster (range) | useful tokens | "
        "share of bf16 peak | peak GB | largest loss difference |"
    )
    return [where, "", head, "|" + "---|" * 9]


def main() -> None:
    parser = command_line.parser(__doc__)
    parser.add_argument("--worker")
    parser.add_argument("--data", type=Path)
    parser.add_argument(
        "--texts", choices=("collections", "abstracts", "cacm"), default="collections"
    )
    parser.add_argument("--rows", nargs="+", choices=list(ROWS), help="those of the device")
    parser.add_argument("--precisions", nargs="+", default=["fp32", "bf16"])
    parser.add_argument(
        "--sides", nargs="+", choices=SIDES, help=f"all; on a processor not {GPU_SIDES}"
    )
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--steps", type=int, help="timed steps a round, instead of the row's own")
    parser.add_argument("--to", type=Path, help="also write the table and the raw numbers here")
    args = parser.parse_args()
    if args.worker:
        worker(json.loads(args.worker))
        return

    import torch

    from sciembed_train.corpus.store.corpus_folder import Corpus
    from sciembed_train.encoder.profiling.flops import bf16_peak

    folder = Path(tempfile.mkdtemp(prefix="throughput-"))
    papers, triplets = prepare_inputs(args.data.resolve(), args.texts, folder)
    sides = args.sides or default_sides()
    peak = bf16_peak(torch.device("cuda")) if on_gpu() else None
    raw, rows = [], heading(peak)
    print("\n".join(rows), flush=True)
    for name in args.rows or (GPU_ROWS if on_gpu() else CPU_ROWS):
        shape, batch, steps, dropout = ROWS[name]
        model = backbone(shape, dropout, folder)
        corpus = make_corpus(papers, triplets, model, folder / f"corpus-{shape}")
        order = folder / f"order-{shape}.npy"
        # The corpus numbers its papers; the peers read them by their place in the file.
        found_lines = papers.read_text(encoding="utf-8").splitlines()
        in_file = {json.loads(line)["paper_id"]: i for i, line in enumerate(found_lines)}
        place = np.array([in_file[i] for i in Corpus.open(corpus).paper_ids()])
        np.save(order, place[epoch_order(corpus)])
        for precision in args.precisions:
            job = {
                "backbone": str(model), "corpus": str(corpus), "papers": str(papers),
                "order": str(order), "batch": batch, "steps": args.steps or steps,
                "precision": precision, "dropout": dropout,
                "result": str(folder / "result.json"), "scratch": str(folder / "scratch"),
            }  # fmt: skip
            found: dict[str, list[dict]] = {side: [] for side in sides}
            for turn in range(args.rounds):
                for side in sides if turn % 2 == 0 else sides[::-1]:
                    found[side].append(measure({**job, "side": side}))
                    raw.append({"row": name, "precision": precision, "side": side,
                                **found[side][-1]})  # fmt: skip
                    print(json.dumps(raw[-1]), file=sys.stderr)
            rows += (made := summary(name, job, found, peak))
            print("\n".join(made), flush=True)
    if args.to:
        raw_numbers = "\n".join(map(json.dumps, raw))
        args.to.write_text("\n".join(rows) + f"\n\n```json\n{raw_numbers}\n```\n")


if __name__ == "__main__":
    main()
