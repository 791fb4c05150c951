"""Vectors in fewer bytes: float16, int8 by a range for each number, and signs as bits.

Importing this module imports no torch.

Shapes: ``U`` vectors, ``D`` width, ``W`` numbers of a stored row: ``D``, or ``ceil(D / 8)`` bytes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import numpy as np
from jaxtyping import Float32
from numpy.typing import NDArray

from sciembed_train.errors import UserError
from sciembed_train.inference.options import Dtype

CALIBRATION = 1024  # vectors, the first ones, whose ranges int8 takes
STEPS = 255
ENCODED = ("int8", "binary")  # what is no vector before it is decoded
FORMULAS = {
    "int8": "x = lowest + (stored + 128) * (highest - lowest) / 255, number by number",
    "binary": "numpy.unpackbits(stored, axis=1, count=dim): 1 where x is above 0, else 0",
}


@dataclass(frozen=True)
class Quantisation:
    """How vectors of float32 are stored.

    ``int8``: ``q = round((x - lowest) / s) - 128`` with ``s = (highest - lowest) / 255``, limited
    to -128 to 127; back, ``x = lowest + (q + 128) s``: within ``s / 2`` of what lay in the range.
    As sentence-transformers' ``quantize_embeddings``, which cuts where this rounds, and wraps
    around where a number is out of the range. ``binary``: the signs of eight numbers in a byte, by
    ``numpy.packbits``; back, 1 where a number was above 0 and -1 elsewhere, so that squared
    Euclidean distances are four times the Hamming distances, and cosines fall with them.

    Args:
        dtype: of the stored numbers.
        dim: ``D``.
        lowest, highest: of ``int8``, the range of each number, ``[D]``.
    """

    dtype: Dtype
    dim: int
    lowest: NDArray[np.float32] | None = None
    highest: NDArray[np.float32] | None = None

    @classmethod
    def calibrated(cls, dtype: Dtype, sample: Float32[np.ndarray, "_ D"]) -> Quantisation:
        """The form with the ranges of a sample, if the dtype has ranges."""
        if dtype != "int8":
            return cls(dtype, sample.shape[1])
        return cls(dtype, sample.shape[1], sample.min(0), sample.max(0))

    @property
    def width(self) -> int:
        """Numbers of a stored row, ``W``."""
        return -(-self.dim // 8) if self.dtype == "binary" else self.dim

    @property
    def stored_type(self) -> type[np.generic]:
        """The NumPy type of the stored numbers."""
        kinds = {"float16": np.float16, "int8": np.int8, "binary": np.uint8}
        return kinds.get(self.dtype, np.float32)

    def encode(self, vectors: Float32[np.ndarray, "U D"]) -> NDArray[Any]:
        """The stored rows ``[U, W]``.

        Raises:
            UserError: a number is too large for float16.
        """
        if self.dtype == "binary":
            return np.packbits(vectors > 0, axis=1)
        if self.dtype == "int8":
            lowest, step = self._scale()
            stored = np.rint((vectors - lowest) / step) - 128
            return np.clip(stored, -128, 127).astype(np.int8)
        with np.errstate(over="ignore"):  # refused below
            stored = vectors.astype(self.stored_type)
        if not np.isfinite(stored).all():
            raise UserError(
                f"A vector has a number of size {np.abs(vectors).max():.3g}, too large for "
                "float16; use --dtype float32."
            )
        return stored

    def decode(self, stored: NDArray[Any]) -> Float32[np.ndarray, "U D"]:
        """The vectors of stored rows, as exact as these are."""
        if self.dtype == "binary":
            bits = np.unpackbits(np.asarray(stored), axis=1, count=self.dim)
            return bits.astype(np.float32) * 2 - 1
        if self.dtype == "int8":
            lowest, step = self._scale()
            return lowest + (np.asarray(stored, np.float32) + 128) * step
        return np.asarray(stored, np.float32)

    def _scale(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """The lowest of each number, and the step, 1 where all of the sample were equal."""
        assert self.lowest is not None
        assert self.highest is not None
        step = (self.highest - self.lowest) / np.float32(STEPS)
        return self.lowest, np.where(step > 0, step, np.float32(1))

    def record(self) -> dict[str, Any]:
        """Plain values, for JSON; every float32 comes back bit for bit."""
        values: dict[str, Any] = {"dtype": self.dtype, "dim": self.dim}
        if self.dtype in ENCODED:
            values["formula"] = FORMULAS[self.dtype]
        if self.lowest is not None and self.highest is not None:
            values |= {"lowest": self.lowest.tolist(), "highest": self.highest.tolist()}
        return values

    @classmethod
    def recorded(cls, values: Mapping[str, Any], where: Path) -> Quantisation:
        """The form that `record` described.

        Raises:
            UserError: it is malformed; ``where`` is the file.
        """
        try:
            dtype, dim = values["dtype"], int(values["dim"])
            keys = ("lowest", "highest") if dtype == "int8" else ()
            ranges = [np.array(values[key], np.float32) for key in keys]
            fits = dim > 0 and all(part.shape == (dim,) for part in ranges)
            if dtype not in get_args(Dtype) or not fits:
                raise ValueError(f"dtype {dtype} of width {dim}")
        except (KeyError, TypeError, ValueError) as error:
            raise UserError(
                f"{where}: does not say how the vectors beside it are stored ({error!r}). Embed "
                "the papers again."
            ) from error
        return cls(dtype, dim, *ranges)

    def check(self, stored: NDArray[Any], path: Path) -> None:
        """Raise UserError unless an array of a file has this form."""
        if stored.ndim != 2 or stored.shape[1] != self.width or stored.dtype != self.stored_type:
            raise UserError(
                f"{path} holds {stored.dtype} of shape {stored.shape}; expected rows of "
                f"{self.width} numbers of {np.dtype(self.stored_type)}, as its JSON says. Embed "
                "the papers again."
            )
