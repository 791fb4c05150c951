"""Sentence alignments that a sampling asks for."""

from __future__ import annotations

from sciembed_train.corpus.store.corpus_folder import Corpus
from sciembed_train.errors import UserError
from sciembed_train.inference.alignment import aligned
from sciembed_train.progress import Progress
from sciembed_train.sampling.base import Sampling


def with_alignment(sampling: Sampling, corpus: Corpus, progress: Progress) -> Sampling:
    """The sampling itself; or, where it names a model to align by, with the alignment's name.

    Raises:
        UserError: as `aligned`; or the corpus cannot be aligned as the sampling asks.
    """
    model = sampling.alignment_model(corpus)
    if not model:
        return sampling
    try:
        name = aligned(corpus, model, progress=progress)
    except UserError as error:
        raise UserError(f"data.sampling.aligned_by: {error}") from error
    return sampling.with_alignment(name)
