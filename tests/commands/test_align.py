import json
from types import SimpleNamespace

import pytest

from sciembed_train.commands import align
from sciembed_train.corpus.alignment import MARKER, alignment_folder


@pytest.fixture
def asked(tmp_path, monkeypatch):
    """What is asked of the library; it makes an alignment without a citing sentence."""
    corpus, calls = SimpleNamespace(folder=tmp_path), []
    counts = {"train": {"pairs": 1234, "with_contexts": 0}}

    def aligned(corpus, model, settings, name, progress, device):
        calls.append((model, settings.similarity, name, device))
        folder = alignment_folder(corpus, "made")
        folder.mkdir(parents=True, exist_ok=True)
        info = {"similarity": settings.similarity, "counts": counts}
        (folder / MARKER).write_text(json.dumps(info))
        return "made"

    monkeypatch.setattr(align, "aligned", aligned)
    monkeypatch.setattr(align.Corpus, "open", lambda folder: corpus)
    return calls


def test_the_alignment_is_named_and_counted(asked, capsys):
    words = ["corpus", "--model", "m", "--similarity", "dot", "--name", "own", "--device", "cpu"]
    assert align.main(words) == 0
    assert asked == [("m", "dot", "own", "cpu")]
    said = capsys.readouterr().out
    assert "pairs aligned by dot: train 1,234 (0 with citing sentences)" in said
    assert "only data.sampling.align abstract can use it" in said


def test_its_facts_are_printed_as_json(asked, capsys):
    assert align.main(["corpus", "--model", "m", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["name"] == "made"
    assert told["counts"]["train"]["pairs"] == 1234
