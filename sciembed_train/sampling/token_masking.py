"""Which tokens a masked language model has to predict, and what replaces them.

Devlin et al. (2019), section 3.1, task 1, as in the published DeCLUTR: each token is chosen by
itself with a probability; of the chosen 80 % become the mask token, 10 % a random id, and 10 %
stay. Special tokens are never chosen, also not one inside a text, such as the unknown token.

Shapes: ``R`` rows, ``W`` most tokens of a row, ``V`` ids of the vocabulary, ``K`` chosen tokens.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sciembed_train.errors import UserError
from sciembed_train.text.tokenizer import TextTokenizer

MASKED, REPLACED = 0.8, 0.9  # bounds of the shares of the chosen


@dataclass(frozen=True)
class Masking:
    """How tokens are hidden.

    Args:
        probability: of each token to be chosen.
        mask_id: id of the mask token.
        special: ``[V]``, whether each id is a special token's.
    """

    probability: float
    mask_id: int
    special: NDArray[np.bool_]

    @classmethod
    def of(cls, tokenizer: TextTokenizer, probability: float) -> Masking:
        """The masking of a tokenizer; UserError if it has no mask token."""
        if tokenizer.mask_id is None:
            raise UserError(
                "The encoder's tokenizer has no mask token, which a masked language model needs. "
                "To train without, set data.sampling.init_args.mlm_probability=0 and "
                "model.init_args.mlm_weight=0; or choose a backbone that was pretrained with masks."
            )
        special = np.zeros(tokenizer.vocab_size, dtype=np.bool_)
        ids = [*tokenizer.hf.all_special_ids, *tokenizer.prefix, *tokenizer.suffix]
        special[[i for i in ids if i < len(special)]] = True
        return cls(probability, tokenizer.mask_id, special)

    def hide(
        self,
        ids: NDArray[np.int64],
        starts: NDArray[np.int64],
        lengths: NDArray[np.int64],
        draws: NDArray[np.float64],
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Mask chosen tokens of ``ids`` in place; their positions, ascending, and original ids.

        One uniform decides everything about a token: below the probability it is chosen, and how
        far below decides what replaces it, and which random id.

        Args:
            ids: tokens of rows end to end; changed.
            starts: ``[R]``, ascending, where each row's tokens start in ``ids``.
            lengths: ``[R]``, how many tokens each row has, at most ``W``.
            draws: ``[R, W]`` uniforms, one a token.
        """
        # Quicker by far than np.nonzero of two axes.
        flat = np.flatnonzero(draws < self.probability)
        row = flat // max(1, draws.shape[1])
        column = flat - row * draws.shape[1]
        inside = column < lengths[row]
        row, column = row[inside], column[inside]
        positions = starts[row] + column
        labels = ids[positions]
        usual = ~self.special[labels]
        positions, labels = positions[usual], labels[usual]
        shares = draws[row[usual], column[usual]] / self.probability
        vocabulary = len(self.special)
        random = ((shares - MASKED) / (REPLACED - MASKED) * vocabulary).astype(np.int64)
        random = np.minimum(random, vocabulary - 1)
        new = np.where(shares < MASKED, self.mask_id, np.where(shares < REPLACED, random, labels))
        ids[positions] = new
        return positions, labels
