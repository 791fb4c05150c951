"""Sentence alignments of co-cited papers, by an encoder of sentences.

A sentence that cites two papers together says what they share (Aspire, Mysore, Cohan and Hope 2022,
section 3.3). `sentence_alignment` has the equations. Vectors are compared as the encoder was
trained for; the published code took the dot product of vectors that were trained by their distance
(``--similarity dot``).

Every sentence and every context is encoded once, into a file that is mapped; pairs are compared
some thousands at a time.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, cast, get_args

import numpy as np

from sciembed_train.corpus.alignment import (
    ALIGNED,
    ALIGNMENTS_VERSION,
    MARKER,
    AlignSettings,
    By,
    alignment_folder,
    alignment_name,
    alignment_names,
    choose_contexts,
    context_texts,
    paper_texts,
)
from sciembed_train.corpus.store.corpus_files import save_info, written_whole
from sciembed_train.corpus.store.corpus_folder import Corpus
from sciembed_train.corpus.token_writing import split_abstracts
from sciembed_train.errors import UserError
from sciembed_train.inference.options import EmbedSettings
from sciembed_train.inference.sentence_alignment import Grouped, align_pairs
from sciembed_train.progress import Progress

CHUNK = 2**14  # pairs compared at once; neighbours share papers, whose vectors are read together


def check_name(name: str) -> None:
    """Raise UserError unless it is a name for an alignment."""
    if not re.fullmatch(r"\w[\w.-]*", name):
        raise UserError(f"--name {name}: expected letters, digits, and . _ - between them.")


def aligned(
    corpus: Corpus,
    model: str | Path,
    settings: AlignSettings | None = None,
    name: str = "",
    progress: Progress | None = None,
    device: str = "auto",
) -> str:
    """The name of an alignment of a corpus's pairs, which is made unless it exists.

    Several processes may call this at once: one makes it, the others wait. ``model`` is a model
    folder, a run's folder, a hub name or the name of an alignment; ``name`` takes the place of the
    one that the model's files and the settings give.

    Raises:
        UserError: there is nothing to align or no such model, the name is taken, or the corpus
            cannot be written.
    """
    from filelock import FileLock

    from sciembed_train.safety.find_model import find_folder, model_place

    if str(model) in alignment_names(corpus):
        return str(model)
    settings = settings or AlignSettings()
    model_folder = find_folder(model_place(model))
    known_by = alignment_name(model_folder, settings)
    if name:
        check_name(name)
    name = name or known_by
    to = alignment_folder(corpus, name)
    try:
        if not (to / MARKER).is_file():
            to.parent.mkdir(exist_ok=True)
            with FileLock(to.parent / f".{name}.lock"):
                if not (to / MARKER).is_file():
                    _write_alignment(corpus, model_folder, settings, to, known_by, progress, device)
    except PermissionError as error:
        raise UserError(f"{to} cannot be written: {error.strerror}.") from error
    if json.loads((to / MARKER).read_text(encoding="utf-8")).get("known_by") != known_by:
        raise UserError(
            f"{to} was made by another model or with other settings. Give another --name, or "
            "remove it."
        )
    return name


def _write_alignment(
    corpus: Corpus,
    model_folder: Path,
    settings: AlignSettings,
    to: Path,
    known_by: str,
    progress: Progress | None,
    device: str,
) -> None:
    """Align the pairs of every split, into a folder that appears when it is whole."""
    progress = progress or Progress(quiet=True)
    pairs = {split: np.asarray(corpus.cocitations(split), np.int64) for split in ALIGNED}
    by = similarity_of(model_folder, settings.similarity)
    chosen = {split: choose_contexts(corpus, split, settings) for split in ALIGNED}
    papers = np.unique(np.concatenate([rows.ravel() for rows in pairs.values()]))
    numbers = np.unique(np.concatenate([c.contexts for c in chosen.values()]))
    split_abstracts(corpus, progress)
    with written_whole(to, MARKER) as folder:
        work = folder / "work"
        work.mkdir()
        encode = _Encoding(model_folder, device, work, progress)
        sentences = encode.grouped("sentences", paper_texts(corpus, papers))
        contexts = encode.grouped("contexts", ([text] for text in context_texts(corpus, numbers)))
        counts: dict[str, Any] = {}
        with progress.stage("aligning", sum(map(len, pairs.values())), "pairs") as stage:
            for split, rows in pairs.items():
                paper_rows = np.searchsorted(papers, rows)
                context_rows = np.searchsorted(numbers, chosen[split].contexts)
                aligned_rows = np.empty((len(rows), 4), np.int16)
                for at in range(0, len(rows), CHUNK):
                    part = slice(at, min(at + CHUNK, len(rows)))
                    range_starts = chosen[split].range_starts[part.start : part.stop + 1]
                    part_rows = context_rows[range_starts[0] : range_starts[-1]]
                    by_pair = Grouped(contexts.vectors, range_starts - range_starts[0], part_rows)
                    aligned_rows[part] = align_pairs(paper_rows[part], sentences, by_pair, by)
                    stage.advance(part.stop - part.start)
                np.save(folder / f"{split}.npy", aligned_rows)
                with_any = chosen[split].pairs_with_any
                counts[split] = {"pairs": len(rows), "with_contexts": with_any}
        shutil.rmtree(work)
        info = {"version": ALIGNMENTS_VERSION, "model": str(model_folder), "known_by": known_by}
        info |= asdict(replace(settings, similarity=by))
        save_info(folder, info | {"counts": counts}, MARKER)


class _Encoding:
    """An encoder that writes what it encodes to files."""

    def __init__(self, model_folder: Path, device: str, work: Path, progress: Progress) -> None:
        from sciembed_train.inference.embedding import open_encoder

        self.settings = EmbedSettings(device=device)
        self.encoder = open_encoder(model_folder, self.settings)
        self.work, self.progress = work, progress

    def grouped(self, name: str, groups: Iterable[list[str]]) -> Grouped:
        """The vectors of groups of texts, each text read by itself."""
        from sciembed_train.inference.embedding import (
            chunk_size,
            encode,
            max_tokens_per_forward,
            token_chunks,
        )

        counts = [0]

        def texts() -> Iterator[tuple[str, None]]:
            for group in groups:
                counts.append(len(group))
                yield from ((text, None) for text in group)

        path, width = self.work / f"{name}.f32", self.encoder.dim
        size = chunk_size(max_tokens_per_forward(self.encoder, self.settings))
        with self.progress.stage(f"encoding {name}", unit=name) as stage, path.open("wb") as file:
            for rows in token_chunks(self.encoder, texts(), size):
                vectors = encode(self.encoder, rows, self.settings)
                file.write(np.ascontiguousarray(vectors, np.float32).data)
                stage.advance(len(rows))
        range_starts = np.cumsum(np.array(counts, np.int64))
        if not range_starts[-1]:
            return Grouped(np.zeros((0, width), np.float32), range_starts)
        return Grouped(np.memmap(path, np.float32, "r").reshape(-1, width), range_starts)


def similarity_of(model_folder: Path, requested: By) -> By:
    """How the vectors of a model folder are compared.

    Raises:
        UserError: the model has no vector of a sentence by itself, or records another similarity.
    """
    from sciembed_train.encoder.io.model_metadata import read_metadata

    recorded = read_metadata(model_folder)
    if recorded.per_sentence:
        raise UserError(
            f"{model_folder}: gives vectors of sentences in their papers and none of a citing "
            "sentence. Align by an encoder of single sentences."
        )
    if requested != "recorded":
        return requested
    similarity = recorded.similarity or "euclidean"
    if similarity not in (known := get_args(By)[1:]):
        raise UserError(
            f"{model_folder} compares its vectors by {similarity}; sentences are aligned by "
            f"{', '.join(known)}. Name the one to use with --similarity."
        )
    return cast(By, similarity)
