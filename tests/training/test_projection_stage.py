"""The stage of a run that learns a projection: what it takes, gives and refuses."""

import json
import sys

import numpy as np
import pytest
import torch
from torch.nn.functional import normalize

import sciembed_train as st
from sciembed_train.commands import fit
from sciembed_train.corpus.store.corpus_folder import Corpus
from sciembed_train.encoder.encoder import Encoder
from sciembed_train.errors import UserError
from sciembed_train.inference.options import EmbedSettings
from sciembed_train.methods.projection_settings import ProjectionSettings
from sciembed_train.sampling.citation_pairs import CitationPairSampling
from sciembed_train.sampling.pair_sources import SourceWeights
from sciembed_train.sampling.related_mask import RelatedMask
from sciembed_train.training import projection_stage
from sciembed_train.training.projection_stage import (
    VECTORS,
    ProjectionStage,
    paper_texts,
    training_pairs,
    why_no_projection,
)
from tests.helpers.exports import encoder_of
from tests.helpers.runs import CONFIGS, finish, start
from tests.helpers.topic_papers import write_topic_corpus

SAMPLING = CitationPairSampling()
FEW = ("--projection.fewest_pairs", "10", "--projection.steps", "5")


@pytest.fixture(scope="module")
def place(tiny_bert, tmp_path_factory):
    return write_topic_corpus(tmp_path_factory.mktemp("topics"), tiny_bert)


def stage_of(place, folder, **settings):
    values = ProjectionSettings(**{"steps": 5, "batch_size": 8, "negatives": 20, **settings})
    corpus = Corpus.open(place / "corpus")
    return ProjectionStage(values, corpus, SAMPLING, EmbedSettings(device="cpu"), folder)


def test_pairs_are_of_the_training_split_and_no_held_out_paper_asks(place):
    corpus = Corpus.open(place / "corpus")
    papers, pairs = training_pairs(corpus, SAMPLING, 50_000, 0)
    splits = np.asarray(corpus.paper_splits())
    citing = papers[pairs.citing]
    assert len(citing)
    assert (splits[citing[:, 0]] == 0).all()
    known = {tuple(pair) for pair in np.asarray(corpus.citations_of_texts()).tolist()}
    assert {tuple(pair) for pair in citing.tolist()} <= known
    trained = {
        tuple(pair)
        for pair, count in zip(
            np.asarray(corpus.cocitations("train")).tolist(),
            np.asarray(corpus.cocitation_counts("train")),
            strict=True,
        )
        if count >= 2
    }
    assert {tuple(pair) for pair in papers[pairs.cocited].tolist()} == trained
    assert papers.tolist() == [
        row["paper"] for row in corpus.papers() if row["title"] or row["abstract"]
    ]


def test_of_a_large_collection_half_of_the_drawn_papers_have_pairs_at_least(place):
    corpus = Corpus.open(place / "corpus")
    every, pairs = training_pairs(corpus, SAMPLING, 50_000, 0)
    paired = np.unique(every[pairs.all])
    assert len(paired) == len(every) - 2
    for most, of_pairs in ((2, 1), (20, 18), (40, 38), (len(every) - 1, len(paired) - 1)):
        papers, drawn = training_pairs(corpus, SAMPLING, most, 0)
        assert len(papers) == len(np.unique(papers)) == most
        assert np.isin(papers, paired).sum() == of_pairs
        known = {tuple(pair) for pair in every[pairs.all].tolist()}
        found = {tuple(pair) for pair in papers[drawn.all].tolist()}
        assert found <= known
        # Pairs are drawn, and not papers, of which few pairs would be left.
        assert most < 3 or len(found) >= of_pairs // 2


def test_the_pairs_are_those_of_the_sampling(place):
    corpus = Corpus.open(place / "corpus")
    _, pairs = training_pairs(corpus, SAMPLING, 50_000, 0)
    alone = CitationPairSampling(weights=SourceWeights(1.0, 0.0))
    _, cited = training_pairs(corpus, alone, 50_000, 0)
    assert cited.citing.tolist() == pairs.citing.tolist()
    assert not len(cited.cocited)
    together = CitationPairSampling(weights=SourceWeights(0.0, 1.0), cocited=3)
    _, often = training_pairs(corpus, together, 50_000, 0)
    assert not len(often.citing)
    assert len(often.cocited) < len(pairs.cocited)
    # A paper and one that it cites are related, unless the mask leaves citations out.
    query, positive = pairs.citing[:1].T
    places = np.array([positive[0], query[0]])
    asked = (positive, positive, places, np.array([-1]))
    assert pairs.excluded(*asked).tolist() == [[0, 0], [0, 1]]
    mask = RelatedMask(cites=False, cited_by=False, cocited=0)
    _, plain = training_pairs(corpus, CitationPairSampling(mask=mask), 50_000, 0)
    assert plain.excluded(*asked).tolist() == [[0, 0]]


def test_texts_are_those_of_the_papers_in_their_order(place):
    corpus = Corpus.open(place / "corpus")
    rows = list(corpus.papers())
    chosen = np.array([1, 4, 9])
    assert paper_texts(corpus, chosen) == [(rows[i]["title"], rows[i]["abstract"]) for i in chosen]


def test_the_encoder_gets_the_map_and_the_kept_vectors_are_those_before_it(
    place, tiny_bert, tmp_path
):
    encoder = encoder_of(tiny_bert, pooling="mean", normalize=True)
    texts = ["word1 word2", "word3 word4 word5"]
    before = encoder.encode_texts(texts)
    record, kept = stage_of(place, tmp_path).learn(encoder)
    assert encoder.settings.projection == encoder.dim == 32
    weight = encoder.projection.weight.detach()
    assert not torch.allclose(weight, torch.eye(32), atol=1e-3)
    torch.testing.assert_close(encoder.encode_texts(texts), normalize(before @ weight.T))
    own = kept.texts([(text, None) for text in texts], 2, EmbedSettings(device="cpu"))
    torch.testing.assert_close(torch.from_numpy(own), before)
    papers, pairs = training_pairs(Corpus.open(place / "corpus"), SAMPLING, 50_000, 0)
    assert record["papers"] == len(papers)
    assert record["citations"] == len(pairs.citing)
    assert record["share"] == 0.75


def test_a_projection_that_is_there_is_gone_on_from(place, tiny_bert, tmp_path):
    encoder = encoder_of(tiny_bert, pooling="mean", normalize=True, projection=32)
    torch.manual_seed(0)
    first = torch.eye(32) + 0.1 * torch.randn(32, 32)
    with torch.no_grad():
        encoder.projection.weight.copy_(first)
    stage_of(place, tmp_path / "a").learn(encoder)
    # As if the vectors were another encoder's, to which the same map is learned.
    again = encoder.projection.weight.detach() @ torch.linalg.inv(first)
    share = ProjectionSettings().share
    learned = (again - (1 - share) * torch.eye(32)) / share
    assert torch.linalg.svdvals(learned).mean() == pytest.approx(1, rel=1e-3)


@pytest.mark.parametrize(
    ("settings", "similarity", "reason"),
    [
        ({"pooling": "mix"}, "cosine", "the pooling mix takes none"),
        ({"pooling": "cls", "control_codes": True}, "cosine", "with control codes takes none"),
        ({"pooling": "mean"}, "euclidean", "compared by euclidean"),
    ],
)
def test_what_cannot_have_one_is_told_why(place, tiny_bert, settings, similarity, reason):
    corpus, values = Corpus.open(place / "corpus"), ProjectionSettings(steps=1, fewest_pairs=1)
    encoder = encoder_of(tiny_bert, **settings)
    assert reason in str(why_no_projection(values, corpus, SAMPLING, encoder, similarity))
    fits = encoder_of(tiny_bert, pooling="mean")
    assert why_no_projection(values, corpus, SAMPLING, fits, "cosine") is None
    assert "nested vectors" in str(
        why_no_projection(values, corpus, SAMPLING, fits, "cosine", nested=True)
    )
    many = ProjectionSettings(steps=1, fewest_pairs=10**6)
    assert "fewer than projection.fewest_pairs 1,000,000" in str(
        why_no_projection(many, corpus, SAMPLING, fits, "cosine")
    )


def words(place, backbone, run, *more):
    return [
        *("-c", str(CONFIGS / "own_citations.yaml"), "--data.corpus", str(place / "corpus")),
        *("--model.encoder.backbone", str(backbone), "--model.encoder.max_length", "64"),
        *("--model.encoder.input_format.separator", "sep", "--data.batch_size", "16"),
        *("--model.encoder.input_format.sentences", "joined", "--trainer.max_steps", "2"),
        *("--trainer.val_check_interval", "2", "--trainer.accelerator", "cpu"),
        *("--trainer.devices", "1", "--trainer.precision", "32-true"),
        *("--alphas", "[1.0]", "--root", str(place / "runs"), "--run", run, *more),
    ]


def test_a_run_ends_with_a_projection_in_its_export_its_record_and_its_last_checkpoint(
    place, tiny_bert, capsys
):
    assert fit.main(words(place, tiny_bert, "with", *FEW)) == 0
    run = place / "runs" / "with"
    assert "projection learned from " in capsys.readouterr().err
    encoder = Encoder.load(run / "export")
    assert encoder.settings.projection == 32
    results = json.loads((run / "results.json").read_text())
    assert results["projection"]["steps"] == 5
    record = json.loads((run / "export" / "sciembed.json").read_text())
    assert record["projection_learning"] == results["projection"]
    assert "| projection learning: share | 0.75 |" in (run / "export" / "README.md").read_text()
    assert not (run / VECTORS).exists()
    # The verdict is of the encoder that was exported.
    query, (_, after) = next(iter(results["queries"]["citations"].items()))
    scored = st.evaluate(run / "export", "citations", place / "corpus")
    assert scored.per_query[query]["map"] == pytest.approx(after, abs=1e-6)
    # And `export` writes the same again.
    st.export_encoder(run, run / "again")
    texts = ["word1 word2", "word3"]
    again = Encoder.load(run / "again")
    assert torch.equal(again.encode_texts(texts), encoder.encode_texts(texts))


def test_a_run_without_a_verdict_has_it_too_and_one_with_few_pairs_says_why_not(
    place, tiny_bert, capsys
):
    assert fit.main(words(place, tiny_bert, "off", "--verdict", "off", *FEW)) == 0
    assert Encoder.load(place / "runs" / "off" / "export").settings.projection == 32
    capsys.readouterr()
    assert (
        fit.main(
            words(
                place, tiny_bert, "few", "--verdict", "off", "--projection.fewest_pairs", "100000"
            )
        )
        == 0
    )
    assert "no projection is learned: " in capsys.readouterr().err
    assert Encoder.load(place / "runs" / "few" / "export").settings.projection is None


def test_half_of_a_start_that_is_an_encoder_is_kept_where_no_verdict_chooses(
    place, tiny_bert, tmp_path
):
    backbone = tmp_path / "start"
    encoder_of(tiny_bert, pooling="mean", normalize=True).save(backbone)
    off = ("--verdict", "off", "--model.optim.lr", "0.01", "--projection.alpha", "0.5", *FEW)
    several = ("--alphas", "[0.2, 0.6]")
    # A single share holds without a verdict, too; a language model is kept where that says so.
    cases = {
        "half": (backbone, several, 0.5),
        "full": (backbone, ("--alphas", "[1.0]"), 1),
        "whole": (tiny_bert, several, 1),
        "given": (tiny_bert, ("--alphas", "[0.25]"), 0.25),
    }
    for run, (start_model, alphas, alpha) in cases.items():
        assert fit.main(words(place, start_model, run, *off, *alphas)) == 0
        record = json.loads((place / "runs" / run / "export" / "sciembed.json").read_text())
        assert record["projection_learning"]["alpha"] == alpha
    first, full, mixed = (
        Encoder.load(path).backbone.encoder.layer[-1].output.dense.weight
        for path in (backbone, *(place / "runs" / run / "export" for run in ("full", "half")))
    )
    assert not torch.allclose(full, first, atol=1e-3)
    torch.testing.assert_close(mixed, (full + first) / 2)


@pytest.mark.slow
@pytest.mark.parametrize("verdict", ["auto", "off"])
def test_other_settings_of_the_end_make_it_again_and_the_same_do_not(
    place, tiny_bert, monkeypatch, verdict
):
    def started(*more):
        given = ("--verdict", verdict, "--ckpt_path", "last", *more)
        assert fit.main(words(place, tiny_bert, f"again-{verdict}", *given)) == 0
        export = place / "runs" / f"again-{verdict}" / "export"
        projection = Encoder.load(export).projection
        return None if projection is None else projection.weight.detach()

    assert fit.main(words(place, tiny_bert, f"again-{verdict}", "--verdict", verdict, *FEW)) == 0
    learned = started(*FEW, "--projection.share", "1")
    assert torch.linalg.svdvals(learned).mean() == pytest.approx(1, rel=1e-3)
    with monkeypatch.context() as patch:
        patch.setattr(ProjectionStage, "learn", None)  # not called
        torch.testing.assert_close(started(*FEW, "--projection.share", "1"), learned)
    assert started("--projection.steps", "0") is None
    assert started(*FEW, "--projection.share", "1") is not None


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_two_ranks_end_with_the_same_projection(place, tiny_bert, strategy):
    alone = words(place, tiny_bert, f"one-{strategy}", "--verdict", "off", *FEW)
    assert fit.main(alone) == 0
    more = ("--verdict", "off", "--trainer.devices", "2", "--trainer.strategy", strategy, *FEW)
    code, printed = finish(start("fit", *words(place, tiny_bert, f"two-{strategy}", *more)))
    assert code == 0, printed
    assert printed.count("projection learned from ") == 1
    runs = (place / "runs" / f"{name}-{strategy}" for name in ("one", "two"))
    one, two = (Encoder.load(run / "export") for run in runs)
    texts = ["word1 word2", "word3 word4 word5"]
    torch.testing.assert_close(two.encode_texts(texts), one.encode_texts(texts), atol=1e-4, rtol=0)


@pytest.mark.parametrize("verdict", ["off", pytest.param("auto", marks=pytest.mark.slow)])
def test_a_stage_that_fails_loses_nothing_else(place, tiny_bert, capsys, monkeypatch, verdict):
    tried = []

    def fails(vectors, *_):
        tried.append(vectors)
        raise UserError("the vector of a paper is not finite.")

    monkeypatch.setattr(projection_stage, "learn_map", fails)
    name = f"failed_{verdict}"
    run = place / "runs" / name
    ends = ("--verdict", verdict, "--alphas", "[0.5]", *FEW)
    assert fit.main(words(place, tiny_bert, name, *ends)) == 0
    said = capsys.readouterr()
    assert said.err.count("No projection is learned: the vector of a paper is not") == 1
    assert len(tried) == 1
    assert Encoder.load(run / "export").settings.projection is None
    assert ("VERDICT: " in said.out) == (verdict == "auto")
    # What is missing is made by a second start, which trains nothing.
    monkeypatch.undo()
    assert fit.main(words(place, tiny_bert, name, *ends, "--ckpt_path", "last")) == 0
    assert Encoder.load(run / "export").settings.projection == 32
    assert ("VERDICT: " in capsys.readouterr().out) == (verdict == "auto")


def test_a_failure_leaves_the_encoder_as_it_is(place, tiny_bert, monkeypatch, tmp_path):
    def fails(*_):
        raise UserError("no.")

    monkeypatch.setattr(projection_stage, "learn_map", fails)
    encoder = encoder_of(tiny_bert, pooling="mean")
    before = {key: value.clone() for key, value in encoder.state_dict().items()}
    with pytest.raises(UserError, match=r"no\."):
        stage_of(place, tmp_path).learn(encoder)
    assert encoder.state_dict().keys() == before.keys()
    assert all(torch.equal(v, before[k]) for k, v in encoder.state_dict().items())


def test_without_pyarrow_it_is_said_before_training(place, tiny_bert, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    corpus, values = Corpus.open(place / "corpus"), ProjectionSettings(steps=1, fewest_pairs=1)
    encoder = encoder_of(tiny_bert, pooling="mean")
    assert "needs pyarrow" in str(why_no_projection(values, corpus, SAMPLING, encoder, "cosine"))
