"""A loaded encoder that takes papers and gives vectors: the one that Python programs use."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float32

from sciembed_train.errors import UserError
from sciembed_train.inference.embedding import Text, embed_texts, open_encoder
from sciembed_train.inference.options import EmbedSettings
from sciembed_train.inference.sentence_embedding import in_papers, sentenced
from sciembed_train.progress import Progress

if TYPE_CHECKING:
    from sciembed_train.encoder.text_interface import TextInterface

Paper = Mapping[str, Any] | Text | str


class PaperEncoder:
    """An encoder on its device, with the settings by which it embeds.

    Raises:
        UserError: no such model, or no such device.
    """

    def __init__(self, folder: str | Path, settings: EmbedSettings) -> None:
        self.folder, self.settings = folder, settings
        self.encoder: TextInterface = open_encoder(folder, settings)

    @property
    def dim(self) -> int:
        """The width of a vector."""
        return self.encoder.dim

    def encode(
        self, papers: Iterable[Paper], progress: bool = False
    ) -> Float32[np.ndarray, "P D"] | list[Float32[np.ndarray, "_ D"]]:
        """The vectors of papers, in their order.

        Args:
            papers: each a mapping with ``title`` and ``abstract`` (a string or a list of
                sentences), a pair of these, or a title alone; a missing or empty part is left out.
            progress: show a progress bar on standard error.

        Returns:
            One row a paper; of a multi-vector model a list with an array for each paper, one row a
            sentence.

        Raises:
            UserError: a paper is none of these, or a vector is not finite.

        Example:
            >>> encoder = load_encoder("checkpoints/specter/export")
            >>> encoder.encode([{"title": "Attention", "abstract": "We ..."}]).shape
            (1, 768)
        """
        texts = [_text(paper, number) for number, paper in enumerate(papers)]
        by_sentence = self.encoder.pooling.per_sentence
        if not texts:
            return [] if by_sentence else np.empty((0, self.dim), np.float32)
        with Progress(quiet=not progress).stage("embedding", len(texts), "papers") as stage:
            if by_sentence:
                papers_read = map(sentenced, texts)
                parts = in_papers(self.encoder, papers_read, self.settings, stage.advance)
                return [vectors for part in parts for vectors in part]
            return embed_texts(self.encoder, texts, len(texts), self.settings, stage.advance)

    def __repr__(self) -> str:
        kind, device = self.encoder.settings.pooling, self.encoder.device
        return f"PaperEncoder({self.folder}, {self.dim} wide, pooling {kind}, on {device})"


def _text(paper: Paper, number: int) -> Text:
    if isinstance(paper, str):
        return paper, None
    if isinstance(paper, Mapping):
        title, abstract = paper.get("title"), paper.get("abstract")
    else:
        title, abstract = paper
    sentences = isinstance(abstract, Sequence) and not isinstance(abstract, str)
    whole = isinstance(abstract, str | None) or (
        sentences and all(isinstance(sentence, str | None) for sentence in abstract)
    )
    if not isinstance(title, str | None) or not whole:
        raise UserError(
            f"paper {number}: `title` must be text or None and `abstract` text, a list of "
            f"sentences or None; got {type(title).__name__} and {type(abstract).__name__}."
        )
    return title, abstract
