import json

import pytest

from sciembed_train.errors import UserError
from sciembed_train.evaluation.scoring import Scoring, scoring_of
from sciembed_train.inference.options import EmbedSettings, ScoreSettings
from sciembed_train.losses.transport import TransportSettings

FORM = {"separator": "sep", "sentences": "joined", "control_code": "", "cleaning": "none"}
MOVES = {"temperature": 5000.0, "blur": 0.1, "scaling": 0.8}


@pytest.fixture
def model(tmp_path):
    """Writes what a folder records, and gives the folder."""

    def write(**record):
        content = {"pooling": "cls", "max_length": 512, "input_format": FORM, **record}
        (tmp_path / "sciembed.json").write_text(json.dumps(content))
        return tmp_path

    return write


def found(folder, pooling=None, **asked):
    return scoring_of(folder, EmbedSettings(pooling=pooling), ScoreSettings(**asked))


@pytest.mark.parametrize(
    ("record", "want"),
    [
        ({}, Scoring("document", "euclidean")),
        ({"similarity": "cosine"}, Scoring("document", "cosine")),
        ({"texts": "sentences"}, Scoring("sentences", "euclidean")),
        ({"texts": "sentences", "similarity": "cosine"}, Scoring("sentences", "cosine")),
        (
            {"pooling": "sentences", "similarity": "best_match"},
            Scoring("best_match", "euclidean"),
        ),
        (
            {"pooling": "sentences", "similarity": "transport", "transport": MOVES},
            Scoring("transport", "euclidean", TransportSettings(**MOVES)),
        ),
    ],
)
def test_a_model_ranks_as_its_folder_records(model, record, want):
    assert found(model(**record)) == want


def test_a_sentence_transformers_model_ranks_by_what_it_was_made_for(minilm):
    assert found(minilm) == Scoring("document", "cosine")
    assert found(minilm, similarity="euclidean") == Scoring("document", "euclidean")


def test_any_encoder_ranks_by_the_scorer_that_is_asked_for(model):
    folder = model(similarity="cosine")
    assert found(folder, scorer="sentences") == Scoring("sentences", "cosine")
    euclidean = found(folder, scorer="sentences", similarity="euclidean")
    assert euclidean == Scoring("sentences", "euclidean")
    assert found(folder, scorer="best_match") == Scoring("best_match", "euclidean")
    one = found(folder, scorer="transport", temperature=1.0)
    assert one.transport == TransportSettings(1.0, blur=0.05, scaling=0.9)


def test_a_multi_vector_model_may_be_asked_for_the_other_scorer(model):
    folder = model(pooling="sentences", similarity="transport", transport=MOVES)
    assert found(folder, scorer="best_match") == Scoring("best_match", "euclidean")
    own = found(folder, temperature=1.0).transport
    assert own == TransportSettings(1.0, blur=0.1, scaling=0.8)
    document = found(folder, pooling="mean", scorer="document", similarity="euclidean")
    assert document == Scoring("document", "euclidean")


def test_a_temperature_that_is_neither_recorded_nor_given_is_never_made_up(model):
    with pytest.raises(UserError, match=r"records no temperature .* --temperature"):
        found(model(), scorer="transport")
    recorded = model(pooling="sentences", similarity="transport")
    with pytest.raises(UserError, match="records no temperature"):
        found(recorded)
    assert found(recorded, temperature=2.0).transport == TransportSettings(2.0)


@pytest.mark.parametrize(
    ("record", "asked", "message"),
    [
        (
            {"pooling": "sentences", "similarity": "best_match"},
            {"scorer": "document"},
            "none of a whole text",
        ),
        (
            {"pooling": "sentences", "similarity": "best_match"},
            {"scorer": "sentences"},
            "--pooling mean or cls",
        ),
        ({"pooling": "sentences", "similarity": "nearest"}, {}, "by nearest.*--scorer"),
        ({"similarity": "dot"}, {}, "by dot.*--similarity"),
        ({"similarity": "dot"}, {"scorer": "sentences"}, "by dot.*--similarity"),
        (
            {"pooling": "sentences", "similarity": "best_match"},
            {"similarity": "cosine"},
            "--similarity goes with",
        ),
        (
            {"pooling": "sentences", "similarity": "best_match"},
            {"blur": 0.1},
            "--blur goes with --scorer transport, not best_match",
        ),
        ({}, {"scorer": "transport", "temperature": 0.0}, "temperature is 0"),
        (
            {"pooling": "sentences", "similarity": "transport", "transport": {"heat": 1}},
            {"temperature": 1.0},
            "`transport` in its sciembed.json is",
        ),
        (
            {"pooling": "sentences", "similarity": "transport", "transport": "hot"},
            {},
            "`transport` or `adapters` is wrong",
        ),
    ],
)
def test_what_does_not_belong_together_is_refused(model, record, asked, message):
    with pytest.raises(UserError, match=message):
        found(model(**record), **asked)


def test_options_of_another_scorer_are_refused_as_soon_as_they_are_read():
    with pytest.raises(UserError, match="--temperature goes with --scorer transport"):
        ScoreSettings("sentences", temperature=1.0)
    with pytest.raises(UserError, match="--similarity goes with --scorer document, sentences or"):
        ScoreSettings("transport", similarity="cosine")
