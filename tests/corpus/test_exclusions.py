"""Excluded papers: who they are, and that nothing of them is in any example of a training."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml

from sciembed_train.corpus.build import prepare
from sciembed_train.corpus.exclusion_files import open_place
from sciembed_train.corpus.exclusions import Exclusions
from sciembed_train.corpus.papers import Papers
from sciembed_train.corpus.prepare_settings import PrepareSettings
from sciembed_train.corpus.store.corpus_files import SPLITS
from sciembed_train.corpus.summary import summary
from sciembed_train.errors import UserError
from sciembed_train.hard_negatives.mine_corpus import mine_corpus
from sciembed_train.hard_negatives.mine_settings import MineSettings
from sciembed_train.inference.options import EmbedSettings
from sciembed_train.sampling.base import TokenizationSpec
from sciembed_train.sampling.citation_pairs import CitationPairSampling
from sciembed_train.sampling.citing_pairs import CitingSentenceSampling
from sciembed_train.sampling.cocitations import CocitationSampling
from sciembed_train.sampling.pair_sources import SourceWeights
from sciembed_train.sampling.related_mask import RelatedMask
from sciembed_train.sampling.sentence_pairs import SentencePairSampling
from sciembed_train.sampling.spans import SpanSampling
from sciembed_train.sampling.tasks import TaskSampling
from sciembed_train.sampling.triplets import TripletSampling
from sciembed_train.text.input_format import InputFormat
from sciembed_train.text.normalise import text_number
from sciembed_train.text.tokenizer import TextTokenizer
from tests.helpers.excluded_papers import SECRET, ExcludedPapers

CONFIGS = Path(__file__).parents[2] / "configs"


def only(source, **settings):
    weights = dict.fromkeys(("citations", "cocitations", "title_abstract", "abstract_halves"), 0.0)
    return CitationPairSampling(SourceWeights(**weights | {source: 1.0}), cocited=1, **settings)


SAMPLINGS = {
    "triplets": TripletSampling(),
    "triplets, mined negatives": TripletSampling(negatives_from="mined"),
    "citations": only("citations"),
    "citations, mined negatives": only("citations", hard_negatives=4),
    "citations, negatives two hops away": only(
        "citations", hard_negatives=8, negatives_from="two_hop"
    ),
    "co-citations of citation pairs": only("cocitations"),
    "title and abstract": only("title_abstract"),
    "halves of an abstract": only("abstract_halves"),
    "co-cited papers": CocitationSampling(),
    "co-cited papers with sentences": SentencePairSampling(),
    "citing sentences": CitingSentenceSampling(),
    "documents": SpanSampling(num_anchors=1, max_span=12, min_span=6),
    "tasks": TaskSampling(),
}


@pytest.fixture(scope="module")
def collection(tmp_path_factory):
    return ExcludedPapers(tmp_path_factory.mktemp("excluded"))


@pytest.fixture(scope="module")
def corpora(collection, tiny_bert):
    """The collection with everything in it, and without what is excluded."""
    made = {}
    for name, exclude in (("all", []), ("without", collection.places())):
        to = collection.folder / f"corpus_{name}"
        corpus = made[name] = prepare(collection.settings(to, tiny_bert, exclude))
        ids = corpus.paper_ids()
        vectors = np.random.default_rng(1).standard_normal((len(ids), 8)).astype(np.float32)
        np.save(to.with_suffix(".npy"), vectors)
        to.with_suffix(".ids.txt").write_text("\n".join(ids) + "\n")
        settings = MineSettings(to, vectors=to.with_suffix(".npy"), name="mined", ranks="0:60")
        mine_corpus(replace(settings, margin=1.0, count=12), RelatedMask(), EmbedSettings())
    return made


def words_read(corpus, tokenizer, sampling, seed=3):
    """The token ids of every text of every batch of two epochs."""
    loaded = TextTokenizer.load(tokenizer)
    spec = TokenizationSpec(loaded, InputFormat(), 128, seed=seed)
    examples = sampling.open(corpus, spec, None)
    plan = examples.plan(min(32, examples.train), seed)
    found = set()
    for step in range(2 * plan.steps_per_epoch):
        batch = examples.batch(plan.indices(step), plan.epoch(step), step)
        found |= set(batch.rows.ids.tolist())
    return found


@pytest.mark.parametrize("name", SAMPLINGS)
def test_no_example_of_a_training_reads_an_excluded_paper(corpora, tiny_bert, name):
    secret = TextTokenizer.load(tiny_bert).hf.convert_tokens_to_ids(SECRET)
    sampling = SAMPLINGS[name]
    assert secret in words_read(corpora["all"], tiny_bert, sampling)
    read = words_read(corpora["without"], tiny_bert, sampling)
    assert len(read) > 40
    assert secret not in read


@pytest.mark.parametrize("name", SAMPLINGS)
def test_the_papers_that_training_may_read_are_those_of_its_examples(corpora, tiny_bert, name):
    corpus = corpora["all"]
    loaded = TextTokenizer.load(tiny_bert)
    examples = SAMPLINGS[name].open(corpus, TokenizationSpec(loaded, InputFormat(), 128, 3), None)
    papers = examples.training_papers()
    if name in ("citing sentences", "documents", "tasks"):
        assert papers is None
        return
    store = corpus.tokens(loaded.key(InputFormat()))
    rows = [tuple(store.rows(np.array([paper]), 128)[0]) for paper in range(corpus.n_papers)]
    if name in ("title and abstract", "halves of an abstract"):
        train = corpus.paper_splits() == SPLITS.index("train")
        assert papers.tolist() == np.flatnonzero(train & corpus.distinct_papers()).tolist()
        return
    known = {rows[paper] for paper in papers}
    assert 10 < len(known) <= len(rows)
    plan = examples.plan(min(32, examples.train), 3)
    for step in range(plan.steps_per_epoch):
        batch = examples.batch(plan.indices(step), 0, step)
        read = batch.rows.ids.split(batch.rows.lengths.tolist())
        assert {tuple(row.tolist()) for row in read} <= known
    out = corpora["without"].excluded_papers()
    without = SAMPLINGS[name].open(
        corpora["without"], TokenizationSpec(loaded, InputFormat(), 128, 3), None
    )
    assert not out[without.training_papers()].any()


def test_the_samplings_of_all_recipes_are_among_these():
    recipes = [yaml.safe_load(path.read_text()) for path in CONFIGS.glob("*.yaml")]
    named = {recipe["data"]["sampling"]["class_path"] for recipe in recipes}
    tried = {f"{type(s).__module__}.{type(s).__qualname__}" for s in SAMPLINGS.values()}
    assert named <= tried


def test_no_row_of_the_corpus_pairs_an_excluded_paper(corpora, collection):
    corpus = corpora["without"]
    number = {paper_id: paper for paper, paper_id in enumerate(corpus.paper_ids())}
    out = [number[paper_id] for paper_id in collection.excluded]
    assert np.flatnonzero(corpus.excluded_papers()).tolist() == sorted(out)
    negatives = np.load(corpus.folder / "negatives" / "mined" / "negatives.npy")
    queries = np.load(corpus.folder / "negatives" / "mined" / "queries.npy")
    rows = [corpus.citations(), negatives, queries, corpus.sentence_papers()[0]]
    rows.append(corpus.triplets("train"))
    for split in SPLITS:
        rows += [corpus.triplets(split), corpus.queries(split), corpus.cocitations(split)]
    assert all(map(len, rows[:5]))
    for array in rows:
        assert not np.isin(array, out).any()
    assert not corpus.distinct_papers()[out].any()


def test_the_report_says_what_was_matched_and_how(corpora):
    corpus = corpora["without"]
    report = json.loads((corpus.folder / "report.json").read_text())["excluded"]
    assert report["papers"] == 10
    assert report["documents"] == 9
    assert report["texts of tasks"] > 8
    listed, folder = report["places"]["out.txt"], report["places"]["searches"]
    assert (listed["entries"], listed["found by id"], listed["found by title"]) == (7, 5, 1)
    assert listed["that match nothing"] == {"count": 1, "examples": ["of no known paper"]}
    assert (folder["entries"], folder["found by id"], folder["found by title"]) == (3, 0, 2)
    assert set(folder["sha256"]) == {"papers.jsonl", "queries.jsonl"}
    assert all(len(digest) == 64 for digest in folder["sha256"].values())
    assert corpus.info["excluded"]["papers"] == 10
    kinds = {source["kind"] for source in corpus.info["sources"]}
    assert "excluded" in kinds
    said = summary(corpus)
    assert "Excluded by out.txt: 6 of its 7 entries are known, 5 by id and 1 by title" in said
    assert "10 papers are excluded" in said


def test_another_list_makes_another_corpus(collection, tmp_path):
    settings = PrepareSettings(collection.files["papers"], to=tmp_path / "c", threads=1)
    assert not prepare(settings).excluded_papers().any()
    (tmp_path / "out.txt").write_text("p09\n")
    without = prepare(replace(settings, exclude=str(tmp_path / "out.txt")))
    assert np.flatnonzero(without.excluded_papers()).tolist() == [9]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ("nobody\nnothing\n", r"not one of its 2 lines is the id or the title of a paper"),
        ("".join(f"p{i:02}\n" for i in range(70)) + "q00\nq01\n", r"All 72 papers .* excluded"),
    ],
)
def test_a_list_that_matches_nothing_or_everything_is_an_error(
    collection, tmp_path, lines, message
):
    (tmp_path / "out.txt").write_text(lines)
    papers = collection.files["papers"]
    settings = PrepareSettings(papers, to=tmp_path / "c", exclude=str(tmp_path / "out.txt"))
    with pytest.raises(UserError, match=message):
        prepare(settings)
    assert not (tmp_path / "c").exists()


def test_a_folder_of_a_benchmark_that_matches_nothing_is_said_and_no_error(collection, tmp_path):
    (tmp_path / "papers.jsonl").write_text('{"paper_id": "x", "title": "Of other things"}\n')
    papers = collection.files["papers"]
    corpus = prepare(PrepareSettings(papers, to=tmp_path / "c", exclude=[str(tmp_path)]))
    assert "0 of its 1 entries are known" in summary(corpus)


def small_papers(titles):
    ids = [f"p{i}" for i in range(len(titles))]
    numbers = np.array([text_number(title) for title in titles])
    number = {paper_id: paper for paper, paper_id in enumerate(ids)}
    return Papers(ids, number, np.ones(len(ids), bool), titles=numbers)


def test_a_line_is_an_id_where_there_is_one_and_else_a_title(tmp_path):
    (tmp_path / "out.txt").write_text("p1\nThe second title!\n")
    papers = small_papers(["p1", "another", "THE SECOND: title", "the rest"])
    exclusions = Exclusions([open_place(tmp_path / "out.txt")])
    exclusions.exclude_papers(papers)
    assert papers.excluded.tolist() == [False, True, True, False]
    assert papers.usable.tolist() == [True, False, False, True]
    assert "p1" in exclusions
    assert "p0" not in exclusions
    assert exclusions.excludes(None, "Another")  # the title of an excluded paper
    assert not exclusions.excludes("p3", None)


def test_ids_of_a_folder_that_name_other_titles_are_said(tmp_path):
    rows = [{"paper_id": "p0", "title": "Of row 0"}, {"paper_id": "p1", "title": "a title"}]
    (tmp_path / "papers.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    papers = small_papers(["something else", "A title", "the rest"])
    exclusions = Exclusions([open_place(tmp_path)])
    exclusions.exclude_papers(papers)
    assert papers.excluded.tolist() == [True, True, False]
    assert "1 ids of" in exclusions.notes()[1]
    assert "another title there (the first: p0)" in exclusions.notes()[1]
