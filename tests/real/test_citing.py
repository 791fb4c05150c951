"""Citing sentences of real files: their marks masked, and the pairs they make."""

import gzip
import json
import re
from collections import defaultdict
from itertools import combinations

import pyarrow.parquet as pq
import pytest

from sciembed_train.corpus.build import prepare
from sciembed_train.corpus.citations.citation_mentions import mask_mentions_in
from sciembed_train.corpus.mining.cocitation_settings import CocitationMining
from sciembed_train.corpus.prepare_settings import PrepareSettings
from sciembed_train.corpus.store.corpus_files import SPLITS
from tests.helpers.cocitation_collections import digest

YEAR = re.compile(r"\b(?:1[89]|20)\d\d[a-z]?\b")


def rows_of(path):
    with (gzip.open if path.suffix == ".gz" else open)(path, "rt") as file:
        return [json.loads(line) for line in file]


def mined(folder, to, contexts, by, mask):
    mining = CocitationMining(
        min_words=0,
        max_words=10_000,
        one_per_citing=False,
        max_pairs=10**6,
        mask_mentions=mask,
        sentence_pairs=by,
    )
    given = folder / "papers.jsonl"
    return prepare(
        PrepareSettings(given, contexts=folder / contexts, to=to, cocitation_mining=mining)
    )


def plain_pairs(rows, by, mask):
    """Pairs of sentences that cite the same, by their digests, in plain loops."""
    lists = defaultdict(dict)
    for row in rows:
        cited = sorted(set(row["cited_ids"]))
        texts = [" ".join(row.get(name, "").split()) for name in ("text", "before", "after")]
        markers = [row["marker"]] if "marker" in row else []
        texts = [mask_mentions_in(text, markers) if mask else text for text in texts]
        key = digest("\0".join((str(digest("\0".join(cited))), row["citing_id"], *texts)))
        stripped = " ".join(re.sub(r"\d", "", texts[0]).split())
        for one in cited if by == "paper" else [tuple(cited)] * (len(cited) > 1):
            # Of sentences of a list that differ in digits alone one is left.
            lists[one][stripped] = min(key, lists[one].get(stripped, key))
    return {pair for found in lists.values() for pair in combinations(sorted(found.values()), 2)}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "by", "mask"),
    [("scisumm", "paper", False), ("scisumm", "set", True), ("referint", "set", True)],
)
def test_every_pair_of_sentences_is_found(shared_data, tmp_path, name, by, mask):
    folder = shared_data / name
    contexts = "contexts.jsonl.gz" if name == "scisumm" else "contexts.jsonl"
    rows = rows_of(folder / contexts)
    corpus = mined(folder, tmp_path / "c", contexts, by, mask)
    wanted = plain_pairs(rows, by, mask)
    assert sum(len(corpus.sentence_pairs(split)) for split in SPLITS) == len(wanted)
    if by == "paper":  # 87,886 by the data's own account, repeated sentences counted
        assert 85_000 < len(wanted) <= 87_886
    if name == "referint":
        assert corpus.info["counts"]["known_cocitations"] == 603


@pytest.mark.slow
def test_hardly_a_mark_is_missed_and_markers_are_found(shared_data):
    rows = rows_of(shared_data / "scisumm" / "contexts.jsonl.gz")
    masked = [mask_mentions_in(row["text"]) for row in rows]
    assert sum("[CIT]" in text for text in masked) > 0.998 * len(rows)
    before = sum(len(YEAR.findall(row["text"])) for row in rows)
    # Of 16,377 years, those left are of shared tasks and the like.
    assert sum(len(YEAR.findall(text)) for text in masked) < 0.025 * before
    rows = rows_of(shared_data / "referint" / "contexts.jsonl")
    told = [mask_mentions_in(row["text"], [row["marker"]]) for row in rows]
    by_rule = [mask_mentions_in(row["text"]) for row in rows]
    assert told == by_rule
    assert not any(row["marker"] in text for row, text in zip(rows, told, strict=True))


def test_contexts_are_stored_without_their_marks(shared_data, tmp_path):
    folder = shared_data / "referint"
    corpus = mined(folder, tmp_path / "c", "contexts.jsonl", "none", True)
    rows = list(corpus.contexts())
    assert len(rows) == corpus.info["counts"]["contexts"]
    assert all("[CIT]" in row["text"] for row in rows)
    places = pq.read_table(corpus.folder / "contexts.parquet").to_pylist()
    assert [row["text"] for row in places] == [row["text"] for row in rows]
    note = json.loads((corpus.folder / "report.json").read_text())["contexts"]["notes"]
    assert note == [
        "267 of 267 contexts had citation marks, which are masked as [CIT] (mask_mentions)."
    ]
