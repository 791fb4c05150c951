import csv
import json

import numpy as np
import pytest

from sciembed_train.corpus.build import prepare
from sciembed_train.corpus.mining.build_cocitations import no_pairs_message
from sciembed_train.corpus.mining.cocitation_settings import EXCLUDED, FILTERED
from sciembed_train.corpus.papers import Papers
from sciembed_train.corpus.prepare_settings import PrepareSettings
from sciembed_train.corpus.store.corpus_folder import Corpus
from sciembed_train.errors import UserError
from tests.helpers.cocitation_files import (
    TEXT,
    run_prepare,
    write_contexts,
    write_letter_papers,
)


def test_the_command_mines_contexts_and_reports_the_numbers(tmp_path, capsys):
    write_letter_papers(tmp_path)
    contexts = write_contexts(tmp_path, ["ab", "abc", "a", "ae", "be"])
    assert run_prepare(tmp_path, "--contexts", contexts) == 0
    message = capsys.readouterr().out
    assert "co-cited pairs: train 3, dev 0, test 0; known 3, from 2 contexts" in message
    corpus = Corpus.open(tmp_path / "corpus")
    assert corpus.cocitations("train").tolist() == [[0, 1], [0, 2], [1, 2]]
    assert corpus.cocitation_counts("train").tolist() == [2, 1, 1]
    assert corpus.known_cocitations().tolist() == [1, 2, 7]
    assert corpus.cocitations("dev").shape == (0, 2)
    assert run_prepare(tmp_path, "--contexts", contexts) == 0
    assert "already made" in capsys.readouterr().err
    assert run_prepare(tmp_path, "--contexts", contexts, "--max-group", "2") == 0
    assert "train 1, dev 0, test 0; known 3, from 1 contexts" in capsys.readouterr().out
    assert run_prepare(tmp_path, "--contexts", contexts, "--json") == 0
    assert json.loads(capsys.readouterr().out)["cocitations"] == {"train": 3, "dev": 0, "test": 0}


def test_published_numbers_are_one_flag_and_others_stand_above_them(tmp_path):
    write_letter_papers(tmp_path)
    contexts = write_contexts(tmp_path, ["ab"])
    assert run_prepare(tmp_path, "--contexts", contexts, "--faithful", "--min-sentences", "0") == 2
    assert run_prepare(tmp_path, "--contexts", contexts, "--faithful", "--min-sentences", "0",
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
    write_letter_papers(tmp_path)
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
    write_letter_papers(tmp_path)
    contexts = write_contexts(tmp_path, ["ab"])
    with contexts.open("a") as file:
        file.write('{"text": 5, "cited_ids": ["a"]}\n{"text": "t", "cited_ids": "a"}\nnot json\n')
    assert run_prepare(tmp_path, "--contexts", contexts) == 2
    message = capsys.readouterr().err
    assert (
        f"{contexts}:2: `text` is the number 5; expected text. 1 of 4 rows is like this." in message
    )
    assert f"{contexts}:3: `cited_ids` is the text 'a'" in message
    assert "--max-bad-rows 3" in message
    assert not (tmp_path / "corpus").exists()
    assert run_prepare(tmp_path, "--contexts", contexts, "--max-bad-rows", "3") == 0


def test_contexts_that_cite_one_paper_each_are_refused_with_numbers(tmp_path, capsys):
    write_letter_papers(tmp_path)
    contexts = write_contexts(tmp_path, ["a", "b", "ae", ["x", "y"], ""])
    assert run_prepare(tmp_path, "--contexts", contexts) == 2
    message = capsys.readouterr().err
    assert "No training pair of co-cited papers can be made. Of 5 papers 4 have a text." in message
    assert (
        f"Of 5 contexts 0 can be used (2: cites one paper only, the first at {contexts}:1"
        in message
    )
    assert "1: cites no paper" in message
    assert "1: no title and no abstract; 2: unknown paper" in message
    assert "Give contexts that cite two or more papers" in message
    assert not (tmp_path / "corpus").exists()


@pytest.mark.parametrize(
    ("option", "message", "advice"),
    [
        ("--exclude", "2: excluded.", "Exclude fewer papers"),
        ("--min-sentences", "4: an abstract that the filters leave out.", "Set the filters on"),
    ],
)
def test_papers_that_settings_leave_out_are_reported_with_the_settings(
    tmp_path, capsys, option, message, advice
):
    write_letter_papers(tmp_path)
    contexts = write_contexts(tmp_path, ["ab", "cd"])
    (tmp_path / "some.txt").write_text("a\nc\n")
    value = {"--exclude": tmp_path / "some.txt", "--min-sentences": "9"}[option]
    assert run_prepare(tmp_path, "--contexts", contexts, option, value) == 2
    error = capsys.readouterr().err
    assert f"Cited papers left out of contexts: {message} {advice}" in error


def test_pairs_that_are_all_held_out_are_refused_with_what_to_do(tmp_path, capsys):
    write_letter_papers(tmp_path)
    contexts = write_contexts(tmp_path, ["ab", "ac"])
    (tmp_path / "dev.txt").write_text("a\n")
    assert run_prepare(tmp_path, "--contexts", contexts, "--dev-ids", tmp_path / "dev.txt") == 2
    message = capsys.readouterr().err
    assert "All pairs are held out (dev 2, test 0)" in message
    assert "lower --dev-share and --test-share" in message
    assert run_prepare(tmp_path, "--contexts", contexts, "--min-count", "2") == 2
    assert "2 pairs are known to be co-cited, and the filters" in capsys.readouterr().err


def test_files_that_are_not_there_are_reported_before_anything_is_read(tmp_path, capsys):
    write_letter_papers(tmp_path)
    contexts = write_contexts(tmp_path, ["ab"])
    assert run_prepare(tmp_path, "--contexts", tmp_path / "none.jsonl") == 2
    assert "there is no such file or folder (contexts)" in capsys.readouterr().err
    assert run_prepare(tmp_path, "--contexts", contexts, "--exclude", tmp_path / "none.txt") == 2
    assert "there is no such file or folder (--exclude" in capsys.readouterr().err


def test_a_corpus_without_co_cited_papers_says_how_to_prepare_them(tmp_path):
    write_letter_papers(tmp_path)
    corpus = prepare(PrepareSettings(tmp_path / "papers.jsonl", to=tmp_path / "corpus"))
    for read in (
        lambda: corpus.cocitations("train"),
        lambda: corpus.cocitation_counts("dev"),
        corpus.known_cocitations,
    ):
        with pytest.raises(UserError, match=r"holds no co-cited papers .* --contexts F"):
            read()


def test_sums_of_counts_stop_at_what_the_array_holds(tmp_path):
    write_letter_papers(tmp_path)
    (tmp_path / "pairs.csv").write_text(f"paper_a,paper_b,count\na,b,{2**31 - 1}\n")
    contexts = write_contexts(tmp_path, ["ab"])
    assert (
        run_prepare(tmp_path, "--contexts", contexts, "--cocitations", tmp_path / "pairs.csv") == 0
    )
    assert Corpus.open(tmp_path / "corpus").cocitation_counts("train").tolist() == [2**31 - 1]


PAPERS = Papers(["a", "b"], {"a": 0, "b": 1}, np.array([True, False]))
NO_PAIRS = {"train": 0, "dev": 0, "test": 0}


def no_pairs(pairs=NO_PAIRS, known=0, report=(), **facts):
    entry = {"pairs": pairs, "known pairs": known, **facts}
    return no_pairs_message({"co-cited pairs": entry, **dict(report)}, PAPERS)


def test_rows_and_reasons_are_counted():
    rows = {"rows": 1000, "kept": 2, "malformed": {}}
    rows["dropped"] = {"cites no paper": {"count": 998, "examples": ["c.jsonl:1"]}}
    text = no_pairs(report={"contexts": rows})
    assert "Of 2 papers 1 have a text. Of 1,000 contexts 2 can be used" in text
    assert "(998: cites no paper, the first at c.jsonl:1)." in text
    assert text.endswith("Give contexts that cite two or more papers, with texts for these, and "
                         "check that the files name papers by the same ids.")  # fmt: skip


@pytest.mark.parametrize(
    ("values", "remedy"),
    [
        ({"pairs": NO_PAIRS | {"dev": 3}}, "All pairs are held out (dev 3, test 0)"),
        ({"known": 1200}, "1,200 pairs are known to be co-cited, and the filters"),
        (
            {"cited papers left out of contexts": {EXCLUDED: {"count": 4}}},
            "Cited papers left out of contexts: 4: excluded. Exclude fewer papers",
        ),
        (
            {"cited papers left out of contexts": {FILTERED: {"count": 1}}},
            "Set the filters on abstracts wider",
        ),
        (
            {"citations of full texts that name no paper": {"no id": {"count": 7}}},
            "Citations of full texts that name no paper: 7: no id.",
        ),
        ({"papers that cite two or more": 5}, "5 papers cite two or more of them."),
    ],
)
def test_the_message_says_what_to_do(values, remedy):
    assert remedy in no_pairs(**values)
