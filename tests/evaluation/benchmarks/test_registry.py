import subprocess
import sys
from dataclasses import fields

import pytest

from sciembed_train.evaluation.benchmarks.registry import BENCHMARKS
from sciembed_train.evaluation.evaluate_settings import EvaluateSettings


@pytest.mark.parametrize("name", sorted(BENCHMARKS))
def test_every_benchmark_has_a_module_that_runs_it(name):
    benchmark = BENCHMARKS[name]
    assert callable(benchmark.load())
    assert benchmark.options <= {field.name for field in fields(EvaluateSettings)}
    assert benchmark.summary


def test_the_list_is_read_without_torch():
    code = (
        "import sciembed_train.evaluation.benchmarks.registry, sys\nprint('torch' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
