"""From papers' texts to vectors without gradients: composing, tokenising, encoding.

Shapes: ``U`` texts, ``N`` texts of a list, ``S`` sentences of a paper, ``D`` width, ``P`` vectors
of texts or of their sentences, ``K`` tokens whose states are wanted, ``H`` width of a state.
"""

from __future__ import annotations

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import normalize

from sciembed_train.batch import Sentences, TokenRows
from sciembed_train.encoder.backends.graph_files import Backend
from sciembed_train.encoder.format_reader import FormatReader
from sciembed_train.encoder.microbatch.micro_batches import default_max_tokens_per_forward
from sciembed_train.encoder.pooling.base import Pooling
from sciembed_train.encoder.settings import EncoderSettings
from sciembed_train.errors import UserError
from sciembed_train.text.input_format import InputFormat
from sciembed_train.text.sentence_spans import truncate_sentences
from sciembed_train.text.tokenizer import TextTokenizer
from sciembed_train.text.truncation import Truncation

Precision = Literal["fp32", "bf16", "fp16"]
_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


class TextInterface(nn.Module, ABC):
    """Composes and tokenises texts, and encodes them in evaluation mode; see `Encoder`.

    Attributes:
        backend: what computes the vectors: ``torch``, or a graph's runtime (`graph_files`).
        pooling: what makes vectors of a backbone's states.
        unpadded: whether texts are encoded end to end, without padding.
        truncate_dim: how many of the first numbers of each text's vector `encode_rows` gives,
            scaled to unit length again where the encoder scales; None for all.
    """

    settings: EncoderSettings
    tokenizer: TextTokenizer
    pooling: Pooling
    format_reader: FormatReader
    unpadded: bool
    backend: Backend = "torch"
    truncate_dim: int | None = None

    @abstractmethod
    def encode_tokens(
        self,
        rows: TokenRows,
        budget: int | None = None,
        progress: Callable[[int], None] | None = None,
        positions: Int[Tensor, " K"] | None = None,
        sentences: Sentences | None = None,
        formats: Int[Tensor, " U"] | None = None,
    ) -> tuple[Float[Tensor, "P D"], Float[Tensor, "K H"] | None]:
        """Vectors of the rows or of their sentences, and the last states of chosen tokens."""

    @property
    @abstractmethod
    def config(self) -> Any:
        """The backbone's configuration."""

    @property
    @abstractmethod
    def device(self) -> torch.device:
        """Where the weights are."""

    @abstractmethod
    def backbone_config(self) -> dict[str, Any]:
        """The backbone's configuration with its own dropouts, as plain values."""

    @abstractmethod
    def weights(self) -> Iterator[tuple[str, Any]]:
        """Names and bytes of all weights, for a hash, in a fixed order."""

    @property
    def dim(self) -> int:
        """Width of an embedding, ``D``: ``truncate_dim``, or the projection's or the states'."""
        return self.truncate_dim or self.settings.projection or int(self.config.hidden_size)

    @property
    def max_tokens_per_forward(self) -> int:
        """Token budget of one micro-batch on the present device."""
        return self.settings.max_tokens_per_forward or default_max_tokens_per_forward(
            self.device, self.unpadded
        )

    def compose(
        self,
        title: str | None,
        abstract: str | Sequence[str] | None,
        prompt: str | None = None,
    ) -> str:
        """One text of a paper, in this encoder's input format; ``prompt`` instead of its own."""
        form = self.settings.input_format
        if prompt is not None:
            form = replace(form, prompt=prompt)
        return form.compose(title, abstract, self.tokenizer.sep_token)

    def rows(self, texts: Sequence[str], counted: Truncation | None = None) -> TokenRows:
        """Token ids of composed texts, with special tokens, at most ``max_length`` each.

        ``counted`` counts what is cut off.
        """
        return token_rows(self.tokenizer, texts, self.settings.max_length, counted)

    def sentence_rows(
        self,
        papers: Sequence[tuple[str | None, Sequence[str]]],
        counted: Truncation | None = None,
        with_title: bool = False,
    ) -> tuple[TokenRows, Sentences]:
        """Token ids of papers' titles and sentences, and the sentences' positions in them.

        ``counted`` counts what is cut off; ``with_title`` makes titles sentences, too.
        """
        form, length = self.settings.input_format, self.settings.max_length
        return sentence_rows(self.tokenizer, papers, form, length, counted, with_title)

    @contextlib.contextmanager
    def inferring(self, precision: Precision) -> Iterator[None]:
        """Evaluation mode without gradients, in the named precision."""
        was_training = self.training
        self.eval()
        try:
            with (
                torch.inference_mode(),
                torch.autocast(self.device.type, _DTYPES[precision], enabled=precision != "fp32"),
            ):
                yield
        finally:
            self.train(was_training)

    def cut(self, vectors: Float[Tensor, "N _"]) -> Float[Tensor, "N D"]:
        """The first ``truncate_dim`` numbers of vectors, scaled again if the encoder scales."""
        if self.truncate_dim is None:
            return vectors
        vectors = vectors[:, : self.truncate_dim]
        return normalize(vectors) if self.settings.normalize else vectors

    @contextlib.contextmanager
    def full_width(self) -> Iterator[None]:
        """A context in which vectors have their full width, whatever ``truncate_dim`` is."""
        saved_dim, self.truncate_dim = self.truncate_dim, None
        try:
            yield
        finally:
            self.truncate_dim = saved_dim

    def encode_rows(
        self,
        rows: TokenRows,
        batch_tokens: int | None = None,
        precision: Precision = "fp32",
        progress: Callable[[int], None] | None = None,
        format: str | None = None,
    ) -> Float[Tensor, "N D"]:
        """Embeddings without gradients, fp32 on the host, in the order of ``rows``.

        Args:
            rows: texts on any device.
            batch_tokens: token budget of a micro-batch; None takes ``max_tokens_per_forward``.
            precision: of the matrix products.
            progress: called with the number of texts just finished.
            format: whose adapter reads them, as `input_format.FORMATS` names it; may be left
                out where there is only one, or none.

        Raises:
            UserError: there is no adapter for it.
        """
        if not len(rows):
            return torch.empty(0, self.dim)
        formats = None
        if format is not None:
            formats = torch.full((len(rows),), self.format_reader.index_of(format))
        with self.inferring(precision):
            vectors, _ = self.encode_tokens(
                rows.to(self.device),
                batch_tokens,
                progress,
                formats=formats,
            )
        # A copy made outside inference mode is an ordinary tensor.
        return self.cut(vectors.float()).cpu().clone()

    def encode_texts(
        self,
        texts: Sequence[str],
        batch_tokens: int | None = None,
        precision: Precision = "fp32",
        progress: Callable[[int], None] | None = None,
        format: str | None = None,
    ) -> Float[Tensor, "N D"]:
        """Embeddings of composed texts (`compose`), as `encode_rows`.

        All texts are sorted by length together, so give many at once.
        """
        if not texts:
            return torch.empty(0, self.dim)
        rows = many_token_rows(self.tokenizer, texts, self.settings.max_length)
        return self.encode_rows(rows, batch_tokens, precision, progress, format)

    def encode_sentences(
        self,
        papers: Sequence[tuple[str | None, Sequence[str]]],
        batch_tokens: int | None = None,
        precision: Precision = "fp32",
        progress: Callable[[int], None] | None = None,
        counted: Truncation | None = None,
        with_title: bool = False,
    ) -> list[Float[Tensor, "S D"]]:
        """The vectors of each paper's sentences, without gradients, fp32 on the host.

        A paper with only a title has one vector, of all its tokens. Sentences beyond
        ``max_length`` or without tokens have none, and the last may be shortened
        (`truncate_sentences`).

        Args:
            papers: each one's title and the sentences of its abstract.
            batch_tokens: as for `encode_rows`.
            precision: of the matrix products.
            progress: called with the number of papers just finished.
            counted: counts what is cut off.
            with_title: a title is the first sentence of its paper.

        Raises:
            UserError: a paper has neither a title nor a sentence.
        """
        vectors_of_papers: list[Tensor] = []
        for start in range(0, len(papers), 4096):
            part = papers[start : start + 4096]
            rows, sentences = self.sentence_rows(part, counted, with_title)
            with self.inferring(precision):
                vectors, _ = self.encode_tokens(
                    rows.to(self.device),
                    batch_tokens,
                    progress,
                    sentences=sentences,
                )
            vectors_of_papers += vectors.float().cpu().clone().split(sentences.counts.tolist())
        return vectors_of_papers


def token_rows(
    tokenizer: TextTokenizer,
    texts: Sequence[str],
    max_length: int,
    counted: Truncation | None = None,
) -> TokenRows:
    """Token ids of composed texts, with special tokens, at most ``max_length`` each.

    ``counted`` counts what is cut off.
    """
    return TokenRows.from_lists(tokenizer.rows(texts, max_length, counted))


def many_token_rows(tokenizer: TextTokenizer, texts: Sequence[str], max_length: int) -> TokenRows:
    """`token_rows` of at least one text, made in parts: lists of Python integers are bulky."""
    ids, lengths = [], []
    for start in range(0, len(texts), 4096):
        part = token_rows(tokenizer, texts[start : start + 4096], max_length)
        ids.append(part.ids.numpy().astype(np.int32))
        lengths.append(part.lengths)
    return TokenRows(torch.from_numpy(np.concatenate(ids)).long(), torch.cat(lengths))


def sentence_rows(
    tokenizer: TextTokenizer,
    papers: Sequence[tuple[str | None, Sequence[str]]],
    input_format: InputFormat,
    max_length: int,
    counted: Truncation | None = None,
    with_title: bool = False,
) -> tuple[TokenRows, Sentences]:
    """Token ids of papers, and the positions of their abstracts' sentences in them.

    Of each paper at most ``max_length`` tokens, special tokens included; ``counted`` counts what
    is cut off; ``with_title`` makes a title the first sentence of its paper.

    Raises:
        UserError: a paper has neither a title nor a sentence.
    """
    texts = [
        input_format.compose_sentences(title, sentences, tokenizer.sep_token, with_title)
        for title, sentences in papers
    ]
    bodies = tokenizer.encode_sentences(*zip(*texts, strict=True))
    for paper, body in zip(papers, bodies, strict=True):
        if not body.ids:
            raise UserError(f"A paper has neither title nor abstract to encode: {paper!r}.")
    prefix, suffix = tokenizer.prefix, tokenizer.suffix
    body_length = max_length - len(prefix) - len(suffix)
    if counted is not None:
        counted.add(np.array([len(body.ids) for body in bodies]), body_length)
    starts, lengths, counts = truncate_sentences(
        np.array([start for body in bodies for start in body.starts], np.int64),
        np.array([length for body in bodies for length in body.lengths], np.int64),
        np.array([len(body.starts) for body in bodies]),
        np.array([len(body.ids) for body in bodies]),
        body_length,
    )
    rows = TokenRows.from_lists([[*prefix, *body.ids[:body_length], *suffix] for body in bodies])
    positions = torch.from_numpy(starts + len(prefix))
    return rows, Sentences(positions, torch.from_numpy(lengths), torch.from_numpy(counts))
