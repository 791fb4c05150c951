import copy
import math

import numpy as np
import pytest
import torch

from sciembed_train.encoder.encoder import EncoderSettings
from sciembed_train.errors import UserError
from sciembed_train.methods import distillation
from sciembed_train.methods.citation_contrast import CitationContrast
from sciembed_train.methods.distillation import Distillation
from sciembed_train.sampling.base import TokenizationSpec
from sciembed_train.sampling.citation_pairs import CitationPairSampling
from sciembed_train.text.input_format import InputFormat
from sciembed_train.text.tokenizer import TextTokenizer
from tests.helpers.citation_corpus import write_citation_corpus
from tests.helpers.contrast_training import HARD
from tests.helpers.teachers import RandomTeacher
from tests.helpers.training import OPTIM

WIDTH, PAPERS, PAIRS = 32, 60, 8


@pytest.fixture(scope="module")
def opened(tiny_bert, tmp_path_factory):
    folder = tmp_path_factory.mktemp("distillation") / "corpus"
    corpus = write_citation_corpus(folder, tiny_bert, papers=PAPERS)
    reading = TokenizationSpec(TextTokenizer.load(tiny_bert), InputFormat(), 64, 0)
    return CitationPairSampling(sources_per_batch="mixed", **HARD).open(corpus, reading, None)


@pytest.fixture(scope="module")
def batch(opened):
    """Pairs of papers and of parts, of which some have a teacher's vector."""
    found = opened.batch(opened.plan(PAIRS, 0).indices(1), 0, 1)
    known = RandomTeacher(5, PAPERS)(found.texts.numpy()).any(1)
    assert 0 < known.sum() < len(known)
    assert (found.texts >= PAPERS).any()
    assert len(found.hard_kept)
    return found


def student(backbone, dim=20, teacher=None, **distil):
    """A method outside a trainer, in float64."""
    encoder = EncoderSettings(str(backbone), pooling="mean", max_length=64, dropout=0.0)
    module = CitationContrast(encoder, OPTIM, teacher="random", distil=Distillation(**distil))
    module.learn_from(teacher or RandomTeacher(dim, PAPERS))
    return module.double()


def gradients(module, batch):
    module.zero_grad()
    return {name: x.item() / len(batch) for name, x in module.gradients(batch, [batch]).items()}


def unit_vectors(module, batch):
    with torch.no_grad():
        vectors = module.encoder(batch.rows).numpy()
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def divergence(batch, own, teacher, temperature):
    """Mean over pairs and directions of KL(teacher || student), in plain loops."""
    hard = batch.hard.numpy().reshape(-1)[batch.hard_kept.numpy()]
    anchors, positives = batch.anchor.numpy(), batch.positive.numpy()
    total = 0.0
    for queries, candidates in (
        (anchors, np.concatenate([positives, hard])),
        (positives, anchors),
    ):
        kept = [c for c in candidates if teacher[c].any()]
        for query in queries:
            if not teacher[query].any() or not kept:
                continue
            p, q = (
                [math.exp(vectors[query] @ vectors[c] / temperature) for c in kept]
                for vectors in (teacher, own)
            )
            total += sum(
                a / sum(p) * math.log((a / sum(p)) / (b / sum(q)))
                for a, b in zip(p, q, strict=True)
            )
    return total / len(queries) / 2


def test_the_ranking_form_is_the_divergence_from_the_teacher(tiny_bert, batch, monkeypatch):
    module = student(tiny_bert, weight=0.5, temperature=0.3, contrast=0.25)
    found = gradients(module, batch)
    own, teacher = unit_vectors(module, batch), module.distiller.teacher(batch.texts.numpy())
    expected = divergence(batch, own, teacher.astype(np.float64), 0.3)
    assert expected > 1e-2
    assert found["distil_loss"] == pytest.approx(expected, abs=1e-9)
    assert found["loss"] == pytest.approx(0.25 * found["contrast_loss"] + 0.5 * expected, abs=1e-9)
    right = distillation.row_divergence
    faults = {
        "of the teacher from the student": lambda q, c, tq, tc, t, allowed: right(
            tq, tc, q, c, t, allowed=allowed
        ),
        "nothing left out": lambda q, c, tq, tc, t, allowed: right(q, c, tq, tc, t),
    }
    for fault in faults.values():
        monkeypatch.setattr(distillation, "row_divergence", fault)
        assert abs(gradients(module, batch)["distil_loss"] - expected) > 1e-4


@pytest.mark.parametrize("dim", [WIDTH, 20])
def test_the_cosine_form_is_the_distance_of_the_pairs_two_texts(tiny_bert, batch, dim):
    module = student(tiny_bert, dim, form="cosine", weight=0.5)
    assert (module.distiller.map is None) == (dim == WIDTH)
    found = gradients(module, batch)
    own, teacher = unit_vectors(module, batch), module.distiller.teacher(batch.texts.numpy())
    if dim != WIDTH:
        own = own @ module.distiller.map.weight.detach().numpy().T
    total = 0.0
    for text in torch.cat([batch.anchor, batch.positive]).tolist():
        if teacher[text].any():
            length = math.sqrt(own[text] @ own[text])
            total += 1 - own[text] @ teacher[text].astype(np.float64) / length
    assert found["distil_loss"] == pytest.approx(total / PAIRS / 2, abs=1e-7)
    expected = found["contrast_loss"] + 0.5 * found["distil_loss"]
    assert found["loss"] == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("form", ["ranking", "cosine"])
def test_the_gradient_is_a_slope(tiny_bert, batch, form):
    module = student(tiny_bert, form=form, contrast=0.0)
    weights = [module.encoder.backbone.encoder.layer[1].output.dense.weight]
    weights += [module.distiller.map.weight] if form == "cosine" else []
    for weight in weights:
        gradients(module, batch)
        slope, losses = weight.grad[3, 4].item(), []
        for move in (1e-5, -2e-5):
            with torch.no_grad():
                weight[3, 4] += move
            losses.append(gradients(module, batch)["loss"])
        with torch.no_grad():
            weight[3, 4] += 1e-5
        assert slope == pytest.approx((losses[0] - losses[1]) / 2e-5, rel=1e-5)


class Nothing(RandomTeacher):
    def __call__(self, texts):
        return super().__call__(np.full_like(texts, -1))


@pytest.mark.parametrize("form", ["ranking", "cosine"])
def test_a_step_of_no_text_with_a_vector_learns_nothing_of_the_teacher(tiny_bert, batch, form):
    module = student(tiny_bert, teacher=Nothing(20, PAPERS), form=form, contrast=0.0)
    found = gradients(module, batch)
    assert found["distil_loss"] == found["loss"] == 0
    trained = [p for p in module.parameters() if p.grad is not None]
    # The exchange of gradients between ranks waits for each of them.
    assert module.distiller.map is None or module.distiller.map.weight.grad is not None
    assert all(not p.grad.any() for p in trained)


@pytest.mark.parametrize(("form", "dim"), [("ranking", 20), ("cosine", 20)])
def test_a_student_of_the_teacher_alone_approaches_it(tiny_bert, batch, form, dim):
    module = student(tiny_bert, dim, form=form, contrast=0.0)
    optimizer = torch.optim.Adam(module.parameters(), lr=5e-3)
    losses = []
    for _ in range(15):
        losses.append(gradients(module, batch)["distil_loss"])
        optimizer.step()
    assert losses[-1] < 0.5 * losses[0]


def test_invented_texts_have_no_vector(tiny_bert, batch):
    largest = batch.largest(4, 16)
    for form in ("ranking", "cosine"):
        assert gradients(student(tiny_bert, form=form), largest)["distil_loss"] == 0


def test_the_teacher_is_no_weight_and_the_map_is_one(tiny_bert):
    module = student(tiny_bert, form="cosine")
    names = set(module.state_dict()) - set(student(tiny_bert).state_dict())
    assert names == {"distiller.map.weight"}
    again = student(tiny_bert, form="cosine")
    assert torch.equal(module.distiller.map.weight, again.distiller.map.weight)
    validated = CitationContrast(
        EncoderSettings(str(tiny_bert), pooling="mean"),
        teacher="random",
        distil=Distillation("cosine"),
    )
    validated.match(module.state_dict())
    validated.double().load_state_dict(module.state_dict())
    assert copy.deepcopy(module).distiller.map.weight.shape == (20, WIDTH)


def test_settings_and_record_name_the_teacher(tiny_bert):
    module = student(tiny_bert, form="cosine", weight=2.0)
    assert module.settings()["teacher"] == {"name": "random", "digest": RandomTeacher.digest}
    assert module.settings()["distil"]["form"] == "cosine"
    assert module.training_record["teacher"] == {
        **{"name": "random", "digest": RandomTeacher.digest, "dim": 20, "form": "cosine"},
        **{"weight": 2.0, "temperature": 0.05, "contrast": 1.0},
    }
    alone = CitationContrast(EncoderSettings(str(tiny_bert)))
    assert alone.settings()["teacher"] is None
    assert alone.training_record == {}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"weight": -1.0}, "distil.weight must be 0 or more"),
        ({"weight": math.nan}, "distil.weight must be 0 or more"),
        ({"contrast": math.inf}, "distil.contrast must be 0 or more"),
        ({"weight": 0.0, "contrast": 0.0}, "nothing is trained"),
        ({"temperature": 0.0}, "distil.temperature must be above 0"),
    ],
)
def test_settings_that_cannot_be_are_refused(settings, message):
    with pytest.raises(UserError, match=message):
        Distillation(**settings)


def test_settings_of_no_teacher_are_refused(tiny_bert):
    with pytest.raises(UserError, match=r"none is named. Give --model\.teacher"):
        CitationContrast(EncoderSettings(str(tiny_bert)), distil=Distillation(weight=2.0))
    with pytest.raises(UserError, match="teacher is empty"):
        CitationContrast(EncoderSettings(str(tiny_bert)), teacher="")
    module = CitationContrast(EncoderSettings(str(tiny_bert)), teacher="random")
    with pytest.raises(RuntimeError, match="none of its vectors"):
        _ = module.distiller.teacher
