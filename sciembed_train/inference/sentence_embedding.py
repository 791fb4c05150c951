"""Papers as their sentences' vectors, and distances between them.

A paper is the sentences of its abstract, else its title; the title before an abstract gives
context and is no sentence of its own. A paper without any text has no sentence and is farther
than every other.

Shapes: ``P`` papers, ``S`` sentences of one or of them all, ``A`` sentences that ask, ``K`` papers
of a pool, ``F`` sentences of some of these, ``D`` width of a vector; ``O`` is ``P + 1``.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Float32, Int64

from sciembed_train.batch import TokenRows
from sciembed_train.corpus.store.sentence_store import abstract_sentences
from sciembed_train.errors import UserError
from sciembed_train.inference.embedding import (
    Text,
    ahead,
    chunk_size,
    chunks,
    encode,
    max_tokens_per_forward,
    refuse_not_finite,
)
from sciembed_train.inference.options import EmbedSettings
from sciembed_train.losses.similarity import pairwise_euclidean
from sciembed_train.losses.transport import TransportSettings, transport

if TYPE_CHECKING:
    from sciembed_train.encoder.encoder import Encoder

PART = 2**14  # sentences that meet a paper at once
ENTRIES = 2**21  # numbers of the padded vectors that transport takes at once: 16 MiB

Sentenced = tuple[str | None, list[str]]  # title, and sentences; no sentence: the title is it
Vectors = Float32[np.ndarray, "_ D"]  # a paper's sentences; others in a list have other counts


def sentenced(text: Text) -> Sentenced:
    """The title and the sentences of a text."""
    title, abstract = text
    return title, abstract_sentences(abstract)


def in_papers(
    encoder: Encoder,
    papers: Iterable[Sentenced],
    settings: EmbedSettings,
    done: Callable[[int], Any] | None = None,
) -> Iterator[list[Vectors]]:
    """Of some papers at a time the vectors of each one's sentences, encoded in the whole paper.

    Sentences beyond the encoder's greatest length are not there.

    Args:
        encoder: of any pooling; a sentence is the mean of its tokens' last states.
        papers: from `sentenced`.
        settings: how it embeds.
        done: called with the number of papers just finished.

    Raises:
        UserError: a vector is not finite.
    """
    for few in chunks(papers, chunk_size(max_tokens_per_forward(encoder, settings))):
        readable = [is_read(encoder, paper) for paper in few]
        asked = [paper for paper, there in zip(few, readable, strict=True) if there]
        budget, precision = settings.batch_tokens, settings.precision
        encoded = encoder.encode_sentences(asked, budget, precision, done) if asked else []
        found = iter([vectors.numpy() for vectors in encoded])
        none = np.empty((0, encoder.dim), np.float32)
        part = [next(found) if there else none for there in readable]
        refuse_not_finite(np.concatenate(part), settings)
        if done is not None:
            done(len(few) - len(asked))
        yield part


def alone(
    encoder: Encoder,
    papers: Iterable[Sentenced],
    settings: EmbedSettings,
    done: Callable[[int], Any] | None = None,
) -> Iterator[list[Vectors]]:
    """Of some papers at a time the vectors of each one's sentences, encoded one by one.

    Args:
        encoder: gives a vector of a text.
        papers: from `sentenced`.
        settings: how it embeds.
        done: called with the number of papers just finished.

    Raises:
        UserError: a vector is not finite.
    """

    def tokenize(few: list[Sentenced]) -> tuple[TokenRows, list[int]]:
        texts = [
            sentences or [title] if is_read(encoder, (title, sentences)) else []
            for title, sentences in few
        ]
        composed = [encoder.compose(sentence, None) for part in texts for sentence in part]
        return encoder.rows(composed), [len(part) for part in texts]

    size = chunk_size(max_tokens_per_forward(encoder, settings))
    for rows, counts in ahead(chunks(papers, size), tokenize):
        vectors = encode(encoder, rows, settings)
        yield np.split(vectors, np.cumsum(counts)[:-1])
        if done is not None:
            done(len(counts))


def is_read(encoder: Encoder, paper: Sentenced) -> bool:
    """Whether there is anything to read: characters that are shown, and a token of them."""
    title, sentences = paper
    shown = [c for c in " ".join((title or "", *sentences)) if c.isprintable() and not c.isspace()]
    # Of letters and digits there always is one; of other signs a tokenizer may leave nothing.
    return any(map(str.isalnum, shown)) or bool(
        shown and encoder.tokenizer.encode(["".join(shown)])[0]
    )


@dataclass(frozen=True)
class PaperSentences:
    """The sentences' vectors of some papers, on disk and mapped.

    Args:
        vectors: paper after paper.
        range_starts: place of each paper's first sentence, and the number of all.
    """

    vectors: Float32[np.ndarray, "S D"]
    range_starts: Int64[np.ndarray, " O"]

    @classmethod
    def write(cls, parts: Iterable[list[Vectors]], dim: int) -> PaperSentences:
        """Keep what `in_papers` or `alone` gives, in an unnamed file of the temporary folder.

        Raises:
            UserError: the temporary folder has no room.
        """
        counts = [0]
        # How many sentences there are is known at the end, and they may be more than memory holds.
        with tempfile.TemporaryFile() as file:
            try:
                for part in parts:
                    counts += [len(vectors) for vectors in part]
                    file.write(np.concatenate(part).tobytes())
                file.flush()
            except OSError as error:
                if error.errno not in (28, 122):  # no space, quota: the user can mend it
                    raise
                raise UserError(
                    f"{tempfile.gettempdir()} has no room for the vectors of the sentences. Name a "
                    "folder that has with the environment variable TMPDIR."
                ) from error
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
    asking: Float32[np.ndarray, "A D"],
    papers: PaperSentences,
    pool: Int64[np.ndarray, " K"],
    device: torch.device | str = "cpu",
) -> Float32[np.ndarray, " K"]:
    """Of each paper the smallest distance of one of its sentences to one that asks.

    ``min_ij || a_i - b_j ||``: tsAspire, Mysore et al. (2022), and of unit vectors the greatest
    cosine. Infinite where there is no sentence.

    Args:
        asking: the vectors of the sentences that ask.
        papers: those of all papers.
        pool: the papers that are wanted.
        device: where to compute.
    """
    found = np.full(len(pool), np.inf, np.float32)
    there = np.flatnonzero(papers.counts(pool)) if len(asking) else np.empty(0, np.int64)
    few = torch.as_tensor(np.array(asking), device=device)
    for places in _cut(there, papers.counts(pool[there]), PART):
        vectors = torch.as_tensor(papers.gathered(pool[places]), device=device)
        nearest = pairwise_euclidean(few, vectors).amin(0).cpu().numpy()
        counts = papers.counts(pool[places])
        found[places] = np.minimum.reduceat(nearest, np.cumsum(counts) - counts)
    return found


def transported(
    asking: Float32[np.ndarray, "A D"],
    papers: PaperSentences,
    pool: Int64[np.ndarray, " K"],
    settings: TransportSettings,
    device: torch.device | str = "cpu",
) -> Float32[np.ndarray, " K"]:
    """Of each paper the cost of moving the sentences that ask onto its sentences.

    ``sum_ij P_ij C_ij`` (`transport.transport`): otAspire, Mysore et al. (2022). Infinite where
    there is no sentence. Computed in float64 and rounded to float32, so that two papers with the
    same vectors cost the same wherever they stand: what padding and place change goes by rounding.

    Args:
        asking: the vectors of the sentences that ask.
        papers: those of all papers.
        pool: the papers that are wanted.
        settings: of the transport.
        device: where to compute.
    """
    found = np.full(len(pool), np.inf, np.float32)
    if not len(asking):
        return found
    counts = papers.counts(pool)
    there = np.argsort(counts, kind="stable")[(counts == 0).sum() :]  # like lengths meet
    few = torch.as_tensor(np.array(asking), device=device).double()[None]
    # What a pair takes: the vectors of its papers and its distances, padded to the longest's.
    sizes = (counts[there] + len(asking)) * few.shape[2] + 4 * counts[there] * len(asking)
    for places in _cut(there, sizes, ENTRIES):
        lengths = torch.as_tensor(counts[places], device=device)
        b_there = torch.arange(int(lengths.max()), device=device) < lengths[:, None]
        b = few.new_zeros(*b_there.shape, few.shape[2])
        b[b_there] = torch.as_tensor(papers.gathered(pool[places]), device=device).double()
        a = few.expand(len(b), -1, -1)
        with torch.no_grad():
            cost = transport(a, b, b_there.new_ones(a.shape[:2]), b_there, settings).cost
        found[places] = cost.float().cpu().numpy()
    return found


def _cut(
    items: Int64[np.ndarray, " N"], sizes: Sequence[int] | Int64[np.ndarray, " N"], most: int
) -> Iterator[Int64[np.ndarray, " M"]]:
    """The items in runs whose sizes add up to ``most`` or less; a larger one stands alone."""
    start = total = 0
    for at, size in enumerate(sizes):
        if total + size > most and at > start:
            yield items[start:at]
            start, total = at, 0
        total += int(size)
    if start < len(items):
        yield items[start:]
