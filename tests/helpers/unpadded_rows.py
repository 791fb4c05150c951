"""Ragged rows, and the unpadded forward beside the padded one."""

import torch
from torch import nn

from sciembed_train.batch import TokenRows
from sciembed_train.encoder.encoder import Encoder

# 2 to 512 tokens, several of equal length, out of order, several micro-batches at 700 tokens a
# micro-batch.
LENGTHS = [2, 512, 37, 37, 200, 3, 64, 512, 499, 37, 2]


def ragged(vocabulary: int, lengths: list[int], seed: int = 0) -> TokenRows:
    draw = torch.Generator().manual_seed(seed)
    return TokenRows.from_lists(
        [torch.randint(5, vocabulary, (n,), generator=draw).tolist() for n in lengths]
    )


def run(encoder: Encoder, rows: TokenRows) -> tuple[torch.Tensor, dict[str, torch.Tensor | None]]:
    """Embeddings, and every parameter's gradient of one fixed random linear function of them."""
    encoder.zero_grad()
    vectors = encoder(rows)
    draw = torch.Generator().manual_seed(9)
    weights = torch.randn(vectors.shape, generator=draw, dtype=torch.float64).to(vectors)
    (vectors * weights).sum().backward()
    return vectors.detach(), {n: p.grad for n, p in encoder.named_parameters()}


def assert_same(unpadded, padded, tolerance: float) -> None:
    """Equal to ``tolerance`` of the largest entry, for each tensor by itself."""
    (vectors, grads), (want_vectors, want_grads) = unpadded, padded
    assert (vectors - want_vectors).abs().max() <= tolerance * want_vectors.abs().max()
    assert grads.keys() == want_grads.keys()
    largest = max(g.abs().max() for g in want_grads.values() if g is not None)
    for name, want in want_grads.items():
        got = grads[name]
        assert (got is None) == (want is None), name
        if got is None or want is None:
            continue
        # A softmax does not see a constant added to its scores: the true gradient of the key's
        # bias is 0, and what is there is rounding, to be measured by the others' size.
        scale = largest if name.endswith("key.bias") else want.abs().max()
        assert scale > 0, name
        assert (got - want).abs().max() <= tolerance * scale, name


def multiplied(encoder: Encoder, rows: TokenRows) -> dict[str, int]:
    """Rows that went into each linear layer of the encoder's layers, over all micro-batches."""
    seen: dict[str, int] = {}
    hooks = [
        module.register_forward_hook(
            lambda m, given, out, name=name: seen.update(
                {name: seen.get(name, 0) + given[0].flatten(0, -2).shape[0]}
            )
        )
        for name, module in encoder.backbone.encoder.named_modules()
        if isinstance(module, nn.Linear)
    ]
    encoder(rows)
    for hook in hooks:
        hook.remove()
    return seen
