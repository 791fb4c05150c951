"""The numbers behind the charts are those of the papers."""

import json

import numpy as np
import pytest

from sciembed_train.corpus.build import prepare
from sciembed_train.corpus.data_page import distributions as module
from sciembed_train.corpus.data_page.distributions import distributions
from sciembed_train.corpus.store.corpus_files import ParquetRows
from sciembed_train.text.input_format import InputFormat
from sciembed_train.text.tokenizer import TextTokenizer
from tests.helpers.paper_files import paper_settings, write_paper_files


@pytest.fixture(scope="module")
def made(tmp_path_factory, tiny_bert):
    folder = tmp_path_factory.mktemp("distributions")
    papers, pairs = write_paper_files(folder)
    return papers, pairs, prepare(paper_settings(folder, tokenizer=tiny_bert))


def counts(tally):
    return {int(n): int(tally.counts[n]) for n in np.flatnonzero(tally.counts)}


def test_every_distribution_is_that_of_the_papers(made, tiny_bert):
    papers, pairs, corpus = made
    found = {one.name.partition(" by ")[0]: one for one in distributions(corpus)}
    lengths = [len(" ".join(np.atleast_1d(p["abstract"] or "")).split()) for p in papers]
    words = found["Words of an abstract"]
    assert counts(words.tally) == {n: lengths.count(n) for n in set(lengths) - {0}}
    assert words.note == f"{lengths.count(0)} of 120 papers have no abstract"
    years = [p["year"] for p in papers]
    assert counts(found["Year"].tally) == {year: years.count(year) for year in set(years)}
    for name, side in (("References of a paper", 0), ("Citations of a paper", 1)):
        ends = [pair[side] for pair in pairs]
        degrees = [ends.count(str(p["paper_id"])) for p in papers]
        assert counts(found[name].tally) == {n: degrees.count(n) for n in set(degrees)}
    store = corpus.tokens(TextTokenizer.load(tiny_bert).key(InputFormat()))
    tokens = found["Tokens of title and abstract"].tally
    assert (tokens.total, tokens.largest) == (120, store.lengths.max())
    assert tokens.mean == pytest.approx(store.lengths.mean())


def test_of_many_papers_a_stated_sample_is_read(made, tmp_path, monkeypatch):
    _, _, corpus = made
    columns = module_columns(corpus)
    path = tmp_path / "papers.parquet"
    with ParquetRows(path, columns, group=10) as writer:
        for row in corpus_rows(corpus):
            writer.add(*row.values())
    monkeypatch.setattr(module, "SAMPLED", 40)
    few = type(corpus)(tmp_path, corpus.info)
    words = module._abstracts(few)
    assert "40 of the 120 papers, in 4 evenly spread parts" in words.note
    assert words.tally.total + int(words.note.split()[0]) == 40


def module_columns(corpus):
    import pyarrow.parquet as pq

    schema = pq.read_schema(corpus.folder / "papers.parquet")
    return dict(zip(schema.names, schema.types, strict=True))


def corpus_rows(corpus):
    import pyarrow.parquet as pq

    return pq.read_table(corpus.folder / "papers.parquet").to_pylist()


def test_without_citations_or_years_there_are_no_such_charts(tmp_path):
    (tmp_path / "papers.jsonl").write_text(json.dumps({"paper_id": "a", "title": "T"}) + "\n")
    corpus = prepare(
        paper_settings(tmp_path).__class__(tmp_path / "papers.jsonl", to=tmp_path / "c")
    )
    assert [(one.name, one.tally.total, one.note) for one in distributions(corpus)] == [
        ("Words of an abstract", 0, "1 of 1 papers have no abstract"),
        ("Year", 0, "1 of 1 papers have no year"),
    ]
