"""One paper under several ids: prepared, it is one paper."""

import json
from dataclasses import replace

import numpy as np
import pytest

from sciembed_train.corpus.build import prepare
from sciembed_train.corpus.mining.cocitation_settings import CocitationMining
from sciembed_train.corpus.prepare_settings import PrepareSettings
from sciembed_train.corpus.store.corpus_files import SPLITS
from sciembed_train.corpus.summary import summary

N = 60


def write_world(folder, twice, seed=0):
    """Papers that cite one another; with ``twice`` most stand there again, under another id.

    The second text differs in case, punctuation and form, and citations name either id.
    """
    rng = np.random.default_rng(seed)
    folder.mkdir()
    names = [f"p{i:02}" for i in range(N)]
    papers = [
        {"paper_id": n, "title": f"On the topic {n}", "abstract": f"We study {n}. It works."}
        for n in names
    ]
    again = [
        {
            "paper_id": f"x{n}",
            "title": f"ON THE TOPIC: {n.upper()}!",
            "abstract": [f"We study  {n}.", "It works"],
        }
        for n in names[: N - 10]
    ]
    second = {row["paper_id"][1:] for row in again}
    pairs = [(names[a], names[b]) for a, b in rng.integers(0, N, (N * 5, 2)) if a != b]
    if twice:
        papers += again
        either = rng.integers(0, 2, (len(pairs), 2)).tolist()
        pairs = [
            tuple(
                f"x{n}" if other and n in second else n for n, other in zip(pair, row, strict=True)
            )
            for pair, row in zip(pairs, either, strict=True)
        ]
        pairs.append((f"x{names[0]}", names[0]))
    (folder / "papers.jsonl").write_text("".join(json.dumps(row) + "\n" for row in papers))
    (folder / "citations.csv").write_text("".join(f"{a},{b}\n" for a, b in pairs))
    return PrepareSettings(
        papers=folder / "papers.jsonl",
        citations=folder / "citations.csv",
        to=folder / "corpus",
        cocitation_mining=CocitationMining(cocitations_from="references"),
        dev_share=0.15,
        test_share=0.15,
        memory="1GB",
        threads=1,
    )


@pytest.fixture(scope="module")
def worlds(tmp_path_factory):
    folder = tmp_path_factory.mktemp("worlds")
    return [prepare(write_world(folder / str(twice), twice)) for twice in (False, True)]


def test_citations_and_cocited_pairs_stay_those_of_the_given_ids(worlds):
    once, twice = worlds
    assert twice.n_papers == once.n_papers + N - 10
    assert np.array_equal(once.citations(), twice.citations_of_texts()[: len(once.citations())])
    assert len(twice.citations()) > len(once.citations())
    assert (twice.citations() >= once.n_papers).any()
    assert (twice.known_cocitations() % twice.n_papers >= once.n_papers).any()


def test_no_negative_has_the_text_of_a_paper_that_the_query_cites_under_any_id(worlds):
    once, twice = worlds
    first = twice.first_of_text()
    cited = {tuple(pair) for pair in twice.citations_of_texts().tolist()}
    left = 0
    for split in SPLITS:
        rows = first[twice.triplets(split)]
        left += len(rows)
        for query, positive, negative in rows.tolist():
            assert (query, positive) in cited
            assert (query, negative) not in cited
    report = json.loads((twice.folder / "report.json").read_text())["triplets"]
    assert report["triplets left out: a negative of the text of another of its papers"] > 0
    assert left > 0.7 * sum(len(once.triplets(split)) for split in SPLITS)


def test_both_ids_are_in_one_split_so_no_held_out_pair_is_trained_on(worlds):
    _, corpus = worlds
    splits = dict(zip(corpus.paper_ids(), corpus.paper_splits().tolist(), strict=True))
    assert all(splits[name] == splits[name[1:]] for name in splits if name.startswith("x"))
    title = {
        row["paper"]: row["title"].lower().replace(":", "").strip("!") for row in corpus.papers()
    }

    def pairs(split):
        return {(title[q], title[p]) for q, p, _ in corpus.triplets(split).tolist()}

    assert pairs("dev")
    assert not pairs("train") & (pairs("dev") | pairs("test"))


def test_no_negative_has_the_text_of_its_query_or_positive(worlds):
    _, corpus = worlds
    title = {
        row["paper"]: row["title"].lower().replace(":", "").strip("!") for row in corpus.papers()
    }
    for split in SPLITS:
        for query, positive, negative in corpus.triplets(split).tolist():
            assert title[negative] not in (title[query], title[positive])


def test_equal_texts_are_counted_and_said(worlds):
    once, twice = worlds
    report = json.loads((twice.folder / "report.json").read_text())
    dropped = report["papers"]["dropped"]["the text of another id: one paper with it"]
    assert dropped["count"] == N - 10
    assert dropped["examples"][0] == "xp00 is p00"
    assert twice.info["counts"]["papers_of_another_text"] == N - 10
    assert "50 papers have the text of another id (the first: xp00 is p00)" in summary(twice)
    assert "another id" not in summary(once)


def test_a_list_that_names_either_id_holds_the_paper_out(tmp_path):
    settings = write_world(tmp_path / "w", True)
    (tmp_path / "test.txt").write_text("xp03\np04\n")
    (tmp_path / "dev.txt").write_text("p03\nxp05\n")
    corpus = prepare(
        replace(settings, test_ids=tmp_path / "test.txt", dev_ids=tmp_path / "dev.txt")
    )
    splits = dict(zip(corpus.paper_ids(), corpus.paper_splits().tolist(), strict=True))
    held = {name for name, split in splits.items() if split == SPLITS.index("test")}
    assert held == {"p03", "xp03", "p04", "xp04"}
    assert {n for n, split in splits.items() if split == SPLITS.index("dev")} == {"p05", "xp05"}


def test_an_excluded_id_keeps_its_paper_out_under_every_id(tmp_path):
    settings = write_world(tmp_path / "w", True)
    (tmp_path / "exclude.txt").write_text("xp07\n")
    corpus = prepare(replace(settings, exclude=str(tmp_path / "exclude.txt")))
    ids = corpus.paper_ids()
    named = {ids[paper] for split in SPLITS for pair in corpus.cocitations(split) for paper in pair}
    assert named
    assert not named & {"p07", "xp07"}
