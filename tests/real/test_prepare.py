"""Preparing real files; skipped where there are none."""

import json

import numpy as np
import pytest

from sciembed_train.cli import main as train
from sciembed_train.corpus.build import prepare
from sciembed_train.corpus.prepare_settings import PrepareSettings
from sciembed_train.corpus.store.corpus_folder import Corpus
from sciembed_train.text.input_format import InputFormat
from sciembed_train.text.tokenizer import TextTokenizer


def test_specters_sample_gives_its_55_triplets_by_the_rule_and_none_with_text(
    shared_data, tmp_path, capsys
):
    folder = shared_data / "specter" / "training"
    for seed in ("0", "1", "2"):
        arguments = ["prepare", "--papers", str(folder), "--to", str(tmp_path / "c"), "--quiet"]
        assert train([*arguments, "--seed", seed]) == 2
        told = capsys.readouterr().err
        assert "12 queries give 55 triplets, 22 with a hard and 33 with an easy negative" in told
        assert "of these 55 are dropped for missing text" in told
        assert "55: the positive is not in metadata.json" in told
        assert "Add the title and abstract of the papers that data.json names" in told
        assert list(tmp_path.iterdir()) == []


def test_specters_sample_trains_once_its_papers_have_text(shared_data, tmp_path, tiny_bert):
    folder = shared_data / "specter" / "training"
    for name in ("data.json", "train.txt", "val.txt", "test.txt"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    metadata = json.loads((folder / "metadata.json").read_text())
    data = json.loads((folder / "data.json").read_text())
    for related in data.values():
        for paper_id in related:
            metadata.setdefault(paper_id, {"paper_id": paper_id, "title": f"word{len(metadata)}"})
    (tmp_path / "metadata.json").write_text(json.dumps(metadata))
    corpus = prepare(PrepareSettings(tmp_path, to=tmp_path / "c", tokenizer=tiny_bert))
    assert corpus.info["counts"]["papers"] == 396
    missing = [q for q in (tmp_path / "train.txt").read_text().split() if q not in metadata]
    counts = corpus.info["counts"]
    assert counts["triplets"]["train"] == 55 - 5 * len(missing)
    assert counts["hard"]["train"] == 22 - 2 * len(missing)
    ids = corpus.paper_ids()
    for (query, positive, negative), hard in zip(
        corpus.triplets("train"), corpus.hard("train"), strict=True
    ):
        related = data[ids[query]]
        assert related[ids[positive]]["count"] == 5
        if hard:
            assert related[ids[negative]]["count"] == 1
        else:
            assert ids[negative] not in related


@pytest.mark.parametrize(
    ("name", "papers", "citations"),
    [("cacm", 3204, 2720), ("scisumm", 1230, 1196), ("acl-graph", 9995, 28450)],
)
def test_real_graphs_give_triplets_that_keep_the_rules(
    shared_data, tmp_path, name, papers, citations
):
    folder = shared_data / name
    corpus = prepare(
        PrepareSettings(
            papers=folder / "papers.jsonl", citations=folder / "citations.tsv", to=tmp_path / "c"
        )
    )
    assert corpus.n_papers == papers
    pairs = corpus.citations()
    assert len(pairs) == citations
    text = np.array([bool(p["title"] or p["abstract"]) for p in corpus.papers()])
    refs: dict[int, set[int]] = {}
    for a, b in pairs.tolist():
        if text[a] and text[b]:
            refs.setdefault(a, set()).add(b)
    held_out = {*corpus.queries("dev").tolist(), *corpus.queries("test").tolist()}
    rows, hard = corpus.triplets("train"), corpus.hard("train")
    assert len(rows) > 1000
    assert 0.2 < hard.mean() <= 0.4
    for (q, p, n), is_hard in zip(rows.tolist(), hard.tolist(), strict=True):
        assert q not in held_out
        assert p in refs[q]
        assert n not in refs[q]
        assert n != q
        assert text[n]
        hops = [c for c in refs[q] if n in refs.get(c, ())]
        assert any(c not in held_out for c in hops) if is_hard else not hops


def test_the_summaries_tokens_are_whole(shared_data, tmp_path, minilm):
    folder = shared_data / "scisumm"
    made = PrepareSettings(folder / "papers.jsonl", to=tmp_path / "c", tokenizer=minilm)
    corpus = Corpus.open(prepare(made).folder)
    tokenizer, input_format = TextTokenizer.load(minilm), InputFormat()
    store = corpus.tokens(tokenizer.key(input_format))
    assert store.lengths.max() > 300  # the tokenizer's own file would cut at 128
    papers = list(corpus.papers())[:200]
    texts = [input_format.compose(p["title"], p["abstract"], tokenizer.sep_token) for p in papers]
    assert store.lengths[:200].tolist() == [len(ids) for ids in tokenizer.encode(texts)]
