"""Vectors of a model stored shorter or coarser: columns of a suite beside the model's own.

Importing this module imports no torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sciembed_train.errors import UserError
from sciembed_train.inference.options import Dtype


@dataclass(frozen=True)
class StoredForm:
    """How vectors are stored before they are compared.

    Args:
        dim: how many of the first numbers; None for all.
        dtype: of the stored numbers.
    """

    dim: int | None
    dtype: Dtype

    @property
    def name(self) -> str:
        """Such as ``64``, ``int8`` or ``64 int8``."""
        parts = ["" if self.dim is None else str(self.dim)]
        parts.append("" if self.dtype == "float32" else self.dtype)
        return " ".join(part for part in parts if part)

    def column(self, model: str) -> str:
        """What a model's column of this form is called."""
        return f"{model.rstrip('/')} {self.name}"


def stored_forms(dims: Sequence[int], dtypes: Sequence[Dtype]) -> list[StoredForm]:
    """Each dim, and the full width, with each dtype and float32; but for whole vectors in float32.

    Those are the model's own column.
    """
    kinds: list[Dtype] = ["float32", *(dtype for dtype in dtypes if dtype != "float32")]
    forms = [StoredForm(dim, dtype) for dim in (None, *dims) for dtype in kinds]
    return forms[1:]


def check_any_stored(forms: Sequence[StoredForm], stored: Sequence[str]) -> None:
    """Raise UserError where forms are asked for, and there is no model whose vectors have them."""
    if forms and not stored:
        raise UserError(
            "--dim and --dtype are about models with one vector a text, and there is none: "
            "baselines, models that compare sentences, files of vectors and results of mteb are "
            "shown as they are. Leave them out, or add such a --model."
        )
