"""Best match, attention and optimal transport against plain loops, geomloss and POT."""

import math
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sciembed_train.errors import UserError
from sciembed_train.losses.transport import (
    TransportSettings,
    attention,
    best_match,
    sentence_distances,
    transport,
)
from tests.helpers.geomloss_reference import geomloss_value, plain_marginals

UNIFORM = TransportSettings(5000.0)


def clouds(seed=0, pairs=6, most=(5, 7), width=8, spread=1.0, dtype=torch.float64):
    """Random sentences of some pairs of texts, with garbage at the padding."""
    generator = torch.Generator().manual_seed(seed)
    made = []
    for size in most:
        rows = torch.randn(pairs, size, width, generator=generator, dtype=torch.float64) * spread
        counts = torch.randint(1, size + 1, (pairs,), generator=generator)
        there = torch.arange(size) < counts[:, None]
        made.append((torch.where(there[:, :, None], rows, 100.0).to(dtype), there))
    (a, a_mask), (b, b_mask) = made
    return a, b, a_mask, b_mask


def each(a, b, a_mask, b_mask, of):
    return torch.stack(
        [geomloss_value(q[s], p[r], of) for q, p, s, r in zip(a, b, a_mask, b_mask, strict=True)]
    )


@pytest.mark.parametrize("temperature", [5000.0, 1.0, 0.5])
@pytest.mark.parametrize(("blur", "scaling"), [(0.05, 0.9), (0.5, 0.5)])
@pytest.mark.parametrize(("dtype", "near"), [(torch.float64, 1e-10), (torch.float32, 1e-4)])
@pytest.mark.parametrize("spread", [0.02, 1.0, 5.0])
def test_value_and_gradient_are_those_of_geomloss_pair_by_pair(
    temperature, blur, scaling, dtype, near, spread
):
    of = TransportSettings(temperature, blur, scaling)
    a, b, *there = clouds(spread=spread, dtype=dtype)
    found, expected = [], []
    for value, kept in ((lambda *x: transport(*x).value, found), (each, expected)):
        leaves = a.clone().requires_grad_(), b.clone().requires_grad_()
        values = value(*leaves, *there, of)
        (values * torch.arange(1, 7)).sum().backward()
        kept += [values.detach(), *(leaf.grad for leaf in leaves)]
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.dtype == dtype
        assert (ours - theirs).abs().max() < near * max(1, spread)
    assert min(part.abs().max() for part in expected) > 0.01


def test_plan_is_that_of_geomloss_potentials():
    from geomloss import SamplesLoss

    a, b, *there = clouds()
    found = transport(a, b, *there, UNIFORM)
    solver = SamplesLoss("sinkhorn", 1, 0.05, scaling=0.9, debias=False, potentials=True)
    for i in range(len(a)):
        q, p = a[i][there[0][i]], b[i][there[1][i]]
        c, w, v = plain_marginals(q, p, 5000.0)
        f, g = (potential.flatten() for potential in solver(w, q, v, p))
        plan = torch.exp((f[:, None] + g - c) / 0.05) * w[:, None] * v
        inside = found.plan[i][there[0][i]][:, there[1][i]]
        assert (inside - plan).abs().max() < 1e-6
        assert found.cost[i].item() == pytest.approx((plan * c).sum().item(), abs=1e-5)
        for mine, theirs, here in zip(found.marginals, (w, v), there, strict=True):
            assert (mine[i][here[i]] - theirs).abs().max() < 1e-12


@pytest.mark.parametrize("temperature", [5000.0, pytest.param(1.0, marks=pytest.mark.slow)])
@pytest.mark.parametrize("blur", [0.05, pytest.param(0.5, marks=pytest.mark.slow)])
def test_plan_is_that_of_pot_with_both_converged(temperature, blur):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of libraries that POT looks for
        import ot

    of = TransportSettings(temperature, blur)
    a, b, *there = clouds()
    found = transport(a, b, *there, of, more_steps=20_000)
    for i in range(len(a)):
        q, p = a[i][there[0][i]], b[i][there[1][i]]
        c, w, v = plain_marginals(q, p, temperature)
        plan = ot.sinkhorn(
            *(x.numpy() for x in (w, v, c)), blur, "sinkhorn_log", 200_000, stopThr=1e-13
        )
        inside = found.plan[i][there[0][i]][:, there[1][i]].numpy()
        assert np.abs(inside - plan).max() < 1e-4
        # At the solution the dual value is the cost and the entropy's share.
        entropy = (plan * np.log(np.maximum(plan, 1e-300) / np.outer(w, v))).sum()
        expected = (plan * c.numpy()).sum() + blur * entropy
        assert found.value[i].item() == pytest.approx(expected, abs=1e-6)


@pytest.mark.slow
def test_little_blur_comes_near_to_the_exact_transport():
    import ot

    a, b, *there = clouds()
    found = transport(a, b, *there, TransportSettings(5000.0, 1e-3), more_steps=20_000)
    for i in range(len(a)):
        c, w, v = plain_marginals(a[i][there[0][i]], b[i][there[1][i]], 5000.0)
        assert found.cost[i].item() == pytest.approx(ot.emd2(*(x.numpy() for x in (w, v, c))), 1e-3)


@pytest.mark.slow  # the next test holds the gradient as it is trained
@pytest.mark.parametrize("temperature", [5000.0, 1.0])
def test_gradient_is_that_of_the_value_where_it_has_converged(temperature):
    # With a blur of the size of the distances 200 more steps leave nothing to converge.
    of = TransportSettings(temperature, 0.7)
    a, b, *there = clouds(pairs=3, most=(3, 4), width=3)

    def value(x, y):
        return transport(x, y, *there, of, more_steps=200).value

    assert torch.autograd.gradcheck(value, (a.requires_grad_(), b.requires_grad_()))


@pytest.mark.slow
def test_as_trained_the_gradient_is_the_last_update_s_and_near_to_the_value_s():
    # Short of convergence no function of the points has this gradient: it is that of
    # <w, f> + <v, g> with both potentials held in the other's last update.
    a, b, *there = clouds(pairs=4)
    exact, found = [], []
    for more, kept in ((20_000, exact), (0, found)):
        leaves = a.clone().requires_grad_(), b.clone().requires_grad_()
        transport(*leaves, *there, UNIFORM, more).value.sum().backward()
        kept += [leaf.grad for leaf in leaves]
    for one, other in zip(found, exact, strict=True):
        assert 1e-12 < (one - other).abs().max() < 0.05 * other.abs().max()


@given(st.integers(0, 2**31), st.integers(0, 3), st.randoms())
@settings(max_examples=30, deadline=None)
def test_order_company_and_padding_change_nothing(seed, extra, random):
    a, b, a_mask, b_mask = clouds(seed)
    found = transport(a, b, a_mask, b_mask, UNIFORM)
    pairs, s, r = (random.sample(range(n), n) for n in (6, 5, 7))
    longer = torch.nn.functional.pad(b[pairs][:, r], (0, 0, 0, extra), value=-3.0)
    there = torch.nn.functional.pad(b_mask[pairs][:, r], (0, extra))
    again = transport(a[pairs][:, s], longer, a_mask[pairs][:, s], there, UNIFORM)
    back = transport(b, a, b_mask, a_mask, UNIFORM)
    assert (again.value - found.value[pairs]).abs().max() < 1e-10
    assert (again.cost - found.cost[pairs]).abs().max() < 1e-10
    plan = torch.nn.functional.pad(found.plan[pairs][:, s][:, :, r], (0, extra))
    assert (again.plan - plan).abs().max() < 1e-10
    assert (back.value - found.value).abs().max() < 1e-10
    assert (back.plan.mT - found.plan).abs().max() < 1e-10
    alone = transport(a[:1], b[:1], a_mask[:1], b_mask[:1], UNIFORM)
    assert (alone.value - found.value[:1]).abs().max() < 1e-12


EDGES = {
    "one sentence each": ([[1.0, 2.0]], [[4.0, 6.0]], 5.0),
    "one and the same sentence": ([[1.0, 2.0]], [[1.0, 2.0]], 0.0),
    "the same sentence many times": ([[1.0, 2.0]] * 3, [[1.0, 2.0]] * 2, 0.0),
    "one sentence many times": ([[0.0, 0.0]] * 3, [[3.0, 4.0]], 5.0),
    "the same sentences": ([[0.0, 0.0], [3.0, 4.0]], [[3.0, 4.0], [0.0, 0.0]], 0.0),
    "zeros": ([[0.0, 0.0]], [[0.0, 0.0]] * 2, 0.0),
}


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("name", EDGES)
def test_edges_have_their_distance_and_a_finite_gradient(name, dtype):
    rows, others, distance = EDGES[name]
    a = torch.zeros(1, 4, 2, dtype=dtype)
    b = torch.zeros(1, 3, 2, dtype=dtype)
    a[0, : len(rows)], b[0, : len(others)] = torch.tensor(rows), torch.tensor(others)
    there = torch.arange(4)[None] < len(rows), torch.arange(3)[None] < len(others)
    a.requires_grad_()
    b.requires_grad_()
    found = transport(a, b, *there, UNIFORM)
    assert found.cost.item() == pytest.approx(distance, abs=1e-5)
    # Moving each of two sentences onto its equal costs the entropy of the choice.
    free = 0.05 * math.log(2) if name == "the same sentences" else 0.0
    assert found.value.item() == pytest.approx(distance + free, abs=1e-4)
    assert found.plan.sum().item() == pytest.approx(1, abs=1e-5)
    matched, *_ = best_match(sentence_distances(a, b), *there)
    (found.value + matched).sum().backward()
    assert a.grad.isfinite().all()
    assert b.grad.isfinite().all()
    assert a.grad[0, len(rows) :].abs().sum() == 0


def test_half_precision_is_computed_in_full():
    a, b, *there = clouds(dtype=torch.bfloat16)
    with torch.autocast("cpu", torch.bfloat16):
        found = transport(a, b, *there, UNIFORM)
        distances = sentence_distances(a, b)
    expected = transport(a.float(), b.float(), *there, UNIFORM)
    assert distances.dtype == found.value.dtype == torch.float32
    assert torch.equal(found.value, expected.value)


def test_best_match_and_attention_are_the_equations_in_plain_loops():
    a, b, *there = clouds()
    distances = sentence_distances(a, b)
    found, first, second = best_match(distances, *there)
    meant = attention(distances, *there, 2.0)
    for n in range(len(a)):
        every = {
            (i, j): math.dist(a[n, i], b[n, j])
            for i in range(5)
            for j in range(7)
            if there[0][n, i] and there[1][n, j]
        }
        place = min(every, key=every.__getitem__)
        assert (first[n].item(), second[n].item()) == place
        assert found[n].item() == pytest.approx(every[place], abs=1e-12)
        weights = {k: math.exp(-d / 2.0) for k, d in every.items()}
        mean = sum(weights[k] * d for k, d in every.items()) / sum(weights.values())
        assert meant[n].item() == pytest.approx(mean, abs=1e-12)


def test_temperature_is_never_taken_for_granted():
    with pytest.raises(TypeError, match="temperature"):
        TransportSettings()
    assert TransportSettings(1.0).as_dict() == {"temperature": 1.0, "blur": 0.05, "scaling": 0.9}


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"temperature": 0.0}, "temperature is 0.0"),
        ({"temperature": 1.0, "blur": -1.0}, "blur is -1.0"),
        ({"temperature": math.inf}, "temperature is inf"),
        ({"temperature": 1.0, "scaling": 1.0}, "scaling is 1.0"),
    ],
)
def test_settings_that_cannot_be_are_refused(values, said):
    with pytest.raises(UserError, match=f"transport.{said}"):
        TransportSettings(**values)


@pytest.mark.parametrize("odd", [torch.inf, torch.nan])
def test_a_vector_that_is_no_number_spoils_its_own_pair_alone(odd):
    torch.manual_seed(0)
    a, b = torch.randn(2, 3, 4), torch.randn(2, 2, 4)
    there = torch.ones(2, 3, dtype=torch.bool), torch.ones(2, 2, dtype=torch.bool)
    whole = transport(a, b, *there, TransportSettings(temperature=5.0))
    a[1, 0, 0] = odd
    found = transport(a, b, *there, TransportSettings(temperature=5.0))
    assert not found.value[1].isfinite()
    torch.testing.assert_close(found.value[0], whole.value[0])
