"""The distributions of a corpus: lengths of its texts, citations of its papers, their years.

Arrays are read a piece at a time. Abstracts, the bulk of a corpus, are counted in evenly spread
parts of the papers where there are many, so that a corpus of any size takes seconds and little
memory.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sciembed_train.corpus.store.corpus_folder import Corpus
from sciembed_train.corpus.store.token_kinds import DOCUMENT_TOKENS, PAPER_TOKENS
from sciembed_train.report_page.tally import Tally

SAMPLED = 200_000  # abstracts that are read of a larger corpus, about
CHUNK = 1 << 22  # rows of an array in memory at a time
WORD = r"\S+"


@dataclass(frozen=True)
class Distribution:
    """A number of each paper, or of each of ``counted``.

    Args:
        name: of the number.
        tally: the numbers.
        unit: what they count; empty for years.
        counted: what has the number.
        note: on papers that are not counted.
    """

    name: str
    tally: Tally
    unit: str
    counted: str = "papers"
    note: str = ""


def distributions(corpus: Corpus) -> list[Distribution]:
    """The distributions for which the corpus holds the numbers."""
    all_distributions: list[Distribution] = []
    if corpus.n_papers:
        all_distributions += [
            _abstracts(corpus),
            *_tokens(corpus),
            *_degrees(corpus),
            _years(corpus),
        ]
    for key in corpus.info.get(DOCUMENT_TOKENS.entry, {}):
        lengths = corpus.tokens(key, DOCUMENT_TOKENS).lengths
        name = f"Tokens of a document by {_tokenizer(corpus, DOCUMENT_TOKENS.entry, key)}"
        all_distributions.append(Distribution(name, _tally(lengths), "tokens", "documents"))
    return [
        distribution
        for distribution in all_distributions
        if distribution.tally.total or distribution.note
    ]


def _abstracts(corpus: Corpus) -> Distribution:
    """Words of abstracts; the papers without one are not counted but noted."""
    import pyarrow.parquet as pq

    words, read = Tally(), 0
    with pq.ParquetFile(corpus.folder / "papers.parquet") as file:
        every = max(-(-corpus.n_papers // SAMPLED), 1)
        groups = range(0, file.num_row_groups, every)
        for group in groups:
            rows = file.read_row_group(group, columns=["abstract", "sentences"])
            counts = _words(rows.column("abstract"), rows.column("sentences"))
            words.add(counts[counts > 0])
            read += len(counts)
    without = read - words.total
    note = f"{without:,} of {read:,} papers have no abstract"
    if read < corpus.n_papers:
        note += f"; read in a sample: {read:,} of the {corpus.n_papers:,} papers, in "
        note += f"{len(groups):,} evenly spread parts"
    return Distribution("Words of an abstract", words, "words", note=note)


def _words(abstracts: Any, sentences: Any) -> NDArray[np.int64]:
    """Words of each abstract, whether it is a text or a list of sentences; 0 without one."""
    import pyarrow.compute as pc

    compute: Any = pc
    whole = compute.fill_null(compute.count_substring_regex(abstracts, pattern=WORD), 0)
    counts = whole.to_numpy().astype(np.int64)
    parents = compute.list_parent_indices(sentences)
    if len(parents):
        flat = compute.count_substring_regex(compute.list_flatten(sentences), pattern=WORD)
        weights = compute.fill_null(flat, 0).to_numpy()
        counts += np.bincount(parents.to_numpy(), weights, len(counts)).astype(np.int64)
    return counts


def _tokens(corpus: Corpus) -> list[Distribution]:
    """Tokens of title and abstract, for each tokenizer."""
    return [
        Distribution(
            f"Tokens of title and abstract by {_tokenizer(corpus, PAPER_TOKENS.entry, key)}",
            _tally(corpus.tokens(key).lengths),
            "tokens",
        )
        for key in corpus.info.get(PAPER_TOKENS.entry, {})
    ]


def _tokenizer(corpus: Corpus, entry: str, key: str) -> str:
    """The last part of a tokenizer's name, which may be a path."""
    return str(corpus.info[entry][key]["tokenizer"]).rstrip("/").rpartition("/")[2]


def _degrees(corpus: Corpus) -> list[Distribution]:
    """Papers of the corpus that each one cites, and that cite it."""
    if not (corpus.folder / "citations.npy").is_file():
        return []
    citations = corpus.citations()
    degrees = np.zeros((2, corpus.n_papers), np.int32)
    for start in range(0, len(citations), CHUNK):
        for side, papers in enumerate(np.asarray(citations[start : start + CHUNK]).T):
            counts = np.bincount(papers, minlength=corpus.n_papers)
            np.add(degrees[side], counts, out=degrees[side], casting="unsafe")
    return [
        Distribution("References of a paper", _tally(degrees[0]), "references"),
        Distribution("Citations of a paper", _tally(degrees[1]), "citations"),
    ]


def _years(corpus: Corpus) -> Distribution:
    """Years of publication; the papers without one are noted."""
    import pyarrow.parquet as pq

    years, read = Tally(), 0
    with pq.ParquetFile(corpus.folder / "papers.parquet") as file:
        for batch in file.iter_batches(batch_size=1 << 20, columns=["year"]):
            values = batch.column("year").drop_null().to_numpy()
            years.add(values[values > 0].astype(np.int64))
            read += batch.num_rows
    without = read - years.total
    return Distribution("Year", years, "", note=f"{without:,} of {read:,} papers have no year")


def _tally(values: NDArray[np.integer]) -> Tally:
    tally = Tally()
    for start in range(0, len(values), CHUNK):
        tally.add(np.asarray(values[start : start + CHUNK]))
    return tally
