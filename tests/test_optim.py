import math

import pytest
import torch
from torch import nn

from sciembed_train.optim import build, parameter_groups, set_again, set_rate
from sciembed_train.optim_settings import OptimSettings, learning_rate


def test_biases_and_norms_are_not_decayed_and_frozen_parameters_left_out():
    model = nn.Sequential(nn.Embedding(5, 4), nn.Linear(4, 4), nn.LayerNorm(4), nn.Linear(4, 2))
    model[3].requires_grad_(False)
    decayed, plain = parameter_groups(model.parameters(), 0.01)
    assert [
        p is q for p, q in zip(decayed["params"], (model[0].weight, model[1].weight), strict=True)
    ]
    assert decayed["weight_decay"] == 0.01
    names = {id(p) for p in plain["params"]}
    assert names == {id(model[1].bias), id(model[2].weight), id(model[2].bias)}
    assert plain["weight_decay"] == 0.0


def test_fused_and_plain_adamw_make_the_same_step():
    weights = []
    for fused in (False, True):
        model = nn.Linear(3, 2).double()
        torch.manual_seed(0)
        nn.init.normal_(model.weight)
        nn.init.zeros_(model.bias)
        optimizer = build(model.parameters(), OptimSettings(lr=0.1), fused=fused)
        for step in range(3):
            model(torch.full((1, 3), step + 1.0, dtype=torch.float64)).sum().backward()
            optimizer.step()
        weights.append(model.weight.detach().clone())
    assert torch.allclose(*weights, rtol=0, atol=1e-12)


def test_a_frozen_model_is_refused():
    with pytest.raises(ValueError, match="no parameter"):
        build(nn.Linear(1, 1).requires_grad_(False).parameters(), OptimSettings())


def plain_adamw(parameters, gradients, settings, rates):
    """AdamW in plain loops, Loshchilov and Hutter (2019), algorithm 2: decay beside the step."""
    b1, b2 = settings.betas
    state = {(name, i): [0.0, 0.0] for name in parameters for i in range(len(parameters[name]))}
    for t, (rate, gradient) in enumerate(zip(rates, gradients, strict=True), start=1):
        for (name, i), moments in state.items():
            g, p = gradient[name][i], parameters[name][i]
            moments[0] = b1 * moments[0] + (1 - b1) * g
            moments[1] = b2 * moments[1] + (1 - b2) * g * g
            m, v = moments
            if settings.bias_correction:
                m, v = m / (1 - b1**t), v / (1 - b2**t)
            decay = settings.weight_decay if name == "weight" else 0.0
            parameters[name][i] = p - rate * (m / (math.sqrt(v) + settings.eps) + decay * p)
    return parameters


def steps_of_ours(settings, gradients, rates, begin=0, model=None, optimizer=None):
    model = model or nn.Linear(3, 2).double()
    optimizer = optimizer or build(model.parameters(), settings, fused=False)
    for made, (rate, gradient) in enumerate(zip(rates, gradients, strict=True), start=begin):
        for name, parameter in model.named_parameters():
            parameter.grad = torch.tensor(gradient[name]).double().view_as(parameter)
        set_rate(optimizer, settings, rate, made)
        optimizer.step()
    return model, optimizer


@pytest.mark.parametrize("correction", [True, False])
@pytest.mark.parametrize("betas", [(0.9, 0.999), (0.8, 0.95), (0.0, 0.99), (0.9, 0.0)])
@pytest.mark.parametrize("eps", [1e-8, 1e-2])
def test_steps_are_those_of_plain_loops_with_and_without_bias_correction(correction, betas, eps):
    settings = OptimSettings(
        lr=0.05, weight_decay=0.1, betas=betas, eps=eps, bias_correction=correction
    )
    draw = torch.Generator().manual_seed(0)
    sizes = {"weight": 6, "bias": 2}
    gradients = [
        {name: torch.randn(n, generator=draw).tolist() for name, n in sizes.items()}
        for _ in range(12)
    ]
    rates = [learning_rate(settings, step, 12) for step in range(12)]
    model = nn.Linear(3, 2).double()
    start = {name: p.detach().flatten().tolist() for name, p in model.named_parameters()}
    expected = plain_adamw(start, gradients, settings, rates)
    model, _ = steps_of_ours(settings, gradients, rates, model=model)
    for name, parameter in model.named_parameters():
        assert parameter.flatten().tolist() == pytest.approx(expected[name], rel=1e-12, abs=1e-14)


def test_first_steps_without_bias_correction_are_as_much_longer_as_is_said():
    one = [{"weight": [1.0] * 6, "bias": [1.0] * 2}]
    moved = {}
    for correction in (True, False):
        settings = OptimSettings(weight_decay=0, eps=1e-12, bias_correction=correction)
        model = nn.Linear(3, 2).double()
        steps = [model.bias.detach().clone()]
        optimizer = None
        for made in range(1000):
            model, optimizer = steps_of_ours(settings, one, [0.01], made, model, optimizer)
            steps.append(model.bias.detach().clone())
        moved[correction] = torch.stack(steps).diff(dim=0).abs()[:, 0]
    ratio = moved[False] / moved[True]
    assert ratio[0].item() == pytest.approx(3.2, abs=0.05)
    assert ratio[11].item() == pytest.approx(6.6, abs=0.05)
    assert ratio.argmax().item() == 11
    assert ratio[999].item() == pytest.approx(1.3, abs=0.05)


def test_a_continued_run_takes_the_steps_of_an_unbroken_one():
    settings = OptimSettings(lr=0.05, weight_decay=0.1, eps=1e-6, bias_correction=False)
    draw = torch.Generator().manual_seed(1)
    gradients = [
        {"weight": torch.randn(6, generator=draw).tolist(), "bias": [0.5, -2.0]} for _ in range(6)
    ]
    rates = [0.05, 0.04, 0.03, 0.02, 0.01, 0.005]
    torch.manual_seed(0)
    unbroken, _ = steps_of_ours(settings, gradients, rates)
    torch.manual_seed(0)
    model, optimizer = steps_of_ours(settings, gradients[:3], rates[:3])
    saved = optimizer.state_dict()
    optimizer = build(model.parameters(), OptimSettings(), fused=False)
    optimizer.load_state_dict(saved)
    set_again(optimizer, settings)
    for group in optimizer.param_groups:  # what a step had put in its place is gone
        assert group["eps"] == 1e-6
        assert group["weight_decay"] in (0.1, 0.0)
    model, _ = steps_of_ours(settings, gradients[3:], rates[3:], 3, model, optimizer)
    assert torch.equal(model.weight, unbroken.weight)
    assert torch.equal(model.bias, unbroken.bias)


def test_a_rate_leaves_all_else_as_the_settings_say():
    settings = OptimSettings(lr=0.1, weight_decay=0.3, eps=1e-5)
    optimizer = build(nn.Linear(3, 2).parameters(), settings, fused=False)
    set_rate(optimizer, settings, 0.025, made=4)
    found = [(g["lr"], g["eps"], g["weight_decay"]) for g in optimizer.param_groups]
    assert found == [(0.025, 1e-5, 0.3), (0.025, 1e-5, 0.0)]


def test_a_parameter_may_have_a_rate_of_its_own():
    model, mix = nn.Linear(3, 2), nn.Parameter(torch.zeros(1, 13))
    settings = OptimSettings(lr=0.1, weight_decay=0.5)
    optimizer = build([*model.parameters(), mix], settings, fused=False, factors={mix: 10.0})
    for step in range(2):
        set_rate(optimizer, settings, 0.01, step)
        rates = {p: group["lr"] for group in optimizer.param_groups for p in group["params"]}
        decays = {p: g["weight_decay"] for g in optimizer.param_groups for p in g["params"]}
        assert rates[mix] == pytest.approx(0.1)
        assert rates[model.weight] == rates[model.bias] == pytest.approx(0.01)
        assert (decays[mix], decays[model.bias], decays[model.weight]) == (0, 0, 0.5)
        set_again(optimizer, settings)
        assert optimizer.param_groups[-1]["weight_decay"] == 0


def test_layers_have_groups_and_rates_of_their_own():
    model = nn.Sequential(nn.Embedding(5, 4), nn.Linear(4, 4), nn.Linear(4, 2))
    embedding, middle, head = model
    layers = [
        ("embeddings", 0.25, list(embedding.parameters())),
        ("layer 0", 0.5, list(middle.parameters())),
    ]
    settings = OptimSettings(lr=0.1, layer_decay=0.5)
    optimizer = build(model.parameters(), settings, layers=layers)
    set_rate(optimizer, settings, 0.1, 0)
    rates = {group["name"]: group["lr"] for group in optimizer.param_groups}
    assert rates == {
        "matrices": 0.1,
        "vectors": 0.1,
        "embeddings matrices": 0.025,
        "layer 0 matrices": 0.05,
        "layer 0 vectors": 0.05,
    }
    set_again(optimizer, settings)
    decays = {group["name"]: group["weight_decay"] for group in optimizer.param_groups}
    assert decays["layer 0 matrices"] == decays["matrices"] == 0.01
    assert decays["layer 0 vectors"] == decays["vectors"] == 0.0
    members = [p for group in optimizer.param_groups for p in group["params"]]
    assert len(members) == len({id(p) for p in members}) == len(list(model.parameters()))
    assert members[0] is head.weight
