"""The aligned sentences of co-cited papers, as `train align` writes them, and their texts.

An alignment is a folder ``alignments/<name>/`` of a corpus: ``alignment.json``, and for each split
``<split>.npy`` (int16 ``[N, 4]``): for each pair of `Corpus.cocitations` the sentence of each paper
that is closest to its citing sentences, then the two most similar sentences, numbered in their
abstracts from 0; -1 where none is known. A paper without an abstract has one sentence, its title.

Shapes: ``N`` pairs of a split.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from sciembed_train.corpus.store.checksums import check_file
from sciembed_train.corpus.store.corpus_files import Split
from sciembed_train.corpus.store.corpus_folder import Corpus
from sciembed_train.corpus.store.token_store import load_array
from sciembed_train.errors import UserError

ALIGNMENTS_VERSION = 1
ALIGNED: tuple[Split, ...] = ("train", "dev")
MARKER = "alignment.json"
# Files of a model folder that its vectors depend on: weights, vocabularies, settings, graphs.
_MODEL_FILES = (
    *(".safetensors", ".bin", ".json", ".txt", ".model"),
    *(".onnx", ".data", ".onnx_data", ".xml"),
)

ROWS = 2**16  # pairs read at once
TEXTS = 2**13  # contexts read at once
AGAIN = "Remove the corpus and run prepare again."

Ints = NDArray[np.int64]
By = Literal["recorded", "euclidean", "cosine", "dot"]


@dataclass(frozen=True)
class AlignSettings:
    """How sentences are aligned.

    Args:
        similarity: compares two vectors. ``recorded`` is what the model's folder records; ``dot``
            the plain product, which Aspire used with vectors that were trained by their distance.
        contexts: the largest number of a pair's citing sentences that are compared.
        seed: of the choice of citing sentences where a pair has more.

    Raises:
        UserError: a value is out of its range.
    """

    similarity: By = "recorded"
    contexts: int = 10
    seed: int = 0

    def __post_init__(self) -> None:
        if self.contexts < 1:
            raise UserError(f"--contexts must be 1 or more; got {self.contexts}.")
        if self.seed < 0:
            raise UserError(f"--seed must be 0 or more; got {self.seed}.")


def alignment_name(model: str | Path, settings: AlignSettings) -> str:
    """Sixteen hex digits of a model folder's files and the settings: a name for the alignment.

    Raises `UserError` if there is no such folder, or it holds no model.
    """
    digest = model_digest(model, [ALIGNMENTS_VERSION, asdict(settings)])
    if digest is None:
        raise UserError(f"{model} is no folder of a model, by which sentences can be aligned.")
    return digest


def model_digest(model: str | Path, facts: Any) -> str | None:
    """A hash (16 hex digits) of a model folder's files and plain facts; None if it has no files."""
    folder = Path(model).expanduser()
    files = sorted(p for p in folder.rglob("*") if p.suffix in _MODEL_FILES and p.is_file())
    if not files:
        return None
    digest = hashlib.sha256(json.dumps(facts).encode())
    for path in files:
        digest.update(path.relative_to(folder).as_posix().encode())
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()[:16]


def alignment_folder(corpus: Corpus, name: str) -> Path:
    """The folder of an alignment, existing or not."""
    return corpus.folder / "alignments" / name


def alignment_names(corpus: Corpus) -> list[str]:
    """The alignments of a corpus."""
    return sorted(path.parent.name for path in corpus.folder.glob(f"alignments/*/{MARKER}"))


def find_alignment(corpus: Corpus, aligned_by: str) -> str:
    """The alignment's name, looked up by name or by model folder; if empty, the only alignment.

    Raises:
        UserError: there is no such alignment, or several; the message names the command for it.
    """
    names = alignment_names(corpus)
    if not aligned_by and len(names) == 1:
        return names[0]
    if aligned_by in names:
        return aligned_by
    command = f"`train align {corpus.folder} --model {aligned_by or 'FOLDER'}`"
    names_text = f"it holds {', '.join(names) or 'none'}"
    if not aligned_by and names:
        raise UserError(
            f"{corpus.folder} holds several alignments of sentences ({', '.join(names)}); say "
            "which one with data.sampling.aligned_by NAME, or FOLDER of the model that made it."
        )
    if not aligned_by:
        raise UserError(
            f"{corpus.folder} holds no alignment of sentences, and data.sampling.align asks for "
            f"one. Make it with {command}, where FOLDER is a sentence encoder, or name that as "
            "data.sampling.aligned_by."
        )
    if not Path(aligned_by).expanduser().is_dir():
        raise UserError(
            f"data.sampling.aligned_by is {aligned_by!r}: no alignment of {corpus.folder} "
            f"({names_text}), and no folder of a model."
        )
    name = alignment_name(aligned_by, AlignSettings())
    if name not in names:
        raise UserError(
            f"{corpus.folder} holds no alignment of sentences by {aligned_by} ({names_text}). "
            f"Make it with {command}."
        )
    return name


def read_alignment(corpus: Corpus, name: str, split: Split) -> NDArray[np.int16]:
    """The aligned sentences of each pair, ``[N, 4]``.

    Raises:
        UserError: the alignment is missing, damaged, or for other pairs.
    """
    folder = alignment_folder(corpus, name)
    again = "Remove it and run `train align` again."
    check_file(folder / MARKER)
    try:
        info: dict[str, Any] = json.loads((folder / MARKER).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{folder} is no alignment ({error}). {again}") from error
    if info.get("version") != ALIGNMENTS_VERSION:
        raise UserError(
            f"{folder}: alignment of version {info.get('version')}; this program reads version "
            f"{ALIGNMENTS_VERSION}. {again}"
        )
    path = folder / f"{split}.npy"
    aligned, expected = load_array(path), (len(corpus.cocitations(split)), 4)
    if aligned.shape != expected:
        raise UserError(
            f"{path} is damaged: its shape is {aligned.shape}, and {expected} is expected. {again}"
        )
    return aligned


@dataclass(frozen=True)
class ChosenContexts:
    """The contexts that are used for the pairs of a split.

    ``contexts`` are their numbers in ``contexts.parquet``, pair after pair; ``range_starts`` where
    each pair's begin in ``contexts``, then their total.
    """

    contexts: Ints
    range_starts: Ints

    @property
    def pairs_with_any(self) -> int:
        """Pairs that have a context."""
        return int((np.diff(self.range_starts) > 0).sum())


def choose_contexts(corpus: Corpus, split: Split, settings: AlignSettings) -> ChosenContexts:
    """At most ``settings.contexts`` contexts of each pair, a function of the seed and the pair.

    Raises:
        UserError: the table of the pairs is missing, or holds other pairs.
    """
    import pyarrow.parquet as pq

    pairs = corpus.cocitations(split)
    path = corpus.folder / "cocitations" / f"{split}.parquet"
    numbers: list[Ints] = []
    counts: list[Ints] = []
    done = 0
    try:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=ROWS, columns=["a", "b", "contexts"]):
                column = batch.column("contexts")
                ends = [batch.column(name).to_numpy() for name in ("a", "b")]
                if not np.array_equal(np.stack(ends, 1), pairs[done : done + len(batch)]):
                    raise UserError(f"{path} holds other pairs than {split}.npy. {AGAIN}")
                done += len(batch)
                flat = column.flatten().to_numpy().astype(np.int64)
                sizes = np.diff(column.offsets.to_numpy()).astype(np.int64)
                kept = np.ones(len(flat), bool)
                stops = np.cumsum(sizes)
                for pair in np.flatnonzero(sizes > settings.contexts):
                    ids = (int(ends[0][pair]), int(ends[1][pair]))
                    draw = np.random.default_rng((settings.seed, *ids)).permutation(sizes[pair])
                    kept[stops[pair] - sizes[pair] + draw[settings.contexts :]] = False
                numbers.append(flat[kept])
                counts.append(np.minimum(sizes, settings.contexts))
    except (OSError, KeyError) as error:
        raise UserError(f"{path} cannot be read ({error}). {AGAIN}") from error
    if done != len(pairs):
        raise UserError(f"{path} holds {done:,} pairs, and {split}.npy {len(pairs):,}. {AGAIN}")
    range_starts = np.concatenate(
        [[0], np.cumsum(np.concatenate([*counts, np.empty(0, np.int64)]))]
    )
    return ChosenContexts(
        np.concatenate([*numbers, np.empty(0, np.int64)]), range_starts.astype(np.int64)
    )


def context_texts(corpus: Corpus, numbers: Ints) -> Iterator[str]:
    """The texts of contexts, whose numbers ascend.

    Raises:
        UserError: the corpus does not hold one of them.
    """
    import pyarrow.parquet as pq

    if not len(numbers):
        return
    path = corpus.folder / "contexts.parquet"
    done = 0
    try:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=TEXTS, columns=["context", "text"]):
                wanted = np.isin(batch.column("context").to_numpy(), numbers)
                done += int(wanted.sum())
                yield from batch.column("text").filter(wanted).to_pylist()
    except (OSError, KeyError) as error:
        raise UserError(f"{path} cannot be read ({error}). {AGAIN}") from error
    if done != len(numbers):
        raise UserError(f"{path} holds {done:,} of {len(numbers):,} contexts of the pairs. {AGAIN}")


def paper_texts(corpus: Corpus, papers: Ints) -> Iterator[list[str]]:
    """The sentences of ascending ``papers``; the title of a paper without an abstract."""
    wanted = iter(papers.tolist())
    paper = next(wanted, None)
    for number, (title, sentences) in enumerate(corpus.sentences()):
        if number == paper:
            yield sentences or [title or ""]
            paper = next(wanted, None)
