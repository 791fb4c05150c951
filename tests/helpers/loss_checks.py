"""Random vectors, and a comparison of losses with their gradients."""

import torch


def vectors(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, dtype=dtype, generator=torch.Generator().manual_seed(seed))


def assert_equal_with_gradients(losses, expected, inputs):
    """Values and gradients of both, each row with a weight of its own."""
    torch.testing.assert_close(losses, expected, rtol=1e-12, atol=1e-12)
    weights = vectors(len(losses), seed=5)
    for actual, wanted in zip(
        torch.autograd.grad(losses @ weights, inputs),
        torch.autograd.grad(expected @ weights, inputs),
        strict=True,
    ):
        assert wanted.abs().max() > 1e-3
        torch.testing.assert_close(actual, wanted, rtol=1e-12, atol=1e-12)
