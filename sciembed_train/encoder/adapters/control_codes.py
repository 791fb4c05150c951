"""Control codes: a token before a text says what it is read for, and its state is the vector.

MTL CTRL of SciRepEval, Singh et al. (2023), section 4: ``[CLS] [CLF] title [SEP] abstract [SEP]``.
Shapes: ``U`` texts, ``F`` formats.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from sciembed_train.batch import TokenRows, index_ranges, on_device, range_starts
from sciembed_train.text.input_format import FORMATS
from sciembed_train.text.tokenizer import TextTokenizer


def add_codes(backbone: Any, tokenizer: TextTokenizer) -> TextTokenizer:
    """The tokenizer with a token for each format, and the backbone with a vector for each.

    A new vector is drawn like the others of the backbone once were; those that a trained backbone
    has are kept.

    Args:
        backbone: its table of words is made longer where it must be.
        tokenizer: its library's own is changed.
    """
    codes = sorted(FORMATS.values())
    known = tokenizer.hf.get_vocab()
    if any(code not in known for code in codes):
        tokenizer.hf.add_tokens(codes, special_tokens=True)
        most = max(tokenizer.hf.get_vocab().values()) + 1
        if backbone.get_input_embeddings().weight.shape[0] < most:
            backbone.resize_token_embeddings(most, mean_resizing=False)
    return TextTokenizer(tokenizer.hf)


def code_ids(tokenizer: TextTokenizer) -> Int[Tensor, " F"]:
    """The token of each format, in the order of `inputs.FORMATS`."""
    vocabulary = tokenizer.hf.get_vocab()
    return torch.tensor([vocabulary[code] for code in FORMATS.values()])


def with_codes(
    rows: TokenRows,
    formats: Int[Tensor, " U"],
    codes: Int[Tensor, " F"],
    prefix: int,
    suffix: int,
    max_length: int,
) -> tuple[TokenRows, Int[Tensor, " U"]]:
    """The texts with their formats' codes, and where in the ids these stand, on the host.

    A text of ``max_length`` tokens loses the last one of its own for the code.

    Args:
        rows: texts with special tokens, at most ``max_length`` each.
        formats: of each text, as a place in `inputs.FORMATS`; on the host.
        codes: the token of each format.
        prefix: special tokens at the beginning of a text; the code follows them.
        suffix: special tokens at its end.
        max_length: tokens of a text at most.
    """
    whole = rows.lengths.numpy() + 1
    lengths = np.minimum(whole, max_length)
    of = np.repeat(np.arange(len(lengths)), lengths)
    place = index_ranges(np.zeros_like(lengths), lengths)
    # Of a text that is cut the special tokens at the end keep their place.
    ending = place >= lengths[of] - suffix
    back = (place > prefix) & ~(ending & (whole > max_length)[of])
    source = range_starts(whole - 1)[of] + place - back
    at = range_starts(lengths) + prefix
    found = on_device(rows.ids.device, source, at, codes.numpy()[formats.numpy()])
    ids = rows.ids.index_select(0, found[0]).index_copy(0, found[1], found[2])
    return TokenRows(ids, torch.from_numpy(lengths)), torch.from_numpy(at)
