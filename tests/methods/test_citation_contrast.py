import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from sciembed_train import optim
from sciembed_train.encoder.encoder import EncoderSettings
from sciembed_train.errors import UserError
from sciembed_train.methods import citation_contrast
from sciembed_train.methods.citation_contrast import CitationContrast
from sciembed_train.sampling.base import TokenizationSpec
from sciembed_train.sampling.citation_pairs import CitationPairSampling
from sciembed_train.text.input_format import InputFormat
from sciembed_train.text.tokenizer import TextTokenizer
from tests.helpers import training
from tests.helpers.citation_corpus import write_citation_corpus
from tests.helpers.contrast_training import EVERYTHING, HARD, VARIANTS, on_a_rank, train
from tests.helpers.processes import run_ranks
from tests.helpers.training import OPTIM, difference

pytestmark = pytest.mark.filterwarnings(
    "ignore:.*does not have many workers.*", "ignore:.*LeafSpec.*"
)
FAULTS = ["detached gather"]
MODULE = "tests.helpers.contrast_training"


@pytest.fixture(scope="module")
def place(tiny_bert, tmp_path_factory):
    folder = tmp_path_factory.mktemp("contrast") / "corpus"
    return str(write_citation_corpus(folder, tiny_bert).folder), str(tiny_bert)


@pytest.fixture(scope="module")
def alone(place):
    """Each variant in one process on the whole batch."""
    return training.alone(on_a_rank, *place, list(VARIANTS))


@pytest.fixture(scope="module", params=[pytest.param(None, marks=pytest.mark.slow)])
def two(place):
    return run_ranks(2, MODULE, "on_a_rank", *place, list(VARIANTS))


@pytest.fixture(scope="module")
def opened(place):
    from sciembed_train.corpus.store.corpus_folder import Corpus

    reading = TokenizationSpec(TextTokenizer.load(place[1]), InputFormat(), 64, 0)
    sampling = CitationPairSampling(sources_per_batch="mixed", **HARD)
    return sampling.open(Corpus.open(place[0]), reading, None)


@pytest.mark.parametrize("name", [name for name in VARIANTS if name not in FAULTS])
def test_gradients_of_two_ranks_equal_one_process(name, alone, two):
    assert np.abs(alone[name]["gradients"]).max() > 1e-3
    for found in two:
        assert difference(found[name], alone[name], "gradients") < 1e-9
        assert difference(found[name], alone[name], "weights") < 1e-9
        assert found[name]["scores"] == pytest.approx(alone[name]["scores"], abs=1e-6)


@pytest.mark.slow
def test_gradients_of_four_ranks_equal_one_process(place, alone):
    names = ["plain", "split", "ranking, split", "cosine, split"]
    for found in run_ranks(4, MODULE, "on_a_rank", *place, names):
        for name in names:
            assert difference(found[name], alone[name], "gradients") < 1e-9


def test_a_detached_gather_is_seen(alone, two):
    for found in two:
        assert difference(found["detached gather"], alone["plain"], "gradients") > 1e-3
    assert difference(alone["detached gather"], alone["plain"], "gradients") < 1e-9


def test_a_split_or_padded_step_is_the_same_step(alone):
    for name in ("split", "padded"):
        assert difference(alone[name], alone["everything"], "gradients") < 1e-9
    assert difference(alone["nested, split"], alone["nested"], "gradients") < 1e-9
    assert difference(alone["nested"], alone["everything"], "gradients") > 1e-3
    for name, other in (("ranking", "nested"), ("cosine", "plain")):
        assert difference(alone[f"{name}, split"], alone[name], "gradients") < 1e-9
        width = len(alone[other]["gradients"][0])  # a map to another width is trained, too
        gradients = [np.array(alone[n]["gradients"])[:, :width] for n in (name, other)]
        assert np.abs(gradients[0] - gradients[1]).max() > 1e-3
    assert len(alone["cosine"]["gradients"][0]) == len(alone["plain"]["gradients"][0]) + 20 * 32


def test_a_split_step_of_lora_is_the_same_step(alone):
    pytest.importorskip("peft")
    assert difference(alone["lora, split"], alone["lora"], "gradients") < 1e-9
    assert len(alone["lora"]["gradients"][0]) < len(alone["everything"]["gradients"][0])


def test_each_part_changes_the_step_and_these_steps_have_what_it_is_about(alone):
    assert alone["plain"]["excluded"] > 0
    assert sum(alone["plain"]["hard"]) > 0
    assert sum(alone["no hard negatives"]["hard"]) == 0
    for name in ("no hard negatives", "guided", "kept"):
        gradients = [np.array(alone[n]["gradients"]) for n in (name, "plain")]
        assert np.abs(gradients[0] - gradients[1]).max() > 1e-4, name
    assert alone["learned"]["temperature"] != 0.05
    assert alone["plain"]["temperature"] == 0.05


def test_validation_reports_the_scores_that_it_promises(alone):
    scores = alone["plain"]["scores"]
    assert {name for name in scores if name.startswith("val/")} == set(alone["plain"]["reported"])
    assert {"val/loss", "val/map", "val/citations_accuracy", "val/title_abstract_map"} <= set(
        scores
    )


def prepared(backbone, **settings):
    """A method outside a trainer, in float64."""
    encoder = EncoderSettings(backbone, pooling="mean", max_length=64, dropout=0.0)
    return CitationContrast(encoder, OPTIM, **settings).double()


def first_batch(opened, pairs=8):
    return opened.batch(opened.plan(pairs, 0).indices(0), 0, 0)


def in_loops(vectors, batch, temperature, start=None):
    """The loss of each pair in plain loops."""
    pairs = len(batch)
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    anchors, positives = unit[batch.anchor.numpy()], unit[batch.positive.numpy()]
    hard = unit[batch.hard.numpy()].reshape(-1, unit.shape[1])[batch.hard_kept.numpy()]
    tables = [
        (
            anchors,
            np.concatenate([positives, hard]),
            batch.excluded,
        ),
        (positives, anchors, batch.excluded_back),
    ]
    losses = np.zeros(pairs)
    for side, (queries, candidates, pairs_out) in enumerate(tables):
        out = {tuple(pair) for pair in pairs_out.tolist()}
        for i in range(pairs):
            kept = [
                k
                for k in range(len(candidates))
                if k == i
                or ((i, k) not in out and (start is None or start[side][i, k] <= start[side][i, i]))
            ]
            scores = {k: math.exp(queries[i] @ candidates[k] / temperature) for k in kept}
            losses[i] -= math.log(scores[i] / sum(scores.values())) / 2
    return losses


def gradients(module, batch):
    module.zero_grad()
    return {name: x.item() / len(batch) for name, x in module.gradients(batch, [batch]).items()}


def vectors_of(module, batch):
    with torch.no_grad():
        return module.encoder(batch.rows).numpy()


def test_the_loss_is_the_equation_in_plain_loops(place, opened):
    module, batch = prepared(place[1], temperature=0.1), first_batch(opened)
    assert len(batch.excluded)
    assert len(batch.hard_kept)
    found = gradients(module, batch)
    expected = in_loops(vectors_of(module, batch), batch, 0.1)
    assert found["loss"] == pytest.approx(expected.mean(), abs=1e-9)
    assert found["masked_share"] == pytest.approx(
        len(batch.excluded) / (8 * (8 + len(batch.hard_kept)))
    )


@pytest.mark.parametrize("fault", ["off by one", "one direction forgotten", "no mask"])
def test_a_faulty_mask_is_another_loss(place, opened, fault):
    module, batch = prepared(place[1]), first_batch(opened)
    right = gradients(module, batch)["loss"]
    columns = 8 + len(batch.hard_kept)
    moved = batch.excluded.clone()
    moved[:, 1] = (moved[:, 1] + 1) % columns
    moved = moved[moved[:, 0] != moved[:, 1]]
    faulty = {
        "off by one": replace(batch, excluded=moved),
        "one direction forgotten": replace(batch, excluded_back=batch.excluded_back[:0]),
        "no mask": replace(
            batch, excluded=batch.excluded[:0], excluded_back=batch.excluded_back[:0]
        ),
    }[fault]
    assert abs(gradients(module, faulty)["loss"] - right) > 1e-4
    expected = in_loops(vectors_of(module, batch), batch, 0.05).mean()
    assert right == pytest.approx(expected, abs=1e-9)


def changed(module, seed=3, size=0.2):
    """The same with other weights than it started with."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in module.encoder.parameters():
            noise = torch.randn(weight.shape, generator=generator, dtype=torch.float64)
            weight += size * weight.abs().mean() * noise
    return module


def start_similarities(module, batch):
    vectors = vectors_of(module, batch)
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    anchors, positives = unit[batch.anchor.numpy()], unit[batch.positive.numpy()]
    hard = unit[batch.hard.numpy()].reshape(-1, unit.shape[1])[batch.hard_kept.numpy()]
    return anchors @ np.concatenate([positives, hard]).T, positives @ anchors.T


def test_the_guide_leaves_out_what_the_start_finds_nearer_than_the_positive(place, opened):
    batch = first_batch(opened)
    start = start_similarities(prepared(place[1]), batch)
    module = changed(prepared(place[1], guide="start"))
    found = gradients(module, batch)["loss"]
    vectors = vectors_of(module, batch)
    assert found == pytest.approx(in_loops(vectors, batch, 0.05, start=start).mean(), abs=1e-9)
    assert abs(found - in_loops(vectors, batch, 0.05).mean()) > 1e-4
    margin = changed(prepared(place[1], guide="start", guide_margin=0.5))
    assert gradients(margin, batch)["loss"] < found  # fewer are compared


def divergence(first, second, temperature=0.05):
    """KL of each row of similarities, first from second, in plain loops."""
    total = []
    for one, other in zip(first, second, strict=True):
        p, q = (np.exp(row / temperature) / np.exp(row / temperature).sum() for row in (one, other))
        total.append(sum(a * math.log(a / b) for a, b in zip(p, q, strict=True)))
    return np.mean(total)


def test_what_is_kept_is_the_divergence_from_the_start(place, opened, monkeypatch):
    batch = first_batch(opened)
    start = [table[:, :8] for table in start_similarities(prepared(place[1]), batch)]
    module = changed(prepared(place[1], keep=0.5))
    found = gradients(module, batch)
    now = [table[:, :8] for table in start_similarities(module, batch)]
    expected = np.mean([divergence(s, n) for s, n in zip(start, now, strict=True)])
    assert found["keep_loss"] == pytest.approx(expected, abs=1e-9)
    assert found["loss"] == pytest.approx(found["contrast_loss"] + 0.5 * expected, abs=1e-9)
    # The planted fault: the divergence of the start from the trained encoder.
    right = citation_contrast.row_divergence
    monkeypatch.setattr(
        citation_contrast, "row_divergence", lambda q, c, sq, sc, t: right(sq, sc, q, c, t)
    )
    assert abs(gradients(module, batch)["keep_loss"] - expected) > 1e-4


def test_nothing_is_kept_where_nothing_has_changed(place, opened):
    module, batch = prepared(place[1], keep=1.0), first_batch(opened)
    assert gradients(module, batch)["keep_loss"] == pytest.approx(0, abs=1e-12)


def test_the_start_encodes_a_text_once_and_is_no_part_of_the_weights(place, opened):
    module, batch = prepared(place[1], keep=1.0), first_batch(opened)
    names = set(module.state_dict())
    assert names == set(prepared(place[1]).state_dict())
    gradients(module, batch)
    assert module.start_vectors.encoded == len(batch.rows)
    gradients(module, batch)
    assert module.start_vectors.encoded == len(batch.rows)
    gradients(module, batch.largest(4, 16))  # invented texts, as of the check of memory
    gradients(module, batch)
    assert module.start_vectors.encoded == len(batch.rows) + 4 * (2 + 2)


def test_a_continued_run_has_the_same_start(place, opened):
    batch = first_batch(opened)
    module = changed(prepared(place[1], **EVERYTHING))
    continued = prepared(place[1], **EVERYTHING)
    continued.load_state_dict(module.state_dict())
    assert gradients(continued, batch) == pytest.approx(gradients(module, batch), abs=1e-12)


def test_a_learned_temperature_is_not_decayed_and_stays_in_its_range(place):
    module = prepared(place[1], learn_temperature=True, temperature_lr=7.0)
    groups = optim.parameter_groups(module.parameters(), 0.1, module.lr_factors)
    own = next(g for g in groups if any(p is module.log_temperature for p in g["params"]))
    assert own["weight_decay"] == 0.0
    assert own["factor"] == 7.0
    assert "log_temperature" in module.state_dict()
    low = train(*place, learn_temperature=True, temperature=0.011, temperature_lr=100.0)
    assert 0.01 - 1e-12 <= low["temperature"] <= 1


def test_the_gradient_of_a_learned_temperature_is_a_slope(place, opened):
    module, batch = prepared(place[1], learn_temperature=True, keep=0.3), first_batch(opened)
    parts = module.split(batch, 150)
    assert len(parts) > 1
    module.gradients(batch, parts)
    slope = module.log_temperature.grad.item()
    losses = []
    for sign in (1, -2):
        with torch.no_grad():
            module.log_temperature += sign * 1e-5
        losses.append(gradients(module, batch)["loss"])
    assert slope == pytest.approx((losses[0] - losses[1]) / 2e-5, rel=1e-6)


def test_a_step_in_bf16_keeps_the_gradient_of_every_weight(place):
    runs = [
        train(*place, steps=1, max_tokens_per_backward=tokens, trainer={"precision": precision})
        for tokens, precision in ((None, "32-true"), (None, "bf16-mixed"), (150, "bf16-mixed"))
    ]
    exact, whole, split = (np.array(run["gradients"][0]) for run in runs)
    assert np.linalg.norm(whole - exact) < 0.1 * np.linalg.norm(exact)
    assert np.linalg.norm(split - whole) < 0.03 * np.linalg.norm(whole)


def test_negatives_are_counted(place, opened):
    module, batch = prepared(place[1]), first_batch(opened)
    expected = 7 + len(batch.hard_kept) - len(batch.excluded) / 8
    assert module.negatives_per_anchor(batch) == pytest.approx(expected)
    module.check(batch)
    single = opened.batch(np.array([0]), 0, 0)
    single = replace(single, hard_kept=single.hard_kept[:0], excluded=single.excluded[:0])
    with pytest.raises(UserError, match=r"leaves no pair"):
        module.check(single)
    with pytest.raises(UserError, match=r"data\.sampling gives str"):
        module.check("triplets")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"temperature": 0.0}, "temperature must be above 0"),
        ({"temperature_lr": 0.0}, "temperature_lr must be above 0"),
        ({"keep": -1.0}, "keep must be 0 or more"),
        ({"keep_temperature": 0.0}, "keep_temperature must be above 0"),
        ({"guide_margin": 3.0}, "guide_margin is a cosine"),
        ({"learn_temperature": True, "temperature": 2.0}, "stays between"),
    ],
)
def test_settings_that_cannot_be_are_refused(place, settings, message):
    with pytest.raises(UserError, match=message):
        CitationContrast(EncoderSettings(place[1]), **settings)
