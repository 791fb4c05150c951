"""A small corpus of papers, citations and co-citations, with tokens of titles and abstracts."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np

from sciembed_train.corpus.store.corpus_files import save_info, save_paper_splits
from sciembed_train.corpus.store.corpus_folder import Corpus
from sciembed_train.corpus.store.part_store import write_part_store
from sciembed_train.sampling.citation_pairs import CitationPairExamples, CitationPairSampling
from sciembed_train.text.input_format import InputFormat
from sciembed_train.text.tokenizer import TextTokenizer
from tests.helpers.cocitation_corpus import write_cocitation_corpus

FORMAT = InputFormat()


def write_citation_corpus(
    folder: Path, tokenizer: Path, papers: int = 60, seed: int = 0, input_format=FORMAT
) -> Corpus:
    """`write_cocitation_corpus` with splits, and pairs cited together two times each."""
    corpus = write_cocitation_corpus(
        folder, tokenizer, papers=papers, seed=seed, input_format=input_format
    )
    for split in ("train", "dev", "test"):
        pairs = corpus.cocitations(split)
        np.save(folder / "cocitations" / f"{split}.count.npy", np.full(len(pairs), 2, np.int32))
    split = np.zeros(papers, np.int8)
    split[-15:-5], split[-5:] = 1, 2
    save_paper_splits(folder, split)
    loaded = TextTokenizer.load(tokenizer)
    key = loaded.key(input_format)
    store = write_part_store(
        folder / "part_tokens" / key, loaded, input_format, corpus.papers(), name=str(tokenizer)
    )
    save_info(folder, {**corpus.info, "part_stores": {key: store.info}})
    return Corpus.open(folder)


def citation_pairs(opened: SimpleNamespace, **settings) -> CitationPairExamples:
    """The pairs of a corpus that was opened in `tests/sampling/conftest.py`."""
    return CitationPairSampling(**settings).open(opened.corpus, opened.reading, None)
