import random

import numpy as np
import pytest
import torch

from sciembed_train.corpus.store.corpus_folder import Corpus
from sciembed_train.encoder.adapters.lora_settings import LoraSettings
from sciembed_train.encoder.encoder import Encoder, EncoderSettings
from sciembed_train.evaluation.benchmarks.result import NoQueriesError
from sciembed_train.export.export_folder import export_encoder
from sciembed_train.text.input_format import InputFormat
from sciembed_train.training import start_scores as module
from sciembed_train.training.guard_scores import open_guards
from sciembed_train.training.start_scores import (
    Question,
    start_scores,
    start_settings,
    undisturbed,
)
from tests.helpers.exports import CARD, encoder_of
from tests.helpers.prompted_models import PROMPTS, write_prompted
from tests.helpers.small_corpus import write_small_corpus
from tests.helpers.topic_papers import write_search


@pytest.fixture(scope="module")
def corpus(tmp_path_factory, tiny_bert):
    return write_small_corpus(tmp_path_factory.mktemp("start") / "corpus", tiny_bert)


def scored(corpus, tiny_bert, cache, folders=(), seed=0, choosing=True):
    settings, scoring = start_settings(EncoderSettings(str(tiny_bert), max_length=32), "euclidean")
    return start_scores(
        Question(corpus, open_guards(folders), seed), settings, scoring, cache, choosing
    )


def test_scores_are_kept_and_read_for_the_same_model_data_and_settings_alone(
    corpus, tiny_bert, tmp_path, monkeypatch
):
    made = []
    monkeypatch.setattr(module, "Encoder", lambda s: made.append(s) or Encoder(s))
    cache, folder = tmp_path / "s.json", write_search(tmp_path / "search")
    first = scored(corpus, tiny_bert, cache)
    assert set(first.test.scores) == {"citations", "title_abstract"}
    assert first.dev is not None
    assert set(first.bm25) == set(first.test.scores)
    assert len(made) == 1
    assert scored(corpus, tiny_bert, cache) == first
    assert len(made) == 1
    for count, change in enumerate(({"seed": 1}, {"choosing": False}, {"folders": (str(folder),)})):
        scored(corpus, tiny_bert, cache, **change)
        assert len(made) == 2 + count
    (folder / "queries.jsonl").write_text('{"query_id": "q1", "text": "word1"}\n')
    scored(corpus, tiny_bert, cache, folders=(str(folder),))
    assert len(made) == 5
    cache.write_text("{")  # of a run that was killed
    assert scored(corpus, tiny_bert, cache) == first


def test_a_start_is_scored_as_its_own_files_say(tiny_bert, tmp_path):
    export_encoder(
        encoder_of(tiny_bert, pooling="mean", max_length=40),
        tmp_path / "start",
        {**CARD, "similarity": "cosine"},
    )
    trained = EncoderSettings(str(tmp_path / "start"), pooling="cls", max_length=24, dropout=0.3)
    settings, scoring = start_settings(trained, "euclidean")
    assert (settings.pooling, settings.max_length, settings.dropout) == ("mean", 40, None)
    assert scoring.similarity == "cosine"


def test_a_start_is_scored_behind_its_own_prompts(tiny_bert, tmp_path):
    start = write_prompted(tiny_bert, tmp_path / "start")
    trained = EncoderSettings(str(start), pooling="mean", max_length=24, prompts=PROMPTS)
    settings, _ = start_settings(trained, "euclidean")
    assert settings.input_format == InputFormat(prompt=PROMPTS["passage"])
    assert settings.prompts == PROMPTS
    # A plain one has none of its own, and is read as the trained one is.
    form = InputFormat(prompt="word1: ")
    plain = EncoderSettings(str(tiny_bert), max_length=24, input_format=form)
    assert start_settings(plain, "euclidean")[0].input_format == form


@pytest.mark.parametrize(("pooling", "own"), [("mean", "mean"), ("cls", "cls"), ("mix", "cls")])
def test_what_a_start_does_not_say_is_as_it_is_trained_but_for_untrained_parts(
    tiny_bert, pooling, own
):
    settings, scoring = start_settings(
        EncoderSettings(str(tiny_bert), pooling=pooling, max_length=24), "cosine"
    )
    assert (settings.pooling, settings.max_length) == (own, 24)
    assert scoring.similarity == "cosine"


def test_a_start_is_scored_without_the_updates_that_are_trained(tiny_bert):
    trained = EncoderSettings(str(tiny_bert), max_length=24, lora=LoraSettings())
    assert start_settings(trained, "cosine")[0].lora is None


def test_generators_are_left_as_they_were():
    def draw():
        return random.random(), float(np.random.rand()), torch.rand(1).item()  # noqa: NPY002

    states = random.getstate(), np.random.get_state(), torch.get_rng_state()  # noqa: NPY002
    with undisturbed():
        one = draw()
    assert draw() == one
    random.setstate(states[0])
    np.random.set_state(states[1])  # noqa: NPY002
    torch.set_rng_state(states[2])


def test_bm25_that_is_not_installed_is_a_note(corpus, tiny_bert, tmp_path, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "bm25s", None)
    scores = scored(corpus, tiny_bert, tmp_path / "s.json")
    assert scores.bm25 == {}
    assert any(note.startswith("BM25 is not scored: ") for note in scores.notes)


def test_without_dev_queries_no_share_is_chosen_and_without_test_ones_nothing_is(
    corpus, tiny_bert, tmp_path, monkeypatch
):
    queries = Corpus.queries
    for empty in ("dev", "test"):
        monkeypatch.setattr(
            Corpus,
            "queries",
            lambda self, split, empty=empty: queries(self, split)[: 0 if split == empty else None],
        )
        if empty == "test":
            with pytest.raises(NoQueriesError, match="test split"):
                scored(corpus, tiny_bert, tmp_path / empty)
        else:
            scores = scored(corpus, tiny_bert, tmp_path / empty)
            assert scores.dev is None
            assert any("No share of the start's weights" in note for note in scores.notes)
