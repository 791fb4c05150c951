"""The vectors of a corpus's papers by an encoder, kept in the corpus: ``vectors/NAME.npy``.

Beside them ``NAME.ids.txt`` and ``NAME.json``, which says what made them. They are written as
`embed` writes a file: a run that was killed continues.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from sciembed_train.corpus.readers.files import sha256
from sciembed_train.corpus.store.corpus_folder import Corpus
from sciembed_train.corpus.validation import Paper
from sciembed_train.errors import UserError
from sciembed_train.inference.embed_file import embed, fingerprint
from sciembed_train.inference.embedding import describe, open_encoder
from sciembed_train.inference.options import EmbedSettings
from sciembed_train.inference.output_file import write_json

VECTORS = "vectors"  # a folder
VERSION = 1
POOLED = "Name a pooling for one vector a paper with --pooling mean or cls, or another model."


class CorpusPapers:
    """The papers of a corpus as `embed` reads them.

    Args:
        corpus: with papers.
        without_text: papers with neither title nor abstract.
    """

    malformed = 0
    notes: Sequence[str] = ()

    def __init__(self, corpus: Corpus, without_text: int) -> None:
        self.corpus, self.without_text = corpus, without_text

    @property
    def source(self) -> str:
        """See `PaperSource`."""
        return str(self.corpus.folder)

    def checksums(self) -> list[dict[str, Any]]:
        """See `PaperSource`."""
        path = self.corpus.folder / "papers.parquet"
        return [{"name": path.name, "sha256": sha256(path), "bytes": path.stat().st_size}]

    def __len__(self) -> int:
        return self.corpus.n_papers

    def __iter__(self) -> Iterator[Paper]:
        for row in self.corpus.papers():
            abstract = row["abstract"]
            abstract = tuple(abstract) if isinstance(abstract, list) else abstract
            yield Paper(row["paper_id"], row["title"], abstract)


def corpus_vectors(
    corpus: Corpus,
    model: str | Path,
    name: str,
    settings: EmbedSettings,
    without_text: int,
    restart: bool,
    quiet: bool,
    another: str = POOLED,
) -> Path:
    """The file of the papers' vectors by a model; made unless it is there and of this model.

    Args:
        corpus: with papers.
        model: a model folder, a run folder or a hub name.
        name: of the file.
        settings: how the model embeds.
        without_text: papers with neither title nor abstract.
        restart: discard what an unfinished run left.
        quiet: show no progress.
        another: what to do where the model has vectors of sentences, for the message.

    Raises:
        UserError: there is no such model, or it gives no vector of a whole text.
    """
    encoder = open_encoder(model, settings)
    if encoder.pooling.per_sentence:
        raise UserError(
            f"{model} gives a vector for each sentence, and whole papers are compared here. "
            f"{another}"
        )
    papers = CorpusPapers(corpus, without_text)
    target = corpus.folder / VECTORS / f"{name}.npy"
    target.parent.mkdir(exist_ok=True)
    record = {
        "version": VERSION,
        "model": fingerprint(encoder),
        "papers": papers.checksums(),
        "how": {**describe(encoder), "precision": settings.precision},
        "format": settings.format,
    }
    record_file = target.with_suffix(".json")
    if target.is_file() and _read(record_file) == record:
        return target
    record_file.unlink(missing_ok=True)
    embed(encoder, papers, target, settings, restart=restart, quiet=quiet)
    write_json(record_file, record)
    return target


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
