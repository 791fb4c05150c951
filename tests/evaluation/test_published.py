import re
from pathlib import Path

import numpy as np
import pytest
import yaml

from sciembed_train.evaluation.benchmarks import mdcr, scidocs
from sciembed_train.evaluation.benchmarks.registry import BENCHMARKS
from sciembed_train.evaluation.benchmarks.scirepeval.scirepeval import averages
from sciembed_train.evaluation.published import FILE, published

ELSEWHERE = {"recomm/ndcg", "recomm/precision1", "average/twelve_values"}  # not scored here


def test_every_table_says_where_its_numbers_are_from():
    for table in yaml.safe_load(FILE.read_text()):
        assert table.keys() - {"note"} == {"benchmark", "source", "metrics", "rows"}
        assert re.search(r"README\.md|BENCHMARKING\.md", table["source"])
        assert table["benchmark"] in BENCHMARKS


def test_metrics_have_the_names_of_the_benchmark():
    for row in published():
        if row.benchmark == "scirepeval":
            names = {name.removeprefix("average/") for name in row.metrics}
            assert all(f"``{name}``" in (averages.__doc__ or "") for name in names)
        elif row.benchmark == "mdcr":
            assert row.metrics.keys() <= {f"average/original_{name}" for name in mdcr.METRICS}
        elif row.benchmark == "scidocs":
            rankings = {f"{t}/original_{m}" for t in scidocs.RANKINGS for m in scidocs.METRICS}
            classes = {f"{task}/f1_macro" for task in scidocs.CLASSIFICATIONS}
            assert row.metrics.keys() == rankings | classes | ELSEWHERE
        else:
            assert tuple(row.metrics) == BENCHMARKS[row.benchmark].metrics
        assert all(0 < value < 1 for value in row.metrics.values())


def test_a_model_is_named_once_in_a_table_and_found_by_its_benchmark():
    rows = published("csfcube")
    assert [row.model for row in rows].count("SPECTER") == 1
    assert rows[0].metrics == pytest.approx(
        {"aggregated/map_grade2": 0.3423, "aggregated/ndcg_pct20_jk": 0.5328}
    )
    keys = [(row.source, row.benchmark, row.model) for row in published()]
    assert len(keys) == len(set(keys))
    assert {row.benchmark for row in published()} == {
        "csfcube", "relish", "treccovid", "scirepeval", "mdcr", "scidocs"
    }  # fmt: skip
    assert published("retrieval") == []


def test_printed_averages_are_those_of_their_rows():
    """A digit that was copied wrongly moves them."""
    for row in published("scidocs"):
        *values, average = row.metrics.values()
        assert len(values) == 12
        assert np.mean(values) == pytest.approx(average, abs=0.0011), row.model
    for row in published("scirepeval"):
        weighted = row.metrics.get("average/weighted_7_20")
        if weighted is not None:
            train, other = row.metrics["average/in_train"], row.metrics["average/out_of_train"]
            assert (7 * train + 20 * other) / 27 == pytest.approx(weighted, abs=0.0011), row.model


def test_the_file_travels_in_the_wheel():
    setup = (Path(__file__).parents[2] / "setup.py").read_text()
    assert '"evaluation/published.yaml"' in setup
