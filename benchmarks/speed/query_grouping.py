"""What keeping a query's triplets in one step saves: distinct papers and CPU time, one table.

    python -m benchmarks.speed.query_grouping --data ../shared/data --backbone FOLDER

CACM's citations and an invented graph, mined by SPECTER's rules (five triplets a query). CPU time
is of training steps, shuffled and grouped in turns, dropout 0, fp32.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks import command_line
from benchmarks.speed.mining import write_inputs
from benchmarks.speed.throughput import prepare_inputs
from sciembed_train.corpus.build import prepare
from sciembed_train.corpus.prepare_settings import PrepareSettings
from sciembed_train.encoder.encoder import Encoder, EncoderSettings
from sciembed_train.losses.triplet import euclidean_margin
from sciembed_train.progress import Progress
from sciembed_train.sampling.base import TokenizationSpec
from sciembed_train.sampling.triplets import TripletSampling
from sciembed_train.text.input_format import InputFormat
from sciembed_train.text.tokenizer import TextTokenizer


def papers_of(examples: Any, batch: int, grouped: bool) -> float:
    """Distinct papers of a step over its triplets, mean of an epoch."""
    plan = examples.plan(batch, 0, by_query=grouped)
    triplets = np.asarray(examples.triplets)
    found = [len(np.unique(triplets[plan.indices(s)])) for s in range(plan.steps_per_epoch)]
    return float(np.mean(found)) / batch


def seconds(encoder: Encoder, examples: Any, batch: int, grouped: bool, step: int) -> float:
    """CPU seconds a triplet of one step, forward and backward."""
    plan = examples.plan(batch, 0, by_query=grouped)
    given = examples.batch(plan.indices(step), 0, step)
    start = time.process_time()
    vectors = encoder(given.rows)
    anchor, positive, negative = (
        vectors[c] for c in (given.anchor, given.positive, given.negative)
    )
    euclidean_margin(anchor, positive, negative).mean().backward()
    encoder.zero_grad()
    return (time.process_time() - start) / batch


def main() -> None:
    parser = command_line.parser(__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--backbone", type=Path, required=True)
    parser.add_argument("--papers", type=int, default=10_000, help="of the invented graph")
    parser.add_argument("--length", type=int, default=128, help="tokens of a text at most")
    parser.add_argument("--timed", type=int, default=32, help="batch of the timed steps")
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    backbone = str(args.backbone.resolve())
    encoder = Encoder(EncoderSettings(backbone, max_length=args.length, dropout=0.0))
    torch.set_num_threads(1)
    tokenizer = TextTokenizer.load(backbone)
    print(
        "| corpus | triplets | batch | papers a triplet, shuffled | grouped | saved | "
        "CPU s a triplet, shuffled | grouped | ratio |"
    )
    print("|" + "---|" * 9, flush=True)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        cacm, _ = prepare_inputs(args.data.resolve(), "cacm", folder)
        invented = write_inputs(folder, args.papers, 10 * args.papers, 60)
        files = {"CACM": (cacm, cacm.with_name("citations.tsv")), "invented": invented}
        for corpus, (papers, citations) in files.items():
            made = prepare(
                PrepareSettings(
                    papers=str(papers),
                    citations=str(citations),
                    to=str(folder / corpus),
                    tokenizer=backbone,
                ),
                Progress(True),
            )
            reading = TokenizationSpec(tokenizer, InputFormat(), args.length, 0)
            examples = TripletSampling().open(made, reading, None)
            for batch in sorted({32, args.timed, 1024}):
                if batch > examples.train:
                    continue
                shuffled, grouped = (papers_of(examples, batch, by) for by in (False, True))
                cells = [corpus, f"{examples.train:,}", str(batch), f"{shuffled:.2f}"]
                cells += [f"{grouped:.2f}", f"{1 - grouped / shuffled:.0%}"]
                cost: dict[bool, list[float]] = {False: [], True: []}
                if batch == args.timed:
                    for turn in range(args.rounds):
                        for by in (False, True) if turn % 2 else (True, False):
                            cost[by].append(seconds(encoder, examples, batch, by, turn))
                    a, b = float(np.median(cost[False])), float(np.median(cost[True]))
                    cells += [f"{a:.3f}", f"{b:.3f}", f"{a / b:.2f}"]
                else:
                    cells += ["", "", ""]
                print("| " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
