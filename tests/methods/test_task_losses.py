"""Losses of tasks in plain loops: of examples alone, and compared with others of the step."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from sciembed_train.batch import (
    TripletPart,
)
from sciembed_train.errors import UserError
from sciembed_train.methods.specter2 import Contrastive
from tests.helpers.method_batches import KINDS
from tests.helpers.method_batches import task_batch as batch
from tests.helpers.method_batches import task_method as prepared


def far(a, b):
    return math.sqrt(((a - b + 1e-6) ** 2).sum())


def in_loops(module, given):
    """The mean loss of each task in plain loops, and each text's vector."""
    with torch.no_grad():
        vectors = module.encoder(given.rows, given.formats).numpy()
    found = {name: [] for name in ("level", "field", "topics", "near")}
    for part in given.parts:
        if isinstance(part, TripletPart):
            for a, p, n in zip(part.anchor, part.positive, part.negative, strict=True):
                near, away = far(vectors[a], vectors[p]), far(vectors[a], vectors[n])
                found[part.task].append(max(0.0, near - away + module.margin))
            continue
        layer = module.heads.layers[module.heads.keys[part.task]]
        weight, bias = layer.weight.detach().numpy(), layer.bias.detach().numpy()
        for text, label in zip(part.text, part.label.tolist(), strict=True):
            scores = [float(w @ vectors[text] + b) for w, b in zip(weight, bias, strict=True)]
            if part.task == "level":
                found["level"].append((scores[0] - label) ** 2)
            elif part.task == "field":
                total = sum(math.exp(score) for score in scores)
                found["field"].append(-math.log(math.exp(scores[label]) / total))
            else:
                shares = [1 / (1 + math.exp(-score)) for score in scores]
                each = [
                    -(y * math.log(s) + (1 - y) * math.log(1 - s))
                    for y, s in zip(label, shares, strict=True)
                ]
                found["topics"].append(sum(each) / len(each))
    return {name: sum(losses) / len(losses) for name, losses in found.items()}, vectors


def test_the_step_is_the_sum_of_the_tasks_means_in_plain_loops(tiny_bert):
    module, given = prepared(str(tiny_bert), weights={"topics": 3.0}, margin=0.7), batch()
    found = module.gradients(given, [given])
    expected, _ = in_loops(module, given)
    for name, loss in expected.items():
        assert found[f"{name}_loss"].item() / len(given) == pytest.approx(loss, abs=1e-9)
    total = sum(expected.values()) + 2 * expected["topics"]
    assert found["loss"].item() / len(given) == pytest.approx(total, abs=1e-9)


@pytest.mark.parametrize("itself", [False, True])
def test_a_contrastive_class_is_mostly_compared_with_those_of_its_own(tiny_bert, itself):
    kinds = (KINDS[0], replace(KINDS[1], contrastive=True), *KINDS[2:])
    settings = Contrastive(weight=0.9, temperature=0.3, count_itself=itself)
    module, given = prepared(str(tiny_bert), kinds, contrastive=settings), batch()
    found = module.gradients(given, [given])
    expected, vectors = in_loops(module, given)
    part = given.parts[1]
    rows = [vectors[t] / np.linalg.norm(vectors[t]) for t in part.text]
    labels, losses = part.label.tolist(), []
    for i, row in enumerate(rows):
        others = [j for j in range(3) if j != i]
        total = sum(math.exp(row @ rows[j] / 0.3) for j in others)
        own = [j for j in others if labels[j] == labels[i]]
        logs = [math.log(math.exp(row @ rows[j] / 0.3) / total) for j in own]
        losses.append(-sum(logs) / max(1, len(own) + itself))
    mixed = 0.1 * expected["field"] + 0.9 * sum(losses) / 3
    assert found["field_loss"].item() / len(given) == pytest.approx(mixed, abs=1e-9)
    assert found["loss"].item() / len(given) == pytest.approx(
        sum(expected.values()) - expected["field"] + mixed, abs=1e-9
    )


@pytest.mark.parametrize("temperature", [None, 0.4])
def test_all_negatives_are_those_of_the_task_that_are_not_known_to_be_near(tiny_bert, temperature):
    module = prepared(str(tiny_bert), negatives="all", temperature=temperature)
    given = batch()
    found = module.gradients(given, [given])
    _, vectors = in_loops(module, given)
    part = given.parts[3]
    triplets = list(
        zip(part.anchor.tolist(), part.positive.tolist(), part.negative.tolist(), strict=True)
    )
    pairs = {(a, p) for a, p, _ in triplets}
    candidates = [p for _, p, _ in triplets] + [n for _, _, n in triplets]
    losses = []
    for a, p, _ in triplets:
        others = [c for c in candidates if c != a and (a, c) not in pairs and (c, a) not in pairs]
        near, away = far(vectors[a], vectors[p]), [far(vectors[a], vectors[c]) for c in others]
        if temperature is None:
            losses.append(sum(max(0.0, near - d + 1) for d in away) / len(away))
        else:
            terms = [math.exp(-d / temperature) for d in [near, *away]]
            losses.append(-math.log(terms[0] / sum(terms)))
    assert [len(c) for c in (candidates, pairs)] == [6, 3]
    assert found["near_loss"].item() / len(given) == pytest.approx(sum(losses) / 3, abs=1e-9)


def test_a_task_without_examples_leaves_its_head_a_gradient_of_zeros(tiny_bert):
    module, given = prepared(str(tiny_bert)), batch()
    given = replace(given, parts=given.parts[1:])
    found = module.gradients(given, [given])
    assert "level_loss" not in found
    layer = module.heads.layers[module.heads.keys["level"]]
    assert torch.equal(layer.weight.grad, torch.zeros_like(layer.weight))


@pytest.mark.parametrize(
    ("settings", "said"),
    [({"weight": 0.0}, "contrastive.weight"), ({"temperature": 0.0}, "contrastive.temperature")],
)
def test_a_contrastive_loss_that_cannot_be_is_refused(settings, said):
    with pytest.raises(UserError, match=said):
        Contrastive(**settings)
