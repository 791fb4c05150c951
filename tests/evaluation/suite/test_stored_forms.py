import subprocess
import sys

import pytest

from sciembed_train.errors import UserError
from sciembed_train.evaluation.suite.stored_forms import (
    StoredForm,
    check_any_stored,
    stored_forms,
)


def test_forms_are_every_dim_with_every_dtype_but_the_models_own():
    names = [form.name for form in stored_forms([64, 8], ["int8", "binary"])]
    assert names == [
        *("int8", "binary", "64", "64 int8", "64 binary", "8", "8 int8", "8 binary"),
    ]
    assert stored_forms([], []) == stored_forms([], ["float32"]) == []
    assert stored_forms([8], ["float32"]) == [StoredForm(8, "float32")]


def test_a_column_is_named_behind_its_model():
    assert StoredForm(8, "int8").column("runs/a/") == "runs/a 8 int8"


def test_forms_of_nothing_are_refused():
    check_any_stored([], [])
    check_any_stored([StoredForm(8, "int8")], ["a model"])
    with pytest.raises(UserError, match="one vector a text, and there is none"):
        check_any_stored([StoredForm(8, "int8")], [])


def test_importing_the_forms_imports_no_torch():
    code = (
        "import sys; import sciembed_train.evaluation.suite.stored_forms;"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
