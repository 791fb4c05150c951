"""How far a student's vectors are from a teacher's of the same texts.

The divergence of in-batch similarities is `contrastive.row_divergence`.

Shapes: ``U`` texts, ``E`` width of the teacher's vectors.
"""

from __future__ import annotations

from jaxtyping import Bool, Float
from torch import Tensor

from sciembed_train.losses.similarity import unit


def has_vector(teacher: Float[Tensor, "U E"]) -> Bool[Tensor, " U"]:
    """Whether a text has a vector: a row of zeros stands for none."""
    return (teacher != 0).any(1)


def cosine_distance(
    student: Float[Tensor, "U E"], teacher: Float[Tensor, "U E"]
) -> Float[Tensor, " U"]:
    """``1 - cos(student, teacher)`` of each text, in at least fp32; 0 where there is no teacher's.

    Args:
        student: vectors of any length, mapped to the teacher's width.
        teacher: its unit vectors, which get no gradient; zeros where there is none.
    """
    teacher = teacher.detach()
    similarity = (unit(student) * teacher).sum(1)
    return has_vector(teacher).to(similarity.dtype) - similarity
