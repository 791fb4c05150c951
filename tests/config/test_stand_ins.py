import importlib
import inspect
import subprocess
import sys

import pytest

from sciembed_train.config import stand_ins

KINDS = [stand_ins.Method, stand_ins.Callback, stand_ins.Logger, stand_ins.Strategy]
KINDS += [stand_ins.Profiler, stand_ins.Plugin]


@pytest.mark.parametrize("kind", KINDS)
def test_what_it_stands_for_exists_and_counts_as_it(kind):
    for path in kind.stands_for:
        module, _, name = path.rpartition(".")
        real = getattr(importlib.import_module(module), name)
        assert issubclass(real, kind)
        assert issubclass(type("Own", (real,), {}), kind)
    assert not issubclass(dict, kind)


def test_a_method_has_what_every_method_has():
    from sciembed_train.methods.base import Method

    own = inspect.signature(stand_ins.Method.__init__).parameters
    theirs = inspect.signature(Method.__init__).parameters
    assert set(own) <= set(theirs)
    assert {name: own[name].default for name in own} == {n: theirs[n].default for n in own}


def test_importing_them_imports_no_torch():
    code = (
        "import sciembed_train.config.stand_ins, sys\n"
        "print(sorted({'torch', 'pytorch_lightning'} & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
