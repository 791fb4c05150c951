import numpy as np
import pytest

import sciembed_train as st
from sciembed_train.corpus.store.mined_negatives import read_negatives
from sciembed_train.errors import UserError
from sciembed_train.hard_negatives import mine_corpus
from tests.helpers import training
from tests.helpers.contrast_training import train
from tests.helpers.mining import related, training_pairs
from tests.helpers.small_disk import largest_file


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


def test_papers_without_a_vector_are_named(corpus, vectors):
    path = vectors[0]
    ids = path.with_suffix(".ids.txt")
    ids.write_text(ids.read_text().replace("p17\n", "other\n"))
    with pytest.raises(UserError, match=r"no vector of 1 papers of .* such as 'p17'"):
        st.mine(corpus.folder, vectors=path)


def test_an_encoder_is_trained_on_what_it_mined(corpus, tiny_bert):
    mined = st.mine(corpus.folder, tiny_bert, pooling="mean", name="own", ranks="0:40", count=8)
    assert mined.summary.negatives.count > 0
    sampling = {"negatives_from": "mined", "mined_by": "own"}
    result = training.alone(lambda: train(str(corpus.folder), str(tiny_bert), sampling=sampling))
    assert sum(result["hard"]) > 0
    assert np.isfinite(result["weights"]).all()


def test_two_processes_do_not_mine_under_one_name(corpus, vectors):
    lock = corpus.folder / "negatives" / ".vectors.lock"
    with (
        mine_corpus._only_one(lock),
        pytest.raises(UserError, match="another process is mining"),
    ):
        st.mine(corpus.folder, vectors=vectors[0])


def test_a_text_under_another_id_is_no_negative(corpus, vectors):
    path, _ = vectors
    before = read_negatives(corpus, st.mine(corpus.folder, vectors=path, count=4).name)
    drawn = int(before.negatives[before.negatives >= 0][0])
    first = np.arange(corpus.n_papers, dtype=np.int32)
    first[drawn] = (drawn + 1) % corpus.n_papers
    np.save(corpus.folder / "first_of_text.npy", first)
    after = read_negatives(corpus, st.mine(corpus.folder, vectors=path, count=4, restart=True).name)
    assert drawn in before.negatives
    assert drawn not in after.negatives


def test_on_a_full_disk_the_corpus_is_as_it_was_and_mining_goes_on(corpus, vectors, capsys):
    from sciembed_train.cli import main

    words = ["mine", str(corpus.folder), "--vectors", str(vectors[0]), "--quiet"]
    for size in (200, 2000):  # before the first block; when the result is written
        with largest_file(size):
            assert main(words) == 1
        (said,) = capsys.readouterr().err.splitlines()
        assert "cannot be written: File too large" in said
        assert "Make room and run the same command again; it continues." in said
        assert list((corpus.folder / "negatives").glob("*/negatives.json")) == []
    assert main(words) == 0
    assert len(read_negatives(corpus, "vectors").queries)
    assert [path.name for path in (corpus.folder / "negatives").iterdir()] == ["vectors"]
