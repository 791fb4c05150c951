import math

import pytest
import torch

from sciembed_train.batch import ContrastBatch, SpanBatch, TokenRows, TripletBatch
from sciembed_train.encoder.encoder import EncoderSettings
from sciembed_train.errors import UserError
from sciembed_train.methods.aspire import Cocite
from sciembed_train.methods.citation_contrast import CitationContrast
from sciembed_train.methods.declutr import Declutr
from sciembed_train.methods.loss import Loss
from sciembed_train.methods.nested import NestedLoss, score_names
from sciembed_train.methods.specter import Specter
from tests.helpers.method_batches import pair_batch

WEIGHTS = {32: 1.0, 16: 0.5, 5: 2.0}
NONE = torch.zeros(0, 2, dtype=torch.int64)


def columns(*numbers):
    return (torch.tensor(column) for column in numbers)


def triplets():
    rows = TokenRows(torch.arange(5, 17), torch.tensor([4, 3, 2, 3]))
    return TripletBatch(rows, *columns([0, 3, 2], [1, 1, 0], [2, 0, 3]), 0)


def spans():
    rows = TokenRows(torch.arange(5, 23), torch.full((6,), 3))
    none = torch.zeros(0, dtype=torch.int64)
    return SpanBatch(rows, *columns([0, 3], [[1, 2], [4, 5]]), none, none, 1, 0)


def contrasts():
    rows = TokenRows(torch.arange(5, 20), torch.full((5,), 3))
    anchor, positive, hard, kept, texts = columns(
        [0, 1], [2, 3], [[4], [0]], [0, 1], [10, 11, 12, 13, 14]
    )
    return ContrastBatch(
        rows=rows,
        anchor=anchor,
        positive=positive,
        hard=hard,
        hard_kept=kept,
        excluded=torch.tensor([[1, 0]]),
        excluded_back=NONE,
        texts=texts,
        source=torch.zeros(2, dtype=torch.int64),
        step=0,
    )


CASES = {
    "triplets": (Specter, triplets, {}),
    "unit triplets": (Specter, triplets, {"normalize": True}),
    "pairs": (Cocite, pair_batch, {}),
    "InfoNCE": (Cocite, pair_batch, {"negatives": "all", "temperature": 0.3}),
    "spans": (Declutr, spans, {"mlm_weight": 0.0, "contrastive_weight": 0.7}),
    "citations": (CitationContrast, contrasts, {"learn_temperature": True, "keep": 0.5}),
}


def made(case, backbone, **settings):
    """A method of float64 with the same weights each time, and a batch of its kind."""
    kind, batch, own = CASES[case]
    encoder = EncoderSettings(
        str(backbone), max_length=16, dropout=0.0, normalize=own.get("normalize", False)
    )
    torch.manual_seed(0)
    own = {name: value for name, value in own.items() if name != "normalize"}
    return kind(encoder, **own, **settings).double(), batch()


def step(method, batch):
    """The loss of a batch and its gradient, in one micro-batch."""
    method.zero_grad()
    sums = method.gradients(batch, [batch])
    trained = [p for p in method.parameters() if p.requires_grad]
    gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in trained]
    return sums, torch.cat([g.flatten() for g in gradients])


@pytest.mark.parametrize("case", CASES)
def test_it_is_the_sum_of_the_losses_of_shorter_vectors(case, tiny_bert):
    sums, gradient = step(
        *made(
            case,
            tiny_bert,
            matryoshka_dims=tuple(WEIGHTS),
            matryoshka_weights=tuple(WEIGHTS.values()),
        )
    )
    total, expected = 0.0, torch.zeros_like(gradient)
    for dim, weight in WEIGHTS.items():
        method, batch = made(case, tiny_bert)

        def cut(module, inputs, vectors, dim=dim):
            short = vectors[:, :dim]
            normalize = module.settings.normalize
            return torch.nn.functional.normalize(short) if normalize else short

        # The start encoder's copy keeps its full width.
        method.encoder.register_forward_hook(cut)
        alone, shorter = step(method, batch)
        assert sums[f"loss_{dim}"].item() == pytest.approx(alone["loss"].item(), abs=1e-9)
        total += weight * alone["loss"].item()
        expected += weight * shorter
    assert sums["loss"].item() == pytest.approx(total, abs=1e-9)
    assert expected.abs().max() > 1e-4
    assert (gradient - expected).abs().max() < 1e-9 * max(1, expected.abs().max().item())


@pytest.mark.parametrize("case", CASES)
def test_the_full_width_alone_is_the_loss_itself_bit_for_bit(case, tiny_bert):
    plain, gradient = step(*made(case, tiny_bert))
    nested, same = step(*made(case, tiny_bert, matryoshka_dims=(32,)))
    assert nested["loss"] == plain["loss"]
    assert nested["loss_32"] == plain["loss"]
    assert torch.equal(same, gradient)
    assert {name: nested[name] for name in plain} == plain


def test_a_column_that_is_given_twice_stays_one():
    column, other = torch.ones(2, 4), torch.ones(2, 4)
    first, again, third = NestedLoss(4, (2,)).first(2, [column, column, other])
    assert first is again
    assert third is not first


def test_without_dims_nothing_is_added():
    nested = NestedLoss(4)
    loss = Loss(torch.tensor(1.0), {})
    assert nested(lambda rows: loss, torch.ones(2, 4)) is loss
    assert nested.total_weight == 1
    assert nested.record == {}
    assert NestedLoss(4, (4, 2), (1.0, 0.5)).total_weight == 1.5
    assert NestedLoss(4, (4, 2)).total_weight == 2
    assert NestedLoss(4, (4, 2)).record == {"matryoshka_dims": [4, 2]}


def test_a_score_of_each_width_is_that_of_the_first_numbers():
    rows, other = torch.tensor([[3.0, 4.0, 12.0]]), torch.tensor([[1.0, 0.0, 5.0]])

    def score(left, right):
        return (left @ right.T).item()

    plain = NestedLoss(3, (3, 2, 1)).scores("near", 63.0, score, rows, other)
    assert plain == {"near_3": 63.0, "near_2": 3.0, "near_1": 3.0}
    scaled = NestedLoss(3, (2, 1), normalize=True).scores("near", 63.0, score, rows, other)
    assert scaled == pytest.approx({"near_2": 0.6, "near_1": 1.0})
    assert NestedLoss(3).scores("near", 63.0, score, rows, other) == {}


def test_a_score_that_is_nan_is_so_at_every_width():
    found = NestedLoss(3, (3, 2)).scores("near", math.nan, lambda rows: 1.0, torch.ones(1, 3))
    assert list(found) == ["near_3", "near_2"]
    assert all(map(math.isnan, found.values()))


def test_scores_have_names_at_each_width():
    assert score_names("val/map", [64, 8]) == ("val/map_64", "val/map_8")
    assert score_names("val/map", []) == ()
    assert score_names(None, [64]) == ()


@pytest.mark.parametrize("case", CASES)
def test_methods_name_a_score_of_theirs_that_has_widths(case):
    kind = CASES[case][0]
    assert kind.nested_score in kind.validation_scores


@pytest.mark.parametrize(
    ("dims", "weights", "message"),
    [
        ((33,), (), "matryoshka_dims has 33; the encoder's vectors have 32 numbers"),
        ((16, 0), (), "matryoshka_dims has 0"),
        ((16, 16), (), "names one twice"),
        ((16, 8), (1.0,), "matryoshka_weights has 1 values, and matryoshka_dims 2"),
        ((), (1.0,), "matryoshka_weights has 1 values, and matryoshka_dims 0"),
        ((16,), (0.0,), "matryoshka_weights has 0.0"),
        ((16,), (float("nan"),), "matryoshka_weights has nan"),
    ],
)
def test_wrong_dims_are_refused(dims, weights, message, tiny_bert):
    with pytest.raises(UserError, match=message):
        made("triplets", tiny_bert, matryoshka_dims=dims, matryoshka_weights=weights)


def test_dims_without_a_contrastive_loss_are_refused(tiny_bert):
    encoder = EncoderSettings(str(tiny_bert), max_length=16)
    with pytest.raises(ValueError, match="nests the contrastive loss"):
        Declutr(encoder, contrastive_weight=0.0, matryoshka_dims=(8,))
