"""The vectors of a run's teacher: read from files, or made by an encoder before the first step.

Vectors by an encoder are kept in the corpus, ``vectors/teacher-NUMBER.npy``; the number is of the
encoder's files, the papers and the kind of device.

Shapes: ``P`` papers of the corpus, ``U`` texts, ``E`` width of a vector.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32
from numpy.typing import NDArray

from sciembed_train.corpus.alignment import model_digest
from sciembed_train.corpus.store.corpus_folder import Corpus
from sciembed_train.errors import UserError
from sciembed_train.inference.corpus_vectors import VECTORS, CorpusPapers, corpus_vectors
from sciembed_train.inference.options import EmbedSettings
from sciembed_train.inference.stored_vectors import StoredVectors
from sciembed_train.inference.vector_files import PLAN
from sciembed_train.safety.find_model import find_folder, model_place

VERSION = 1
OF_MODELS = ("config.json", "sciembed.json", "modules.json")  # one is at the top of a model
ANOTHER = "Name another teacher, or give its vectors: `train embed` writes them."


@dataclass(frozen=True)
class PaperVectors:
    """`methods.distillation.TeacherVectors` of stored vectors.

    Args:
        name: of the teacher.
        digest: of its files.
        stored: its vectors.
    """

    name: str
    digest: str
    stored: StoredVectors

    @property
    def dim(self) -> int:
        """The width of a vector, ``E``."""
        return self.stored.dim

    def __deepcopy__(self, memo: Any) -> PaperVectors:
        return self  # mapped files, which nobody changes

    def __call__(self, texts: NDArray[np.int64]) -> Float32[np.ndarray, "U E"]:
        """The unit vectors of texts by their numbers; zeros where there is none.

        Numbers from 0 to ``P - 1`` are whole papers, others are parts of them or of no paper.
        """
        papers = len(self.stored.row)
        whole = np.flatnonzero((texts >= 0) & (texts < papers))
        rows = self.stored.row[texts[whole]]
        vectors = np.zeros((len(texts), self.dim), np.float32)
        vectors[whole[rows >= 0]] = self.stored.rows(rows[rows >= 0])
        return vectors

    def count(self, papers: NDArray[np.integer]) -> int:
        """How many of some papers have a vector."""
        return int((self.stored.row[papers] >= 0).sum())


def open_teacher(corpus: Corpus, teacher: str, device: str, quiet: bool) -> PaperVectors:
    """The vectors of a corpus's papers by a teacher; made where an encoder is named.

    Several processes may call this at once: one makes them and shows how far it is, the others
    wait.

    Args:
        corpus: with papers.
        teacher: an encoder (a model folder, a run folder or a hub name), or vectors (an .npy file,
            or a folder of such files).
        device: that an encoder runs on.
        quiet: show no progress.

    Raises:
        UserError: there is no such encoder or no such file, it cannot be used, or the corpus cannot
            be written.
        RunError: the disk is full.
    """
    try:
        place = Path(teacher).expanduser()
        if _holds_vectors(place):
            stored = StoredVectors.open(place, corpus.paper_ids(), "the vectors")
            return PaperVectors(place.name, stored.digest, stored)
        folder = find_folder(model_place(teacher))
        holds = any((folder / name).is_file() for name in OF_MODELS)
        digest = model_digest(folder, VERSION) if holds else None
        if digest is None:
            raise UserError(f"{teacher} holds neither an encoder nor vectors (.npy with .ids.txt).")
        vectors = _made(corpus, teacher, digest, device, quiet)
        stored = StoredVectors.open(vectors, corpus.paper_ids())
        return PaperVectors(_name(teacher, place), digest, stored)
    except UserError as error:
        raise UserError(f"model.teacher: {error}") from error


def _name(teacher: str, place: Path) -> str:
    """The name of a teacher; an export is named after its run."""
    if not place.is_dir():
        return teacher
    place = place.resolve()
    return place.parent.name if place.name == "export" else place.name


def _holds_vectors(place: Path) -> bool:
    """Whether a place is one of vectors, and not of an encoder."""
    if not place.is_dir():
        return place.suffix == ".npy"
    return (place / PLAN).is_file() or any(place.glob("*.ids.txt"))


def _made(corpus: Corpus, teacher: str, digest: str, device: str, quiet: bool) -> Path:
    """The file of an encoder's vectors of the papers, made unless it is there."""
    from filelock import FileLock

    settings = EmbedSettings(device=device)
    kind = device.partition(":")[0]
    # By its name on the hub a model may be known to be pooled otherwise than a folder of its files.
    name = None if Path(teacher).expanduser().is_dir() else teacher
    facts = [VERSION, digest, name, CorpusPapers(corpus, 0).checksums(), kind]
    number = hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]
    target = corpus.folder / VECTORS / f"teacher-{number}.npy"
    try:
        if not _is_whole(target):
            target.parent.mkdir(exist_ok=True)
            with FileLock(target.parent / f".{target.stem}.lock"):
                if not _is_whole(target):
                    # Papers without text are in no pair; nobody asks how many they are.
                    corpus_vectors(
                        corpus, teacher, target.stem, settings, 0, False, quiet, another=ANOTHER
                    )
    except PermissionError as error:
        raise UserError(f"{target} cannot be written: {error.strerror}.") from error
    return target


def _is_whole(vectors: Path) -> bool:
    """Whether a file of vectors is there; what says how they were made is written last."""
    return vectors.is_file() and vectors.with_suffix(".json").is_file()
