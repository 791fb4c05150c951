"""Sentence alignments that a sampling asks for."""

from __future__ import annotations

from dataclasses import replace

from sciembed_train.corpus.store.corpus_folder import Corpus
from sciembed_train.errors import UserError
from sciembed_train.inference.alignment import aligned
from sciembed_train.progress import Progress
from sciembed_train.sampling.base import Sampling


def with_alignment(sampling: Sampling, corpus: Corpus, progress: Progress) -> Sampling:
    """The sampling itself; or, where it names a model to align by, with the alignment's name.

    Raises:
        UserError: as `aligned`; or contexts are asked for, and the corpus has none.
    """
    from sciembed_train.sampling.sentence_pairs import SentencePairSampling, no_contexts

    if not isinstance(sampling, SentencePairSampling) or not sampling.aligned_by:
        return sampling
    if sampling.align == "context" and not corpus.info["counts"].get("contexts"):
        raise no_contexts(corpus)  # before thousands of sentences are encoded
    try:
        name = aligned(corpus, sampling.aligned_by, progress=progress)
    except UserError as error:
        raise UserError(f"data.sampling.aligned_by: {error}") from error
    return replace(sampling, aligned_by=name)
