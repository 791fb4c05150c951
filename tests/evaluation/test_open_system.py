import pytest

from sciembed_train.errors import UserError
from sciembed_train.evaluation.by_format import PlainModel, RandomVectors
from sciembed_train.evaluation.evaluate_settings import EvaluateSettings
from sciembed_train.evaluation.open_system import GivenSystems, Systems
from sciembed_train.evaluation.sentence_model import SentenceModel
from sciembed_train.evaluation.systems import Bm25, Model, RandomOrder
from sciembed_train.inference.options import EmbedSettings, ScoreSettings


def settings(model, scorer=None, seed=0):
    return EvaluateSettings(
        "retrieval",
        "folder",
        str(model),
        seed=seed,
        embed=EmbedSettings(device="cpu"),
        score=ScoreSettings(scorer),
        quiet=True,
    )


def test_a_system_is_a_baseline_or_a_model_by_its_scorer(tiny_bert):
    assert isinstance(Systems().system(settings("bm25")), Bm25)
    baseline = Systems().system(settings("random", seed=3))
    assert isinstance(baseline, RandomOrder)
    assert baseline.seed == 3
    assert isinstance(Systems().system(settings(tiny_bert)), Model)
    assert isinstance(Systems().system(settings(tiny_bert, "sentences")), SentenceModel)


def test_an_embedder_gives_one_vector_a_text(tiny_bert):
    assert isinstance(Systems().embedder(settings("random")), RandomVectors)
    assert isinstance(Systems().embedder(settings(tiny_bert)), PlainModel)
    with pytest.raises(UserError, match="bm25 gives none"):
        Systems().embedder(settings("bm25"))
    with pytest.raises(UserError, match="--scorer sentences does not go with"):
        Systems().embedder(settings(tiny_bert, "sentences"))


def test_what_was_opened_elsewhere_is_given_whatever_the_settings_name():
    system, vectors = RandomOrder(seed=5), RandomVectors(seed=6)
    systems = GivenSystems(system, vectors)
    assert systems.system(settings("/nowhere")) is system
    assert systems.embedder(settings("bm25")) is vectors
