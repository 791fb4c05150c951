"""One piece of texts through the backbone to its vectors: packed, or padded for any backbone.

Shapes: ``P`` vectors of a piece, of its texts or of their sentences, ``V`` of all pieces, ``D``
width, ``J`` tokens of a piece whose states are wanted, ``K`` of all, ``H`` width of a state, ``T``
tokens, ``Z`` tokens of sentences, ``S`` sentences.
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

from sciembed_train.batch import TokenRows, runs
from sciembed_train.encoder import pooling
from sciembed_train.encoder.layer_mix import padded_firsts
from sciembed_train.encoder.microbatch.micro_batches import EncodePiece, Piece
from sciembed_train.encoder.unpadded import compiled_layer
from sciembed_train.encoder.unpadded.attention import Layout
from sciembed_train.encoder.unpadded.bert import Run, packed_layers, packed_states
from sciembed_train.encoder.unpadded.onednn_linear import faster_linear

if TYPE_CHECKING:
    from sciembed_train.encoder.encoder import Encoder

# Tokens whose states are wanted; tokens of sentences, and how many each sentence has.
Asked = tuple[
    Int[Tensor, " J"] | None,
    tuple[Int[Tensor, " Z"], Int[Tensor, " S"]] | None,
]


def packed_piece(
    encoder: Encoder, piece: Piece
) -> tuple[Float[Tensor, "P D"], Float[Tensor, "J H"] | None]:
    """The vectors of a piece, and the states of its wanted tokens; nothing is padded."""
    layout, (wanted, spans), _ = _laid_out(piece, np.arange(piece.rows.tokens))
    settings, whole = encoder.settings, piece.sentences is None
    cls_only = whole and wanted is None and settings.pooling != "mean"
    run = Run(settings.attention, settings.gradient_checkpointing and encoder.training)
    if settings.compile and encoder.training:
        run = replace(run, after=compiled_layer.compiled_on(layout.bounds.device.type))
    if encoder.adapters is not None and piece.formats is not None:
        choice = encoder.adapters.choose(piece.formats, piece.sizes)
        run = replace(run, end=choice.packed)
    given = encoder.backbone, piece.rows.ids, layout, cls_only, run
    if encoder.mix is not None and whole:
        firsts, states = [], torch.empty(0)
        for number, states in enumerate(packed_layers(*given), start=1):
            # The rest of a layer's states may go once the next layer is computed.
            done = cls_only and number == encoder.mix.numel()
            firsts.append(states if done else states.index_select(0, layout.starts))
        found = None if wanted is None else states.index_select(0, wanted)
        return pooling.mix_layers(firsts, encoder.mix), found
    states = packed_states(*given)
    if cls_only:
        return states, None
    found = None if wanted is None else states.index_select(0, wanted)
    if spans is not None:
        return pooling.mean_ragged(states.index_select(0, spans[0]), spans[1]), found
    if settings.pooling == "cls":
        return states.index_select(0, layout.starts), found
    return pooling.mean_ragged(states, layout.lengths), found


def padded_piece(
    encoder: Encoder, piece: Piece
) -> tuple[Float[Tensor, "P D"], Float[Tensor, "J H"] | None]:
    """The same by the backbone's own forward, each text padded to the longest of the piece."""
    longest, texts = max(piece.sizes), len(piece.rows)
    layout, (wanted, spans), slots = _laid_out(
        piece, runs(np.arange(texts) * longest, np.array(piece.sizes))
    )
    ids = piece.rows.ids.new_full((texts * longest,), encoder.tokenizer.pad_id)
    ids = ids.index_copy(0, slots, piece.rows.ids).view(texts, longest)
    mask = torch.arange(longest, device=ids.device) < layout.lengths.unsqueeze(1)
    inputs = {"input_ids": ids, "attention_mask": mask.long()}
    firsts: list[Tensor] | None = None
    # What is computed again in the backward is computed outside of here, and must be the same.
    again = encoder.settings.gradient_checkpointing and encoder.training
    faster = contextlib.nullcontext() if again else faster_linear(ids.device)
    if encoder.mix is None or spans is not None:
        chosen = contextlib.nullcontext()
        if encoder.adapters is not None and piece.formats is not None:
            chosen = encoder.adapters.choose(piece.formats, piece.sizes, padded=True).padded()
        with chosen, faster:
            hidden = encoder.backbone(**inputs).last_hidden_state
    else:
        with faster:
            hidden, firsts = padded_firsts(encoder.backbone, inputs)
    states = hidden.flatten(0, 1)
    found = None if wanted is None else states.index_select(0, wanted)
    if spans is not None:
        return pooling.mean_ragged(states.index_select(0, spans[0]), spans[1]), found
    if encoder.mix is not None and firsts is not None:
        return pooling.mix_layers(firsts, encoder.mix), found
    if encoder.settings.pooling == "cls":
        return pooling.cls_padded(hidden), found
    return pooling.mean_padded(hidden, mask.long()), found


def run_along(
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
    piece = Piece(rows.select(rows.lengths.argmin().reshape(1)))
    nothing = 0 * torch.stack([encode(piece)[0].sum() for _ in range(times)]).sum()
    vectors, states = found
    return vectors + nothing, None if states is None else states + nothing


def _laid_out(piece: Piece, slots: NDArray[np.int64]) -> tuple[Layout, Asked, Int[Tensor, " T"]]:
    """The piece's layout, what is asked of it and its tokens' slots, brought by one copy.

    Args:
        piece: what is encoded.
        slots: where each token's state will stand among the states.
    """
    none = np.empty(0, dtype=np.int64)
    wanted = none if piece.wanted is None else slots[piece.wanted.numpy()]
    tokens, sizes = none, none
    if piece.sentences is not None:
        tokens = slots[piece.sentences.positions(piece.rows.lengths).numpy()]
        sizes = piece.sentences.lengths.numpy()
    device = piece.rows.ids.device
    layout, found = Layout.of(piece.sizes, device, slots, wanted, tokens, sizes)
    asked = (
        None if piece.wanted is None else found[1],
        None if piece.sentences is None else (found[2], found[3]),
    )
    return layout, asked, found[0]
