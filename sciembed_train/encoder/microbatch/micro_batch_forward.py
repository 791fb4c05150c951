"""Token rows to vectors, in micro-batches that run unpadded, or padded for any backbone.

Shapes: ``P`` vectors of a micro-batch, of its texts or of their sentences, ``V`` of all
micro-batches, ``D`` width, ``J`` tokens of a micro-batch whose states are wanted, ``K`` of all,
``U`` texts, ``L`` slots of a padded row, ``X`` slots of all rows, ``H`` width of a state, ``T``
tokens, ``Z`` tokens of sentences, ``S`` sentences.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor

from sciembed_train.batch import Sentences, TokenRows, index_ranges
from sciembed_train.encoder.microbatch.micro_batches import (
    EncodeMicroBatch,
    MicroBatch,
    encode_micro_batches,
)
from sciembed_train.encoder.parts import EncoderParts
from sciembed_train.encoder.pooling.base import HiddenStates
from sciembed_train.encoder.pooling.last_token import last_of_rows
from sciembed_train.encoder.pooling.layer_mix import layer_states
from sciembed_train.encoder.settings import is_causal
from sciembed_train.encoder.unpadded.family import Run
from sciembed_train.encoder.unpadded.forward import (
    backbone_layers,
    computed_alone,
    unpadded_layers,
    unpadded_states,
)
from sciembed_train.encoder.unpadded.layout import Layout
from sciembed_train.encoder.unpadded.onednn_linear import faster_linear
from sciembed_train.errors import UserError

# Tokens whose states are wanted; tokens of sentences, and how many each sentence has.
Wanted = tuple[
    Int[Tensor, " J"] | None,
    tuple[Int[Tensor, " Z"], Int[Tensor, " S"]] | None,
]


def encode_rows(
    parts: EncoderParts,
    rows: TokenRows,
    budget: int,
    unpadded: bool,
    progress: Callable[[int], None] | None = None,
    positions: Int[Tensor, " K"] | None = None,
    sentences: Sentences | None = None,
    formats: Int[Tensor, " U"] | None = None,
    max_forwards: Callable[[int], int] | None = None,
) -> tuple[Float[Tensor, "P D"], Float[Tensor, "K H"] | None]:
    """Vectors of the rows or of their sentences, and the last states of chosen tokens.

    The arguments are those of `Encoder.encode_tokens`, but for ``max_forwards``: maps this
    rank's number of forwards to the largest of any rank, where all must run equally many.

    Raises:
        ValueError, UserError: as for `Encoder.forward`.
    """
    lengths = rows.lengths.numpy()
    if not len(lengths):
        raise ValueError("there is no text to encode")
    if lengths.min() < 1 or lengths.max() > parts.settings.max_length:
        raise ValueError(
            f"texts have {lengths.min()} to {lengths.max()} tokens; expected 1 to max_length "
            f"{parts.settings.max_length}"
        )
    if sentences is None and parts.pooling.per_sentence:
        raise ValueError(
            "this encoder has a vector for each sentence and none of a whole text; call "
            "sentence_vectors or encode_sentences"
        )
    reader, padded = parts.format_reader, not unpadded
    rows, vector_positions = reader.prepare_rows(rows, formats)
    if vector_positions is not None:
        positions = vector_positions
    micro_batches = reader.plan(rows.lengths.numpy(), formats, budget, padded)
    encode = partial(padded_forward if padded else unpadded_forward, parts)
    count, missing = len(micro_batches.ends), 0
    if max_forwards is not None:
        missing = max_forwards(count) - count
    vectors, states = encode_micro_batches(
        rows, micro_batches, encode, progress, positions, sentences
    )
    if missing:
        vectors, states = add_dummy_forwards(encode, missing, rows, vectors, states)
    vectors = reader.reach_trained(parts.backbone, vectors, padded)
    if vector_positions is not None:
        assert states is not None
        return states, None
    vectors = parts.projected(vectors, scaled=sentences is None)
    return vectors, states


def unpadded_forward(
    parts: EncoderParts, micro_batch: MicroBatch
) -> tuple[Float[Tensor, "P D"], Float[Tensor, "J H"] | None]:
    """The vectors of a micro-batch, and the states of its wanted tokens; nothing is padded."""
    slots = np.arange(micro_batch.rows.tokens)
    layout, wanted, _ = _lay_out(micro_batch, slots)
    reads = "tokens" if micro_batch.sentences is not None else parts.pooling.reads
    backbone, ids, run = parts.backbone, micro_batch.rows.ids, _run(parts, micro_batch)
    alone = micro_batch.wanted is None and reads.startswith(computed_alone(backbone))
    first: list[Tensor] = []
    last = None
    if reads == "first_token_of_layers":
        top, states = len(backbone_layers(backbone)), torch.empty(0)
        layers = unpadded_layers(backbone, ids, layout, alone, run)
        for number, states in enumerate(layers):
            # The layer's other states are freed once the next layer is computed.
            selected = alone and number == top
            first.append(states if selected else states.index_select(0, layout.starts))
    else:
        states = unpadded_states(backbone, ids, layout, alone, run)
        if reads == "first_token":
            first = [states if alone else states.index_select(0, layout.starts)]
        elif reads == "last_token":
            last = states if alone else states.index_select(0, layout.last)
    tokens = states if reads == "tokens" else None
    hidden = HiddenStates(tuple(first), tokens, layout.sizes, layout.lengths, last=last)
    return _pooled(parts, hidden, states, wanted)


def padded_forward(
    parts: EncoderParts, micro_batch: MicroBatch
) -> tuple[Float[Tensor, "P D"], Float[Tensor, "J H"] | None]:
    """The same by the backbone's own forward, each text padded to the longest of the
    micro-batch."""
    longest, texts = max(micro_batch.sizes), len(micro_batch.rows)
    layout, wanted, slots = _lay_out(
        micro_batch, index_ranges(np.arange(texts) * longest, np.array(micro_batch.sizes))
    )
    ids = micro_batch.rows.ids.new_full((texts * longest,), parts.tokenizer.pad_id)
    ids = ids.index_copy(0, slots, micro_batch.rows.ids).view(texts, longest)
    mask = (torch.arange(longest, device=ids.device) < layout.lengths.unsqueeze(1)).long()
    inputs: dict[str, Any] = {"input_ids": ids, "attention_mask": mask}
    if is_causal(parts.backbone.config):
        inputs["use_cache"] = False  # of keys and values, for a next token that never comes
    # Recomputation in the backward runs outside of this context, and must give the same.
    recomputes = parts.settings.gradient_checkpointing and parts.backbone.training
    faster = contextlib.nullcontext() if recomputes else faster_linear(ids.device)
    reads = "tokens" if micro_batch.sentences is not None else parts.pooling.reads
    with parts.format_reader.padded_context(micro_batch), faster:
        hidden, first = padded_states(parts.backbone, inputs, reads)
    last = last_of_rows(hidden, mask) if reads == "last_token" else None
    padded = HiddenStates(first, hidden, layout.sizes, layout.lengths, mask, last)
    return _pooled(parts, padded, hidden.flatten(0, 1), wanted)


def padded_states(
    backbone: Any, inputs: dict[str, Tensor], reads: str
) -> tuple[Float[Tensor, "U L H"], tuple[Float[Tensor, "U H"], ...]]:
    """Last hidden states of all slots, and those of first tokens that a pooling ``reads``.

    Args:
        backbone: a model of ``transformers``.
        inputs: ``input_ids`` and ``attention_mask``.
        reads: `Pooling.reads`.
    """
    if reads == "first_token_of_layers":
        return first_of_layers(backbone, inputs)
    hidden = backbone(**inputs).last_hidden_state
    return hidden, (hidden[:, 0],) if reads == "first_token" else ()


def _pooled(
    parts: EncoderParts, hidden: HiddenStates, states: Float[Tensor, "X H"], wanted: Wanted
) -> tuple[Float[Tensor, "P D"], Float[Tensor, "J H"] | None]:
    """The vectors of texts, or of their sentences where those are wanted; and states of tokens.

    ``states`` are those of all slots end to end.
    """
    positions, sentences = wanted
    chosen = None if positions is None else states.index_select(0, positions)
    if sentences is None:
        return parts.pooling(hidden), chosen
    tokens = states.index_select(0, sentences[0])
    return parts.pooling.pool_sentences(tokens, sentences[1]), chosen


def first_of_layers(
    backbone: Any, inputs: dict[str, Any]
) -> tuple[Float[Tensor, "U L H"], tuple[Float[Tensor, "U H"], ...]]:
    """Last hidden states of all slots, and the first slot's state of each layer.

    Raises:
        UserError: the backbone gives other states than its embeddings' and layers', of one shape.
    """
    output = backbone(**inputs, output_hidden_states=True)
    states = output.hidden_states or ()
    last, count = output.last_hidden_state, layer_states(backbone.config)
    if len(states) != count or any(s.shape != last.shape for s in states):
        raise UserError(
            f"encoder.pooling reads every layer, but model type {backbone.config.model_type!r} "
            f"gives {len(states)} states of a text; expected {count} of one shape: the "
            "embeddings' and each layer's. Use cls or mean."
        )
    # Copies: a view would keep the states of all slots alive. The last of the list may lack the
    # norm above the layers (ModernBERT in transformers 4).
    return last, tuple(state[:, 0].clone() for state in (*states[:-1], last))


def add_dummy_forwards(
    encode: EncodeMicroBatch,
    count: int,
    rows: TokenRows,
    vectors: Float[Tensor, "V D"],
    states: Float[Tensor, "K H"] | None,
) -> tuple[Float[Tensor, "V D"], Float[Tensor, "K H"] | None]:
    """The same vectors and states, after more forwards that add zero to them and to gradients.

    Args:
        encode: runs the backbone.
        count: how many forwards.
        rows: the shortest of these texts is run.
        vectors: of all texts.
        states: of all wanted tokens.
    """
    micro_batch = MicroBatch(rows.select(rows.lengths.argmin().reshape(1)))
    zero = 0 * torch.stack([encode(micro_batch)[0].sum() for _ in range(count)]).sum()
    return vectors + zero, None if states is None else states + zero


def _run(parts: EncoderParts, micro_batch: MicroBatch) -> Run:
    """How the layers of an unpadded forward are run."""
    settings, training = parts.settings, parts.backbone.training
    options: dict[str, Any] = {"compiled": settings.compile and training}
    end = parts.format_reader.layer_end(micro_batch)
    if end is not None:
        options["end"] = end
    return Run(settings.attention, settings.gradient_checkpointing and training, **options)


def _lay_out(
    micro_batch: MicroBatch, slots: NDArray[np.int64]
) -> tuple[Layout, Wanted, Int[Tensor, " T"]]:
    """The micro-batch's layout, wanted tokens and tokens' slots, moved in one copy.

    A token's slot is the index of its state among the states.
    """
    empty = np.empty(0, dtype=np.int64)
    wanted = empty if micro_batch.wanted is None else slots[micro_batch.wanted.numpy()]
    tokens, sizes = empty, empty
    if micro_batch.sentences is not None:
        tokens = slots[micro_batch.sentences.positions(micro_batch.rows.lengths).numpy()]
        sizes = micro_batch.sentences.lengths.numpy()
    device = micro_batch.rows.ids.device
    layout, (slot_ids, positions, token_ids, token_counts) = Layout.of(
        micro_batch.sizes, device, slots, wanted, tokens, sizes
    )
    result = (
        None if micro_batch.wanted is None else positions,
        None if micro_batch.sentences is None else (token_ids, token_counts),
    )
    return layout, result, slot_ids
