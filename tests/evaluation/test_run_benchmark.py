import sys

from sciembed_train.evaluation.benchmarks.registry import BENCHMARKS, Benchmark
from sciembed_train.evaluation.evaluate_settings import EvaluateSettings
from sciembed_train.evaluation.run_benchmark import run_benchmark

OUTSIDE = """
from sciembed_train.evaluation.benchmarks.result import Result

def run(settings, systems):
    metrics = {"titles/length": len(str(settings.data)) / 1.0}
    return settings.model, Result(metrics, {}, {"queries": 1}, ["Made outside the package."])
"""


def test_a_benchmark_outside_the_package_is_one_module_and_a_registry_line(tmp_path, monkeypatch):
    (tmp_path / "own_benchmark.py").write_text(OUTSIDE)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setitem(BENCHMARKS, "own", Benchmark("own_benchmark", "lengths of titles"))
    scores = run_benchmark(EvaluateSettings("own", "abc", "m"))
    assert (scores.benchmark, scores.model) == ("own", "m")
    assert scores["titles/length"] == 3.0
    assert scores.settings["data"] == "abc"
    assert scores.notes == ("Made outside the package.",)
    sys.modules.pop("own_benchmark")


def test_every_registered_benchmark_has_a_run_and_a_summary():
    for name, benchmark in BENCHMARKS.items():
        assert callable(benchmark.load()), name
        assert benchmark.summary
