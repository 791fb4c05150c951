"""Rows sorted by length, split by a token budget, encoded one micro-batch after another, and put
back in order.

The split changes no number but rounding: each text is encoded by itself. It bounds the slots that
padding wastes (padded backbones) and the working set of one micro-batch (unpadded ones). Everything
is planned on the host, and the plans go to the device in one copy: nothing waits for it.

Shapes: ``U`` texts, ``D`` width of an embedding, ``K`` tokens whose states are wanted, ``J`` those
of a micro-batch, ``H`` width of a state, ``P`` vectors of a micro-batch and ``V`` of all: one for
each text, or for each sentence of each.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from sciembed_train.batch import Sentences, TokenRows, index_ranges, on_device, range_starts


@dataclass(frozen=True)
class MicroBatch:
    """Rows that are encoded together.

    Args:
        rows: longest text first, or first of each format.
        wanted: positions of tokens in the micro-batch whose states are wanted too, ascending; on
            the host.
        sentences: of the rows, if each is to have a vector instead of its text.
        formats: the format that reads each row, where that matters: equal ones are then
            neighbours, in rising order, and the longest text of each comes first.
    """

    rows: TokenRows
    wanted: Int[Tensor, " J"] | None = None
    sentences: Sentences | None = None
    formats: list[int] | None = None

    @property
    def sizes(self) -> list[int]:
        """Tokens of each row."""
        return self.rows.lengths.tolist()


# Gives the embeddings of a micro-batch, and the states of the wanted tokens or None.
EncodeMicroBatch = Callable[[MicroBatch], tuple[Float[Tensor, "P D"], Float[Tensor, "J H"] | None]]


@dataclass(frozen=True)
class MicroBatches:
    """A plan: the rows in the order of encoding, and where each micro-batch ends.

    Args:
        order: every row once, longest text first; equal lengths keep their order.
        ends: for each micro-batch the position in ``order`` after its last row, rising.
        formats: the format of each row in that order, where it matters.
    """

    order: np.ndarray
    ends: tuple[int, ...]
    formats: np.ndarray | None = None

    def spans(self) -> list[tuple[int, int]]:
        """First and one-past-last position in ``order`` of each micro-batch."""
        return list(pairwise((0, *self.ends)))

    def by_format(self, formats: Sequence[int] | np.ndarray) -> MicroBatches:
        """The same micro-batches, with the rows of each sorted by format.

        ``formats`` has one for each row, in the order the rows were given.
        """
        ordered = np.asarray(formats)[self.order]
        # Stable sorting leaves the longest text of a format first.
        inner = [
            start + np.argsort(ordered[start:end], kind="stable") for start, end in self.spans()
        ]
        sort = np.concatenate(inner)
        return MicroBatches(self.order[sort], self.ends, ordered[sort])


def plan_micro_batches(
    lengths: Sequence[int] | np.ndarray, budget: int, padded: bool
) -> MicroBatches:
    """Rows sorted by length and split into micro-batches of at most ``budget`` tokens.

    Longest first, so that a micro-batch too large for the machine fails at once and not at the end.

    Args:
        lengths: number of tokens of each row.
        budget: most tokens of a micro-batch; a single longer row is a micro-batch by itself.
        padded: count the slots of the padded micro-batch (rows times longest row), not its tokens.

    Raises:
        ValueError: ``budget`` is below 1.
    """
    if budget < 1:
        raise ValueError(f"a micro-batch needs a budget of at least 1 token; got {budget}")
    sizes = np.asarray(lengths, dtype=np.int64)
    order = np.argsort(-sizes, kind="stable")
    ends: list[int] = []
    count, used, longest = 0, 0, 0
    for position, size in enumerate(sizes[order].tolist()):
        longest = longest if count else size
        cost = (count + 1) * longest if padded else used + size
        if count and cost > budget:
            ends.append(position)
            count, used, longest = 0, 0, size
        count, used = count + 1, used + size
    if len(sizes):
        ends.append(len(sizes))
    return MicroBatches(order, tuple(ends))


def plan_micro_batches_by_format(
    lengths: Sequence[int] | np.ndarray,
    formats: Sequence[int] | np.ndarray,
    budget: int,
    padded: bool,
) -> MicroBatches:
    """`plan_micro_batches` of each format by itself: no micro-batch has rows of two."""
    sizes, kinds = np.asarray(lengths), np.asarray(formats)
    orders: list[np.ndarray] = []
    ends: list[int] = []
    for kind in np.unique(kinds):
        rows = np.flatnonzero(kinds == kind)
        plan = plan_micro_batches(sizes[rows], budget, padded)
        ends += [sum(map(len, orders)) + end for end in plan.ends]
        orders.append(rows[plan.order])
    order = np.concatenate(orders)
    return MicroBatches(order, tuple(ends), kinds[order])


def encode_micro_batches(
    rows: TokenRows,
    micro_batches: MicroBatches,
    encode: EncodeMicroBatch,
    done: Callable[[int], None] | None = None,
    positions: Int[Tensor, " K"] | None = None,
    sentences: Sentences | None = None,
) -> tuple[Float[Tensor, "V D"], Float[Tensor, "K H"] | None]:
    """Embeddings in the order of ``rows``, or of their sentences, encoded micro-batch by
    micro-batch.

    Args:
        rows: at least one text.
        micro_batches: the plan for their lengths.
        encode: gives a micro-batch's embeddings, and the wanted tokens' states.
        done: called after each micro-batch with its number of texts.
        positions: tokens in ``rows.ids`` whose states are wanted too; on the host.
        sentences: of the rows, if each is to have a vector instead of its text.

    Returns:
        The embeddings; the states in the order of ``positions``, None where none are asked for.

    Raises:
        ValueError: a position is not that of a token; a sentence is empty or reaches out of its
            text.
    """
    lengths = rows.lengths.numpy()
    sizes = lengths[micro_batches.order]
    offsets = np.concatenate([[0], np.cumsum(sizes)])
    wanted: Sequence[np.ndarray | None] = [None] * len(micro_batches.ends)
    spans: Sequence[Sentences | None] = [None] * len(micro_batches.ends)
    vector_order, state_order = np.argsort(micro_batches.order), np.empty(0, np.int64)
    if positions is not None:
        wanted, state_order = _split_positions(positions.numpy(), lengths, micro_batches, offsets)
    if sentences is not None:
        spans, vector_order = _split_sentences(sentences, lengths, micro_batches)
    source = index_ranges(range_starts(lengths)[micro_batches.order], sizes)
    id_index, vector_index, state_index = on_device(
        rows.ids.device, source, vector_order, state_order
    )
    ids = rows.ids.index_select(0, id_index)
    vectors, states = [], []
    for (start, end), positions_here, sentences_here in zip(
        micro_batches.spans(), wanted, spans, strict=True
    ):
        tokens = ids[int(offsets[start]) : int(offsets[end])]
        micro_batch = MicroBatch(
            TokenRows(tokens, torch.from_numpy(sizes[start:end])),
            None if positions_here is None else torch.from_numpy(positions_here),
            sentences_here,
            None if micro_batches.formats is None else micro_batches.formats[start:end].tolist(),
        )
        embeddings, token_states = encode(micro_batch)
        vectors.append(embeddings)
        states.append(token_states)
        if done is not None:
            done(end - start)
    embeddings = torch.cat(vectors).index_select(0, vector_index)
    if positions is None:
        return embeddings, None
    return embeddings, torch.cat(states).index_select(0, state_index)


def _split_sentences(
    sentences: Sentences, lengths: np.ndarray, micro_batches: MicroBatches
) -> tuple[Sequence[Sentences], np.ndarray]:
    """The sentences of each micro-batch's rows, and the order that sorts their vectors back.

    Sentences and lengths come in the order the rows were given, not that of the micro-batches.

    Raises:
        ValueError: a sentence is empty or reaches out of its text.
    """
    counts = sentences.counts.numpy()
    starts, sizes = sentences.starts.numpy(), sentences.lengths.numpy()
    text_lengths = np.repeat(lengths, counts)
    if (
        len(text_lengths) != len(starts)
        or not ((starts >= 0) & (sizes > 0) & (starts + sizes <= text_lengths)).all()
    ):
        raise ValueError("every sentence must have a token, and all of them inside of its text")
    shares = [
        sentences.select(micro_batches.order[first:last]) for first, last in micro_batches.spans()
    ]
    return shares, np.argsort(
        index_ranges(range_starts(counts)[micro_batches.order], counts[micro_batches.order])
    )


def _split_positions(
    positions: np.ndarray, lengths: np.ndarray, micro_batches: MicroBatches, offsets: np.ndarray
) -> tuple[Sequence[np.ndarray], np.ndarray]:
    """The wanted positions in each micro-batch, ascending, and the order that sorts their states
    back.

    Positions and lengths come in the order the rows were given; ``offsets`` says where each row
    starts when sorted, and where the last ends.

    Raises:
        ValueError: a position is not that of a token.
    """
    ends = np.cumsum(lengths)
    if len(positions) and not 0 <= positions.min() <= positions.max() < ends[-1]:
        raise ValueError(
            f"positions {positions.min()} to {positions.max()} are not all among {ends[-1]} tokens"
        )
    row = np.searchsorted(ends, positions, "right")
    place_of_row = np.empty(len(lengths), dtype=np.int64)
    place_of_row[micro_batches.order] = np.arange(len(lengths))
    new_positions = offsets[place_of_row[row]] + positions - (ends - lengths)[row]
    order = np.argsort(new_positions, kind="stable")
    borders = offsets[[0, *micro_batches.ends]]
    cuts = np.searchsorted(new_positions[order], borders)
    shares = [
        new_positions[order][start:end] - border
        for (start, end), border in zip(pairwise(cuts), borders[:-1], strict=True)
    ]
    inverse_order = np.empty(len(positions), dtype=np.int64)
    inverse_order[order] = np.arange(len(positions))
    return shares, inverse_order


def default_max_tokens_per_forward(device: torch.device, unpadded: bool) -> int:
    """The token budget of a micro-batch where the settings name none.

    CPU, unpadded: training steps of 48 real texts (11,625 tokens, MiniLM 6 x 384) took 10.6, 9.7,
    9.6, 9.6 and 9.9 CPU-seconds in fp32 at 512, 1024, 2048, 4096 and 16384 tokens, and 6.5, 6.1,
    6.0, 5.8 and 5.9 with bf16 autocast. Under autocast many small micro-batches also sum the
    weights' gradients in bf16: 1.4 % off the fp32 gradient at 512 tokens, 1.2 % at 4096.
    The numbers for other devices and for padded micro-batches are not measured.
    """
    if device.type == "cpu":
        return 4096
    return 65536 if unpadded else 32768
