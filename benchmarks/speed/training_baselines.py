"""The sides of `throughput`: one process trains a few steps and says how fast.

What each side is, `throughput` says.
"""

from __future__ import annotations

import json
import resource
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

if TYPE_CHECKING:
    import torch

LEARNING_RATE = 2e-5


def on_gpu() -> bool:
    import torch

    return torch.cuda.is_available()


def max_length() -> int:
    return 512 if on_gpu() else 256


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

    def report(self, batch: int, useful: float | None, losses: list[float]) -> dict:
        """What one process hands to the table."""
        import torch

        steps = len(self.stamps) - 1  # the first stamp closes the warm-up step
        seconds = self.stamps[-1] - self.stamps[0]
        peak = (
            torch.cuda.max_memory_allocated()
            if on_gpu()
            else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        )
        return {
            "triplets_per_second": steps * batch / seconds,
            "useful": useful,
            "peak_gb": peak / 1e9,
            "losses": losses,
        }


def texts_of(job: dict) -> list[str]:
    """Title and abstract of every paper as one text."""
    papers = [json.loads(line) for line in Path(job["papers"]).read_text().splitlines()]
    return [" [SEP] ".join(filter(None, (p["title"], p["abstract"]))) for p in papers]


def unpadded() -> dict | None:
    """The arguments with which sentence-transformers leaves padding out; None where it cannot."""
    import importlib.util

    import transformers

    if importlib.util.find_spec("flash_attn") and int(transformers.__version__.split(".")[0]) >= 5:
        return {"attn_implementation": "flash_attention_2"}
    return None


def run_st(job: dict) -> dict:
    """The sentence-transformers trainer, with its defaults or with its fastest settings."""
    from datasets import Dataset
    from sentence_transformers import (
        SentenceTransformer,
        SentenceTransformerTrainer,
        SentenceTransformerTrainingArguments,
    )
    from sentence_transformers.base.sampler import DefaultBatchSampler
    from sentence_transformers.sentence_transformer import modules
    from sentence_transformers.sentence_transformer.losses import TripletLoss
    from torch.utils.data import SequentialSampler
    from transformers import TrainerCallback

    best = job["side"] == "best"
    texts, order = texts_of(job), np.load(job["order"])
    data = Dataset.from_dict(
        {
            name: [texts[i] for i in order[:, column]]
            for column, name in enumerate(("anchor", "positive", "negative"))
        }
    )
    more: dict[str, Any] = {"model_args": unpadded()} if best and unpadded() else {}
    word = modules.Transformer(job["backbone"], max_seq_length=max_length(), **more)
    pooling = modules.Pooling(word.get_embedding_dimension(), pooling_mode="cls")
    model = SentenceTransformer(modules=[word, pooling], device="cuda" if on_gpu() else "cpu")

    losses: list[torch.Tensor] = []
    counted = {"real": 0, "slots": 0}
    clock = Clock()

    class Noted(TripletLoss):
        def forward(self, sentence_features, labels):
            features = list(sentence_features)
            if not on_gpu():  # counting would wait for the device
                for column in features:
                    counted["real"] += int(column["attention_mask"].sum())
                    counted["slots"] += column["attention_mask"].numel()
            loss = super().forward(features, labels)
            losses.append(loss.detach())
            return loss

    class InOrder(SentenceTransformerTrainer):
        def get_batch_sampler(self, dataset, batch_size, drop_last, *_, **__):
            return DefaultBatchSampler(
                cast(Any, SequentialSampler(dataset)), batch_size=batch_size, drop_last=drop_last
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
        use_cpu=not on_gpu(),
        save_strategy="no",
        report_to=[],
        disable_tqdm=True,
        dataloader_drop_last=True,
        dataloader_num_workers=4 if best else 0,
        seed=0,
    )
    InOrder(
        model=model,
        args=arguments,
        train_dataset=data,
        loss=Noted(model, triplet_margin=1.0),
        callbacks=[Ticks()],
    ).train()
    useful = counted["real"] / counted["slots"] if counted["slots"] else None
    return clock.report(job["batch"], useful, [float(loss) for loss in losses])


def run_plain(job: dict) -> dict:
    """A padded loop over transformers, tokenised in the loop."""
    import torch
    from torch.nn.functional import triplet_margin_loss
    from transformers import AutoModel, AutoTokenizer

    torch.manual_seed(0)
    device = torch.device("cuda" if on_gpu() else "cpu")
    tokenizer = AutoTokenizer.from_pretrained(job["backbone"])
    model = AutoModel.from_pretrained(job["backbone"]).to(device).train()
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=LEARNING_RATE, weight_decay=0.0, fused=True
    )
    texts, order = texts_of(job), np.load(job["order"])
    total, losses, clock = job["steps"] + 1, [], Clock()
    real = slots = 0
    for step in range(total):
        for group in optimizer.param_groups:
            group["lr"] = LEARNING_RATE * (total - step) / total
        columns = []
        for column in order[step * job["batch"] : (step + 1) * job["batch"]].T:
            batch = tokenizer(
                [texts[i] for i in column],
                padding=True, truncation=True, max_length=max_length(), return_tensors="pt",
            )  # fmt: skip
            real, slots = (
                real + int(batch["attention_mask"].sum()),
                slots + batch["input_ids"].numel(),
            )
            with torch.autocast(device.type, torch.bfloat16, enabled=job["precision"] == "bf16"):
                columns.append(model(**batch.to(device)).last_hidden_state[:, 0].float())
        loss = triplet_margin_loss(*columns, margin=1.0, eps=0.0)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_([p for p in model.parameters() if p.grad is not None], 1.0)
        optimizer.step()
        losses.append(loss.detach())
        clock.tick()
    return clock.report(job["batch"], real / slots, [float(loss) for loss in losses])


def run_ours(job: dict) -> dict:
    """This project: its data module, encoder and method under its own trainer settings."""
    import pytorch_lightning as pl

    from sciembed_train.encoder.encoder import EncoderSettings
    from sciembed_train.methods.specter import Specter
    from sciembed_train.optim_settings import OptimSettings
    from sciembed_train.sampling.data_module import TrainingData
    from sciembed_train.sampling.data_settings import DataSettings

    losses: list[torch.Tensor] = []
    clock = Clock()

    class Ticks(pl.Callback):
        def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
            clock.tick()
            losses.append(cast(Any, outputs)["result"].sums["loss"] / len(batch))

    data = TrainingData.open(
        DataSettings(corpus=job["corpus"], batch_size=job["batch"]), job["backbone"], max_length()
    )
    method = Specter(
        encoder=EncoderSettings(
            backbone=job["backbone"],
            max_length=max_length(),
            dropout=job["dropout"],
            compile=job["side"] == "compiled",
        ),
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
    return clock.report(job["batch"], 1.0, [float(loss) for loss in losses])
