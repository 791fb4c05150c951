"""Real full texts of every shape; skipped where there are none."""

import gzip
import json
import re

import pytest

from sciembed_train.corpus.build import prepare
from sciembed_train.corpus.prepare_settings import PrepareSettings
from sciembed_train.corpus.store.token_kinds import DOCUMENT_TOKENS
from sciembed_train.text.tokenizer import TextTokenizer

ALL = {"dev_share": 0.0, "test_share": 0.0}
MARKERS = re.compile(
    r"\{\{\w+:|(?:BIB|FIG|TAB|SEC|EQ)REF\d|(?:INLINE|DISPLAY)FORM\d|\\(?:math|frac|alpha)|\s\s|\bREF\b"
)


def texts_of(corpus):
    return dict(zip(corpus.document_ids(), corpus.document_texts(), strict=True))


def test_every_generation_of_s2orc_is_read(shared_data, tmp_path):
    folder = shared_data / "s2orc" / "fulltext"
    corpus = prepare(PrepareSettings(fulltexts=folder, to=tmp_path / "c", format="s2orc", **ALL))
    texts = texts_of(corpus)
    assert {name.partition("_")[0] for name in texts} == {p.stem for p in folder.rglob("*.json")}
    starts = {
        "2020.acl-main.207": "SPECTER: Document-level Representation Learning using Citation-info",
        "10002293": "Antimicrobial Photodynamic Therapy against Endodontic Enterococcus faecalis",
        "18980380": "This technical note studies Markov decision processes under parameter uncer",
        "24e6b80e338a4e543de6b49cada07156c9149d22": "Niche Partitioning of Marine Group I Crena",
    }
    for name, start in starts.items():
        assert texts[name].startswith(start)
    for name, text in texts.items():
        assert len(text) > 10_000, name
        assert not MARKERS.search(text), name
    # The abstract stands there once, at the head, and the body follows it.
    specter = texts["2020.acl-main.207"]
    assert specter.count("Representation learning is a critical ingredient for natural") == 1
    assert "As the pace of scientific publication continues to increase" in specter


def test_unarxives_texts_are_clean_and_whole(shared_data, tmp_path):
    source = shared_data / "unarxive"
    corpus = prepare(PrepareSettings(fulltexts=source, to=tmp_path / "c", format="unarxive", **ALL))
    texts = texts_of(corpus)
    with gzip.open(next(source.glob("*.jsonl.gz")), "rt") as file:
        records = {r["paper_id"]: r for r in map(json.loads, file)}
    assert set(texts) == set(records)
    kept = 0
    marker = re.compile(r"\{\{\w+:[^}]*\}\}|\bREF\b|\W")
    for name, record in records.items():
        assert not MARKERS.search(texts[name]), name
        # Every word that is no marker is still there, in its order.
        words = re.findall(r"[A-Za-z]{4,}", marker.sub(" ", record["body_text"][0]["text"]))
        at = -1
        for word in words:
            at = texts[name].find(word, at + 1)
            assert at >= 0, (name, word)
        kept += len(words)
    assert kept > 1000


@pytest.mark.slow
def test_scisumms_texts_are_tokenised_whole(shared_data, tmp_path, minilm):
    source = shared_data / "scisumm" / "fulltexts.jsonl.gz"
    corpus = prepare(PrepareSettings(fulltexts=source, to=tmp_path / "c", tokenizer=minilm, **ALL))
    assert corpus.n_documents == 1222  # of 1,228: six are there twice under two ids
    report = json.loads((corpus.folder / "report.json").read_text())["fulltexts"]
    assert {reason: d["count"] for reason, d in report["dropped"].items()} == {
        "a text given before": 6
    }
    tokenizer = TextTokenizer.load(minilm)
    store = corpus.tokens(tokenizer.document_key, DOCUMENT_TOKENS)
    assert store.lengths.sum() == pytest.approx(8.1e6, rel=0.02)
    texts = list(corpus.document_texts())
    longest = int(store.lengths.argmax())
    for number in (0, 500, longest):  # the longest goes through in parts
        whole = tokenizer._plain.encode(texts[number], add_special_tokens=False).ids
        ids, _ = store.slices([number], [0], [len(whole)])
        assert ids[1:-1].tolist() == whole
        assert store.lengths[number] == len(whole)
