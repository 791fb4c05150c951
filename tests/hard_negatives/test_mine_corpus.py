import json
import tracemalloc
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
import torch

import sciembed_train as st
from sciembed_train import cli
from sciembed_train.corpus.store.mined_negatives import read_negatives
from sciembed_train.errors import UserError
from sciembed_train.hard_negatives import block as block_module
from sciembed_train.hard_negatives import corpus_vectors, mine_corpus
from sciembed_train.hard_negatives.block import Miner
from sciembed_train.hard_negatives.mine_settings import MineSettings
from sciembed_train.hard_negatives.positives import Positives
from sciembed_train.hard_negatives.relations import PaperTexts, Relations
from sciembed_train.hard_negatives.stored_vectors import StoredVectors
from sciembed_train.sampling.related_mask import RelatedMask
from sciembed_train.sampling.related_papers import RelatedPapers
from tests.helpers import training
from tests.helpers.citation_corpus import write_citation_corpus
from tests.helpers.contrast_training import train

WIDTH = 6


@pytest.fixture
def corpus(tiny_bert, tmp_path):
    return write_citation_corpus(tmp_path / "corpus", tiny_bert)


@pytest.fixture
def vectors(corpus, tmp_path):
    """Vectors in another order than that of the corpus, and one of a paper that it lacks."""
    rng = np.random.default_rng(5)
    order = rng.permutation(corpus.n_papers + 1)
    rows = rng.normal(size=(corpus.n_papers + 1, WIDTH)) + 0.7
    ids = [*corpus.paper_ids(), "unknown"]
    np.save(tmp_path / "vectors.npy", rows[order].astype(np.float32))
    (tmp_path / "vectors.ids.txt").write_text("".join(f"{ids[i]}\n" for i in order))
    return tmp_path / "vectors.npy", rows


def training_pairs(corpus):
    """Every pair that training may call positive, by its query."""
    splits = corpus.paper_splits()
    pairs = {tuple(edge) for edge in corpus.citations().tolist() if splits[edge[0]] == 0}
    for a, b in corpus.cocitations("train").tolist():
        pairs |= {(a, b), (b, a)}
    pairs |= {tuple(row[:2]) for row in corpus.triplets("train").tolist()}
    by_query = defaultdict(set)
    for query, paper in pairs:
        if query != paper:
            by_query[query].add(paper)
    return by_query


def related(corpus, query):
    """Every paper that the default mask takes out."""
    edges = {tuple(edge) for edge in corpus.citations().tolist()}
    cited = defaultdict(set)
    for citing, other in edges:
        cited[citing].add(other)
    rows = list(corpus.papers())
    together = set()
    for split in ("train", "dev", "test"):
        together |= {tuple(pair) for pair in corpus.cocitations(split).tolist()}
    taken_out = {query}
    for other in range(corpus.n_papers):
        times = sum({query, other} <= papers for papers in cited.values())
        if (
            {(query, other), (other, query)} & (edges | together)
            or times >= 2
            or rows[query]["title"] == rows[other]["title"]
        ):
            taken_out.add(other)
    return taken_out


@pytest.mark.parametrize("positive", ["mean", "lowest"])
@pytest.mark.parametrize("two_hop_first", [False, True])
def test_negatives_are_those_of_a_search_in_loops(corpus, vectors, positive, two_hop_first):
    path, rows = vectors
    margin, ranks = (0.9, (2, 15)) if positive == "mean" else (0.98, (0, 60))
    mined = st.mine(
        corpus.folder,
        vectors=path,
        count=4,
        ranks=f"{ranks[0]}:{ranks[1]}",
        margin=margin,
        positive=positive,
        two_hop_first=two_hop_first,
        queries_at_once=7,
    )
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    scores = unit[:-1] @ unit[:-1].T
    by_query = training_pairs(corpus)
    edges = {tuple(edge) for edge in corpus.citations().tolist()}
    splits = corpus.paper_splits()
    found = read_negatives(corpus, "vectors")
    assert found.queries.tolist() == sorted(by_query)
    assert mined.summary.queries == len(by_query)
    too_similar = hops = 0
    for query, negatives, given in zip(
        found.queries.tolist(), found.negatives.tolist(), found.scores, strict=True
    ):
        taken_out = related(corpus, query) | by_query[query]
        others = [p for p in range(corpus.n_papers) if p not in taken_out]
        window = sorted(others, key=lambda p: -scores[query, p])[slice(*ranks)]
        of_positives = [scores[query, p] for p in by_query[query]]
        score = np.mean(of_positives) if positive == "mean" else min(of_positives)
        limit = score - (1 - margin) * abs(score)
        usable = [p for p in window if scores[query, p] <= limit]
        two_hop = {
            p
            for p in usable
            if any(
                (query, m) in edges and (m, p) in edges and splits[query] == splits[m] == 0
                for m in range(corpus.n_papers)
            )
        }
        if two_hop_first:
            usable = sorted(usable, key=lambda p: p not in two_hop)
        expected = sorted(usable[:4], key=lambda p: -scores[query, p])
        assert [p for p in negatives if p >= 0] == expected
        np.testing.assert_allclose(given[: len(expected)], scores[query, expected], atol=1e-3)
        too_similar += len(window) - sum(scores[query, p] <= limit for p in window)
        hops += len(two_hop & set(expected))
    assert mined.summary.too_similar == too_similar
    assert mined.summary.two_hop == (hops if two_hop_first else None)
    assert hops > 0
    assert mined.summary.negatives.count == (found.negatives >= 0).sum() > 0
    assert mined.summary.positives.count == sum(map(len, by_query.values()))
    kept = (found.negatives >= 0).sum(1)
    assert (mined.summary.full, mined.summary.without) == ((kept == 4).sum(), (kept == 0).sum())


def test_what_held_out_papers_cite_is_no_positive(corpus, vectors):
    splits = np.asarray(corpus.paper_splits())
    positives = Positives.of(corpus, np.ones(corpus.n_papers, np.bool_), 2)
    found = defaultdict(set)
    for place, query in enumerate(positives.queries.tolist()):
        found[query] = set(
            positives.papers[positives.starts[place] : positives.starts[place + 1]].tolist()
        )
    assert found == training_pairs(corpus)
    before = st.mine(corpus.folder, vectors=vectors[0], mask={"cocited": 0}).summary
    # Other citations of held-out papers: the positives' scores stay as they were.
    edges = np.asarray(corpus.citations()).copy()
    held_out = splits[edges[:, 0]] > 0
    edges[held_out, 1] = (edges[held_out, 1] + 1) % corpus.n_papers
    edges = np.unique(edges[edges[:, 0] != edges[:, 1]], axis=0)
    np.save(corpus.folder / "citations.npy", edges)
    after = st.mine(corpus.folder, vectors=vectors[0], mask={"cocited": 0}).summary
    assert after.positives == before.positives


def test_a_paper_without_a_text_is_neither_query_nor_negative(corpus, vectors):
    readable = np.ones(corpus.n_papers, np.bool_)
    readable[[3, 40]] = False
    positives = Positives.of(corpus, readable, 2)
    assert not set(positives.queries.tolist() + positives.papers.tolist()) & {3, 40}
    texts = PaperTexts(readable, *(np.zeros(corpus.n_papers, np.int64) for _ in range(2)))
    stored = StoredVectors.open(vectors[0], corpus.paper_ids())
    miner = Miner(
        MineSettings(corpus.folder, "m", count=40, ranks="0:60", margin=1.0),
        stored,
        Relations(RelatedPapers.of(corpus, RelatedMask(), texts.titles), positives, texts),
        (stored.paper >= 0) & readable[stored.paper],
        None,
        torch.device("cpu"),
    )
    mined = miner.mine(0, len(positives.queries)).papers
    assert (mined >= 0).any()
    assert not set(mined.reshape(-1).tolist()) & {3, 40}


def files(corpus, name="vectors"):
    folder = corpus.folder / "negatives" / name
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_mining_that_is_killed_at_any_block_continues_to_the_same_bits(
    corpus, vectors, monkeypatch
):
    settings = {"vectors": vectors[0], "count": 5, "ranks": "1:30", "queries_at_once": 10}
    st.mine(corpus.folder, **settings)
    expected = files(corpus)
    blocks = -(-len(read_negatives(corpus, "vectors").queries) // 10)
    assert blocks > 3
    mine = Miner.mine
    for killed_at in range(blocks):
        done = 0

        def until_killed(miner, start, stop, killed_at=killed_at):
            nonlocal done
            if done == killed_at:
                raise KeyboardInterrupt
            done += 1
            return mine(miner, start, stop)

        monkeypatch.setattr(Miner, "mine", until_killed)
        with pytest.raises(KeyboardInterrupt):
            st.mine(corpus.folder, **settings, name="again")
        done = -blocks
        result = st.mine(corpus.folder, **settings, name="again")
        assert done == -killed_at  # no block was mined twice
        assert result.continued_from == 10 * killed_at
        assert files(corpus, "again") == expected
        assert not list((corpus.folder / "negatives").glob(".again.*"))


def test_an_unfinished_mining_of_other_settings_is_not_mixed_in(corpus, vectors, monkeypatch):
    mine = Miner.mine

    def killed(miner, start, stop):
        if start:
            raise KeyboardInterrupt
        return mine(miner, start, stop)

    monkeypatch.setattr(Miner, "mine", killed)
    with pytest.raises(KeyboardInterrupt):
        st.mine(corpus.folder, vectors=vectors[0], queries_at_once=10)
    monkeypatch.undo()
    with pytest.raises(UserError, match="unfinished mining with other settings"):
        st.mine(corpus.folder, vectors=vectors[0], queries_at_once=10, margin=0.5)
    with pytest.raises(UserError, match="other settings"):
        st.mine(corpus.folder, vectors=vectors[0], queries_at_once=10, mask={"cites": False})
    array = np.load(vectors[0])
    np.save(vectors[0], array + 1)
    with pytest.raises(UserError, match="unfinished mining with other vectors"):
        st.mine(corpus.folder, vectors=vectors[0], queries_at_once=10)
    np.save(vectors[0], array)
    again = st.mine(corpus.folder, vectors=vectors[0], queries_at_once=10, restart=True, margin=0.5)
    assert again.continued_from == 0


def test_papers_without_a_vector_are_named(corpus, vectors):
    path = vectors[0]
    ids = path.with_suffix(".ids.txt")
    ids.write_text(ids.read_text().replace("p17\n", "other\n"))
    with pytest.raises(UserError, match=r"no vector of 1 papers of .* such as 'p17'"):
        st.mine(corpus.folder, vectors=path)


def test_memory_grows_with_the_block_and_not_with_the_papers(corpus, tmp_path, monkeypatch):
    monkeypatch.setattr(block_module, "TILE", 64)
    rng = np.random.default_rng(0)
    peaks = {}
    for rows, queries in ((1_000, 30), (16_000, 30), (16_000, 15)):
        np.save(tmp_path / "v.npy", rng.normal(size=(rows, WIDTH)).astype(np.float32))
        ids = [*corpus.paper_ids(), *(f"x{i}" for i in range(rows - corpus.n_papers))]
        (tmp_path / "v.ids.txt").write_text("".join(f"{i}\n" for i in ids))
        texts = PaperTexts(*(np.ones(corpus.n_papers, kind) for kind in (np.bool_, np.int64, int)))
        stored = StoredVectors.open(tmp_path / "v.npy", corpus.paper_ids())
        positives = Positives.of(corpus, texts.readable, 2)
        none = RelatedMask(False, False, 0, False, False)
        miner = Miner(
            MineSettings(corpus.folder, "m", count=20, ranks="0:50"),
            stored,
            Relations(RelatedPapers.of(corpus, none, texts.titles), positives, texts),
            np.ones(rows, np.bool_),
            None,
            torch.device("cpu"),
        )
        miner.mine(0, queries)
        tracemalloc.start()
        miner.mine(0, queries)
        peaks[rows, queries] = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    # 30 x 16,000 scores alone would be 1.9 MB.
    assert peaks[16_000, 30] < peaks[1_000, 30] + 50_000
    assert peaks[16_000, 15] < 0.75 * peaks[16_000, 30]


def test_an_encoder_is_trained_on_what_it_mined(corpus, tiny_bert, monkeypatch):
    mined = st.mine(corpus.folder, tiny_bert, pooling="mean", name="own", ranks="0:40", count=8)
    assert mined.summary.negatives.count > 0
    sampling = {"negatives_from": "mined", "mined_by": "own"}
    result = training.alone(lambda: train(str(corpus.folder), str(tiny_bert), sampling=sampling))
    assert sum(result["hard"]) > 0
    assert np.isfinite(result["weights"]).all()

    def never(*_, **__):
        raise AssertionError("embedded again")

    monkeypatch.setattr(corpus_vectors, "embed", never)
    again = st.mine(corpus.folder, tiny_bert, pooling="mean", name="own", margin=0.5)
    assert again.summary.positives == mined.summary.positives
    with pytest.raises(AssertionError, match="embedded again"):
        st.mine(corpus.folder, tiny_bert, pooling="cls", name="own")


def test_the_command_prints_a_table_and_json(corpus, vectors, capsys):
    words = ["mine", str(corpus.folder), "--vectors", str(vectors[0]), "--ranks", "0:50"]
    assert cli.main([*words, "--two-hop-first"]) == 0
    out, err = capsys.readouterr()
    assert "positives" in out
    assert "passed over as the very nearest" in out
    assert [line.split(":")[0] for line in err.splitlines()] == [
        "reading texts",
        "reading vectors",
        "ranking",
    ]
    assert "Most queries have no negative" not in out
    assert cli.main([*words, "--margin", "0.01", "--ranks", "0:2"]) == 0
    assert "Most queries have no negative" in capsys.readouterr().out
    assert cli.main([*words, "--mask.cocited", "0", "--json"]) == 0
    out, err = capsys.readouterr()
    facts = json.loads(out)
    assert facts["name"] == "vectors"
    assert facts["related"]["cocited"] == 0
    assert not err
    folder = Path(facts["folder"])
    assert json.loads((folder / "negatives.json").read_text())["mask"]["cocited"] == 0
    assert cli.main(["mine", str(corpus.folder)]) == 2
    assert "either --model or --vectors" in capsys.readouterr().err


def test_two_processes_do_not_mine_under_one_name(corpus, vectors):
    lock = corpus.folder / "negatives" / ".vectors.lock"
    with (
        mine_corpus._only_one(lock),
        pytest.raises(UserError, match="another process is mining"),
    ):
        st.mine(corpus.folder, vectors=vectors[0])
