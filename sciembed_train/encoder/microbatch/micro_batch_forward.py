"""One micro-batch of texts through the backbone to its vectors: unpadded, or padded for any
backbone.

Shapes: ``P`` vectors of a micro-batch, of its texts or of their sentences, ``V`` of all
micro-batches, ``D`` width, ``J`` tokens of a micro-batch whose states are wanted, ``K`` of all,
``H`` width of a state, ``T`` tokens, ``Z`` tokens of sentences, ``S`` sentences.
"""

from __future__ import annotations

import contextlib
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor

from sciembed_train.batch import TokenRows, index_ranges
from sciembed_train.encoder import pooling
from sciembed_train.encoder.layer_mix import padded_firsts
from sciembed_train.encoder.microbatch.micro_batches import EncodePiece, MicroBatch
from sciembed_train.encoder.unpadded import compiled_layer
from sciembed_train.encoder.unpadded.attention import Layout
from sciembed_train.encoder.unpadded.bert import Run, unpadded_layers, unpadded_states
from sciembed_train.encoder.unpadded.onednn_linear import faster_linear

if TYPE_CHECKING:
    from sciembed_train.encoder.encoder import Encoder

# Tokens whose states are wanted; tokens of sentences, and how many each sentence has.
Asked = tuple[
    Int[Tensor, " J"] | None,
    tuple[Int[Tensor, " Z"], Int[Tensor, " S"]] | None,
]


def unpadded_forward(
    encoder: Encoder, micro_batch: MicroBatch
) -> tuple[Float[Tensor, "P D"], Float[Tensor, "J H"] | None]:
    """The vectors of a micro-batch, and the states of its wanted tokens; nothing is padded."""
    layout, (wanted, spans), _ = _laid_out(micro_batch, np.arange(micro_batch.rows.tokens))
    settings, whole = encoder.settings, micro_batch.sentences is None
    cls_only = whole and wanted is None and settings.pooling != "mean"
    run = Run(settings.attention, settings.gradient_checkpointing and encoder.training)
    if settings.compile and encoder.training:
        run = replace(run, after=compiled_layer.compiled_on(layout.bounds.device.type))
    if encoder.adapters is not None and micro_batch.formats is not None:
        choice = encoder.adapters.choose(micro_batch.formats, micro_batch.sizes)
        run = replace(run, end=choice.unpadded)
    given = encoder.backbone, micro_batch.rows.ids, layout, cls_only, run
    if encoder.mix is not None and whole:
        range_starts, states = [], torch.empty(0)
        for number, states in enumerate(unpadded_layers(*given), start=1):
            # The rest of a layer's states may go once the next layer is computed.
            done = cls_only and number == encoder.mix.numel()
            range_starts.append(states if done else states.index_select(0, layout.starts))
        found = None if wanted is None else states.index_select(0, wanted)
        return pooling.mix_layers(range_starts, encoder.mix), found
    states = unpadded_states(*given)
    if cls_only:
        return states, None
    found = None if wanted is None else states.index_select(0, wanted)
    if spans is not None:
        return pooling.mean_ragged(states.index_select(0, spans[0]), spans[1]), found
    if settings.pooling == "cls":
        return states.index_select(0, layout.starts), found
    return pooling.mean_ragged(states, layout.lengths), found


def padded_forward(
    encoder: Encoder, micro_batch: MicroBatch
) -> tuple[Float[Tensor, "P D"], Float[Tensor, "J H"] | None]:
    """The same by the backbone's own forward, each text padded to the longest of the
    micro-batch."""
    longest, texts = max(micro_batch.sizes), len(micro_batch.rows)
    layout, (wanted, spans), slots = _laid_out(
        micro_batch, index_ranges(np.arange(texts) * longest, np.array(micro_batch.sizes))
    )
    ids = micro_batch.rows.ids.new_full((texts * longest,), encoder.tokenizer.pad_id)
    ids = ids.index_copy(0, slots, micro_batch.rows.ids).view(texts, longest)
    mask = torch.arange(longest, device=ids.device) < layout.lengths.unsqueeze(1)
    inputs = {"input_ids": ids, "attention_mask": mask.long()}
    range_starts: list[Tensor] | None = None
    # What is computed again in the backward is computed outside of here, and must be the same.
    again = encoder.settings.gradient_checkpointing and encoder.training
    faster = contextlib.nullcontext() if again else faster_linear(ids.device)
    if encoder.mix is None or spans is not None:
        chosen = contextlib.nullcontext()
        if encoder.adapters is not None and micro_batch.formats is not None:
            chosen = encoder.adapters.choose(
                micro_batch.formats, micro_batch.sizes, padded=True
            ).padded()
        with chosen, faster:
            hidden = encoder.backbone(**inputs).last_hidden_state
    else:
        with faster:
            hidden, range_starts = padded_firsts(encoder.backbone, inputs)
    states = hidden.flatten(0, 1)
    found = None if wanted is None else states.index_select(0, wanted)
    if spans is not None:
        return pooling.mean_ragged(states.index_select(0, spans[0]), spans[1]), found
    if encoder.mix is not None and range_starts is not None:
        return pooling.mix_layers(range_starts, encoder.mix), found
    if encoder.settings.pooling == "cls":
        return pooling.cls_padded(hidden), found
    return pooling.mean_padded(hidden, mask.long()), found


def dummy_forwards(
    encode: EncodePiece,
    times: int,
    rows: TokenRows,
    found: tuple[Float[Tensor, "V D"], Float[Tensor, "K H"] | None],
) -> tuple[Float[Tensor, "V D"], Float[Tensor, "K H"] | None]:
    """What was found, after more runs that count for nothing, forward and backward.

    Args:
        encode: runs the backbone.
        times: how often.
        rows: the shortest of these texts is run.
        found: vectors and states of all texts.
    """
    micro_batch = MicroBatch(rows.select(rows.lengths.argmin().reshape(1)))
    nothing = 0 * torch.stack([encode(micro_batch)[0].sum() for _ in range(times)]).sum()
    vectors, states = found
    return vectors + nothing, None if states is None else states + nothing


def _laid_out(
    micro_batch: MicroBatch, slots: NDArray[np.int64]
) -> tuple[Layout, Asked, Int[Tensor, " T"]]:
    """The micro-batch's layout, what is asked of it and its tokens' slots, brought by one copy.

    Args:
        micro_batch: what is encoded.
        slots: where each token's state will stand among the states.
    """
    none = np.empty(0, dtype=np.int64)
    wanted = none if micro_batch.wanted is None else slots[micro_batch.wanted.numpy()]
    tokens, sizes = none, none
    if micro_batch.sentences is not None:
        tokens = slots[micro_batch.sentences.positions(micro_batch.rows.lengths).numpy()]
        sizes = micro_batch.sentences.lengths.numpy()
    device = micro_batch.rows.ids.device
    layout, found = Layout.of(micro_batch.sizes, device, slots, wanted, tokens, sizes)
    asked = (
        None if micro_batch.wanted is None else found[1],
        None if micro_batch.sentences is None else (found[2], found[3]),
    )
    return layout, asked, found[0]
