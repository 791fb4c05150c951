"""One piece of texts through the backbone to its vectors: packed, or padded for any backbone.

Shapes: ``P`` vectors of a piece, of its texts or of their sentences, ``V`` of all pieces, ``D``
width, ``J`` tokens of a piece whose states are wanted, ``K`` of all, ``H`` width of a state.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float, Int
from torch import Tensor

from sciembed_train.batches import TokenRows
from sciembed_train.encoder import pooling
from sciembed_train.encoder.microbatch import EncodePiece, Piece
from sciembed_train.encoder.mix import padded_firsts
from sciembed_train.encoder.packed import packed_layers, packed_states
from sciembed_train.encoder.products import faster_linear

if TYPE_CHECKING:
    from sciembed_train.encoder.encoder import Encoder


def packed_piece(
    encoder: Encoder, piece: Piece
) -> tuple[Float[Tensor, "P D"], Float[Tensor, "J H"] | None]:
    """The vectors of a piece, and the states of its wanted tokens; nothing is padded."""
    rows, wanted = piece.rows, piece.wanted
    whole = piece.sentences is None
    cls_only = whole and wanted is None and encoder.settings.pooling != "mean"
    checkpointing = encoder.settings.gradient_checkpointing and encoder.training
    given = (encoder.backbone, rows.ids, rows.lengths, piece.sizes, cls_only, checkpointing)
    if encoder.mix is not None and whole:
        firsts, states = [], torch.empty(0)
        for number, states in enumerate(packed_layers(*given), start=1):
            # The rest of a layer's states may go once the next layer is computed.
            done = cls_only and number == encoder.mix.numel()
            firsts.append(states if done else pooling.cls_ragged(states, rows.lengths))
        found = None if wanted is None else states.index_select(0, wanted)
        return pooling.mix_layers(firsts, encoder.mix), found
    if encoder.adapters is None or piece.formats is None:
        states = packed_states(*given)
    else:
        choice = encoder.adapters.choose(piece.formats, piece.sizes)
        states = packed_states(*given, within=choice.packed)
    if cls_only:
        return states, None
    found = None if wanted is None else states.index_select(0, wanted)
    if piece.sentences is not None:
        own = states.index_select(0, piece.sentences.positions(rows.lengths))
        return pooling.mean_ragged(own, piece.sentences.lengths), found
    pool = pooling.cls_ragged if encoder.settings.pooling == "cls" else pooling.mean_ragged
    return pool(states, rows.lengths), found


def padded_piece(
    encoder: Encoder, piece: Piece
) -> tuple[Float[Tensor, "P D"], Float[Tensor, "J H"] | None]:
    """The same by the backbone's own forward, each text padded to the longest of the piece."""
    lengths, longest = piece.rows.lengths, max(piece.sizes)
    mask = torch.arange(longest, device=lengths.device) < lengths.unsqueeze(1)
    ids = piece.rows.ids.new_full(mask.shape, encoder.tokenizer.pad_id)
    ids = ids.masked_scatter(mask, piece.rows.ids)
    inputs = {"input_ids": ids, "attention_mask": mask.long()}
    firsts: list[Tensor] | None = None
    # What is computed again in the backward is computed outside of here, and must be the same.
    again = encoder.settings.gradient_checkpointing and encoder.training
    faster = contextlib.nullcontext() if again else faster_linear(ids.device)
    if encoder.mix is None or piece.sentences is not None:
        chosen = contextlib.nullcontext()
        if encoder.adapters is not None and piece.formats is not None:
            chosen = encoder.adapters.choose(piece.formats, piece.sizes).padded()
        with chosen, faster:
            hidden = encoder.backbone(**inputs).last_hidden_state
    else:
        with faster:
            hidden, firsts = padded_firsts(encoder.backbone, inputs)

    def states(tokens: Int[Tensor, " J"]) -> Float[Tensor, "J H"]:
        ends = torch.cumsum(lengths, 0)
        row = torch.searchsorted(ends, tokens, right=True)
        slot = tokens - (ends - lengths)[row] + row * longest
        return hidden.flatten(0, 1).index_select(0, slot)

    found = None if piece.wanted is None else states(piece.wanted)
    if piece.sentences is not None:
        own = states(piece.sentences.positions(lengths))
        return pooling.mean_ragged(own, piece.sentences.lengths), found
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
    shortest = rows.lengths.argmin().reshape(1).to(rows.ids.device)
    text = rows.select(shortest)
    piece = Piece(text, text.lengths.tolist(), None, None)
    nothing = 0 * torch.stack([encode(piece)[0].sum() for _ in range(times)]).sum()
    vectors, states = found
    return vectors + nothing, None if states is None else states + nothing
