import math

import numpy as np
import pytest
import torch
from transformers import AutoModelForMaskedLM

from sciembed_train.encoder.encoder import EncoderSettings
from sciembed_train.errors import UserError
from sciembed_train.methods.declutr import Declutr
from sciembed_train.sampling.spans import SpanSampling
from tests.helpers import training
from tests.helpers.document_files import write_document_corpus
from tests.helpers.processes import run_ranks
from tests.helpers.span_training import SPANS, VARIANTS, Spans, on_a_rank, train
from tests.helpers.training import difference

pytestmark = pytest.mark.filterwarnings(
    "ignore:.*does not have many workers.*", "ignore:.*LeafSpec.*"
)


@pytest.fixture(scope="module")
def place(tiny_bert, tmp_path_factory):
    """A corpus, and a backbone with an MLM head."""
    folder = tmp_path_factory.mktemp("declutr")
    from transformers import AutoConfig, AutoTokenizer

    AutoTokenizer.from_pretrained(tiny_bert).save_pretrained(folder / "bert")
    torch.manual_seed(1)
    config = AutoConfig.from_pretrained(tiny_bert)
    AutoModelForMaskedLM.from_config(config).save_pretrained(folder / "bert")
    write_document_corpus(folder / "corpus", folder / "bert")
    return str(folder / "corpus"), str(folder / "bert")


@pytest.fixture(scope="module")
def alone(place):
    """Each variant in one process on the whole batch."""
    return training.alone(on_a_rank, *place, list(VARIANTS))


@pytest.fixture(scope="module", params=[pytest.param(None, marks=pytest.mark.slow)])
def two(place):
    return run_ranks(2, "tests.helpers.span_training", "on_a_rank", *place, list(VARIANTS))


IN_FOUR = ["contrastive", "mlm", "cut"]


@pytest.fixture(scope="module")
def four(place):
    return run_ranks(4, "tests.helpers.span_training", "on_a_rank", *place, IN_FOUR)


SAME = [
    "both",
    "contrastive",
    "mlm",
    "clean anchors",
    "nested",
    "nested, cut",
    "cut",
    "cut, clean anchors",
    "cut, mlm",
]


@pytest.mark.parametrize("name", SAME)
def test_gradients_of_two_ranks_equal_one_process(name, alone, two):
    for found in two:
        assert difference(found[name], alone[name], "gradients") < 1e-9
        assert difference(found[name], alone[name], "weights") < 1e-9
    if name != "contrastive":
        assert two[0][name]["masked"] != two[1][name]["masked"], "equal counts: nothing shown"


@pytest.mark.slow
@pytest.mark.parametrize("name", IN_FOUR)
def test_gradients_of_four_ranks_equal_one_process(name, alone, four):
    for found in four:
        assert difference(found[name], alone[name], "gradients") < 1e-9


@pytest.mark.slow
def test_ranks_of_these_steps_have_different_numbers_of_pieces(two, four):
    """Or equal gradients would say nothing of the exchange after the last micro-batch alone."""
    for name in ("cut", "cut, clean anchors"):
        one, other = (found[name]["micro-batches"] for found in two)
        assert min(one + other) > 1
        assert one != other
    assert {n for found in four for n in found["cut"]["micro-batches"]} == {
        1,
        2,
    }  # whole beside cut


@pytest.mark.parametrize("fault", ["mean of means", "detached gather"])
def test_a_planted_fault_is_seen(fault, alone, two):
    for found in two:
        assert difference(found[fault], alone["both"], "gradients") > 1e-4
    assert difference(alone[fault], alone["both"], "gradients") < 1e-9  # in one process it is none


def test_the_published_scale_is_one_over_the_ranks(alone, two):
    assert difference(alone["published scale"], alone["contrastive"], "gradients") < 1e-12
    for found in two:
        halved = np.array(alone["contrastive"]["gradients"][0]) / 2
        assert np.abs(np.array(found["published scale"]["gradients"][0]) - halved).max() < 1e-9


def test_only_the_published_scale_depends_on_the_number_of_processes(place):
    assert prepared(place[1]).depends_on_processes is None
    said = prepared(place[1], reproduce=True).depends_on_processes
    assert "reproduce divides the contrastive gradient by the number of processes" in (said or "")
    masked_alone = prepared(place[1], reproduce=True, contrastive_weight=0.0)
    assert masked_alone.depends_on_processes is None


def test_a_cut_step_is_the_same_step(alone):
    for split, whole in (
        ("cut", "both"),
        ("cut, clean anchors", "clean anchors"),
        ("cut, mlm", "mlm"),
        ("nested, cut", "nested"),
    ):
        assert difference(alone[split], alone[whole], "gradients") < 1e-12
        assert difference(alone[split], alone[whole], "weights") < 1e-9


def test_a_cut_step_draws_the_same_dropout_twice(place):
    """The vectors that met are those that carry the gradient: checked against a numerical slope."""
    corpus, backbone = place
    module = prepared(backbone, dropout=0.3, max_tokens_per_backward=150)
    batch = first_batch(corpus, backbone)
    micro_batches = module.split(batch, 150)
    assert len(micro_batches) > 2

    def loss():
        module.zero_grad()
        return module.gradients(batch, micro_batches)["loss"].item() / len(batch)

    loss()
    weight = module.encoder.backbone.encoder.layer[0].output.dense.weight
    place_ = torch.argmax(weight.grad.abs().flatten()).item()
    slope = weight.grad.flatten()[place_].item()
    found = []
    for sign in (1, -1):
        with torch.no_grad():
            weight.view(-1)[place_] += sign * 1e-5
        found.append(loss())
        with torch.no_grad():
            weight.view(-1)[place_] -= sign * 1e-5
    assert slope == pytest.approx((found[0] - found[1]) / 2e-5, rel=1e-5)


def test_a_cut_step_in_bf16_keeps_the_gradient_of_every_weight(place):
    """Autocast keeps lowered weights; those made without a graph would lose the gradient."""
    runs = [
        train(Spans, *place, steps=1, precision="bf16-mixed", max_tokens_per_backward=tokens)
        for tokens in (None, 150)
    ]
    whole, split = (np.array(run["gradients"][0]) for run in runs)
    assert np.linalg.norm(split - whole) < 0.02 * np.linalg.norm(whole)


@pytest.mark.parametrize(("weight", "times"), [(0.0, 1), (1.0, 2)])
def test_pieces_that_do_not_meet_are_encoded_once(place, weight, times, monkeypatch):
    corpus, backbone = place
    module = prepared(backbone, contrastive_weight=weight, max_tokens_per_backward=150)
    batch = first_batch(corpus, backbone)
    micro_batches = module.split(batch, 150)
    seen = []
    encode = module.encoder.with_token_states
    monkeypatch.setattr(
        module.encoder, "with_token_states", lambda *given: seen.append(1) or encode(*given)
    )
    split = module.gradients(batch, micro_batches)
    assert len(seen) == times * len(micro_batches) > 2
    whole = module.gradients(batch, [batch])
    assert split.keys() == whole.keys()
    for name, value in split.items():
        assert value.item() == pytest.approx(whole[name].item(), abs=1e-9)


def prepared(backbone, dropout=0.0, **settings):
    """A method outside a trainer, in float64."""
    encoder = EncoderSettings(backbone, pooling="mean", max_length=64, dropout=dropout)
    return Declutr(encoder, **settings).double()


def first_batch(corpus, backbone, **sampling):
    from sciembed_train.corpus.store.corpus_folder import Corpus
    from sciembed_train.sampling.base import TokenizationSpec
    from sciembed_train.text.input_format import InputFormat
    from sciembed_train.text.tokenizer import TextTokenizer

    reading = TokenizationSpec(TextTokenizer.load(backbone), InputFormat(), 64, 0)
    settings = SpanSampling(**{**SPANS, **sampling})
    return settings.open(Corpus.open(corpus), reading, None).batch(np.arange(8), 0, 0)


def test_the_loss_is_the_papers_equations_in_plain_loops(place):
    corpus, backbone = place
    batch = first_batch(corpus, backbone)
    module = prepared(backbone, contrastive_weight=0.7, mlm_weight=1.3)
    found = module.gradients(batch, [batch])

    model = AutoModelForMaskedLM.from_pretrained(backbone).double()
    vectors, mlm, k, at = [], 0.0, 0, 0
    with torch.no_grad():
        for row in batch.rows.ids.split(batch.rows.lengths.tolist()):
            out = model(row[None], output_hidden_states=True)
            vectors.append(out.hidden_states[-1][0].mean(0))
            while k < len(batch.masked) and batch.masked[k] < at + len(row):
                logits = out.logits[0, batch.masked[k] - at]
                mlm += (torch.logsumexp(logits, 0) - logits[batch.labels[k]]).item()
                k += 1
            at += len(row)
    assert k == len(batch.masked) > 10
    anchors = [vectors[i] for i in batch.anchor.tolist()]
    positives = [sum(vectors[i] for i in row) / len(row) for row in batch.positive.tolist()]
    rows = [v / v.norm() for v in [*anchors, *positives]]
    n, total = len(anchors), 0.0
    assert n == 16
    for i in range(2 * n):
        j = (i + n) % (2 * n)
        others = [math.exp((rows[i] @ rows[x]).item() / 0.05) for x in range(2 * n) if x != i]
        total += -math.log(math.exp((rows[i] @ rows[j]).item() / 0.05) / sum(others))
    contrastive, masked = total / (2 * n), mlm / k
    assert found["contrastive_loss"].item() / 8 == pytest.approx(contrastive, abs=1e-9)
    assert found["mlm_loss"].item() / 8 == pytest.approx(masked, abs=1e-9)
    assert found["loss"].item() / 8 == pytest.approx(0.7 * contrastive + 1.3 * masked, abs=1e-9)


def test_validation_of_two_ranks_equals_one_process(alone, two):
    names = {"val/loss", "val/contrastive_loss", "val/mlm_loss", "val/partner_accuracy"}
    assert [found["both"]["held out"] for found in two] == [2, 1]
    assert set(alone["both"]["scores"]) == names
    assert set(alone["contrastive"]["scores"]) == names - {"val/mlm_loss"}
    assert set(alone["mlm"]["scores"]) == {"val/loss", "val/mlm_loss"}
    for found in alone.values():
        assert set(found["scores"]) == set(found["reported"])
    for name in ("both", "contrastive", "mlm"):
        for found in two:
            assert found[name]["scores"] == pytest.approx(alone[name]["scores"], abs=1e-6)
        assert two[0][name]["scores"] == two[1][name]["scores"]
        assert alone[name]["scores"]["val/loss"] > 0


@pytest.mark.parametrize(
    ("settings", "sampling", "said"),
    [
        ({"mlm_weight": 0.0}, {}, "mlm_probability still masks"),
        ({}, {"mlm_probability": 0.0}, "mlm_probability masks no token"),
        ({}, {"num_positives": 0}, "num_positives is 0"),
    ],
)
def test_weights_and_batches_that_do_not_fit_are_refused(place, settings, sampling, said):
    corpus, backbone = place
    with pytest.raises(UserError, match=said):
        prepared(backbone, **settings).check(first_batch(corpus, backbone, **sampling))


def test_triplets_are_refused(place):
    with pytest.raises(UserError, match=r"spans of documents, but data\.sampling gives str"):
        prepared(place[1]).check("triplets")


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"temperature": 0.0}, "temperature must be above 0"),
        ({"mlm_weight": -1.0}, "mlm_weight must be 0 or more"),
        ({"mlm_weight": 0.0, "contrastive_weight": 0.0}, "both 0"),
    ],
)
def test_settings_that_cannot_be_are_refused(place, settings, said):
    with pytest.raises(ValueError, match=said):
        Declutr(EncoderSettings(place[1]), **settings)
