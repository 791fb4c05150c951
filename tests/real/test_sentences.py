"""Sentences of real abstracts and their tokens; skipped where there are none."""

import numpy as np
import pytest

from sciembed_train.corpus.build import prepare
from sciembed_train.corpus.prepare_settings import PrepareSettings
from sciembed_train.corpus.store.token_kinds import SENTENCE_INDEXED_TOKENS
from sciembed_train.text.input_format import InputFormat
from sciembed_train.text.tokenizer import TextTokenizer


@pytest.mark.slow
def test_the_tokens_of_cacms_sentences_are_those_of_each_sentence_alone(
    shared_data, minilm, tmp_path
):
    settings = PrepareSettings(
        shared_data / "cacm" / "papers.jsonl",
        to=tmp_path / "c",
        tokenizer=minilm,
        sentence_tokens=True,
    )
    corpus = prepare(settings)
    tokenizer = TextTokenizer.load(minilm)
    store = corpus.tokens(tokenizer.key(InputFormat()), SENTENCE_INDEXED_TOKENS)
    papers = np.arange(len(store))
    ids, lengths = store.rows(papers, 10**6)
    # Abstracts joined from their sentences are the abstracts.
    whole = corpus.tokens(tokenizer.key(InputFormat())).rows(papers, 10**6)
    assert np.array_equal(ids, whole[0])
    assert np.array_equal(lengths, whole[1])
    starts, sizes, counts = store.sentences(papers, 10**6)
    first_of_row = np.repeat(np.cumsum(lengths) - lengths, counts)
    # Four abstracts are the word None, which stands for no abstract.
    texts = [
        text
        for title, sentences in corpus.sentences()
        for text in (sentences if InputFormat().parts(sentences) else [title])
    ]
    assert len(texts) == counts.sum() > 5_000
    assert sum(not sentences for _, sentences in corpus.sentences()) == 1_617
    alone = tokenizer.encode(texts)
    for start, size, want in zip(first_of_row + starts, sizes, alone, strict=True):
        assert ids[start : start + size].tolist() == want
