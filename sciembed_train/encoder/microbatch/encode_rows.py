"""Token rows to vectors: checked, prepared for their formats, and encoded in micro-batches.

Shapes: ``U`` texts, ``K`` tokens whose states are wanted, ``H`` width of a state, ``P`` vectors of
texts or of their sentences, ``D`` width.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import normalize

from sciembed_train.batch import Sentences, TokenRows
from sciembed_train.encoder.microbatch.micro_batch_forward import (
    add_dummy_forwards,
    padded_forward,
    unpadded_forward,
)
from sciembed_train.encoder.microbatch.micro_batches import encode_micro_batches
from sciembed_train.encoder.parts import EncoderParts


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

    Args:
        parts: of the encoder.
        rows: texts with special tokens.
        budget: most tokens of a micro-batch.
        unpadded: whether the forward is the unpadded one.
        progress: called with the number of texts just finished.
        positions: tokens in ``rows.ids`` whose states are wanted too; on the host.
        sentences: of the rows, where each is to have a vector in place of its text.
        formats: what each text is read for, as an index into `input_format.FORMATS`; on the host.
        max_forwards: the largest of all ranks' numbers of forwards, from this rank's; where every
            rank must run equally many.

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
    if parts.settings.normalize and sentences is None:
        vectors = normalize(vectors)
    return vectors, states
