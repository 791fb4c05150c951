import json

import numpy as np
import pytest

from sciembed_train import cli


@pytest.fixture
def vectors(tmp_path):
    np.save(tmp_path / "v.npy", np.random.default_rng(0).normal(size=(30, 8)).astype("f4"))
    (tmp_path / "v.ids.txt").write_text("".join(f"p{n}\n" for n in range(30)))
    return tmp_path / "v.npy"


def test_the_index_is_written_and_told_as_text_or_json(vectors, tmp_path, capsys):
    words = ["index", "--vectors", str(vectors), "--to"]
    assert cli.main([*words, str(tmp_path / "i"), "--kind", "hnsw"]) == 0
    assert "30 papers of width 8" in capsys.readouterr().out
    assert cli.main([*words, str(tmp_path / "j"), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["kind"], told["papers"], told["recall"]) == ("flat", 30, 1.0)


def test_an_existing_index_is_exit_2_and_one_message(vectors, tmp_path, capsys):
    words = ["index", "--vectors", str(vectors), "--to", str(tmp_path / "i"), "--quiet"]
    assert cli.main(words) == 0
    assert cli.main(words) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.count("\n") == 1
    assert "--overwrite" in printed.err
