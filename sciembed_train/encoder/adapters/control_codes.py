"""Control codes: a token before a text names its format, and its state is the text's vector.

MTL CTRL of SciRepEval, Singh et al. (2023), section 4: ``[CLS] [CLF] title [SEP] abstract [SEP]``.
Shapes: ``U`` texts.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from sciembed_train.batch import TokenRows, index_ranges, on_device, range_starts
from sciembed_train.encoder.format_reader import BASE_PLACE, FormatReader
from sciembed_train.errors import UserError
from sciembed_train.text.input_format import FORMATS
from sciembed_train.text.tokenizer import TextTokenizer


class ControlCodes(FormatReader):
    """Puts the code of its format before each text; the code's last state is the text's vector.

    Args:
        model: name of the encoder, for messages.
        tokenizer: with the codes in it (`add_codes`).
        max_length: most tokens of a text, code included.
    """

    uses_pooling = False
    export_layout = "control_codes"
    backbone_place = BASE_PLACE
    description = "the last hidden state of the control code, a token before the text"

    def __init__(self, model: str, tokenizer: TextTokenizer, max_length: int) -> None:
        super().__init__(model)
        self.names = tuple(FORMATS)
        vocabulary = tokenizer.hf.get_vocab()
        self.codes = np.array([vocabulary[code] for code in FORMATS.values()])
        self.prefix, self.suffix = len(tokenizer.prefix), len(tokenizer.suffix)
        self.max_length = max_length

    def prepare_rows(
        self, rows: TokenRows, formats: Int[Tensor, " U"] | None
    ) -> tuple[TokenRows, Int[Tensor, " U"]]:
        """The texts with their formats' codes, and the codes' positions in the ids, on the host.

        A text of ``max_length`` tokens loses the last one of its own for the code.

        Args:
            rows: texts with special tokens, at most ``max_length`` each.
            formats: of each text, as an index into `input_format.FORMATS`; on the host.

        Raises:
            UserError: no formats are named.
        """
        if formats is None:
            raise UserError(
                f"{self.model}: reads each text for a format, which was not given "
                "(--format-token). To compare sentences, use a model that reads all texts in the "
                "same way."
            )
        full = rows.lengths.numpy() + 1
        lengths = np.minimum(full, self.max_length)
        text = np.repeat(np.arange(len(lengths)), lengths)
        position = index_ranges(np.zeros_like(lengths), lengths)
        # Special tokens at the end of a text that is cut keep their position.
        ending = position >= lengths[text] - self.suffix
        shift = (position > self.prefix) & ~(ending & (full > self.max_length)[text])
        source = range_starts(full - 1)[text] + position - shift
        code_positions = range_starts(lengths) + self.prefix
        source, target, codes = on_device(
            rows.ids.device, source, code_positions, self.codes[formats.numpy()]
        )
        ids = rows.ids.index_select(0, source).index_copy(0, target, codes)
        return TokenRows(ids, torch.from_numpy(lengths)), torch.from_numpy(code_positions)

    def save(self, backbone: Any, model: Any, place: Path, folder: Path) -> dict[str, Any]:
        """See `FormatReader`."""
        super().save(backbone, model, place, folder)
        return {"control_codes": True}


def add_codes(backbone: Any, tokenizer: TextTokenizer) -> TextTokenizer:
    """The tokenizer with a token for each format, and the backbone with a vector for each.

    A new vector is drawn like the others of the backbone once were; those that a trained backbone
    has are kept.

    Args:
        backbone: its embedding table is extended where needed.
        tokenizer: the library's tokenizer in it is changed in place.
    """
    codes = sorted(FORMATS.values())
    known = tokenizer.hf.get_vocab()
    if any(code not in known for code in codes):
        tokenizer.hf.add_tokens(codes, special_tokens=True)
        vocabulary_size = max(tokenizer.hf.get_vocab().values()) + 1
        if backbone.get_input_embeddings().weight.shape[0] < vocabulary_size:
            backbone.resize_token_embeddings(vocabulary_size, mean_resizing=False)
    return TextTokenizer(tokenizer.hf)
