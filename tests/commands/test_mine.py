import json
from pathlib import Path

import numpy as np

from sciembed_train import cli
from tests.helpers.citation_corpus import write_citation_corpus


def test_the_command_prints_a_table_and_json(tiny_bert, tmp_path, capsys):
    corpus = write_citation_corpus(tmp_path / "corpus", tiny_bert)
    rows = np.random.default_rng(5).normal(size=(corpus.n_papers, 6)) + 0.7
    path = tmp_path / "vectors.npy"
    np.save(path, rows.astype(np.float32))
    path.with_suffix(".ids.txt").write_text("".join(f"{i}\n" for i in corpus.paper_ids()))
    words = ["mine", str(corpus.folder), "--vectors", str(path), "--ranks", "0:50"]
    assert cli.main([*words, "--two-hop-first"]) == 0
    out, err = capsys.readouterr()
    assert "positives" in out
    assert "passed over as the very nearest" in out
    assert [line.split(":")[0] for line in err.splitlines()] == [
        "reading texts",
        "reading vectors",
        "ranking",
    ]
    assert "Most queries have no negative" not in out
    assert cli.main([*words, "--margin", "0.01", "--ranks", "0:2"]) == 0
    assert "Most queries have no negative" in capsys.readouterr().out
    assert cli.main([*words, "--mask.cocited", "0", "--json"]) == 0
    out, err = capsys.readouterr()
    facts = json.loads(out)
    assert facts["name"] == "vectors"
    assert facts["related"]["cocited"] == 0
    assert not err
    folder = Path(facts["folder"])
    assert json.loads((folder / "negatives.json").read_text())["mask"]["cocited"] == 0
    assert cli.main(["mine", str(corpus.folder)]) == 2
    assert "either --model or --vectors" in capsys.readouterr().err
