"""DeCLUTR's step on a GPU: real tokens per second and share of the bf16 peak, with and without MLM.

    python -m benchmarks.speed.gpu_declutr              # on a CUDA device
    python -m benchmarks.speed.gpu_declutr --dry       # anywhere, to see that it runs

An encoder of SciBERT's shape (12 layers, 768 wide, 31,090 words) with random weights, in bf16, on
spans of documents of random ids as `configs/declutr_sci_base.yaml` draws them. Sides take turns:
this project's forward, and anchors and positives padded apart (`span_steps`). The peak is that of
the product of two 8192 x 8192 bf16 matrices of random numbers, measured in the same run. The share
counts the multiplications that the real tokens need, forward and backward, and none of padding.
Memory is what a step takes beside weights and optimiser.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks import command_line
from benchmarks.speed.span_steps import FORWARDS, Side, loss_difference, slots, wait
from sciembed_train.batch import SpanBatch
from sciembed_train.encoder.encoder import Encoder, EncoderSettings
from sciembed_train.sampling.span_positions import Rule
from sciembed_train.sampling.span_slicing import span_batch
from sciembed_train.sampling.token_masking import Masking

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
BEGIN, END = 2, 3  # ids of [CLS] and [SEP]
SIDES = ("ours", "padded", "padded, all logits")


class RandomDocuments:
    """A token store of documents of random ids, in memory (`span_slicing.Slices`)."""

    prefix: tuple[int, ...] = (BEGIN,)
    suffix: tuple[int, ...] = (END,)

    def __init__(self, count: int, words: int, longest: int, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        self.lengths = rng.integers(4 * longest, 20 * longest, count).astype(np.int32)
        self.ends = np.cumsum(self.lengths, dtype=np.int64)
        self.ids = rng.integers(len(SPECIAL), words, int(self.ends[-1]))

    def slices(
        self, rows: NDArray[np.integer], starts: NDArray[np.integer], lengths: NDArray[np.integer]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """As `corpus.store.token_store.TokenStore.slices`."""
        first = (self.ends - self.lengths)[rows] + starts
        spans = [
            np.concatenate([self.prefix, self.ids[a : a + n], self.suffix])
            for a, n in zip(first, lengths, strict=True)
        ]
        return np.concatenate(spans), np.asarray(lengths, np.int64) + 2


def backbone(folder: Path, dry: bool) -> tuple[Path, int]:
    """A folder with a BERT of random weights and an invented vocabulary, and its size."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import BertConfig, BertForMaskedLM, BertTokenizerFast

    shape: dict[str, Any] = {"vocab_size": 31090}
    if dry:
        shape = {
            "vocab_size": 199, "hidden_size": 32, "num_hidden_layers": 2,
            "num_attention_heads": 2, "intermediate_size": 128,
        }  # fmt: skip
    names = [*SPECIAL, *(f"w{i}" for i in range(shape["vocab_size"] - len(SPECIAL)))]
    made = Tokenizer(models.WordPiece({n: i for i, n in enumerate(names)}, unk_token="[UNK]"))
    made.normalizer = normalizers.BertNormalizer()
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    made.post_processor = processors.BertProcessing(("[SEP]", END), ("[CLS]", BEGIN))
    BertTokenizerFast(tokenizer_object=made, model_max_length=512).save_pretrained(folder)
    torch.manual_seed(0)
    BertForMaskedLM(BertConfig(**shape)).save_pretrained(folder)
    return folder, shape["vocab_size"]


def needed(batch: SpanBatch, config: Any) -> float:
    """Floating-point operations of forward and backward over the real tokens."""
    width, layers, inner = config.hidden_size, config.num_hidden_layers, config.intermediate_size
    lengths = batch.rows.lengths.double()
    linear = (4 * width**2 + 2 * width * inner) * float(lengths.sum())
    attention = 2 * width * float((lengths**2).sum())
    head = (width**2 + width * config.vocab_size) * len(batch.masked)
    return 3 * 2 * (layers * (linear + attention) + head)


def peak(device: torch.device, size: int) -> float:
    """Operations per second of a bf16 matrix product of random numbers; the median of 5."""
    a, b = (torch.randn(size, size, device=device).bfloat16() for _ in range(2))
    found = []
    for turn in range(6):
        times = 1 if turn == 0 else 20
        wait(device)
        start = time.perf_counter()
        for _ in range(times):
            a @ b
        wait(device)
        if turn:
            found.append(times * 2 * size**3 / (time.perf_counter() - start))
    return statistics.median(found)


def memory_of_step(side: Side, batch: SpanBatch) -> float:
    """GB that a step takes beside what is held before it; 0 without CUDA."""
    if side.encoder.device.type != "cuda":
        side.timed([batch])
        return 0.0
    side.optimizer.zero_grad()
    held = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    side.timed([batch])
    most = torch.cuda.max_memory_allocated()
    side.optimizer.zero_grad()
    return (most - held) / 1e9


def measure(
    make: Callable[[], Encoder],
    tokens: RandomDocuments,
    rule: Rule,
    masking: Masking | None,
    documents: int,
    args: argparse.Namespace,
    most: float,
) -> None:
    """Print a row a side, for one size of batch."""

    def draw(step: int) -> SpanBatch:
        some = np.random.default_rng(step).integers(len(tokens.lengths), size=documents)
        return span_batch(tokens, some, rule, masking, rule.max_span - 2, key=(0, 0, 0), step=step)

    batches = [draw(step) for step in range(args.steps)]
    sides: dict[str, Side] = {}
    for name in SIDES if masking else SIDES[:2]:
        encoder = make()
        if sides:
            encoder.load_state_dict(sides["ours"].encoder.state_dict())
        sides[name] = Side(encoder, FORWARDS[name], "bf16")
    memory, skipped = {}, []
    for name, side in sides.items():
        try:
            memory[name] = memory_of_step(side, batches[0])
        except torch.cuda.OutOfMemoryError:
            skipped.append(name)
    for name in skipped:
        del sides[name]
        print(f"| {documents} | {'yes' if masking else 'no'} | {name} | out of memory | | | | |")
    real = sum(batch.rows.tokens for batch in batches)
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for turn in range(args.rounds + 1):
        for name, side in list(sides.items())[:: 1 if turn % 2 else -1]:
            took = side.timed(batches if turn else batches[:3])  # turn 0 warms up
            if turn:
                seconds[name].append(took)
    apart = loss_difference(sides)
    operations = sum(needed(batch, sides["ours"].encoder.backbone.config) for batch in batches)
    for name in sides:
        ratios = [b / a for a, b in zip(seconds["ours"], seconds[name], strict=True)]
        took = statistics.median(seconds[name])
        print(
            f"| {documents} | {'yes' if masking else 'no'} | {name} | {real / took:,.0f} "
            f"| {statistics.median(ratios):.2f} ({min(ratios):.2f}-{max(ratios):.2f}) "
            f"| {1000 * took / len(batches):.1f} | {100 * operations / took / most:.1f} % "
            f"| {memory[name]:.2f} |",
            flush=True,
        )
    print(
        f"real share of the padded slots {real / sum(map(slots, batches)):.2f}; largest relative "
        f"difference of the losses {apart[0]:.1e} at the first step, {apart[1]:.1e} over all\n"
    )


def main() -> None:
    parser = command_line.parser(__doc__)
    parser.add_argument("--dry", action="store_true", help="a small shape, to try the script")
    parser.add_argument("--documents", nargs="+", type=int, default=[16, 64], help="of a step")
    parser.add_argument("--steps", type=int, default=10, help="of a side in a round")
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if args.dry:
        args.documents, args.steps, args.rounds = [2, 4], 2, 2
    elif device.type == "cpu":
        raise SystemExit("There is no CUDA device here; --dry tries the script without one.")
    rule = Rule(2, 2, 64 if args.dry else 512, 8 if args.dry else 32, "any")
    most = peak(device, 256 if args.dry else 8192)
    print(
        f"{torch.cuda.get_device_name() if device.type == 'cuda' else 'CPU'}, torch "
        f"{torch.__version__}; bf16 product of random matrices {most / 1e12:,.1f} TFLOP/s\n\n"
        "| documents | MLM | side | real tokens/s | ours is faster by (range) | ms a step "
        f"| share of the peak | GB of a step |\n{'|---' * 8}|"
    )
    with tempfile.TemporaryDirectory(prefix="declutr-") as scratch:
        folder, words = backbone(Path(scratch), args.dry)
        tokens = RandomDocuments(20 if args.dry else 500, words, rule.max_span)
        masks = Masking(0.15, SPECIAL.index("[MASK]"), np.arange(words) < len(SPECIAL))
        settings = EncoderSettings(str(folder), "mean", rule.max_span, dropout=0.0)
        for masking in (masks, None):

            def make(masked_lm: bool = masking is not None) -> Encoder:
                return Encoder(settings, masked_lm=masked_lm).to(device)

            for documents in args.documents:
                measure(make, tokens, rule, masking, documents, args, most)


if __name__ == "__main__":
    main()
