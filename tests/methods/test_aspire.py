import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from sciembed_train import distributed
from sciembed_train.encoder.encoder import EncoderSettings
from sciembed_train.errors import UserError
from sciembed_train.methods.aspire import Cocite
from tests.helpers import training
from tests.helpers.cocitation_corpus import write_cocitation_corpus
from tests.helpers.method_batches import pair_batch as batch
from tests.helpers.pair_training import VARIANTS, on_a_rank
from tests.helpers.processes import run_ranks
from tests.helpers.training import difference

pytestmark = pytest.mark.filterwarnings(
    "ignore:.*does not have many workers.*", "ignore:.*LeafSpec.*"
)
FAULTS = ["local negatives"]


@pytest.fixture(scope="module")
def place(tiny_bert, tmp_path_factory):
    folder = tmp_path_factory.mktemp("aspire") / "corpus"
    write_cocitation_corpus(folder, tiny_bert)
    return str(folder), str(tiny_bert)


@pytest.fixture(scope="module")
def alone(place):
    """Each variant in one process on the whole batch."""
    return training.alone(on_a_rank, *place, list(VARIANTS))


@pytest.fixture(scope="module", params=[pytest.param(None, marks=pytest.mark.slow)])
def two(place):
    return run_ranks(2, "tests.helpers.pair_training", "on_a_rank", *place, list(VARIANTS))


@pytest.mark.parametrize("name", [name for name in VARIANTS if name not in FAULTS])
def test_gradients_of_two_ranks_equal_one_process(name, alone, two):
    assert np.abs(alone[name]["gradients"]).max() > 1e-3
    for found in two:
        assert difference(found[name], alone[name], "gradients") < 1e-9
        assert difference(found[name], alone[name], "weights") < 1e-9
        assert found[name]["scores"] == pytest.approx(alone[name]["scores"], abs=1e-6)


@pytest.mark.slow
def test_gradients_of_four_ranks_equal_one_process(place, alone):
    names = ["one", "InfoNCE, cut"]
    for found in run_ranks(4, "tests.helpers.pair_training", "on_a_rank", *place, names):
        for name in names:
            assert difference(found[name], alone[name], "gradients") < 1e-9


def test_a_planted_fault_is_seen(alone, two):
    for found in two:
        assert difference(found["local negatives"], alone["one"], "gradients") > 1e-3
    assert difference(alone["local negatives"], alone["one"], "gradients") < 1e-9


def test_a_cut_step_is_the_same_step(alone):
    assert difference(alone["cut"], alone["one"], "gradients") < 1e-12
    assert difference(alone["InfoNCE, cut"], alone["InfoNCE"], "gradients") < 1e-12
    assert difference(alone["nested, cut"], alone["nested"], "gradients") < 1e-12


def test_nested_losses_are_another_step_unless_they_are_of_the_full_width(alone):
    assert difference(alone["nested"], alone["InfoNCE"], "gradients") > 1e-3
    assert difference(alone["full width"], alone["InfoNCE"], "weights") == 0


def prepared(backbone, **settings):
    """A method outside a trainer, in float64."""
    return Cocite(EncoderSettings(backbone, max_length=16, dropout=0.0), **settings).double()


def plain_losses(vectors, given, margin=1.0, temperature=None, every=False):
    """The losses of `batch` in plain loops."""
    far = lambda a, b: math.sqrt(((a - b + 1e-6) ** 2).sum())  # noqa: E731
    excluded = {tuple(row) for row in given.excluded.tolist()}
    losses = []
    for i in range(4):
        a, p = vectors[given.anchor[i]], vectors[given.positive[i]]
        others = [
            vectors[given.positive[j]]
            for j in range(4)
            if (every and (i, j) not in excluded) or (not every and given.negative[i] == j)
        ]
        if temperature is None:
            hinges = [max(0.0, far(a, p) - far(a, n) + margin) for n in others]
            losses.append(sum(hinges) / max(1, len(hinges)))
        else:
            terms = [math.exp(-far(a, n) / temperature) for n in [p, *others]]
            losses.append(-math.log(terms[0] / sum(terms)))
    return losses


@pytest.mark.parametrize(
    ("settings", "plain"),
    [
        ({}, {}),
        ({"margin": 0.2}, {"margin": 0.2}),
        ({"negatives": "all"}, {"every": True}),
        ({"negatives": "all", "temperature": 0.3}, {"every": True, "temperature": 0.3}),
    ],
)
def test_the_loss_is_the_equation_in_plain_loops(tiny_bert, settings, plain):
    module, given = prepared(str(tiny_bert), **settings), batch()
    found = module.gradients(given, [given])
    with torch.no_grad():
        vectors = module.encoder(given.rows).numpy()
    expected = plain_losses(vectors, given, **plain)
    assert found["loss"].item() == pytest.approx(sum(expected), abs=1e-9)
    assert found["void_share"].item() == 1  # of four pairs, the one without a negative
    active = sum(loss > 0 for loss in expected)
    assert found["active_share"].item() == active


@pytest.mark.parametrize("temperature", [None, 0.3])
def test_local_negatives_are_those_of_this_rank_alone(tiny_bert, monkeypatch, temperature):
    given = batch()
    expected = given.excluded
    # The same four pairs as the second rank's share, of which the first rank's are forbidden more.
    elsewhere = torch.tensor([[0, 1], [3, 2], [1, 0], [0, 9]])
    shifted = torch.cat([expected + torch.tensor([0, 4]), elsewhere])
    monkeypatch.setattr(distributed, "rank", lambda: 1)
    monkeypatch.setattr(distributed, "world_size", lambda: 3)
    monkeypatch.setattr(distributed, "gather", lambda rows: pytest.fail("nothing is gathered"))
    module = prepared(str(tiny_bert), negatives="local", temperature=temperature)
    found = module.gradients(replace(given, excluded=shifted), [given])
    with torch.no_grad():
        vectors = module.encoder(given.rows).numpy()
    losses = plain_losses(vectors, given, temperature=temperature, every=True)
    assert found["loss"].item() == pytest.approx(sum(losses), abs=1e-9)


def test_only_local_negatives_depend_on_the_number_of_processes(tiny_bert):
    for negatives in ("one", "all"):
        assert prepared(str(tiny_bert), negatives=negatives).depends_on_processes is None
    said = prepared(str(tiny_bert), negatives="local").depends_on_processes
    assert "negatives=local compares a pair with those of its process alone" in (said or "")


def test_a_pair_that_meets_its_own_positive_learns_nothing(tiny_bert):
    module, given = prepared(str(tiny_bert)), batch(negative=(0, 1, 2, 3))
    found = module.gradients(given, [given])
    assert found["loss"].item() == pytest.approx(4.0)  # the margin, four times
    assert found["void_share"].item() == 4
    assert all(p.grad.abs().max() < 1e-12 for p in module.parameters() if p.grad is not None)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"margin": -1.0}, "margin is in the unit"),
        ({"negatives": "all", "temperature": 0.0}, "temperature must be above 0"),
        ({"temperature": 0.1}, "temperature belongs to negatives: all or local"),
        ({"mix_lr": 0.0}, "mix_lr must be above 0"),
        ({"mix_lr": 10.0}, "without weights"),
    ],
)
def test_settings_that_cannot_be_are_refused(tiny_bert, settings, said):
    with pytest.raises(ValueError, match=said):
        Cocite(EncoderSettings(str(tiny_bert)), **settings)


def test_the_mix_may_learn_faster_than_the_rest(tiny_bert):
    settings = EncoderSettings(str(tiny_bert), pooling="mix", max_length=16, dropout=0.0)
    module = Cocite(settings, mix_lr=10.0)
    assert list(module.lr_factors.values()) == [10.0]
    assert next(iter(module.lr_factors)) is module.encoder.pooling.mix
    assert list(Cocite(settings).lr_factors.values()) == [1.0]
    assert Cocite(EncoderSettings(str(tiny_bert))).lr_factors == {}


def test_batches_without_a_negative_are_refused(tiny_bert):
    module = prepared(str(tiny_bert))
    with pytest.raises(UserError, match=r"Give a larger data\.batch_size"):
        module.check(batch(negative=(-1, -1, -1, -1)))
    with pytest.raises(UserError, match=r"but data\.sampling gives str"):
        module.check("triplets")
    module.check(batch())
