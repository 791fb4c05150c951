"""How an encoder takes the task format of each text into account; the base class does not.

Control codes and adapters subclass `FormatReader`, and so wrap the same backbone and pooling.

Shapes: ``U`` texts, ``P`` vectors of texts or of their sentences, ``D`` width.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Float, Int
from torch import Tensor, nn

from sciembed_train.batch import TokenRows
from sciembed_train.encoder.microbatch.micro_batches import (
    MicroBatch,
    MicroBatches,
    plan_micro_batches,
)
from sciembed_train.encoder.unpadded.family import RunEnd
from sciembed_train.errors import UserError
from sciembed_train.text.input_format import FORMATS

# Sub-folder of an encoder's folder for a backbone that needs its codes or adapters.
BASE_PLACE = "base"


class FormatReader(nn.Module):
    """Reads every text the same way, whatever its format.

    Args:
        model: name of the encoder, for messages.

    Attributes:
        names: the formats that it distinguishes (`input_format.FORMATS`).
        freezes_backbone: whether the backbone is not trained.
        uses_pooling: whether the pooling makes the vectors.
        why_not_unpadded: why the backbone's own, padded forward is needed, if it is.
        export_layout: what other libraries can load of an export; None leaves that to the pooling.
        backbone_place: as `Pooling.backbone_place`.
        description: what the vector is, for model cards, where the pooling does not make it.
    """

    freezes_backbone: ClassVar[bool] = False
    uses_pooling: ClassVar[bool] = True
    export_layout: ClassVar[str | None] = None
    backbone_place: ClassVar[str] = ""
    description: ClassVar[str | None] = None

    def __init__(self, model: str) -> None:
        super().__init__()
        self.model = model
        self.names: tuple[str, ...] = ()
        self.why_not_unpadded: str | None = None

    @property
    def reads_formats(self) -> bool:
        """Whether a text's format makes a difference."""
        return bool(self.names)

    def index_of(self, name: str) -> int:
        """The index of a format in `input_format.FORMATS`, by which rows name it.

        Raises:
            UserError: there is no such format here.
        """
        if not self.names:
            raise UserError(
                f"{self.model}: reads every text in the same way, so it takes no format ({name!r})."
            )
        if name not in FORMATS:
            raise UserError(f"{name!r} is no format; expected {', '.join(FORMATS)}.")
        return list(FORMATS).index(name)

    def prepare_rows(
        self, rows: TokenRows, formats: Int[Tensor, " U"] | None
    ) -> tuple[TokenRows, Int[Tensor, " U"] | None]:
        """The rows as the backbone is to read them.

        Args:
            rows: texts with special tokens.
            formats: of each text, on the host; None where the caller names none.

        Returns:
            The rows, and the positions in their ids of the tokens whose last states are the
            vectors, on the host; None if the pooling makes the vectors.

        Raises:
            ValueError: formats are given, and this reader ignores formats.
        """
        if formats is not None:
            raise ValueError("this encoder reads every text in the same way and takes no formats")
        return rows, None

    def plan(
        self, lengths: np.ndarray, formats: Int[Tensor, " U"] | None, budget: int, padded: bool
    ) -> MicroBatches:
        """How the texts are split into micro-batches (see `plan_micro_batches`)."""
        return plan_micro_batches(lengths, budget, padded)

    def layer_end(self, micro_batch: MicroBatch) -> RunEnd | None:
        """Runs the end of each layer of an unpadded forward; None for the layer's own end."""
        return None

    def padded_context(self, micro_batch: MicroBatch) -> AbstractContextManager[Any]:
        """The context in which a padded forward of a micro-batch runs."""
        return nullcontext()

    def reach_trained(
        self, backbone: Any, vectors: Float[Tensor, "P D"], padded: bool
    ) -> Float[Tensor, "P D"]:
        """The vectors, with a zero gradient to trained weights that none of the texts uses."""
        return vectors

    def check_trained(self) -> None:
        """Raise UserError if weights that must be trained already are newly initialised."""

    def enable_gradient_checkpointing(self, backbone: Any) -> None:
        """Have the backbone's padded forward compute each layer again in the backward pass."""
        # transformers 5 has renamed it, and warns about the old name.
        enable = getattr(backbone, "activation_checkpointing_enable", None)
        (enable or backbone.gradient_checkpointing_enable)({"use_reentrant": False})

    def keeps_in_state(self, name: str) -> bool:
        """Whether a tensor of the backbone belongs in the encoder's state."""
        return True

    def save(self, backbone: Any, model: Any, place: Path, folder: Path) -> dict[str, Any]:
        """Write the backbone, and return the entries of ``sciembed.json``.

        Args:
            backbone: of the encoder.
            model: the same, with its head where it has one.
            place: folder of the backbone.
            folder: that of the encoder.
        """
        model.save_pretrained(str(place), safe_serialization=True)
        return {}

    def checkpoint_record(self) -> Mapping[str, Any]:
        """What a checkpoint stores besides the encoder's settings."""
        return {}
