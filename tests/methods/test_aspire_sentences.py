from dataclasses import replace

import numpy as np
import pytest
import torch

from sciembed_train.batch import (
    PairBatch,
)
from sciembed_train.encoder.encoder import EncoderSettings
from sciembed_train.errors import UserError
from sciembed_train.losses.transport import TransportSettings
from sciembed_train.methods.aspire_sentences import Objectives, SentenceCocite
from tests.helpers import training
from tests.helpers.cocitation_corpus import write_sentence_corpus
from tests.helpers.method_batches import PAIRS
from tests.helpers.method_batches import sentence_pair_batch as batch
from tests.helpers.plain_sentences import plain_distance, prepared, vectors_of
from tests.helpers.processes import run_ranks
from tests.helpers.sentence_training import ALL, TRANSPORT, VARIANTS, on_a_rank
from tests.helpers.training import difference

pytestmark = pytest.mark.filterwarnings(
    "ignore:.*does not have many workers.*", "ignore:.*LeafSpec.*"
)
FAULTS = ["local negatives"]


@pytest.fixture(scope="module")
def place(tiny_bert, tmp_path_factory):
    folder = tmp_path_factory.mktemp("aspire_sentences") / "corpus"
    write_sentence_corpus(folder, tiny_bert)
    return str(folder), str(tiny_bert)


@pytest.fixture(scope="module")
def alone(place):
    """Each variant in one process on the whole batch."""
    return training.alone(on_a_rank, *place, list(VARIANTS))


@pytest.fixture(scope="module", params=[pytest.param(None, marks=pytest.mark.slow)])
def two(place):
    return run_ranks(2, "tests.helpers.sentence_training", "on_a_rank", *place, list(VARIANTS))


@pytest.mark.parametrize("name", [name for name in VARIANTS if name not in FAULTS])
def test_gradients_of_two_ranks_equal_one_process(name, alone, two):
    assert np.abs(alone[name]["gradients"]).max() > 1e-3
    for found in two:
        assert difference(found[name], alone[name], "gradients") < 1e-9
        assert difference(found[name], alone[name], "weights") < 1e-9
        assert found[name]["scores"] == pytest.approx(alone[name]["scores"], abs=1e-6)
        assert set(found[name]["scores"]) == {"val/loss", "val/accuracy"}


@pytest.mark.slow
def test_gradients_of_four_ranks_equal_one_process(place, alone):
    names = ["all", "all, cut"]
    for found in run_ranks(4, "tests.helpers.sentence_training", "on_a_rank", *place, names):
        for name in names:
            assert difference(found[name], alone[name], "gradients") < 1e-9


def test_a_planted_fault_is_seen(alone, two):
    for found in two:
        assert difference(found["local negatives"], alone["all"], "gradients") > 1e-3
    assert difference(alone["local negatives"], alone["all"], "gradients") < 1e-9


def test_a_cut_step_is_the_same_step(alone):
    assert difference(alone["all, cut"], alone["all"], "gradients") < 1e-12


def plain_loss(objective, papers, given, pair, margin, query="own", **settings):
    """The loss of one pair of `batch`; 0 where it has no negative or no alignment."""
    other = given.negative[pair].item()
    if other < 0:
        return 0.0
    (i, j), (i_other, j_other) = given.aligned[pair].tolist(), given.aligned[other].tolist()
    if objective == "aligned" and min(i, i_other) < 0:
        return 0.0
    a, p, n = (papers[k] for k in (*PAIRS[pair], PAIRS[other][1]))
    i_other = min(i_other, len(a) - 1) if query == "other" else i
    near = plain_distance(objective, a, p, (i, j), **settings)
    far = plain_distance(objective, a, n, (i_other, j_other), **settings)
    return max(0.0, near - far + margin)


@pytest.mark.parametrize(
    ("objectives", "settings", "plain"),
    [
        ({"transport": 1.0}, {"transport": TRANSPORT}, {}),
        ({"aligned": 2.0}, {}, {}),
        ({"aligned": 1.0}, {"aligned_anchor": "other"}, {"query": "other"}),
        ({"best_match": 1.0}, {}, {}),
        ({"attention": 1.0}, {"attention_temperature": 5.0}, {"temperature": 5.0}),
        (ALL, {"transport": TRANSPORT}, {}),
    ],
)
# The large margin leaves no triplet without a loss, so that every one of them is compared.
@pytest.mark.parametrize(("margin", "unaligned"), [(1.0, False), (10.0, False), (10.0, True)])
def test_the_loss_is_the_equation_in_plain_loops(
    tiny_bert, objectives, settings, plain, margin, unaligned
):
    module = prepared(str(tiny_bert), objectives, margin=margin, **settings)
    given = batch()
    if unaligned:
        given = batch(aligned=((1, 2), (-1, -1), (0, 1), (2, 0)))
    found = module.gradients(given, [given])
    papers = vectors_of(module, given)
    total = np.zeros(4)
    for name, weight in objectives.items():
        losses = [plain_loss(name, papers, given, pair, margin, **plain) for pair in range(4)]
        assert found[f"{name}_loss"].item() == pytest.approx(sum(losses), abs=1e-7)
        total += weight * np.array(losses)
    assert found["loss"].item() == pytest.approx(total.sum(), abs=1e-7)
    assert found["active_share"].item() == (total > 0).sum()
    assert found["void_share"].item() == 1
    # Pair 1 is without an alignment, and pair 0 has it for its negative; pair 1's is pair 3.
    if "aligned" in objectives:
        assert found["unaligned_share"].item() == (2 if unaligned else 0)
    assert module.encoder.backbone.embeddings.word_embeddings.weight.grad.abs().max() > 1e-6


def test_a_pair_that_meets_its_own_positive_learns_nothing(tiny_bert):
    module = prepared(str(tiny_bert), ALL, transport=TRANSPORT)
    given = batch(negative=(0, 1, 2, 3))
    found = module.gradients(given, [given])
    assert found["loss"].item() == pytest.approx(4 * sum(ALL.values()))  # the margin, four times
    assert found["void_share"].item() == 4
    assert all(p.grad.abs().max() < 1e-12 for p in module.parameters() if p.grad is not None)


def test_what_the_sentences_are_compared_by_is_recorded(tiny_bert):
    by_match = {"similarity": "best_match"}
    for objective in ("aligned", "best_match", "attention"):
        assert prepared(str(tiny_bert), {objective: 1.0}).similarity_metadata == by_match
    both = prepared(str(tiny_bert), ALL, transport=TransportSettings(3.0, 0.1, 0.5))
    settings = {"temperature": 3.0, "blur": 0.1, "scaling": 0.5}
    assert both.similarity_metadata == {"similarity": "transport", "transport": settings}
    assert both.settings()["transport"] == settings
    assert both.settings()["objectives"] == ALL


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"objectives": Objectives(1.0)}, r"Give transport\.temperature \(5000"),
        (
            {"objectives": Objectives(aligned=1.0), "transport": TRANSPORT},
            r"objectives\.transport is 0",
        ),
        ({"attention_temperature": 0.0}, "attention_temperature is 0.0"),
        ({"margin": -1.0}, "margin is in the unit"),
        ({"encoder": EncoderSettings("x", "cls")}, r"encoder\.pooling is cls"),
    ],
)
def test_settings_that_cannot_be_are_refused(tiny_bert, settings, said):
    usual = {
        "encoder": EncoderSettings(str(tiny_bert), "sentences"),
        "objectives": Objectives(aligned=1.0),
    }
    with pytest.raises(UserError, match=said):
        SentenceCocite(**{**usual, **settings})


def test_batches_that_lack_what_is_needed_are_refused(tiny_bert):
    module = prepared(str(tiny_bert), {"aligned": 1.0})
    module.check(batch())
    with pytest.raises(UserError, match=r"Give a larger data\.batch_size"):
        module.check(batch(negative=(-1, -1, -1, -1)))
    none = torch.zeros(0, dtype=torch.int64)
    pairs = PairBatch(batch().rows, none, none, none, none.view(0, 2), 0)
    with pytest.raises(UserError, match=r"but data\.sampling gives PairBatch"):
        module.check(pairs)
    bare = batch(aligned=((-1, -1),) * 4)
    with pytest.raises(UserError, match=r"Set data\.sampling\.init_args\.align"):
        module.check(bare)
    prepared(str(tiny_bert), {"best_match": 1.0}).check(bare)
    names = ["anchor", "positive", "negative", "negative_count", "aligned", "negative_aligned"]
    one = replace(batch(), **{name: getattr(batch(), name)[:1] for name in names})
    with pytest.raises(UserError, match=r"data\.batch_size=1 leaves no pair"):
        module.check(one)
