"""The optimal transport of geomloss, to compare ours with."""

import torch


def plain_marginals(q, p, temperature):
    c = (q[:, None] - p[None]).norm(dim=2)
    return c, *(torch.softmax(-c.amin(axis) / temperature, 0) for axis in (1, 0))


def geomloss_value(q, p, of):
    """The published distance of one pair, by the library that it was published with."""
    from geomloss import SamplesLoss

    def cost(x, y):
        # Its own takes differences of squares, and nothing below 1e-4.
        return (x[:, :, None] - y[:, None]).norm(dim=3)

    _, w, v = plain_marginals(q, p, of.temperature)
    solver = SamplesLoss("sinkhorn", 1, of.blur, scaling=of.scaling, debias=False, cost=cost)
    return solver(w, q, v, p)
