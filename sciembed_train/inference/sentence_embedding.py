"""Papers as their sentences' vectors, and distances between them.

A paper is the sentences of its abstract, else its title; the title before an abstract gives
context and is no sentence of its own. A paper without any text has no sentence and is farther
than every other.

Shapes: ``P`` papers, ``S`` sentences of one or of them all, ``A`` sentences of the query, ``K``
papers of a pool, ``F`` sentences of several of these, ``D`` width of a vector; ``O`` is ``P + 1``.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Float32, Int64

from sciembed_train.batch import TokenRows
from sciembed_train.corpus.store.sentence_store import abstract_sentences
from sciembed_train.full_disk import told_full_disk
from sciembed_train.inference.embedding import (
    NotFiniteError,
    Text,
    chunk_size,
    chunks,
    encode,
    max_tokens_per_forward,
    prefetched,
    refuse_not_finite,
)
from sciembed_train.inference.options import EmbedSettings
from sciembed_train.losses.similarity import pairwise_euclidean
from sciembed_train.losses.transport import TransportSettings, transport
from sciembed_train.text.truncation import Truncation

if TYPE_CHECKING:
    from sciembed_train.encoder.text_interface import TextInterface

PART = 2**14  # sentences that are compared with a paper at once
OF_TEMPORARY = (
    "Vectors of sentences are kept there for a while. Make room, or name another folder with the "
    "environment variable TMPDIR, and run the same command again."
)
ENTRIES = 2**21  # numbers of the padded vectors that transport takes at once: 16 MiB

Sentenced = tuple[str | None, list[str]]  # title, and sentences; no sentence: the title is it
Vectors = Float32[np.ndarray, "_ D"]  # a paper's sentences; others in a list have other counts


def sentenced(text: Text) -> Sentenced:
    """The title and the sentences of a text."""
    title, abstract = text
    return title, abstract_sentences(abstract)


def in_papers(
    encoder: TextInterface,
    papers: Iterable[Sentenced],
    settings: EmbedSettings,
    done: Callable[[int], Any] | None = None,
    counted: Truncation | None = None,
    with_title: bool = False,
) -> Iterator[list[Vectors]]:
    """The vectors of each paper's sentences, encoded in the whole paper; a chunk at a time.

    A sentence is the mean of its tokens' last states, whatever the encoder's pooling; sentences
    beyond the encoder's greatest length have none. ``done`` gets the number of papers just
    finished, ``counted`` what is cut of them. ``with_title`` makes a title a sentence, the first.

    Raises:
        NotFiniteError: a vector is not finite.
    """
    for chunk in chunks(papers, chunk_size(max_tokens_per_forward(encoder, settings))):
        has_tokens = [is_readable(encoder, paper) for paper in chunk]
        readable = [paper for paper, has in zip(chunk, has_tokens, strict=True) if has]
        budget, precision = settings.batch_tokens, settings.precision
        encoded = []
        if readable:
            encoded = encoder.encode_sentences(
                readable, budget, precision, done, counted, with_title
            )
        vectors = iter([rows.numpy() for rows in encoded])
        none = np.empty((0, encoder.dim), np.float32)
        part = [next(vectors) if has else none for has in has_tokens]
        _refuse_not_finite(part, settings)
        if done is not None:
            done(len(chunk) - len(readable))
        yield part


def _refuse_not_finite(papers: list[Vectors], settings: EmbedSettings) -> None:
    """`refuse_not_finite`, by papers."""
    try:
        refuse_not_finite(np.concatenate(papers), settings.precision)
    except NotFiniteError as error:
        counts = [len(vectors) for vectors in papers]
        number = int(np.searchsorted(np.cumsum(counts), error.number, "right"))
        raise error.named(f"a sentence of paper {number + 1}", number) from None


def alone(
    encoder: TextInterface,
    papers: Iterable[Sentenced],
    settings: EmbedSettings,
    done: Callable[[int], Any] | None = None,
) -> Iterator[list[Vectors]]:
    """The vectors of each paper's sentences, encoded one by one; otherwise as `in_papers`.

    Raises:
        NotFiniteError: a vector is not finite.
    """

    def tokenize(chunk: list[Sentenced]) -> tuple[TokenRows, list[int]]:
        texts = [
            sentences or [title] if is_readable(encoder, (title, sentences)) else []
            for title, sentences in chunk
        ]
        composed = [encoder.compose(sentence, None) for part in texts for sentence in part]
        return encoder.rows(composed), [len(part) for part in texts]

    size = chunk_size(max_tokens_per_forward(encoder, settings))
    for rows, counts in prefetched(chunks(papers, size), tokenize):
        try:
            vectors = encode(encoder, rows, settings)
        except NotFiniteError as error:
            number = int(np.searchsorted(np.cumsum(counts), error.number, "right"))
            raise error.named(f"a sentence of paper {number + 1}", number) from None
        yield np.split(vectors, np.cumsum(counts)[:-1])
        if done is not None:
            done(len(counts))


def is_readable(encoder: TextInterface, paper: Sentenced) -> bool:
    """Whether a paper has printable characters, and the tokenizer makes a token of them."""
    title, sentences = paper
    form = encoder.settings.input_format
    text = " ".join((*form.parts([title]), *form.parts(sentences)))
    shown = [c for c in text if c.isprintable() and not c.isspace()]
    # Letters and digits always give one; a tokenizer may drop all other characters.
    return any(map(str.isalnum, shown)) or bool(
        shown and encoder.tokenizer.encode(["".join(shown)])[0]
    )


@dataclass(frozen=True)
class PaperSentences:
    """The vectors of papers' sentences, on disk and memory-mapped.

    Args:
        vectors: paper after paper.
        range_starts: index of each paper's first sentence, and the number of all sentences.
    """

    vectors: Float32[np.ndarray, "S D"]
    range_starts: Int64[np.ndarray, " O"]

    @classmethod
    def write(cls, parts: Iterable[list[Vectors]], dim: int) -> PaperSentences:
        """Keep what `in_papers` or `alone` gives, in an unnamed file of the temporary folder.

        Raises:
            RunError: the temporary folder is full.
        """
        counts = [0]
        # How many sentences there are is known at the end, and they may be more than memory holds.
        with tempfile.TemporaryFile() as file:
            with told_full_disk(Path(tempfile.gettempdir()), OF_TEMPORARY):
                for part in parts:
                    counts += [len(vectors) for vectors in part]
                    file.write(np.concatenate(part).tobytes())
                file.flush()
            shape = sum(counts), dim
            kept = np.memmap(file, np.float32, "r", shape=shape) if shape[0] else np.empty(shape)
        return cls(np.asarray(kept, np.float32), np.cumsum(counts))

    def of(self, paper: int) -> Vectors:
        """One paper's vectors."""
        return self.vectors[self.range_starts[paper] : self.range_starts[paper + 1]]

    def counts(self, papers: Int64[np.ndarray, " K"]) -> Int64[np.ndarray, " K"]:
        """The number of sentences of each."""
        return self.range_starts[papers + 1] - self.range_starts[papers]

    def gathered(self, papers: Int64[np.ndarray, " K"]) -> Float32[np.ndarray, "F D"]:
        """The vectors of several papers, paper after paper."""
        counts = self.counts(papers)
        within = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
        return self.vectors[within + np.repeat(self.range_starts[papers], counts)]


def nearest_pair(
    query: Float32[np.ndarray, "A D"],
    papers: PaperSentences,
    pool: Int64[np.ndarray, " K"],
    device: torch.device | str = "cpu",
) -> Float32[np.ndarray, " K"]:
    """For each paper of a pool, the smallest distance of one of its sentences to a query sentence.

    ``min_ij || a_i - b_j ||``: tsAspire, Mysore et al. (2022), and of unit vectors the greatest
    cosine. Infinite where there is no sentence.
    """
    distances = np.full(len(pool), np.inf, np.float32)
    candidates = np.flatnonzero(papers.counts(pool)) if len(query) else np.empty(0, np.int64)
    query_rows = torch.as_tensor(np.array(query), device=device)
    for block in _blocks(candidates, papers.counts(pool[candidates]), PART):
        vectors = torch.as_tensor(papers.gathered(pool[block]), device=device)
        nearest = pairwise_euclidean(query_rows, vectors).amin(0).cpu().numpy()
        counts = papers.counts(pool[block])
        distances[block] = np.minimum.reduceat(nearest, np.cumsum(counts) - counts)
    return distances


def transported(
    query: Float32[np.ndarray, "A D"],
    papers: PaperSentences,
    pool: Int64[np.ndarray, " K"],
    settings: TransportSettings,
    device: torch.device | str = "cpu",
) -> Float32[np.ndarray, " K"]:
    """For each paper of a pool, the cost of moving the query's sentences onto its sentences.

    ``sum_ij P_ij C_ij`` (`transport.transport`): otAspire, Mysore et al. (2022). Infinite where
    there is no sentence. Computed in float64 and rounded to float32, so that two papers with the
    same vectors cost the same at any position: rounding removes what padding and position change.
    """
    costs = np.full(len(pool), np.inf, np.float32)
    if not len(query):
        return costs
    counts = papers.counts(pool)
    # By length, so that a block needs little padding.
    candidates = np.argsort(counts, kind="stable")[(counts == 0).sum() :]
    query_rows = torch.as_tensor(np.array(query), device=device).double()[None]
    width = query_rows.shape[2]
    # Memory of a pair: the vectors of its papers and its distances, padded to the longest's.
    sizes = (counts[candidates] + len(query)) * width + 4 * counts[candidates] * len(query)
    for block in _blocks(candidates, sizes, ENTRIES):
        lengths = torch.as_tensor(counts[block], device=device)
        mask = torch.arange(int(lengths.max()), device=device) < lengths[:, None]
        b = query_rows.new_zeros(*mask.shape, width)
        b[mask] = torch.as_tensor(papers.gathered(pool[block]), device=device).double()
        a = query_rows.expand(len(b), -1, -1)
        with torch.no_grad():
            cost = transport(a, b, mask.new_ones(a.shape[:2]), mask, settings).cost
        costs[block] = cost.float().cpu().numpy()
    return costs


def _blocks(
    items: Int64[np.ndarray, " N"], sizes: Sequence[int] | Int64[np.ndarray, " N"], most: int
) -> Iterator[Int64[np.ndarray, " M"]]:
    """The items in blocks whose sizes add up to ``most`` or less; a larger item is alone."""
    start = total = 0
    for at, size in enumerate(sizes):
        if total + size > most and at > start:
            yield items[start:at]
            start, total = at, 0
        total += int(size)
    if start < len(items):
        yield items[start:]
