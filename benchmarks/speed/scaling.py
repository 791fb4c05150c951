"""Work, gradients and bytes sent of 1, 2 and 4 gloo processes that share a step: one table.

    python -m benchmarks.speed.scaling --backbone FOLDER [--batch 8] [--steps 3]

Triplets are mined from an invented citation graph. Bytes are those that a process has written
during its steps (``wchar`` of /proc/self/io, where gloo's sockets count), beside what `doctor`
states; gloo shares sums out by summing them for all, which sends twice what NCCL's rings would,
and that is stated too. Gradients are of the first step, before clipping.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

import torch

from benchmarks import command_line
from benchmarks.speed.mining import write_inputs
from sciembed_train import distributed
from sciembed_train.encoder.encoder import EncoderSettings
from sciembed_train.encoder.layers import repeated_layers
from sciembed_train.methods.loss import Loss
from sciembed_train.methods.specter import Specter
from sciembed_train.optim_settings import OptimSettings
from sciembed_train.training.communication import Weights, summed, volumes

ROWS = ("triplets, ddp", "in-batch, ddp", "triplets, fsdp")


class Counted(Specter):
    """SPECTER that notes each step's bytes, CPU time and tokens, and its first gradient."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.notes: list[dict[str, Any]] = []

    def training_step(self, batch: Any, batch_idx: int) -> dict[str, Any]:
        """One step, and what it took."""
        sent, cpu = written(), time.process_time()
        made = super().training_step(batch, batch_idx)
        cost = time.process_time() - cpu
        self.notes.append(
            {"sent": written() - sent, "cpu": cost, "tokens": batch.rows.tokens, "n": len(batch)}
        )
        return made

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Note the first gradient."""
        if "first" not in self.__dict__:
            grads = [p.grad for p in self.parameters() if p.grad is not None]
            self.first = torch.cat([distributed.full_tensor(g).flatten() for g in grads])
        super().on_before_optimizer_step(optimizer)


class InBatch(Counted):
    """Each query's positive among the positives of all ranks."""

    def loss(self, batch: Any) -> Loss:
        """Cross-entropy over distances to everybody's positives."""
        vectors = self.encoder(batch.rows)
        everyone = distributed.gather(vectors[batch.positive])
        labels = torch.arange(len(batch)) + distributed.rank() * len(batch)
        scores = -torch.cdist(vectors[batch.anchor], everyone)
        return Loss(torch.nn.functional.cross_entropy(scores, labels), {})


def written() -> int:
    """Bytes this process has written so far, to sockets too."""
    line = next(x for x in Path("/proc/self/io").read_text().splitlines() if x[:5] == "wchar")
    return int(line.split()[1])


def worker(job: dict) -> None:
    """One rank: trains each row, and writes what it noted."""
    torch.set_num_threads(1)
    told = {row: train(row, job) for row in ROWS}
    rank = distributed.rank()
    notes = {row: {"notes": m.notes[1:], "weights": w.__dict__} for row, (m, w) in told.items()}
    Path(job["to"], f"{rank}.json").write_text(json.dumps(notes))
    if rank == 0:
        gradients = {row: method.first for row, (method, _) in told.items()}
        torch.save(gradients, Path(job["to"], "gradients"))
    distributed.barrier()
    os._exit(0)  # gloo's threads now and then outlive their group


def train(row: str, job: dict) -> tuple[Counted, Weights]:
    """A trained method with what it noted, and its numbers of parameters."""
    from sciembed_train.sampling.data_module import TrainingData
    from sciembed_train.sampling.data_settings import DataSettings
    from sciembed_train.training.trainer import RunTrainer

    kind, strategy = row.split(", ")
    torch.manual_seed(0)
    forward = "padded"  # the same work in every row
    settings = EncoderSettings(
        job["backbone"], max_length=128, dropout=0.0, forward=forward, max_tokens_per_forward=10**9
    )
    optim = OptimSettings(lr=1e-5, schedule="constant")
    method = (Counted if kind == "triplets" else InBatch)(
        settings, optim, max_tokens_per_backward=None
    )
    data = TrainingData.open(
        DataSettings(corpus=job["corpus"], batch_size=job["batch"]), job["backbone"], 128
    )
    trained = sum(p.numel() for p in method.parameters() if p.requires_grad)
    inner = sum(p.numel() for x in repeated_layers(method.encoder.backbone) for p in x.parameters())
    every = sum(p.numel() for p in method.parameters())
    weights = Weights(trained, inner, every, method.encoder.dim)
    trainer = RunTrainer(
        max_steps=job["steps"] + 1,
        max_epochs=-1,
        accelerator="cpu",
        precision="32-true",
        devices=job["ranks"],
        strategy=strategy if job["ranks"] > 1 else "auto",
        limit_val_batches=0,
        use_distributed_sampler=False,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(method, data)
    return method, weights


def measure(job: dict) -> tuple[list[dict], dict[str, torch.Tensor]]:
    """What each rank noted of each row, and each row's first gradient."""
    with tempfile.TemporaryDirectory() as folder:
        told = json.dumps({**job, "to": folder})
        launch = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
        launch += [f"--nproc_per_node={job['ranks']}", "-m", __spec__.name, "--worker", told]
        subprocess.run(launch, check=True, stdout=subprocess.DEVNULL)
        ranks = [json.loads(Path(folder, f"{r}.json").read_text()) for r in range(job["ranks"])]
        return ranks, torch.load(Path(folder, "gradients"), weights_only=True)


def stated(weights: Weights, row: str, batch: int, ranks: int) -> tuple[int, int]:
    """Bytes a step as `doctor` states them, and the same with gloo's way to share sums out."""
    if ranks == 1:
        return 0, 0
    shared = row.endswith("fsdp")
    parts = volumes(weights, batch if row.startswith("in-batch") else 0, ranks, shared)
    total = sum(part.sent for part in parts)
    extra = summed(4 * weights.trained, ranks) // 2 if shared else 0
    return total, total + extra


def mean(values: list[float]) -> float:
    return sum(values) / len(values)


def main() -> None:
    parser = command_line.parser(__doc__)
    parser.add_argument("--backbone", type=Path)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--ranks", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        worker(json.loads(args.worker))
        return
    from sciembed_train.corpus.build import prepare
    from sciembed_train.corpus.prepare_settings import PrepareSettings
    from sciembed_train.progress import Progress

    backbone = str(args.backbone.resolve())
    print(
        "| row | ranks | triplets a rank | tokens a rank (least, most) | CPU s a rank and step | "
        "MB sent by a rank in a step | stated | stated for gloo | gradient, relative difference |"
    )
    print("|" + "---|" * 9)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        papers, citations = write_inputs(folder, 2000, 20000, 60)
        settings = partial(PrepareSettings, papers=str(papers), citations=str(citations))
        corpus = prepare(settings(to=str(folder / "corpus"), tokenizer=backbone), Progress(True))
        reference: dict[str, torch.Tensor] = {}
        for ranks in args.ranks:
            job = {"ranks": ranks, "backbone": backbone, "batch": args.batch}
            job |= {"corpus": str(corpus.folder), "steps": args.steps}
            found, gradients = measure(job)
            for row in ROWS:
                one = reference.setdefault(row, gradients[row])
                apart = ((gradients[row] - one).abs().max() / one.abs().max()).item()
                notes = [note for rank in found for note in rank[row]["notes"]]
                tokens = [note["tokens"] for note in notes]
                said = stated(Weights(**found[0][row]["weights"]), row, args.batch, ranks)
                cells = [
                    row, str(ranks), str(notes[0]["n"]), f"{min(tokens):,}-{max(tokens):,}",
                    f"{mean([note['cpu'] for note in notes]):.2f}",
                    f"{mean([note['sent'] for note in notes]) / 1e6:.3f}",
                    *(f"{size / 1e6:.3f}" for size in said), f"{apart:.1e}",
                ]  # fmt: skip
                print("| " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
