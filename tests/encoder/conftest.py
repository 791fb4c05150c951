import shutil

import pytest


@pytest.fixture
def copy(tiny_bert, tmp_path):
    """A folder of the tiny BERT that a test may spoil."""
    return shutil.copytree(tiny_bert, tmp_path / "copy")
