"""The corpus that a recipe trains on: prepared already, or made of its files and kept."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import fields
from pathlib import Path

from sciembed_train.config.recipe_options import prepare_settings
from sciembed_train.corpus.build import cached_corpus
from sciembed_train.corpus.prepare_settings import CorpusSettings
from sciembed_train.corpus.recognise import may_cite
from sciembed_train.corpus.store.corpus_folder import Corpus
from sciembed_train.encoder.io.model_metadata import tokenizer_folder
from sciembed_train.encoder.settings import EncoderSettings
from sciembed_train.errors import UserError
from sciembed_train.inference.alignment import aligned
from sciembed_train.progress import Progress
from sciembed_train.sampling.base import Sampling
from sciembed_train.sampling.data_settings import DataSettings
from sciembed_train.sampling.triplets import TripletSampling


def recipe_sampling(data: DataSettings) -> Sampling:
    """How a recipe pairs examples; triplets where it names no sampling."""
    return data.sampling or TripletSampling()


def check_sources(data: DataSettings) -> None:
    """Raise UserError unless there is either a corpus or the files that the sampling needs."""
    files = data.raw_files
    if data.corpus is None:
        cites = data.papers is not None and may_cite(data.papers, data.columns, data.format)
        recipe_sampling(data).check_raw(files, data.format, cites)
    elif files:
        raise UserError(
            f"data.corpus and data.{next(iter(files))} are both given; give the prepared corpus, "
            "or the raw files."
        )


def check_used(data: DataSettings, typed: Collection[str]) -> None:
    """Raise UserError where an option of preparing was typed and the corpus is prepared already.

    A recipe says how its corpus is made, whether one is made or not; who types an option wants it.
    """
    if data.corpus is None:
        return
    preparing = {f"data.{field.name}" for field in fields(CorpusSettings)} - {"data.seed"}
    unused = [key for key in sorted(typed) if ".".join(key.split(".")[:2]) in preparing]
    if unused:
        raise UserError(
            f"--{unused[0]} says how a corpus is made, and {data.corpus} is made already: it would "
            "change nothing. Leave it out, or give it to prepare, or to fit with the files "
            "(--data.papers ...) in place of --data.corpus."
        )


def recipe_corpus(
    data: DataSettings, encoder: EncoderSettings, cache: Path, progress: Progress
) -> Corpus:
    """The prepared corpus that a recipe names, or one made of its files and kept for the next time.

    Raises:
        UserError: as `check_sources`, or as preparing refuses a file.
    """
    check_sources(data)
    if data.corpus is not None:
        corpus = Corpus.open(data.corpus)
        _check_triplets(data, corpus)
        return corpus
    tokenizer = str(tokenizer_folder(encoder.backbone))
    settings = prepare_settings(data, encoder, tokenizer=tokenizer)
    return cached_corpus(settings, cache, progress)


def _check_triplets(data: DataSettings, corpus: Corpus) -> None:
    """Raise UserError where a recipe wants triplets from neighbours and the corpus has others."""
    mined = corpus.info.get("settings", {}).get("triplets")
    ready = "pairs" in corpus.info.get("identity", {}).get("sources", {})
    if data.triplets_from != "neighbours" or mined is None or ready:
        return
    if mined.get("from") != "neighbours":
        raise UserError(
            f"{corpus.folder} has triplets from citations, and data.triplets_from is neighbours. "
            "Make a corpus with prepare and this recipe (-c scincl), or train on these triplets "
            "with a recipe of citations, such as -c specter."
        )


def with_alignment(sampling: Sampling, corpus: Corpus, progress: Progress) -> Sampling:
    """The sampling itself; or, where it names a model to align by, with the alignment's name.

    The alignment is made in the corpus's folder where it is missing.

    Raises:
        UserError: the corpus cannot be aligned so, or the model cannot be used.
    """
    model = sampling.alignment_model(corpus)
    if not model:
        return sampling
    try:
        name = aligned(corpus, model, progress=progress)
    except UserError as error:
        raise UserError(f"data.sampling.aligned_by: {error}") from error
    return sampling.with_alignment(name)
