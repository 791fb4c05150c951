"""Distillation: a student learns from the vectors of a teacher, such as a larger encoder.

The teacher's vectors are of whole papers and were made before: it may have another tokenizer and
width. Texts that are parts of papers, and papers without a vector, do not count here.

Shapes: ``B`` pairs of this rank, ``N`` of all ranks, ``M`` candidates, ``U`` texts, ``D`` width of
the student, ``E`` of the teacher.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, Float32
from numpy.typing import NDArray
from torch import Tensor, nn

from sciembed_train.batch import ContrastBatch
from sciembed_train.errors import UserError
from sciembed_train.losses.contrastive import Allowed, row_divergence
from sciembed_train.losses.distillation import cosine_distance, has_vector

Form = Literal["ranking", "cosine"]


@dataclass(frozen=True)
class Distillation:
    """How a student learns from its teacher.

    Args:
        form: ``ranking`` compares the softmax of each row of in-batch similarities with the
            teacher's; ``cosine`` each vector with the teacher's, through a linear map that is
            trained along where their widths differ.
        weight: of what is learned from the teacher.
        temperature: of both softmaxes of ``ranking``.
        contrast: weight of the contrastive loss beside it; 0 to learn from the teacher alone.

    Raises:
        UserError: a value is out of its range.
    """

    form: Form = "ranking"
    weight: float = 1.0
    temperature: float = 0.05
    contrast: float = 1.0

    def __post_init__(self) -> None:
        for key in ("weight", "contrast"):
            if not 0 <= getattr(self, key) < math.inf:
                raise UserError(f"distil.{key} must be 0 or more; got {getattr(self, key)}.")
        if not self.weight and not self.contrast:
            raise UserError("distil.weight and distil.contrast are both 0: nothing is trained.")
        if not 0 < self.temperature < math.inf:
            raise UserError(f"distil.temperature must be above 0; got {self.temperature}.")


@runtime_checkable
class TeacherVectors(Protocol):
    """Vectors of a corpus's papers by a teacher.

    Attributes:
        name: of the teacher, for people.
        digest: of what its vectors depend on.
        dim: their width, ``E``.
    """

    @property
    def name(self) -> str: ...  # noqa: D102 - above

    @property
    def digest(self) -> str: ...  # noqa: D102

    @property
    def dim(self) -> int: ...  # noqa: D102

    def __call__(self, texts: NDArray[np.int64]) -> Float32[np.ndarray, "U E"]:
        """Unit vectors of texts by their numbers in the corpus; zeros where there is none."""
        ...


class Distiller(nn.Module):
    """What a method learns from a teacher.

    Args:
        settings: how.
        width: of the student's vectors, ``D``.

    Attributes:
        map: from the student's width to the teacher's, of ``cosine`` where they differ: a weight
            of training, which no export has.
    """

    map: nn.Linear | None

    def __init__(self, settings: Distillation, width: int) -> None:
        super().__init__()
        self.settings, self.width = settings, width
        self.map = None
        self._teacher: TeacherVectors | None = None

    @property
    def teacher(self) -> TeacherVectors:
        """The teacher's vectors.

        Raises:
            RuntimeError: none were given (a defect).
        """
        if self._teacher is None:
            raise RuntimeError("a method with a teacher was given none of its vectors")
        return self._teacher

    def learn_from(self, teacher: TeacherVectors) -> None:
        """Take the teacher's vectors, and make the map that they need."""
        self._teacher = teacher
        if self.settings.form == "cosine" and teacher.dim != self.width:
            self.make_map(teacher.dim)

    def make_map(self, dim: int) -> None:
        """Make the map to a width; it starts with the same random numbers in every run."""
        self.map = nn.Linear(self.width, dim, bias=False)
        generator = torch.Generator().manual_seed(0)
        with torch.no_grad():
            start = torch.randn(dim, self.width, generator=generator) / math.sqrt(self.width)
            self.map.weight.copy_(start)

    @property
    def identity(self) -> dict[str, Any]:
        """Which teacher it is, for checkpoints; no digest before its vectors are there."""
        if self._teacher is None:
            return {"digest": None}
        return {"name": self._teacher.name, "digest": self._teacher.digest}

    @property
    def record(self) -> dict[str, Any]:
        """The teacher and the form, for model cards."""
        if self._teacher is None:
            return {}
        return {"teacher": {**self.identity, "dim": self._teacher.dim, **asdict(self.settings)}}

    def vectors(self, batch: ContrastBatch, like: Tensor) -> Float[Tensor, "U E"]:
        """The teacher's vectors of a batch's texts, with the device and precision of ``like``."""
        found = torch.from_numpy(self.teacher(batch.texts.numpy())).to(like.dtype)
        if like.device.type == "cuda":
            found = found.pin_memory()
        # Apple's GPUs may read memory that the host has given away already.
        return found.to(like.device, non_blocking=like.device.type not in ("cpu", "mps"))

    def distances(self, vectors: Float[Tensor, "U D"], batch: ContrastBatch) -> Float[Tensor, " B"]:
        """The form ``cosine``: mean distance of each pair's two texts from the teacher's vectors.

        A text without a teacher's vector adds 0 to that mean.
        """
        mapped = vectors
        if self.map is not None:
            with torch.autocast(vectors.device.type, enabled=False):
                mapped = vectors @ self.map.weight.to(vectors.dtype).T
        each = cosine_distance(mapped, self.vectors(batch, vectors))
        return (each[batch.anchor] + each[batch.positive]) / 2

    def divergence(
        self,
        anchor: Float[Tensor, "B D"],
        positive: Float[Tensor, "B D"],
        anchors: Float[Tensor, "N D"],
        candidates: Float[Tensor, "M D"],
        teacher: tuple[Tensor, Tensor, Tensor, Tensor],
    ) -> Float[Tensor, ""]:
        """The form ``ranking``: divergence from the teacher's similarities, of both directions.

        Mean over all pairs: a text without a teacher's vector is no candidate, and adds 0.
        ``teacher`` are its vectors of the same four lists of texts.
        """
        own_anchor, own_positive, own_anchors, own_candidates = teacher
        sides = (
            (anchor, candidates, own_anchor, own_candidates),
            (positive, anchors, own_positive, own_anchors),
        )
        there, back = (
            row_divergence(
                *(queries, texts, own, others),
                self.settings.temperature,
                allowed=_with_vectors(own, others),
            ).mean()
            for queries, texts, own, others in sides
        )
        return (there + back) / 2


def _with_vectors(queries: Float[Tensor, "B E"], candidates: Float[Tensor, "N E"]) -> Allowed:
    """The allowed candidates with a teacher's vector, for queries with one."""
    rows, columns = has_vector(queries), has_vector(candidates)
    return lambda part: rows[part, None] & columns
