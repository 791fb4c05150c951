"""Texts of papers and of their parts, as the encoder reads them alone."""

import numpy as np

from tests.helpers.citation_corpus import citation_pairs


def test_titles_abstracts_and_halves_are_read_as_the_encoder_reads_them_alone(opened):
    found, spec = citation_pairs(opened), opened.reading
    papers = opened.corpus.n_papers
    rows = list(opened.corpus.papers())
    texts = found.sources[2].train[:5].reshape(-1)
    ids, lengths = found.tokens.rows(texts[::-1], 32)
    parts = np.split(ids, np.cumsum(lengths)[:-1])
    for text, part in zip(texts[::-1].tolist(), parts, strict=True):
        kind, paper = divmod(text, papers)
        row = rows[paper]
        title, abstract = (row["title"], None) if kind == 1 else (None, row["abstract"])
        whole = spec.input_format.compose(title, abstract, opened.tokenizer.sep_token)
        assert part.tolist() == opened.tokenizer.rows([whole], 32)[0]
    one, two = found.sources[3].train[0]
    halves = [found.tokens.rows(np.array([text]), 512)[0].tolist() for text in (one, two)]
    abstract = found.tokens.rows(np.array([one % papers + 2 * papers]), 512)[0].tolist()
    assert halves[0][:-1] + halves[1][1:] == abstract
    assert halves[0][0] == halves[1][0] == abstract[0]
    assert halves[0][-1] == halves[1][-1] == abstract[-1]
