"""Mining co-cited papers from real files; skipped where there are none."""

import csv
import gzip
import json
from collections import Counter
from itertools import combinations

import numpy as np
import pyarrow.parquet as pq
import pytest

from sciembed_train.corpus.build import prepare
from sciembed_train.corpus.citations.citing_sentences import citing_sentences
from sciembed_train.corpus.fulltext.fulltext_records import Fulltext, read_fulltext
from sciembed_train.corpus.mining.cocitation_settings import CocitationMining
from sciembed_train.corpus.prepare_settings import PrepareSettings
from sciembed_train.corpus.store.corpus_files import SPLITS


def rows_of(path):
    with gzip.open(path, "rt") as file:
        return [json.loads(line) for line in file]


def named_pairs(corpus):
    ids = corpus.paper_ids()
    found = {}
    for split in SPLITS:
        rows, counts = corpus.cocitations(split), corpus.cocitation_counts(split)
        for (a, b), count in zip(rows.tolist(), counts.tolist(), strict=True):
            found[frozenset((ids[a], ids[b]))] = count
    return found


def every_context(max_group=100):
    """Settings under which every context that cites two papers counts."""
    return CocitationMining(
        max_group=max_group,
        min_words=0,
        max_words=10_000,
        one_per_citing=False,
        mask_mentions=False,
    )


def test_scisumms_242_contexts_that_cite_two_or_more_give_their_pairs(shared_data, tmp_path):
    folder = shared_data / "scisumm"
    contexts = rows_of(folder / "contexts.jsonl.gz")
    settings = PrepareSettings(
        folder / "papers.jsonl",
        contexts=folder / "contexts.jsonl.gz",
        to=tmp_path / "c",
        cocitation_mining=every_context(),
    )
    corpus = prepare(settings)
    counts = Counter()
    for context in contexts:
        for pair in combinations(sorted(set(context["cited_ids"])), 2):
            counts[frozenset(pair)] += 1
    found = named_pairs(corpus)
    assert found == counts
    assert len(found) == 250
    assert corpus.info["counts"]["contexts"] == 242
    table = pq.read_table(corpus.folder / "contexts.parquet").to_pylist()
    cited = Counter((row["text"], *sorted(row["paper_ids"])) for row in table)
    assert cited == Counter(
        (" ".join(row["text"].split()), *sorted(row["cited_ids"]))
        for row in contexts
        if len(row["cited_ids"]) > 1
    )
    report = json.loads((corpus.folder / "report.json").read_text())["contexts"]
    assert report["dropped"]["cites one paper only"]["count"] == len(contexts) - 242


def test_referints_267_passages_give_its_603_pairs(shared_data, tmp_path):
    folder = shared_data / "referint"
    settings = PrepareSettings(
        folder / "papers.jsonl", contexts=folder / "contexts.jsonl", to=tmp_path / "c"
    )
    corpus = prepare(settings)
    assert len(named_pairs(corpus)) == len(corpus.known_cocitations()) == 603
    faithful = CocitationMining.faithful()
    small = prepare(
        PrepareSettings(
            folder / "papers.jsonl",
            contexts=folder / "contexts.jsonl",
            to=tmp_path / "faithful",
            cocitation_mining=faithful,
        )
    )
    text = {p["paper_id"]: p["abstract"] for p in small.papers()}
    pairs = named_pairs(small)
    assert 50 < len(pairs) < 438  # 438 have abstracts on both sides
    assert all(text[paper] for pair in pairs for paper in pair)


def test_cisis_counted_pairs_come_back_as_they_are(shared_data, tmp_path):
    folder = shared_data / "cisi"
    corpus = prepare(
        PrepareSettings(
            folder / "papers.jsonl", cocitations=folder / "cocitation.tsv", to=tmp_path / "c"
        )
    )
    with (folder / "cocitation.tsv").open() as file:
        given = {
            frozenset((row["paper_a"], row["paper_b"])): int(row["count"])
            for row in csv.DictReader(file, delimiter="\t")
        }
    assert named_pairs(corpus) == given
    assert len(given) == len(corpus.known_cocitations()) == 38672
    held_out = {split: len(corpus.cocitations(split)) / len(given) for split in SPLITS}
    assert held_out["train"] == pytest.approx(0.9**2, abs=0.05)
    in_training = np.unique(corpus.cocitations("train"))
    assert not np.isin(corpus.cocitations("dev"), in_training).all(axis=1).any()
    for split in ("dev", "test"):
        assert not np.isin(corpus.cocitations(split), in_training).all(axis=1).any()


def test_cacms_references_give_the_counts_that_its_readme_checks(shared_data, tmp_path):
    folder = shared_data / "cacm"
    corpus = prepare(
        PrepareSettings(
            folder / "papers.jsonl",
            citations=folder / "citations.tsv",
            to=tmp_path / "c",
            cocitation_mining=CocitationMining(cocitations_from="references", max_pairs=10_000),
        )
    )
    found = named_pairs(corpus)
    with (folder / "cocitation.tsv").open() as file:
        source = {
            frozenset((row["paper_a"], row["paper_b"])): int(row["count"])
            for row in csv.DictReader(file, delimiter="\t")
        }
    # The source has 5,320 pairs; its directed citations give 5,266, of these 5,254 as often.
    assert len(source) == 5320
    assert len(found) == len(corpus.known_cocitations()) == 5266
    assert sum(found.get(pair) == count for pair, count in source.items()) == 5254


def test_unarxives_sentences_cite_what_their_offsets_say(shared_data):
    with gzip.open(shared_data / "unarxive" / "arXiv_src_2212_086.jsonl.gz", "rt") as file:
        rows = [json.loads(line) for line in file]
    cited, marks, several = Counter(), Counter(), 0
    for row in rows:
        record = read_fulltext(row)
        assert isinstance(record, Fulltext)
        for sentence in citing_sentences(record):
            assert "[CIT]" in sentence.text
            assert "{{" not in sentence.text
            cited.update((row["paper_id"], r) for r in set(sentence.references))
            several += len(sentence.references) > 1
        marks.update(
            (row["paper_id"], span["ref_id"])
            for paragraph in row["body_text"]
            for span in paragraph["cite_spans"]
        )
    assert cited.keys() == marks.keys()  # no mark is lost
    assert all(count <= marks[mark] for mark, count in cited.items())
    assert 360 <= several <= 400  # about 371 by the data's own account
