from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from sciembed_train.config.verdict_settings import VerdictSettings
from sciembed_train.encoder.encoder import Encoder, EncoderSettings
from sciembed_train.training.comparison import ChosenShare, StartComparison, neighbours
from sciembed_train.training.start_scores import Question
from sciembed_train.training.verdict import TrainingChoices
from tests.helpers.small_corpus import write_small_corpus

CHOICES = TrainingChoices("start", "run", 1e-3)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory, tiny_bert):
    return write_small_corpus(tmp_path_factory.mktemp("comparison") / "corpus", tiny_bert)


@pytest.fixture
def compared(corpus, tiny_bert, tmp_path):
    """A comparison by some settings, and a trained encoder."""

    def made(**settings):
        trained = EncoderSettings(str(tiny_bert), max_length=32)
        values = VerdictSettings(**{"resamples": 200, "alphas": [0.5, 1.0], **settings})
        comparison = StartComparison(values, Question(corpus), tmp_path, trained, "euclidean")
        encoder = Encoder(trained)
        torch.manual_seed(1)
        with torch.no_grad():
            for parameter in encoder.parameters():
                parameter.add_(torch.randn_like(parameter) * 0.02)
        return SimpleNamespace(comparison=comparison, encoder=encoder)

    return made


def results_of(comparison, encoder):
    """The share is chosen and the verdict given."""
    return comparison.after(encoder, comparison.choose(encoder), CHOICES)


def test_the_encoder_that_is_scored_is_the_one_that_is_left(compared, corpus):
    from sciembed_train.training.guard_scores import query_scores

    case = compared()
    own = {key: value.clone() for key, value in case.encoder.state_dict().items()}
    results = results_of(case.comparison, case.encoder)
    assert results.choice is not None
    moved = any(not torch.equal(v, own[k]) for k, v in case.encoder.state_dict().items())
    assert moved == (results.choice.alpha != 1)
    system = case.comparison.question.system(case.encoder, case.comparison.scoring)
    again = query_scores(system, corpus, "test").scores["citations"]
    assert {q: after for q, (_, after) in results.queries["citations"].items()} == again


def test_an_encoder_that_was_not_trained_makes_no_difference(compared):
    case = compared(alphas=[1.0])
    encoder = Encoder(EncoderSettings(case.encoder.settings.backbone, max_length=32))
    results = results_of(case.comparison, encoder)
    assert results.verdict.outcome == "NO DIFFERENCE"
    assert all(c.difference == 0 for c in results.verdict.comparisons.values())
    assert (results.choice, results.choice_note) == (None, "alphas is [1.0]")
    for row in results.neighbours:
        assert row["before"] == row["after"]


def test_a_language_model_is_not_mixed_in_and_an_encoder_is(compared, corpus, tmp_path):
    """What was trained from a model that never was an encoder is exported whole."""
    case = compared(alphas=None)
    own = {key: value.clone() for key, value in case.encoder.state_dict().items()}
    results = results_of(case.comparison, case.encoder)
    assert (results.choice, results.verdict.alpha) == (None, 1)
    assert results.choice_note == "the start is a language model, no encoder"
    assert all(torch.equal(v, own[k]) for k, v in case.encoder.state_dict().items())
    case.encoder.save(tmp_path / "encoder")
    again = EncoderSettings(str(tmp_path / "encoder"), max_length=32)
    values = VerdictSettings(resamples=200)
    encoder = StartComparison(values, Question(corpus), tmp_path, again, "euclidean")
    assert encoder.choosing
    assert encoder.alphas == [0.2, 0.4, 0.6, 0.8, 1.0]


@pytest.mark.parametrize("projected", [None, 0.5])
def test_without_dev_queries_the_weights_are_as_trained_or_the_share_beside_a_projection(
    compared, projected
):
    case = compared(alphas=[0.25, 1.0])
    case.comparison.projected_alpha = projected
    before = replace(case.comparison.before(), dev=None)
    own = case.encoder.backbone.pooler.dense.weight.clone()
    start = Encoder(case.comparison.start).backbone.pooler.dense.weight
    chosen = case.comparison._choose(case.encoder, before)
    assert chosen == ChosenShare(projected or 1.0, note="there are no dev queries")
    mixed = case.encoder.backbone.pooler.dense.weight
    torch.testing.assert_close(mixed, own if projected is None else (own + start) / 2)


def test_other_weights_than_the_start_s_are_not_mixed(compared):
    case = compared()
    del case.encoder.backbone.encoder.layer[1]
    results = results_of(case.comparison, case.encoder)
    assert results.choice is None
    assert "different weights" in results.choice_note
    assert results.verdict.alpha == 1


def test_neighbours_have_titles_and_say_what_is_cited(corpus):
    ids = corpus.paper_ids()
    query, cited = corpus.citations()[0].tolist()
    all_cited = set(corpus.citations()[corpus.citations()[:, 0] == query, 1])
    other = next(paper for paper in range(corpus.n_papers) if paper not in all_cited)
    before, after = [ids[cited]], [ids[other], ids[cited]]
    (row,) = neighbours(Question(corpus), {ids[query]: before}, {ids[query]: after})
    titles = {row["paper_id"]: row["title"] for row in corpus.papers()}
    assert row["title"] == titles[ids[query]]
    assert row["before"] == [{"id": ids[cited], "title": titles[ids[cited]], "cited": True}]
    assert row["after"][0] == {"id": ids[other], "title": titles[ids[other]], "cited": False}
    assert row["after"][1] == row["before"][0]
