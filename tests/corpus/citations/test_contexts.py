import csv
import json

import numpy as np
import pytest

from sciembed_train.cli import main as train
from sciembed_train.corpus.audit import Audit, BadRow
from sciembed_train.corpus.build import prepare
from sciembed_train.corpus.citations.contexts import (
    Context,
    read_cocitations,
    read_context,
    sentences_of,
)
from sciembed_train.corpus.mining.cocitation_mining import CocitationMining
from sciembed_train.corpus.papers import Papers
from sciembed_train.corpus.prepare_settings import PrepareSettings, open_inputs
from sciembed_train.corpus.readers.tables import Table
from sciembed_train.corpus.store.corpus_folder import Corpus
from sciembed_train.errors import UserError
from sciembed_train.progress import Progress, Stage

TEXT = "Some follow the way of others (Roe, 2000; Doe, 2001)."


def test_a_row_is_read_with_its_ids_as_text_and_each_once():
    row = {"text": " a  b\n", "cited_ids": [7, "7", " x "], "citing_id": 3, "kind": "ignored"}
    assert read_context(row) == Context("a b", ("7", "x"), "3")
    row = {"text": "t", "cited_ids": ["a"], "citing_id": None, "before": "B.", "after": None}
    assert read_context(row) == Context("t", ("a",), "", "B.", "")


@pytest.mark.parametrize(
    ("row", "told"),
    [
        ({"cited_ids": ["a"]}, "there is no `text`; the fields are cited_ids."),
        ({"text": "t"}, "there is no `cited_ids`; the fields are text."),
        ({"text": None, "cited_ids": ["a"]}, "`text` is null; expected text."),
        ({"text": 5, "cited_ids": ["a"]}, "`text` is the number 5; expected text."),
        (
            {"text": "t", "cited_ids": "a"},
            """`cited_ids` is the text 'a'; expected a list of paper ids, such as ["a", "b"].""",
        ),
        ({"text": "t", "cited_ids": None}, "`cited_ids` is null; expected a list"),
        ({"text": "t", "cited_ids": '["a", '}, "`cited_ids` is the text"),
        ({"text": "t", "cited_ids": ["a", 1.5]}, "`cited_ids[1]` is the number 1.5; expected"),
        ({"text": "t", "cited_ids": ["a", " "]}, "`cited_ids[1]` is empty; expected a paper id."),
        ({"text": "t", "cited_ids": ["a"], "citing_id": 1.5}, "`citing_id` is the number 1.5"),
        ({"text": "t", "cited_ids": ["a"], "before": 2}, "`before` is the number 2"),
        ({"text": "\ud800", "cited_ids": ["a"]}, "`text` holds half of a surrogate pair"),
    ],
)
def test_a_row_that_cannot_be_read_says_what_was_found(row, told):
    found = read_context(row)
    assert isinstance(found, BadRow)
    assert told in found.message


def test_sentences_of_one_text_are_cut_where_a_sentence_ends():
    text = "We say so, e.g. here. (It is 3.5 m long.) What of it? 7 more."
    assert sentences_of(text) == [
        "We say so, e.g. here.",
        "(It is 3.5 m long.",
        "What of it?",
        "7 more.",
    ]
    assert sentences_of(["One.", " ", "Two. Three."]) == ["One.", "Two. Three."]
    assert sentences_of("") == []


def write_papers(folder, names="abcde", without="e"):
    papers = [{"paper_id": n, "title": "" if n in without else f"title {n}"} for n in names]
    path = folder / "papers.jsonl"
    path.write_text("".join(json.dumps(p) + "\n" for p in papers))
    return path


def write_contexts(folder, lists, **values):
    path = folder / "contexts.jsonl"
    rows = [{"text": TEXT, "cited_ids": list(ids), **values} for ids in lists]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def run(folder, *arguments):
    command = ["prepare", "--papers", folder / "papers.jsonl", "--to", folder / "corpus"]
    shares = ["--dev-share", "0", "--test-share", "0", "--memory", "1GB"]
    return train([*map(str, [*command, *shares, *arguments])])


def test_the_command_mines_contexts_and_says_what_it_found(tmp_path, capsys):
    write_papers(tmp_path)
    contexts = write_contexts(tmp_path, ["ab", "abc", "a", "ae", "be"])
    assert run(tmp_path, "--contexts", contexts) == 0
    told = capsys.readouterr().out
    assert "co-cited pairs: train 3, dev 0, test 0; known 3, from 2 contexts" in told
    corpus = Corpus.open(tmp_path / "corpus")
    assert corpus.cocitations("train").tolist() == [[0, 1], [0, 2], [1, 2]]
    assert corpus.cocitation_counts("train").tolist() == [2, 1, 1]
    assert corpus.known_cocitations().tolist() == [1, 2, 7]
    assert corpus.cocitations("dev").shape == (0, 2)
    assert run(tmp_path, "--contexts", contexts) == 0
    assert "already made" in capsys.readouterr().err
    assert run(tmp_path, "--contexts", contexts, "--max-group", "2") == 0
    assert "train 1, dev 0, test 0; known 3, from 1 contexts" in capsys.readouterr().out
    assert run(tmp_path, "--contexts", contexts, "--json") == 0
    assert json.loads(capsys.readouterr().out)["cocitations"] == {"train": 3, "dev": 0, "test": 0}


def test_published_numbers_are_one_flag_and_others_stand_above_them(tmp_path):
    write_papers(tmp_path)
    contexts = write_contexts(tmp_path, ["ab"])
    assert run(tmp_path, "--contexts", contexts, "--faithful", "--min-sentences", "0") == 2
    assert run(tmp_path, "--contexts", contexts, "--faithful", "--min-sentences", "0",
               "--short-sentence", "0") == 0  # fmt: skip
    made = Corpus.open(tmp_path / "corpus").info["settings"]["cocitations"]
    assert made == {
        "version": 3,
        "cocitations_from": "given",
        "max_group": 3,
        "min_words": 5,
        "max_words": 60,
        "require_bracket": True,
        "one_per_citing": True,
        "min_contexts": 1,
        "min_count": 1,
        "max_pairs": 1000,
        "min_sentences": 0,
        "max_sentences": 20,
        "longest_sentence": 80,
        "short_sentence": 0,
        "mask_mentions": False,
        "sentence_pairs": "none",
    }


def test_a_table_holds_the_list_of_ids_in_a_cell(tmp_path):
    write_papers(tmp_path)
    with (tmp_path / "contexts.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("citing_id", "text", "cited_ids"))
        writer.writerow(("", TEXT, '["a", "b"]'))
        writer.writerow(("x", TEXT, '["c", "d"]'))
    corpus = prepare(
        PrepareSettings(
            tmp_path / "papers.jsonl",
            contexts=tmp_path / "contexts.csv",
            to=tmp_path / "corpus",
            dev_share=0,
            test_share=0,
        )
    )
    assert corpus.cocitations("train").tolist() == [[0, 1], [2, 3]]


def test_malformed_contexts_stop_the_command_unless_allowed(tmp_path, capsys):
    write_papers(tmp_path)
    contexts = write_contexts(tmp_path, ["ab"])
    with contexts.open("a") as file:
        file.write('{"text": 5, "cited_ids": ["a"]}\n{"text": "t", "cited_ids": "a"}\nnot json\n')
    assert run(tmp_path, "--contexts", contexts) == 2
    told = capsys.readouterr().err
    assert f"{contexts}:2: `text` is the number 5; expected text. 1 of 4 rows is like this." in told
    assert f"{contexts}:3: `cited_ids` is the text 'a'" in told
    assert "--max-bad-rows 3" in told
    assert not (tmp_path / "corpus").exists()
    assert run(tmp_path, "--contexts", contexts, "--max-bad-rows", "3") == 0


def test_contexts_that_cite_one_paper_each_are_refused_with_numbers(tmp_path, capsys):
    write_papers(tmp_path)
    contexts = write_contexts(tmp_path, ["a", "b", "ae", ["x", "y"], ""])
    assert run(tmp_path, "--contexts", contexts) == 2
    told = capsys.readouterr().err
    assert "No training pair of co-cited papers can be made. Of 5 papers 4 have a text." in told
    assert (
        f"Of 5 contexts 0 can be used (2: cites one paper only, the first at {contexts}:1" in told
    )
    assert "1: cites no paper" in told
    assert "1: no title and no abstract; 2: unknown paper" in told
    assert "Give contexts that cite two or more papers" in told
    assert not (tmp_path / "corpus").exists()


@pytest.mark.parametrize(
    ("option", "told", "advice"),
    [
        ("--exclude-ids", "4: excluded.", "Exclude fewer papers"),
        ("--min-sentences", "4: an abstract that the filters leave out.", "Set the filters on"),
    ],
)
def test_papers_that_settings_leave_out_are_told_with_the_settings(
    tmp_path, capsys, option, told, advice
):
    write_papers(tmp_path)
    contexts = write_contexts(tmp_path, ["ab", "cd"])
    (tmp_path / "all.txt").write_text("a\nb\nc\nd\n")
    value = {"--exclude-ids": tmp_path / "all.txt", "--min-sentences": "9"}[option]
    assert run(tmp_path, "--contexts", contexts, option, value) == 2
    error = capsys.readouterr().err
    assert f"Cited papers left out of contexts: {told} {advice}" in error


def test_pairs_that_are_all_held_out_are_refused_with_what_to_do(tmp_path, capsys):
    write_papers(tmp_path)
    contexts = write_contexts(tmp_path, ["ab", "ac"])
    (tmp_path / "dev.txt").write_text("a\n")
    assert run(tmp_path, "--contexts", contexts, "--dev-ids", tmp_path / "dev.txt") == 2
    told = capsys.readouterr().err
    assert "All pairs are held out (dev 2, test 0)" in told
    assert "lower --dev-share and --test-share" in told
    assert run(tmp_path, "--contexts", contexts, "--min-count", "2") == 2
    assert "2 pairs are known to be co-cited, and the filters" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"papers": None, "fulltexts": "f.txt", "contexts": "c"}, "--contexts names papers"),
        ({"papers": None, "fulltexts": "f.txt", "cocitations": "c"}, "--cocitations names papers"),
        (
            {"cocitation_mining": CocitationMining(cocitations_from="references")},
            "there are no references: give --citations",
        ),
        ({"exclude_ids": "f"}, "none are mined: give --contexts, --cocitations or"),
    ],
)
def test_what_does_not_go_together_is_refused(values, told):
    with pytest.raises(UserError, match=told):
        PrepareSettings(**({"papers": "p.jsonl", "to": "c"} | values))


def test_files_that_are_not_there_are_told_before_anything_is_read(tmp_path, capsys):
    write_papers(tmp_path)
    contexts = write_contexts(tmp_path, ["ab"])
    assert run(tmp_path, "--contexts", tmp_path / "none.jsonl") == 2
    assert "there is no such file or folder (contexts)" in capsys.readouterr().err
    assert run(tmp_path, "--contexts", contexts, "--exclude-ids", tmp_path / "none.txt") == 2
    assert "there is no such file (ids left out)" in capsys.readouterr().err


def test_a_corpus_without_co_cited_papers_says_how_to_prepare_them(tmp_path):
    write_papers(tmp_path)
    corpus = prepare(PrepareSettings(tmp_path / "papers.jsonl", to=tmp_path / "corpus"))
    for read in (
        lambda: corpus.cocitations("train"),
        lambda: corpus.cocitation_counts("dev"),
        corpus.known_cocitations,
    ):
        with pytest.raises(UserError, match=r"holds no co-cited papers .* --contexts F"):
            read()


def test_corpora_made_without_co_citations_are_still_known_by_what_they_were(tmp_path):
    write_papers(tmp_path)
    identity = open_inputs(PrepareSettings(tmp_path / "papers.jsonl")).identity
    assert list(identity) == [
        *("version", "sources", "format", "triplets", "dev_share", "test_share", "seed"),
    ]
    assert list(identity["sources"]) == ["papers"]
    contexts = write_contexts(tmp_path, ["ab"])
    excluded = tmp_path / "excluded.txt"
    excluded.write_text("d\n")
    names = set()
    smaller = {"cocitation_mining": CocitationMining(max_group=2)}
    for values in ({}, {"exclude_ids": excluded}, smaller):
        asked = PrepareSettings(tmp_path / "papers.jsonl", contexts=contexts, **values)
        names.add(json.dumps(open_inputs(asked).identity, sort_keys=True))
    assert len(names) == 3


def read(path, names="abcde", without="e"):
    papers = Papers(list(names), {n: i for i, n in enumerate(names)}, np.ones(len(names), bool))
    why = np.array([n in without for n in names], np.int8)
    audit = Audit("cocitations")
    table = Table(path, "co-citations", needed=("paper_a",))
    rows, counts = read_cocitations(table, papers, why, audit, Stage(Progress(True), "x", None, ""))
    return dict(zip(map(tuple, rows.tolist()), counts.tolist(), strict=True)), audit


def test_counted_pairs_are_merged_in_either_order_and_keep_their_largest_count(tmp_path):
    path = tmp_path / "pairs.tsv"
    lines = ["a\tb\t3", "b\ta\t3", "c\tb\t", "a\tb\t2", "b\tc\t5", "a\ta\t1", "a\te\t1", "a\tx\t1"]
    path.write_text("\n".join(["paper_a\tpaper_b\tcount", *lines, "a\td\t0"]) + "\n")
    found, audit = read(path)
    assert found == {(0, 1): 3, (1, 2): 5}
    assert {reason: d.count for reason, d in audit.dropped.items()} == {
        "a paper with itself": 1,
        "no title and no abstract": 1,
        "unknown paper": 1,
        "a count of 0": 1,
        "given before": 3,
    }
    assert audit.rows == audit.kept + sum(d.count for d in audit.dropped.values())


def test_counts_may_be_left_out(tmp_path):
    path = tmp_path / "pairs.jsonl"
    path.write_text('{"paper_a": "c", "paper_b": "a"}\n{"paper_a": "a", "paper_b": "b", "n": 3}\n')
    assert read(path)[0] == {(0, 1): 1, (0, 2): 1}
    path = tmp_path / "empty.jsonl"
    path.write_text("")
    assert read(path)[0] == {}


@pytest.mark.parametrize(
    ("row", "told"),
    [
        ({"paper_a": "a"}, "there is no `paper_b`; the fields are paper_a."),
        ({"paper_a": "a", "paper_b": 1.5}, "`paper_b` is the number 1.5; expected"),
        (
            {"paper_a": "a", "paper_b": "b", "count": -1},
            "`count` is the number -1; expected an integer of 0",
        ),
        ({"paper_a": "a", "paper_b": "b", "count": 1.5}, "`count` is the number 1.5; expected an"),
        ({"paper_a": "a", "paper_b": "b", "count": True}, "`count` is true"),
        ({"paper_a": "a", "paper_b": "b", "count": "often"}, "`count` is the text 'often'"),
        ({"paper_a": "a", "paper_b": "b", "count": 2**31}, "`count` is 2147483648; at most"),
    ],
)
def test_counted_pairs_that_cannot_be_read_say_why(tmp_path, row, told):
    path = tmp_path / "pairs.jsonl"
    path.write_text(json.dumps(row) + "\n")
    with pytest.raises(UserError) as error:
        read(path)
    assert f"{path}:1: {told}" in str(error.value)


def test_counted_pairs_in_a_table_need_their_header(tmp_path):
    path = tmp_path / "pairs.csv"
    path.write_text("a,b,3\n")
    with pytest.raises(UserError, match="the first line names the columns, and `paper_a` is not"):
        read(path)


def test_sums_of_counts_stop_at_what_the_array_holds(tmp_path):
    write_papers(tmp_path)
    (tmp_path / "pairs.csv").write_text(f"paper_a,paper_b,count\na,b,{2**31 - 1}\n")
    contexts = write_contexts(tmp_path, ["ab"])
    assert run(tmp_path, "--contexts", contexts, "--cocitations", tmp_path / "pairs.csv") == 0
    assert Corpus.open(tmp_path / "corpus").cocitation_counts("train").tolist() == [2**31 - 1]


def test_the_papers_of_specters_own_format_are_not_mined_for_pairs(tmp_path):
    (tmp_path / "metadata.json").write_text('{"a": {"paper_id": "a", "title": "t"}}')
    (tmp_path / "data.json").write_text("{}")
    (tmp_path / "train.txt").write_text("a\n")
    contexts = write_contexts(tmp_path, ["ab"])
    with pytest.raises(UserError, match=r"SPECTER's own format.*--format plain"):
        prepare(PrepareSettings(tmp_path, contexts=contexts, to=tmp_path / "c"))
