"""Scores of held-out triplets of papers that are compared sentence by sentence."""

import numpy as np
import pytest
import torch

from sciembed_train.batch import (
    DevTriplets,
    PaperBatch,
)
from tests.helpers.method_batches import sentence_pair_batch as batch
from tests.helpers.plain_sentences import plain_distance, prepared, vectors_of
from tests.helpers.sentence_training import ALL, TRANSPORT

pytestmark = pytest.mark.filterwarnings(
    "ignore:.*does not have many workers.*", "ignore:.*LeafSpec.*"
)


@pytest.mark.parametrize(
    ("objectives", "settings"),
    [(ALL, {"transport": TRANSPORT}), ({"aligned": 1.0, "attention": 0.5}, {})],
)
def test_held_out_scores_are_those_of_plain_loops(tiny_bert, objectives, settings):
    module, given = prepared(str(tiny_bert), objectives, **settings), batch()
    module.eval()
    # Two batches, in another order than the list of papers that the triplets count in.
    with torch.no_grad():
        for slots in ([4, 1], [0, 2]):
            some = torch.tensor(slots)
            part = PaperBatch(given.rows.select(some), some, given.sentences.select(some))
            module.held_out.add(module.encoder, part)
        triplets = torch.tensor([[0, 1, 2], [4, 2, 1], [2, 0, 4], [1, 1, 1], [3, 0, 1], [0, 1, 3]])
        found = module.held_out.scores(DevTriplets(*triplets.T, 5), torch.device("cpu"))
    papers = vectors_of(module, given)
    losses, nearer = [], []
    for a, p, n in triplets[:4]:  # of the others a paper was not encoded
        total = 0.0
        for name, weight in objectives.items():
            name = "best_match" if name == "aligned" else name
            near, far = (plain_distance(name, papers[a], papers[k], None) for k in (p, n))
            total += weight * max(0.0, near - far + 1.0)
        losses.append(total)
        near, far = (plain_distance("best_match", papers[a], papers[k], None) for k in (p, n))
        if "transport" in objectives:
            near, far = (cost(papers[a], papers[k]) for k in (p, n))
        nearer.append(near < far)
    assert found["loss"] == pytest.approx(np.mean(losses), abs=1e-6)
    assert found["accuracy"] == pytest.approx(np.mean(nearer))
    module.held_out._vectors[0][0] = float("nan")
    found = module.held_out.scores(DevTriplets(*triplets.T, 5), torch.device("cpu"))
    assert set(found) == {"loss", "accuracy"}
    assert np.isnan(list(found.values())).all()
    module.held_out.clear()
    assert module.held_out.scores(DevTriplets(*triplets.T, 5), torch.device("cpu")) == {}


def cost(q, p):
    """What the plan that geomloss's potentials give costs."""
    from geomloss import SamplesLoss

    solver = SamplesLoss("sinkhorn", 1, 0.05, scaling=0.9, debias=False, potentials=True)
    c = (q[:, None] - p[None]).norm(dim=2)
    w, v = (torch.softmax(-c.amin(axis) / 5000.0, 0) for axis in (1, 0))
    f, g = (potential.flatten() for potential in solver(w, q, v, p))
    return (torch.exp((f[:, None] + g - c) / 0.05) * w[:, None] * v * c).sum().item()
