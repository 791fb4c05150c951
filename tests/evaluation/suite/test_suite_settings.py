import subprocess
import sys

import pytest

from sciembed_train.errors import UserError
from sciembed_train.evaluation.suite.suite_settings import SuiteSettings


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"model": []}, "Give one --model or more"),
        ({"model": ["a", "b", "a"]}, "--model a is given twice"),
        ({"model": ["a"], "embeddings": ["v", "v"]}, "--embeddings v is given twice"),
        ({"model": ["a"], "embeddings": ["a"]}, "a is given as --model and as --embeddings"),
        ({"model": ["a"], "similarity": "cosine"}, "--similarity goes with --embeddings"),
        ({"model": ["a"], "quick": True, "full": True}, "are opposites"),
        ({"model": ["a"], "seed": -1}, "--seed is -1"),
        ({"model": ["a"], "dim": [0]}, "--dim is 0; expected 1 or more"),
        ({"model": ["a"], "dim": [8, 8]}, "--dim 8 is given twice"),
        ({"model": ["a"], "dtype": ["int4"]}, "--dtype is int4; expected one of"),
        ({"model": ["a"], "dtype": ["int8", "int8"]}, "--dtype int8 is given twice"),
    ],
)
def test_wrong_settings_are_refused(settings, message):
    with pytest.raises(UserError, match=message):
        SuiteSettings("suite", "to", **settings)


def test_importing_the_settings_imports_no_torch():
    code = (
        "import sys; import sciembed_train.evaluation.suite.suite_settings;"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
