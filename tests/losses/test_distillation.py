import math

import pytest
import torch

from sciembed_train.losses.distillation import cosine_distance, has_vector
from tests.helpers.loss_checks import assert_equal_with_gradients, vectors


def test_the_distance_is_the_equation_in_plain_loops():
    student, teacher = vectors(6, 4).requires_grad_(), vectors(6, 4, seed=1)
    teacher /= teacher.norm(dim=1, keepdim=True)
    teacher[2] = 0
    expected = []
    for one, other in zip(student, teacher, strict=True):
        length = sum(x * x for x in one) ** 0.5
        cosine = sum(x * y for x, y in zip(one, other, strict=True)) / length
        expected.append(1 - cosine if other.any() else 0 * one.sum())
    assert_equal_with_gradients(
        cosine_distance(student, teacher), torch.stack(expected), (student,)
    )
    assert has_vector(teacher).tolist() == [True, True, False, True, True, True]


def test_a_text_without_a_vector_has_no_gradient_and_the_teacher_gets_none():
    student, teacher = vectors(3, 4).requires_grad_(), torch.eye(3, 4, dtype=torch.float64)
    teacher[1] = 0
    teacher.requires_grad_()
    cosine_distance(student, teacher).sum().backward()
    assert teacher.grad is None
    assert student.grad is not None
    assert not student.grad[1].any()
    assert student.grad[0].any()


def test_equal_directions_are_at_distance_0_and_opposite_ones_at_2():
    teacher = torch.tensor([[0.6, 0.8], [1.0, 0.0]])
    found = cosine_distance(torch.tensor([[3.0, 4.0], [-2.0, 0.0]]), teacher)
    assert found.tolist() == pytest.approx([0, 2], abs=1e-6)
    half = cosine_distance(torch.tensor([[1.0, 1.0]]).bfloat16(), teacher[1:])
    assert half.item() == pytest.approx(1 - math.sqrt(0.5), abs=1e-6)
