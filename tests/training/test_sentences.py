"""otAspire from papers and citing sentences to an exported multi-vector model, and its use."""

import json

import numpy as np
import pytest

from sciembed_train.cli import main
from sciembed_train.commands import fit
from sciembed_train.inference.matching import Matcher
from tests.helpers.runs import CONFIGS, rows


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Papers of one to five sentences, and sentences that cite two to four of them."""
    folder = tmp_path_factory.mktemp("sentences")
    rng = np.random.default_rng(0)

    def sentence():
        return " ".join(f"word{n}" for n in rng.integers(200, size=4)) + "."

    papers = [
        {
            "paper_id": f"p{i}",
            "title": f"word{i} a b",
            "abstract": [sentence() for _ in range(rng.integers(1, 6))],
        }
        for i in range(60)
    ]
    (folder / "papers.jsonl").write_text("\n".join(map(json.dumps, papers)) + "\n")
    contexts = [
        {
            "text": f"Of these (many) have said word{rng.integers(200)} before sentence {i}.",
            "cited_ids": [f"p{n}" for n in rng.choice(60, rng.integers(2, 5), replace=False)],
            "citing_id": f"c{i}",
        }
        for i in range(80)
    ]
    (folder / "contexts.jsonl").write_text("\n".join(map(json.dumps, contexts)) + "\n")
    return folder


def test_one_command_from_citing_sentences_to_a_model_that_compares_two_papers(
    place, tiny_bert, capsys
):
    given = [
        *("-c", str(CONFIGS / "aspire_ot_compsci.yaml")),
        *("--data.papers", str(place / "papers.jsonl")),
        *("--data.contexts", str(place / "contexts.jsonl"), "--data.dev_share", "0.2"),
        *("--model.encoder.backbone", str(tiny_bert), "--model.encoder.max_length", "64"),
        *("--data.batch_size", "8", "--trainer.max_steps", "4", "--model.optim.lr", "1e-3"),
        *("--model.optim.warmup_steps", "1", "--model.transport.temperature", "7"),
        *("--trainer.val_check_interval", "2", "--trainer.log_every_n_steps", "1"),
        *("--trainer.accelerator", "cpu", "--trainer.devices", "1"),
        *("--trainer.precision", "32-true", "--root", str(place / "runs"), "--run", "ot"),
        "--quiet",
    ]
    assert fit.main(given) == 0
    run = place / "runs" / "ot"
    assert [row for row in rows(run) if row["train/loss"]]
    record = json.loads((run / "export" / "sciembed.json").read_text())
    assert (record["pooling"], record["similarity"]) == ("sentences", "transport")
    assert record["transport"] == {"temperature": 7.0, "blur": 0.05, "scaling": 0.9}
    matcher = Matcher.load(run / "export")
    assert matcher.settings is not None
    assert matcher.settings.temperature == 7
    capsys.readouterr()
    # A run's folder is a model to the command, too.
    words = ["compare", "--model", str(run), "--papers", str(place / "papers.jsonl"), "--json"]
    assert main([*words, "p1", "p2"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["transport"]["temperature"] == 7
    assert np.sum(found["transport"]["plan"]) == pytest.approx(1, abs=1e-2)
    for name, to, base in (
        ("sentence-transformers", "a", []),
        ("aspire-full", "b", ["--base", "a/b"]),
    ):
        export = ["export", str(run), "--layout", name, "--to", str(place / to), "--quiet"]
        assert main([*export, *base]) == 0
    assert (place / "b" / "model_cur_best.pt").is_file()
