import json
import shutil

import pytest

from sciembed_train.encoder.encoder import Encoder
from sciembed_train.errors import UserError
from sciembed_train.inputs import TextTokenizer


def test_the_home_folder_may_be_written_short(tiny_bert, tmp_path, monkeypatch):
    shutil.copytree(tiny_bert, tmp_path / "model")
    monkeypatch.setenv("HOME", str(tmp_path))
    short = TextTokenizer.load("~/model")
    assert short.fingerprint == TextTokenizer.load(tiny_bert).fingerprint


@pytest.mark.parametrize("key", ["separator", "sentences"])
def test_a_format_that_is_not_built_is_refused_and_not_read_as_another(key, tiny_bert, tmp_path):
    Encoder.load(tiny_bert).save(tmp_path)
    record = json.loads((tmp_path / "sciembed.json").read_text())
    record["input_format"][key] = "newline"
    (tmp_path / "sciembed.json").write_text(json.dumps(record))
    with pytest.raises(UserError, match=rf"{key} is 'newline'; expected"):
        Encoder.load(tmp_path)
