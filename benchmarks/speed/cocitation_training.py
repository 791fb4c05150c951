"""Co-citation training: pairs per second of this project and of others, on the same texts.

Rows ``cocite-N``: SPECTER-CoCite with all negatives of the step (`methods.aspire`) against
sentence-transformers' in-batch loss (MultipleNegativesRankingLoss) in a plain loop: the same
encoder and CLS vectors, every text of both columns padded to the column's longest and tokenised in
the loop, as its trainer does. The losses differ (distances here, cosines there); their cost does
not.

Rows ``ot-N``: otAspire (`methods.aspire_sentences`), N pairs with a negative each, against

``loop``     the same step, the distances by a Python loop over the pairs that calls geomloss's
             ``SamplesLoss`` for each pair and each negative;
``padded``   that loop on vectors of two padded forwards, as the published code makes them.

Rows ``loss-N``: of the same pairs the loss alone, in fp32: distances, triplet losses and their
gradient by the vectors. Its ratio is not the whole step's, of which the encoder takes most.

    python -m benchmarks.speed.cocitation_training --data DATA [--rows cocite-30 ...] [--to FILE]

Texts are title and abstract of scisumm and CISI, cut at 256 tokens, in pairs that share no paper,
so that encoding each paper once gains nothing. AdamW, learning rate 2e-5, dropout 0. Sides take
turns; a step of warm-up is not counted; medians over the rounds, with the range of the ratio.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks import command_line
from benchmarks.speed.throughput import backbone
from benchmarks.texts import lines
from sciembed_train.batch import PairBatch, SentencePairBatch, Sentences, TokenRows
from sciembed_train.corpus.citations.citing_sentences import split_sentences
from sciembed_train.encoder.encoder import Encoder, EncoderSettings
from sciembed_train.encoder.pooling.base import mean_of_ranges
from sciembed_train.losses.transport import TransportSettings, sentence_distances
from sciembed_train.losses.triplet import triplet_margin
from sciembed_train.methods.aspire import Cocite
from sciembed_train.methods.aspire_sentences import Objectives, SentenceCocite

MAX_LENGTH = 256
LEARNING_RATE = 2e-5
TRANSPORT = TransportSettings(5000.0)
ROWS = ("cocite-30", "cocite-128", "ot-30", "ot-128", "loss-30", "loss-128")
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")

Papers = list[tuple[str, list[str]]]


def papers_of(data: Path) -> Papers:
    """Distinct papers of two collections that have a title and an abstract, as sentences."""
    found = [*lines(data / "scisumm" / "papers.jsonl"), *lines(data / "cisi" / "papers.jsonl")]
    papers: dict[tuple[str, str], list[str]] = {}
    for paper in found:
        given = paper.get("abstract") or ""
        text = given if isinstance(given, str) else " ".join(given)
        if paper.get("title") and text.strip():
            split = split_sentences(text) if isinstance(given, str) else given
            papers.setdefault((paper["title"], text), split)
    return [(title, sentences) for (title, _), sentences in papers.items()]


class Pairs:
    """Pairs of different papers, each paper once a round through all of them."""

    def __init__(self, papers: Papers, size: int) -> None:
        if len(papers) < 2 * size:
            raise SystemExit(f"{size} pairs without a shared paper need {2 * size} papers")
        order = torch.randperm(len(papers), generator=torch.Generator().manual_seed(0))
        self.papers, self.size = papers, size
        self.shares = order[: len(papers) // (2 * size) * 2 * size].view(-1, 2, size)

    def of(self, step: int) -> Tensor:
        """Anchors and positives of a step, ``[2, size]``."""
        return self.shares[step % len(self.shares)]


class Side:
    """A model that is trained one way.

    Args:
        model: moved to the device.
        backward: the gradient of a step, by its number; gives the loss.
        precision: ``fp32`` or ``bf16``.
    """

    def __init__(
        self, model: torch.nn.Module, backward: Callable[[int], Tensor], precision: str
    ) -> None:
        self.backward, self.autocast = backward, precision == "bf16"
        weights = [p for p in model.to(DEVICE).train().parameters() if p.requires_grad]
        self.optimizer = torch.optim.AdamW(weights, lr=LEARNING_RATE, weight_decay=0.0)
        self.made = 0

    def step(self) -> float:
        """One optimiser step; its loss."""
        self.optimizer.zero_grad()
        with torch.autocast(DEVICE.type, torch.bfloat16, enabled=self.autocast):
            loss = self.backward(self.made)
        self.optimizer.step()
        self.made += 1
        return loss.item()  # waits for the device


def outside_a_trainer(method: Any) -> Any:
    """A method whose backward pass is plain."""
    return method


def settings_of(model: Path, pooling: str) -> EncoderSettings:
    return EncoderSettings(str(model), pooling, max_length=MAX_LENGTH, dropout=0.0)  # type: ignore[arg-type]


def cocite(model: Path, pairs: Pairs, precision: str) -> Side:
    """This project's SPECTER-CoCite; texts were tokenised once, as `prepare` does."""
    method = outside_a_trainer(Cocite(settings_of(model, "cls"), negatives="all", temperature=0.05))
    rows, _ = method.encoder.sentence_rows(pairs.papers)
    each = torch.arange(pairs.size)

    def backward(step: int) -> Tensor:
        some = rows.select(pairs.of(step).flatten())
        own = torch.stack([each, each], 1)
        batch = PairBatch(some, each, each + pairs.size, each.roll(1), own, step).to(DEVICE)
        return method.gradients(batch, [batch])["loss"]

    return Side(method, backward, precision)


def in_batch(model: Path, pairs: Pairs, precision: str) -> Side:
    """sentence-transformers' in-batch loss."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer import modules
    from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss
    from sentence_transformers.util import batch_to_device

    word = modules.Transformer(str(model), max_seq_length=MAX_LENGTH)
    pooling = modules.Pooling(word.get_embedding_dimension(), pooling_mode="cls")
    peer = SentenceTransformer(modules=[word, pooling], device=str(DEVICE))
    loss_of = MultipleNegativesRankingLoss(peer)
    input_format = Encoder(settings_of(model, "cls")).compose
    texts = [input_format(*paper) for paper in pairs.papers]

    def backward(step: int) -> Tensor:
        columns = []
        for column in pairs.of(step).tolist():
            features = peer.preprocess([texts[i] for i in column])
            columns.append(batch_to_device(features, DEVICE))
        loss = loss_of(columns, None)
        loss.backward()
        return loss.detach()

    return Side(peer, backward, precision)


def sentence_batch(
    rows: TokenRows, sentences: Sentences, papers: Tensor, step: int
) -> SentencePairBatch:
    """Pairs whose negative is the next pair's positive."""
    size = papers.shape[1]
    each, flat = torch.arange(size), papers.flatten()
    counts = sentences.counts[papers[1]].roll(-1)
    none = torch.full((size, 2), -1)
    most = int(sentences.counts[flat].max())
    given = rows.select(flat), sentences.select(flat), each, each + size, each.roll(-1), counts
    return SentencePairBatch(*given, none, none, most, step).to(DEVICE)


def ours_of(model: Path) -> SentenceCocite:
    objectives = Objectives(transport=1.0)
    return outside_a_trainer(
        SentenceCocite(settings_of(model, "sentences"), objectives, transport=TRANSPORT)
    )


def ot(model: Path, pairs: Pairs, precision: str) -> Side:
    """This project's otAspire."""
    method = ours_of(model)
    rows, sentences = method.encoder.sentence_rows(pairs.papers)

    def backward(step: int) -> Tensor:
        batch = sentence_batch(rows, sentences, pairs.of(step), step)
        return method.gradients(batch, [batch])["loss"] / len(batch)

    return Side(method, backward, precision)


def looped_loss(anchors: list[Tensor], positives: list[Tensor]) -> Tensor:
    """otAspire's loss by a loop over the pairs and their negatives."""
    from geomloss import SamplesLoss

    solver = SamplesLoss(
        "sinkhorn", p=1, blur=TRANSPORT.blur, scaling=TRANSPORT.scaling, debias=False
    )

    def distance(a: Tensor, b: Tensor) -> Tensor:
        table = sentence_distances(a[None], b[None])[0]
        weights = (torch.softmax(-table.amin(d) / TRANSPORT.temperature, 0) for d in (1, 0))
        return solver(next(weights), a, next(weights), b)

    others = [*positives[1:], positives[0]]
    with torch.autocast(DEVICE.type, enabled=False):  # it would lower geomloss's distances
        near = torch.stack([distance(a, p) for a, p in zip(anchors, positives, strict=True)])
        far = torch.stack([distance(a, n) for a, n in zip(anchors, others, strict=True)])
    return triplet_margin(near, far).mean()


def looped(model: Path, pairs: Pairs, precision: str, padded: bool = False) -> Side:
    """The same with a loop; with ``padded`` on vectors of two padded forwards."""
    encoder = Encoder(settings_of(model, "sentences"))
    rows, sentences = encoder.sentence_rows(pairs.papers)

    def backward(step: int) -> Tensor:
        papers, vectors = pairs.of(step), []
        for some in papers.unbind() if padded else [papers.flatten()]:
            texts, spans = rows.select(some).to(DEVICE), sentences.select(some).to(DEVICE)
            if padded:
                found = padded_sentences(encoder, texts, spans)
            else:
                found = encoder.sentence_vectors(texts, spans)
            vectors += found.float().split(spans.counts.tolist())
        loss = looped_loss(vectors[: pairs.size], vectors[pairs.size :])
        loss.backward()
        return loss.detach()

    return Side(encoder, backward, precision)


def padded_sentences(encoder: Encoder, rows: TokenRows, sentences: Sentences) -> Tensor:
    """Sentence vectors of one forward in which every text is as long as the longest."""
    longest = int(rows.lengths.max())
    mask = (torch.arange(longest) < rows.lengths.unsqueeze(1)).to(DEVICE)
    ids = rows.ids.new_full(mask.shape, encoder.tokenizer.pad_id).masked_scatter(mask, rows.ids)
    hidden = encoder.backbone(input_ids=ids, attention_mask=mask.long()).last_hidden_state
    states = hidden[mask].index_select(0, sentences.positions(rows.lengths).to(DEVICE))
    return mean_of_ranges(states, sentences.lengths.to(DEVICE))


class LossAlone:
    """Distances, triplet losses and their gradient, on vectors that are there already."""

    def __init__(self, model: Path, pairs: Pairs, loop: bool) -> None:
        method = ours_of(model).to(DEVICE)
        rows, sentences = method.encoder.sentence_rows(pairs.papers)
        batch = sentence_batch(rows, sentences, pairs.of(0), 0)
        with torch.no_grad():
            self.vectors = method.encoder.sentence_vectors(batch.rows, batch.sentences)
        self.method, self.batch, self.loop = method, batch, loop

    def step(self) -> float:
        """The loss, after its gradient."""
        vectors = self.vectors.clone().requires_grad_()
        if self.loop:
            texts = vectors.split(self.batch.sentences.counts.tolist())
            loss = looped_loss(list(texts[: len(self.batch)]), list(texts[len(self.batch) :]))
            loss.backward()
            return loss.item()
        # The method's own step, with the vectors in the place of the encoder's.
        self.method.encoder.sentence_vectors = lambda *_: vectors  # type: ignore[method-assign]
        found = self.method.gradients(self.batch, [self.batch])
        return found["loss"].item() / len(self.batch)


def compared(
    name: str, sides: dict[str, Any], size: int, rounds: int, steps: int
) -> tuple[list[dict[str, str]], list[dict[str, Any]]]:
    """A line for each side but ours, which comes first; and the raw numbers."""
    first = {side: made.step() for side, made in sides.items()}
    speed: dict[str, list[float]] = {side: [] for side in sides}
    for turn in range(rounds):
        for side in list(sides)[:: 1 if turn % 2 == 0 else -1]:
            begun = time.perf_counter()
            for _ in range(steps):
                sides[side].step()
            speed[side].append(steps * size / (time.perf_counter() - begun))
            print(name, side, f"{speed[side][-1]:.2f}", file=sys.stderr)
    middle, ours = statistics.median, speed["ours"]
    found = []
    for side, theirs in speed.items():
        if side == "ours":
            continue
        ratios = [a / b for a, b in zip(ours, theirs, strict=True)]
        found.append(
            {
                "row": name,
                "against": side,
                "ours, pairs/s": f"{middle(ours):.2f}",
                "theirs, pairs/s": f"{middle(theirs):.2f}",
                "ratio (range)": f"{middle(ratios):.2f} ({min(ratios):.2f}-{max(ratios):.2f})",
                "difference of the first loss": "other loss"
                if name.startswith("cocite")
                else f"{abs(first['ours'] - first[side]):.1e}",
            }
        )
    return found, [{"row": name, "side": side, "pairs/s": s} for side, s in speed.items()]


COLUMNS = (
    *("row", "against", "ours, pairs/s", "theirs, pairs/s", "ratio (range)"),
    "difference of the first loss",
)


def heading(papers: int) -> list[str]:
    """The machine, the libraries, and the head of the table."""
    libraries = ("torch", "transformers", "sentence-transformers", "geomloss")
    where = [
        f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores",
        f"{torch.get_num_threads()} threads",
        torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU",
        *(f"{library} {version(library)}" for library in libraries),
        f"{papers:,} papers",
    ]
    return [", ".join(where), "", f"| {' | '.join(COLUMNS)} |", "|" + "---|" * len(COLUMNS)]


def main() -> None:
    parser = command_line.parser(__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--rows", nargs="+", default=list(ROWS), choices=ROWS)
    parser.add_argument("--precisions", nargs="+", default=["fp32"], choices=("fp32", "bf16"))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=2, help="timed steps of a side in a round")
    parser.add_argument("--pairs", type=int, help="pairs a step, instead of the row's, to try out")
    parser.add_argument("--encoder", choices=("minilm", "scibert-shape"), default="minilm")
    parser.add_argument("--to", type=Path, help="also write the table and the raw numbers here")
    args = parser.parse_args()

    warnings.filterwarnings("ignore")  # of sentence-transformers about its own old names
    model = backbone(args.encoder, 0.0, Path(tempfile.mkdtemp(prefix="aspire-")))
    papers = papers_of(args.data.resolve())
    lines, raw = heading(len(papers)), []
    print("\n".join(lines), flush=True)
    for name in args.rows:
        size = args.pairs or int(name.partition("-")[2])
        pairs = Pairs(papers, size)
        for precision in ["fp32"] if name.startswith("loss") else args.precisions:
            given = (model, pairs, precision)
            sides: dict[str, Any]
            if name.startswith("cocite"):
                sides = {"ours": cocite(*given), "in-batch": in_batch(*given)}
            elif name.startswith("loss"):
                sides = {side: LossAlone(model, pairs, side == "loop") for side in ("ours", "loop")}
            else:
                sides = {
                    "ours": ot(*given),
                    "loop": looped(*given),
                    "padded": looped(*given, padded=True),
                }
            at = compared(f"{name} {precision}", sides, size, args.rounds, args.steps)
            made = ["| " + " | ".join(row.values()) + " |" for row in at[0]]
            print("\n".join(made), flush=True)
            lines, raw = lines + made, raw + at[1]
    if args.to:
        raw_numbers = "\n".join(map(json.dumps, raw))
        args.to.write_text("\n".join(lines) + f"\n\n```json\n{raw_numbers}\n```\n")


if __name__ == "__main__":
    main()
