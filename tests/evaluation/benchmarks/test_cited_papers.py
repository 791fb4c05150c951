import json

import numpy as np
import pytest

from sciembed_train.errors import UserError
from sciembed_train.evaluation.benchmarks.citations import is_here
from sciembed_train.evaluation.benchmarks.cited_papers import (
    evaluate,
    is_folder_of_citations,
    read_cited,
)
from sciembed_train.evaluation.benchmarks.result import NoQueriesError
from sciembed_train.evaluation.evaluate_settings import EvaluateSettings
from sciembed_train.evaluation.run_benchmark import run_benchmark
from sciembed_train.evaluation.systems import RandomOrder


def folder_of(folder, citations):
    folder.mkdir()
    rows = [{"paper_id": name, "title": name, "abstract": ""} for name in "abcdef"]
    (folder / "papers.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (folder / "citations.csv").write_text(citations)
    return folder


class Alphabet(RandomOrder):
    def distances(self, search):
        letters = np.array([ord(title) for title, _ in search.texts], np.float32)
        for query in search.queries:
            yield np.abs(letters[search.papers] - letters[query])


def test_citing_papers_rank_what_they_cite(tmp_path):
    folder = folder_of(tmp_path / "c", "cited_id,citing_id\nc,a\nb,a\nc,a\na,zz\nf,e\n")
    assert is_folder_of_citations(folder)
    assert is_here(folder, "citations")
    found = evaluate(read_cited(folder), Alphabet())
    assert found.per_query["a"]["map"] == 1
    assert found.per_query["e"]["map"] == pytest.approx((1 + 1 / 2) / 2)  # d and f are as far
    assert found.settings["unknown_papers_left_out"] == 1


def test_the_benchmark_takes_a_folder_that_is_no_corpus(tmp_path):
    folder = folder_of(tmp_path / "c", "citing,cited\na,b\nb,c\n")
    scores = run_benchmark(EvaluateSettings("citations", folder, "random", quiet=True))
    assert scores.per_query.keys() == {"a", "b"}
    some = run_benchmark(EvaluateSettings("citations", folder, "random", queries=1, quiet=True))
    assert len(some.per_query) == 1
    assert some.settings["queries_not_drawn"] == 1


def test_columns_that_do_not_say_who_cites_are_refused(tmp_path):
    with pytest.raises(UserError, match=r"has `one`, `two`.* `prepare` a corpus of it"):
        read_cited(folder_of(tmp_path / "a", "one,two\na,b\n"))
    with pytest.raises(NoQueriesError, match="no paper of the collection cites"):
        read_cited(folder_of(tmp_path / "b", "citing,cited\na,a\nzz,b\n"))
    assert not is_folder_of_citations(tmp_path)
