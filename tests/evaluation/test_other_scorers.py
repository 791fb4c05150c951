"""Runs that we write and runs of others, scored by ir-measures and by ranx as by us."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import sciembed_train as st
from tests.evaluation.test_trec_run import write_lines
from tests.helpers.benchmark_folders import write_judged

PAPERS, QUERIES = 150, 20
IR_MEASURES = {
    "map_grade1": "AP",
    "mrr_grade1": "RR",
    "recall10_grade1": "R@10",
    "recall100_grade1": "R@100",
    "ndcg_log2": "nDCG",
    "ndcg10_log2": "nDCG@10",
}
RANX = {
    "map_grade1": "map",
    "mrr_grade1": "mrr",
    "recall10_grade1": "recall@10",
    "recall100_grade1": "recall@100",
    "ndcg_log2": "ndcg",
    "ndcg10_log2": "ndcg@10",
}
# Of pools whose grade 2 is relevant, as RELISH's.
POOLED_IR_MEASURES = {
    "map_grade2": "AP(rel=2)",
    "mrr_grade2": "RR(rel=2)",
    "r_precision_grade2": "Rprec(rel=2)",
    "precision20_grade2": "P(rel=2)@20",
    "recall20_grade2": "R(rel=2)@20",
    "ndcg_log2": "nDCG",
    "ndcg20_log2": "nDCG@20",
}
POOLED_RANX = {
    "map_grade2": "map-l2",
    "mrr_grade2": "mrr-l2",
    "r_precision_grade2": "r-precision-l2",
    "precision20_grade2": "precision@20-l2",
    "recall20_grade2": "recall@20-l2",
    "ndcg_log2": "ndcg",
    "ndcg20_log2": "ndcg@20",
}
# Compiled, its measures take a minute: here they are interpreted, in a process of their own.
RANX_CODE = """
import json, sys
from ranx import Qrels, Run, evaluate
qrels, run = Qrels.from_file(sys.argv[1], kind="trec"), Run.from_file(sys.argv[2], kind="trec")
names = sys.argv[3:]
evaluate(qrels, run, names, make_comparable=True)
json.dump({name: dict(run.scores[name]) for name in names}, sys.stdout)
"""


def of_ir_measures(qrels, run, names):
    library = pytest.importorskip("ir_measures")
    measures = {name: library.parse_measure(name) for name in names}
    rows = library.iter_calc(
        measures.values(), library.read_trec_qrels(str(qrels)), library.read_trec_run(str(run))
    )
    found = {name: {} for name in names}
    for row in rows:
        found[str(row.measure)][row.query_id] = row.value
    return found


def of_ranx(qrels, run, names):
    if importlib.util.find_spec("ranx") is None:  # importing it here takes seconds
        pytest.skip("ranx is not installed")
    done = subprocess.run(
        [sys.executable, "-c", RANX_CODE, str(qrels), str(run), *names],
        env={**os.environ, "NUMBA_DISABLE_JIT": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


SCORERS = pytest.mark.parametrize(
    ("theirs", "names", "pooled"),
    [(of_ir_measures, IR_MEASURES, POOLED_IR_MEASURES), (of_ranx, RANX, POOLED_RANX)],
    ids=["ir_measures", "ranx"],
)


def assert_agree(ours, theirs, names):
    for own, name in names.items():
        assert theirs[name].keys() == ours.keys()
        for query, row in ours.items():
            assert row[own] == pytest.approx(theirs[name][query], abs=1e-6), (query, own)


@pytest.fixture
def searches(tmp_path):
    """150 papers, 20 searches, grades 0 to 3 of 40 papers each; the judgements."""
    rng = np.random.default_rng(11)
    papers = [f"p{number}" for number in rng.permutation(PAPERS)]
    folder = tmp_path / "searches"
    folder.mkdir()
    rows = [{"paper_id": paper, "title": paper, "abstract": "x"} for paper in papers]
    (folder / "papers.jsonl").write_text("\n".join(map(json.dumps, rows)))
    queries = [f"q{number}" for number in range(QUERIES)]
    rows = [{"query_id": query, "text": "words"} for query in queries]
    (folder / "queries.jsonl").write_text("\n".join(map(json.dumps, rows)))
    judged = [
        (query, 0, paper, grade)
        for query in queries
        for paper, grade in zip(
            rng.choice(papers, 40, replace=False), rng.integers(0, 4, 40), strict=True
        )
    ]
    write_lines(folder / "qrels.tsv", judged)
    return folder


@SCORERS
def test_a_run_that_we_write_has_our_scores(searches, tmp_path, theirs, names, pooled):
    run = tmp_path / "ours.run"
    found = st.evaluate("random", "retrieval", searches, seed=5, run_to=run)
    assert len(found.per_query) == QUERIES
    assert_agree(found.per_query, theirs(searches / "qrels.tsv", run, names.values()), names)


@SCORERS
def test_a_run_of_others_has_their_scores(searches, tmp_path, theirs, names, pooled):
    rng = np.random.default_rng(3)
    rows = [
        (f"q{query}", "Q0", f"p{paper}", 1, score, "theirs")
        for query in range(QUERIES)
        for paper, score in enumerate(rng.permutation(PAPERS) / 7)
    ]
    run = write_lines(tmp_path / "theirs.run", rows)
    found = st.evaluate(None, "retrieval", searches, ranking=run, ties="trec_eval")
    assert_agree(found.per_query, theirs(searches / "qrels.tsv", run, names.values()), names)


@SCORERS
def test_pools_with_grades_have_their_scores(tmp_path, theirs, names, pooled):
    folder = write_judged(tmp_path / "relish")
    content = json.loads((folder / "test-pid2anns-relish.json").read_text())
    qrels = write_lines(
        tmp_path / "qrels",
        [
            (query, 0, paper, grade)
            for query, pool in content.items()
            for paper, grade in zip(pool["cands"], pool["relevance_adju"], strict=True)
            if paper != query
        ],
    )
    run = tmp_path / "ours.run"
    found = st.evaluate("random", "relish", folder, seed=1, run_to=run)
    found_by_others = theirs(qrels, run, pooled.values())
    asked = {query: row for query, row in found.per_query.items() if any_relevant(qrels, query)}
    assert len(asked) > 1
    others = {name: {q: rows[q] for q in asked} for name, rows in found_by_others.items()}
    assert_agree(asked, others, pooled)


def any_relevant(qrels: Path, query: str) -> bool:
    lines = (line.split() for line in qrels.read_text().splitlines())
    return any(columns[0] == query and int(columns[3]) >= 2 for columns in lines)
