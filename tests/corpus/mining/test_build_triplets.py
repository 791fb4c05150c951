import json
from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest

from sciembed_train.cli import main
from sciembed_train.corpus import row_blocks
from sciembed_train.corpus.build import prepare
from sciembed_train.corpus.mining import build_triplets
from sciembed_train.corpus.mining.build_triplets import (
    _save_split,
    _without_same_texts,
    explain_triplets,
    no_triplets_message,
)
from sciembed_train.corpus.mining.neighbour_settings import NeighbourMining
from sciembed_train.corpus.mining.triplet_mining import TripletMining, Triplets
from sciembed_train.corpus.papers import Papers
from sciembed_train.errors import UserError
from tests.helpers.paper_files import paper_settings, triplets_by_id, write_paper_files


def run_prepare(*arguments):
    return main(["prepare", *map(str, arguments)])


def test_ready_triplets_are_taken_in_place_of_mined_ones(tmp_path):
    write_paper_files(tmp_path)
    (tmp_path / "t.csv").write_text(
        "query_paper_id,positive_id,negative_id\np1,p3,p5\np1,p3,p5\np1,p3,nobody\np1,0,p3\n"
        "p1,p1,p3\np3,p1,p7\n"
    )
    made = replace(paper_settings(tmp_path, dev_share=0.0, test_share=0.0), citations=None)
    corpus = prepare(replace(made, pairs=tmp_path / "t.csv"))
    assert triplets_by_id(corpus, "train") == [["p1", "p3", "p5"], ["p3", "p1", "p7"]]
    report = json.loads((corpus.folder / "report.json").read_text())
    assert {k: d["count"] for k, d in report["pairs"]["dropped"].items()} == {
        "given before": 1,
        "unknown negative": 1,
        "positive without a text": 1,
        "a paper twice in one triplet": 1,
    }


def test_queries_without_two_hop_papers_are_an_option(tmp_path, capsys):
    (tmp_path / "papers.jsonl").write_text(
        "".join(json.dumps({"paper_id": i, "title": f"word{i}"}) + "\n" for i in range(9))
    )
    (tmp_path / "citations.csv").write_text("0,1\n0,2\n3,1\n")
    arguments = ["--papers", tmp_path / "papers.jsonl", "--citations", tmp_path / "citations.csv"]
    arguments += ["--to", tmp_path / "c", "--dev-share", 0, "--test-share", 0, "--quiet"]
    assert run_prepare(*arguments) == 2
    message = capsys.readouterr().err
    assert "3 of these have a text at both ends" in message
    assert "2 training queries have no hard negative" in message
    assert "--no-require-hard" in message
    assert not (tmp_path / "c").exists()
    assert run_prepare(*arguments, "--no-require-hard", "--json") == 0
    assert json.loads(capsys.readouterr().out)["triplets"] == {"train": 10, "dev": 0, "test": 0}


def test_nothing_to_mine_is_reported_with_counts(tmp_path, capsys):
    write_paper_files(tmp_path)
    base = ["--papers", tmp_path / "papers.jsonl", "--to", tmp_path / "c", "--quiet"]
    (tmp_path / "other.csv").write_text("source,target\nx1,x2\nx3,x4\nx3,p1\n")
    assert run_prepare(*base, "--citations", tmp_path / "other.csv") == 2
    message = capsys.readouterr().err
    assert "Of 120 papers 108 have a text. Of 3 citations 0 can be used" in message
    assert f"2: unknown citing and cited paper, the first at {tmp_path / 'other.csv'}:2" in message
    assert "see that both files name papers by the same ids" in message
    (tmp_path / "none.csv").write_text("citing,cited\n")
    assert run_prepare(*base, "--citations", tmp_path / "none.csv") == 2
    assert "Of 0 citations 0 can be used." in capsys.readouterr().err


PAPERS = Papers(list("abc"), {n: i for i, n in enumerate("abc")}, np.array([1, 1, 0], bool))


def test_citations_without_a_text_and_queries_without_hops_are_counted():
    triplets = Triplets(
        rows=np.empty((0, 3), np.int32),
        hard=np.empty(0, bool),
        queries=np.array([0], np.int32),
        without_hops=np.array([0], np.int32),
        unfilled=2,
    )
    counts = {"queries": {"train": 1}, "triplets": {"train": 0}, "hard": {"train": 0}}
    citations = np.array([[0, 1], [1, 2]], np.int32)
    split = np.array([1, 0, 0], np.int8)
    facts = explain_triplets(triplets, split, counts, PAPERS, citations)
    assert facts["citations with a text at both ends"] == 1
    assert facts["citations left out for want of a text"] == {
        "count": 1,
        "examples": ["b cites c"],
    }
    without = facts["queries left out for want of a hard negative"]
    assert without == {
        "count": 1,
        "by split": {"train": 0, "dev": 1, "test": 0},
        "examples": ["a"],
    }
    assert facts["triplets not made: no paper left for an easy negative"] == 2


def facts_of(both, queries, without_hops=0):
    return {
        "citations with a text at both ends": both,
        "queries": {"train": queries, "dev": 1, "test": 0},
        "queries left out for want of a hard negative": {"by split": {"train": without_hops}},
    }


@pytest.mark.parametrize(
    ("facts", "remedy"),
    [
        (facts_of(0, 0), "Give texts for more papers"),
        (facts_of(9, 3, 3), "3 training queries have no hard negative"),
        (facts_of(9, 0), "Every query is held out: lower --dev-share and --test-share."),
        (facts_of(9, 3), "No paper is left that could be an easy negative"),
    ],
)
def test_the_message_says_what_to_do(facts, remedy):
    rows = {"rows": 10, "kept": 9, "malformed": {}, "notes": ["A note."]}
    rows["dropped"] = {"a paper citing itself": {"count": 1, "examples": ["c.csv:3"]}}
    text = no_triplets_message({"citations": rows, "triplets": facts}, PAPERS)
    assert text.startswith("No training triplet can be made. Of 3 papers 2 have a text. Of 10 ")
    assert "9 can be used (1: a paper citing itself, the first at c.csv:3). A note." in text
    assert remedy in text


def test_ready_triplets_need_the_same_ids():
    rows = {"rows": 1, "kept": 0, "malformed": {}, "dropped": {}, "notes": []}
    text = no_triplets_message({"pairs": rows, "triplets": {}}, PAPERS)
    assert text.endswith(
        "The ids in both files must agree, and each split needs queries of its own."
    )


def neighbour_settings_of(folder, **values):
    mining = NeighbourMining(
        per_query=3, hard=1, positives_from=2, positives_to=6, hard_from=10, hard_to=14,
        full_size=1, nearest_hard=0, dimension=64,
    )  # fmt: skip
    shares = {"dev_share": 0.15, "test_share": 0.15}
    return paper_settings(
        folder, triplets_from="neighbours", neighbour_mining=mining, **shares, **values
    )


def test_triplets_from_neighbours_do_not_depend_on_the_order_of_the_files(tmp_path):
    for place in ("a", "b"):
        write_paper_files(tmp_path / place)
    for name in ("papers.jsonl", "citations.csv"):
        lines = (tmp_path / "b" / name).read_text().splitlines()
        mixed = np.random.default_rng(1).permutation(lines).tolist()
        (tmp_path / "b" / name).write_text("\n".join(mixed) + "\n")
    one, other = (prepare(neighbour_settings_of(tmp_path / place)) for place in ("a", "b"))
    for split in ("train", "dev", "test"):
        assert len(one.triplets(split))
        assert triplets_by_id(one, split) == triplets_by_id(other, split)
        assert one.hard(split).tolist() == other.hard(split).tolist()
    report = json.loads((one.folder / "report.json").read_text())
    assert list(report["neighbours"]["graphs"]) == ["train", "dev", "test"]
    assert report["triplets"]["triplets"] == one.info["counts"]["triplets"]


def test_no_held_out_paper_is_a_query_of_training_from_neighbours(tmp_path):
    write_paper_files(tmp_path)
    corpus = prepare(neighbour_settings_of(tmp_path))
    splits = np.load(corpus.folder / "paper_splits.npy")
    for number, split in enumerate(("train", "dev", "test")):
        assert (splits[corpus.triplets(split)[:, 0]] == number).all()
    by_citations = prepare(replace(neighbour_settings_of(tmp_path), triplets_from="citations"))
    assert by_citations.info["counts"]["queries"] == corpus.info["counts"]["queries"]


def test_a_corpus_from_neighbours_is_kept_until_a_setting_of_them_changes(tmp_path):
    write_paper_files(tmp_path)
    made = neighbour_settings_of(tmp_path)
    first = prepare(made).info["identity"]
    assert first["triplets"]["from"] == "neighbours"
    before = (tmp_path / "corpus" / "triplets" / "train.npy").stat().st_mtime_ns
    prepare(made)
    # How triplets are mined from citations is of no use here.
    prepare(replace(made, triplets=TripletMining(hard=1)))
    assert (tmp_path / "corpus" / "triplets" / "train.npy").stat().st_mtime_ns == before
    other = replace(made.neighbour_mining, hard=2)
    assert prepare(replace(made, neighbour_mining=other)).info["identity"] != first


def test_several_ids_of_one_text_are_one_paper_of_the_graph(tmp_path):
    papers, _ = write_paper_files(tmp_path)
    for i, paper in enumerate(papers):
        paper |= {"title": f"word{i % 100}", "abstract": None}
    (tmp_path / "papers.jsonl").write_text("".join(json.dumps(p) + "\n" for p in papers))
    corpus = prepare(neighbour_settings_of(tmp_path))
    first = np.load(corpus.folder / "first_of_text.npy")
    assert (first != np.arange(len(first))).any()
    for split in ("train", "dev", "test"):
        rows = corpus.triplets(split)
        assert (first[rows] == rows).all()


def test_neighbours_need_citations_that_are_not_specters_own_counts(tmp_path):
    write_paper_files(tmp_path)
    made = neighbour_settings_of(tmp_path)
    with pytest.raises(UserError, match="there are no citations: give --citations"):
        prepare(replace(made, citations=None))
    for name in ("data.json", "metadata.json"):
        (tmp_path / name).write_text("{}")
    (tmp_path / "train.txt").write_text("1\n")
    with pytest.raises(UserError, match=r"SPECTER's own format.*--format plain"):
        prepare(replace(made, papers=tmp_path, citations=None))


def test_reproducing_scincl_leaves_no_half_corpus(tmp_path, capsys):
    write_paper_files(tmp_path)
    words = ("--papers", tmp_path / "papers.jsonl", "--citations", tmp_path / "citations.csv")
    more = ("--to", tmp_path / "c", "--quiet", "--data.neighbour_mining.reproduce", "true")
    assert run_prepare(*words, *more, "--triplets-from", "neighbours") == 2
    assert "reproduce needs 4,001 papers with a text and a citation" in capsys.readouterr().err
    assert not (tmp_path / "c").exists()


def test_the_message_without_a_triplet_from_neighbours_counts_papers(tmp_path, capsys):
    texts = (json.dumps({"paper_id": i, "title": f"word{i}"}) for i in range(4))
    (tmp_path / "papers.jsonl").write_text("\n".join(texts))
    (tmp_path / "citations.csv").write_text("citing,cited\n0,1\n2,3\n")
    words = ("--papers", tmp_path / "papers.jsonl", "--citations", tmp_path / "citations.csv")
    more = ("--to", tmp_path / "c", "--quiet", "--dev-share", 0, "--test-share", 0)
    assert run_prepare(*words, *more, "--triplets-from", "neighbours") == 2
    message = capsys.readouterr().err
    assert "they make 2 papers queries" in message
    assert "or among its neighbours. Give more papers." in message


@pytest.mark.parametrize("seed", range(5))
def test_negatives_of_the_text_of_a_cited_paper_are_left_out(monkeypatch, seed):
    monkeypatch.setattr(row_blocks, "BLOCK", 16)
    rng = np.random.default_rng(seed)
    n = 30
    text = rng.integers(0, 25, n)
    first = np.array([np.flatnonzero(text == t)[0] for t in text], np.int32)
    cited = {(int(a), int(b)) for a, b in rng.integers(0, n, (80, 2)) if a != b}
    rows = rng.integers(0, n, (400, 3))
    # What mining gives: a negative is no paper that the query cites by its id.
    rows = [row for row in rows.tolist() if len(set(row)) == 3 and (row[0], row[2]) not in cited]
    by_text = {(first[a], first[b]) for a, b in cited}
    expected = []
    for row in rows:
        query, positive, negative = first[row]
        if len({query, positive, negative}) == 3 and (query, negative) not in by_text:
            expected.append(row)
    mined = Triplets(
        rows=np.array(rows, np.int32),
        hard=np.arange(len(rows)) % 2 == 0,
        queries=np.arange(n, dtype=np.int32),
        without_hops=np.empty(0, np.int32),
        unfilled=0,
    )
    left = _without_same_texts(mined, np.array(sorted(cited), np.int32), first)
    assert left.rows.tolist() == expected
    assert len(expected) < len(rows)
    assert left.of_one_text == len(rows) - len(expected)


@pytest.mark.parametrize("count", [0, 1, 50])
def test_a_split_is_written_in_row_groups_of_one_size(tmp_path, monkeypatch, count):
    monkeypatch.setattr(row_blocks, "BLOCK", 8)
    monkeypatch.setattr(build_triplets, "BLOCK", 8)
    rng = np.random.default_rng(count)
    rows, hard = rng.integers(0, 9, (count, 3)).astype(np.int32), rng.random(count) < 0.5
    chosen = rng.random(count) < 0.7
    counts = {"queries": {}, "triplets": {}, "hard": {}}
    queries = np.array([3], np.int32)
    _save_split(tmp_path, "dev", rows, hard, chosen, queries, counts)
    folder = tmp_path / "triplets"
    np.testing.assert_array_equal(np.load(folder / "dev.npy"), rows[chosen])
    np.testing.assert_array_equal(np.load(folder / "dev.hard.npy"), hard[chosen])
    table = pq.ParquetFile(folder / "dev.parquet")
    names = ("query", "positive", "negative")
    stored = table.read().to_pydict()
    assert [list(row) for row in zip(*(stored[name] for name in names), strict=True)] == rows[
        chosen
    ].tolist()
    assert stored["hard"] == hard[chosen].tolist()
    sizes = [table.metadata.row_group(i).num_rows for i in range(table.num_row_groups)]
    assert all(size == 8 for size in sizes[:-1])
    assert counts == {
        "queries": {"dev": 1},
        "triplets": {"dev": int(chosen.sum())},
        "hard": {"dev": int(hard[chosen].sum())},
    }
