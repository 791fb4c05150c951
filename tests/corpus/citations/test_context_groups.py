import numpy as np
import pyarrow.parquet as pq
import pytest

from sciembed_train.corpus.audit import Audit, BadRow
from sciembed_train.corpus.citations.context_groups import (
    CitingSentences,
    Masking,
    PaperGroups,
    write_context_groups,
)
from sciembed_train.corpus.citations.contexts import Context
from sciembed_train.corpus.mining.cocitation_settings import CocitationMining
from sciembed_train.corpus.papers import Papers
from sciembed_train.corpus.readers.tables import Table
from sciembed_train.errors import UserError
from sciembed_train.progress import Progress, Stage

PAPERS = Papers(list("abcd"), {n: i for i, n in enumerate("abcd")}, np.array([1, 1, 1, 0], bool))
WHY = np.array([0, 0, 2, 1], np.int8)  # c is excluded, d has no text


def write(tmp_path, rows, masking=None, **values):
    (tmp_path / "contexts.jsonl").write_text("")
    mining = CocitationMining(min_words=1, sentence_pairs="paper", **values)
    groups = PaperGroups(tmp_path, Audit("contexts"), PAPERS, mining, WHY)
    sentences = CitingSentences(tmp_path, Audit("citing sentences"), PAPERS, mining, {"c"})
    write_context_groups(
        enumerate(rows, 1),
        Table(tmp_path / "contexts.jsonl", "contexts"),
        groups,
        sentences,
        masking,
        Stage(Progress(quiet=True), "contexts", None, "rows"),
        {"c"},
    )
    return groups, sentences


def test_groups_hold_usable_papers_and_sentences_all_known_ones(tmp_path):
    rows = [
        Context("see both", ("b", "a", "d", "unknown")),
        Context("see both", ("a", "b")),
        Context("see one", ("a",)),
        Context("see an excluded one", ("a", "c")),
        Context("see none", ()),
    ]
    groups, sentences = write(tmp_path, rows)
    texts = pq.read_table(groups.texts).to_pydict()
    assert (texts["mention"], texts["cited"]) == ([1, 2], [[0, 1], [0, 1]])
    lists = pq.read_table(groups.mentions).column("list").to_pylist()
    assert lists[0] == lists[1]
    assert {reason: d.count for reason, d in groups.removed.items()} == {
        "no title and no abstract": 1,
        "unknown paper": 1,
        "excluded": 1,
    }
    assert {reason: d.count for reason, d in groups.audit.dropped.items()} == {
        "cites one paper only": 1,
        "of the papers it cites fewer than two are left": 1,
        "cites no paper": 1,
    }
    assert groups.sizes == {2: 2}
    assert pq.read_table(sentences.texts).column("cited").to_pylist() == [[0, 1, 3], [0, 1], [0]]
    assert {reason: d.count for reason, d in sentences.audit.dropped.items()} == {
        "cites an excluded paper": 1,
        "cites no paper": 1,
    }
    assert sentences.audit.rows == 5


def test_a_group_of_a_context_that_a_filter_leaves_out_is_known_all_the_same(tmp_path):
    groups, _ = write(tmp_path, [Context("one two three", ("a", "b"))], max_words=2)
    assert len(pq.read_table(groups.mentions)) == 0
    assert pq.read_table(groups.members).column("paper").to_pylist() == [0, 1]


def test_malformed_contexts_are_refused(tmp_path):
    with pytest.raises(UserError, match=r"contexts\.jsonl:1: this is broken"):
        write(tmp_path, [BadRow("broken", "this is broken.")])


def test_mentions_are_masked_and_those_that_are_not_in_the_text_counted(tmp_path):
    masking = Masking()
    rows = [
        Context("see Roe (2000)", ("a", "b"), mentions=("Roe (2000)",)),
        Context("see nothing", ("a", "b"), mentions=("[ 7]",)),
    ]
    groups, _ = write(tmp_path, rows, masking)
    assert pq.read_table(groups.texts).column("text").to_pylist() == ["see [CIT]", "see nothing"]
    note = masking.note()
    assert note.startswith("1 of 2 contexts had citation marks, which are masked as [CIT]")
    assert "1 have a given `marker` that is not in its text, the first " in note


def test_contexts_within_an_excluded_paper_are_used_nowhere(tmp_path):
    rows = [Context("see both", ("a", "b"), "c"), Context("see these", ("a", "b"), "x")]
    groups, sentences = write(tmp_path, rows)
    for file in (groups, sentences):
        assert pq.read_table(file.texts).column("text").to_pylist() == ["see these"]
        dropped = {reason: d.count for reason, d in file.audit.dropped.items()}
        assert dropped == {"stands in an excluded paper": 1}
