import torch

from sciembed_train.encoder import pooling


def ragged():
    draw = torch.Generator().manual_seed(0)
    lengths = torch.tensor([3, 1, 4])
    hidden = torch.randn(8, 5, generator=draw, dtype=torch.float64, requires_grad=True)
    return hidden, lengths


def test_ragged_pooling_equals_plain_loops():
    hidden, lengths = ragged()
    parts = hidden.split(lengths.tolist())
    torch.testing.assert_close(
        pooling.cls_ragged(hidden, lengths), torch.stack([p[0] for p in parts])
    )
    torch.testing.assert_close(
        pooling.mean_ragged(hidden, lengths), torch.stack([p.mean(0) for p in parts])
    )


def test_gradients_of_ragged_pooling_are_those_of_its_formula():
    hidden, lengths = ragged()
    for pool in (pooling.cls_ragged, pooling.mean_ragged):
        assert torch.autograd.gradcheck(lambda h, pool=pool: pool(h, lengths), hidden)


def test_padded_pooling_equals_ragged_whatever_stands_in_the_padding():
    hidden, lengths = ragged()
    padded = torch.full((3, 4, 5), 1e6, dtype=torch.float64)
    mask = (torch.arange(4) < lengths.unsqueeze(1)).long()
    padded[mask.bool()] = hidden.detach()
    torch.testing.assert_close(pooling.cls_padded(padded), pooling.cls_ragged(hidden, lengths))
    torch.testing.assert_close(
        pooling.mean_padded(padded, mask), pooling.mean_ragged(hidden, lengths)
    )
