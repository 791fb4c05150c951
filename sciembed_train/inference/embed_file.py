"""Vectors of a file of papers, in the file's order, in a file that a later run can complete.

A model of whole texts gives one vector a paper, a multi-vector model one for each sentence.

Work in progress lies in ``<target>.partial/``: the vectors (`Partial`), the number of papers that
are done, and the plan: model, input and settings. A run that was killed continues after its last
finished chunk. Every run makes and sorts the chunks in the same manner, so the result is bit-equal
to that of a run that was not killed.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from sciembed_train.errors import UserError
from sciembed_train.full_disk import told_full_disk
from sciembed_train.inference.options import Dtype, EmbedFileSettings, EmbedSettings
from sciembed_train.inference.output_file import writable, write_json
from sciembed_train.inference.quantisation import ENCODED, Quantisation
from sciembed_train.inference.vector_files import ids_path, quantisation_path
from sciembed_train.safety.json_files import read_json
from sciembed_train.text.truncation import Truncation

if TYPE_CHECKING:
    from sciembed_train.corpus.validation import Paper
    from sciembed_train.encoder.text_interface import TextInterface
    from sciembed_train.inference.resumable_output import Partial

PARTIAL_VERSION = 2
ENDINGS = (".jsonl", ".npy", ".parquet")
CONTINUES = (
    "Vectors that were written are kept in {folder}, and an earlier file is as it was. Make room "
    "and run the same command again; it continues."
)


@runtime_checkable
class PaperSource(Protocol):
    """Papers to embed, which can be read again in the same order.

    Attributes:
        source: where they come from, for messages.
        without_text: papers with neither title nor abstract.
        malformed: rows that were left out.
        notes: what to say of the texts, where they are cleaned.
    """

    @property
    def source(self) -> str: ...  # noqa: D102 - above

    @property
    def without_text(self) -> int: ...  # noqa: D102

    @property
    def malformed(self) -> int: ...  # noqa: D102

    @property
    def notes(self) -> Sequence[str]: ...  # noqa: D102

    def checksums(self) -> list[dict[str, Any]]:
        """What changes when a paper does."""
        ...

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[Paper]: ...


@dataclass(frozen=True)
class Embeddings:
    """A file of embeddings, and how it was made.

    Args:
        path: the file; of ``.npy``, the ids are in `ids_path`.
        papers: the number of papers.
        dim: the width of a vector.
        sentences: the number of vectors of a multi-vector model; None where papers have one each.
        continued_from: papers that a run which had stopped had done already.
        without_text: papers with neither title nor abstract.
        malformed_left_out: malformed rows of the input.
        notes: what to say of the texts: what was cleaned, the prompt, and how many were cut.
    """

    path: Path
    papers: int
    dim: int
    sentences: int | None = None
    continued_from: int = 0
    without_text: int = 0
    malformed_left_out: int = 0
    notes: tuple[str, ...] = ()

    def __str__(self) -> str:
        what, empty = f"{self.papers:,} embeddings", "the empty text's vector"
        if self.sentences is not None:
            what = f"{self.sentences:,} embeddings of the sentences of {self.papers:,} papers"
            empty = "they have no vector"
        ids = f" (ids in {ids_path(self.path)})" if self.path.suffix == ".npy" else ""
        lines = [f"{what} of width {self.dim} in {self.path}{ids}."]
        for count, text in (
            (self.continued_from, "papers were done already by a run that had stopped"),
            (self.without_text, f"papers have no title and no abstract: {empty}"),
            (self.malformed_left_out, "malformed rows were left out"),
        ):
            if count:
                lines.append(f"{count:,} {text}.")
        return "\n".join([*lines, *self.notes])

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        values = {**asdict(self), "to": str(self.path)}
        del values["path"]
        if self.sentences is None:
            del values["sentences"]
        return values


def embed_file(files: EmbedFileSettings, settings: EmbedSettings, quiet: bool = True) -> Embeddings:
    """Write the embeddings of a file of papers.

    Raises:
        UserError: the input, the model or the target cannot be used.
    """
    target = Path(files.to)
    if target.suffix not in ENDINGS:
        raise UserError(
            f"--to {target}: the ending names no format; use {', '.join(ENDINGS)}, or a name "
            "without an ending for a folder of shards."
        )
    writable(target)
    from sciembed_train.inference.embedding import open_encoder
    from sciembed_train.inference.paper_file import PaperFile

    papers = PaperFile(files.input, files.max_bad_rows)
    if not len(papers):
        raise UserError(f"{files.input} holds no paper.")
    encoder = open_encoder(files.model, settings)
    return embed(
        encoder, papers, target, settings, restart=files.restart, quiet=quiet, dtype=files.dtype
    )


def embed(
    encoder: TextInterface,
    papers: PaperSource,
    target: Path,
    settings: EmbedSettings,
    restart: bool = False,
    quiet: bool = True,
    dtype: Dtype = "float32",
) -> Embeddings:
    """Write the embeddings of papers, in their order, to a file that is replaced at the end.

    ``restart`` discards what an unfinished run with other settings left. A ``dtype`` other than
    float32 goes with an ``.npy`` file; beside int8 and binary `quantisation_path` says how to
    read them.

    Raises:
        UserError: another run is writing it, an unfinished run asked something else, a vector is
            not finite, or an ``.npy`` file is asked of a multi-vector model.
        RunError: the disk is full.
    """
    from filelock import FileLock, Timeout

    from sciembed_train.inference.embedding import prompt_line
    from sciembed_train.inference.resumable_output import PaperVectors, SentenceVectorLists

    by_sentence = encoder.pooling.per_sentence
    if by_sentence and target.suffix == ".npy":
        raise UserError(
            f"--to {target}: this model gives a vector for each sentence, and papers have unlike "
            "numbers of them, which an .npy array cannot hold. Use .jsonl or .parquet, or name a "
            "pooling for one vector a paper with --pooling mean or cls."
        )
    folder = target.parent / f"{target.name}.partial"
    partial = (SentenceVectorLists if by_sentence else PaperVectors)(
        folder, len(papers), encoder.dim
    )
    sentences, counted = None, Truncation()
    try:
        with (
            told_full_disk(target, CONTINUES.format(folder=folder)),
            FileLock(str(target.parent / f".{target.name}.lock"), timeout=0) as lock,
        ):
            try:
                done = _compute(
                    encoder, papers, partial, target, settings, restart, quiet, counted, dtype
                )
                if isinstance(partial, SentenceVectorLists):
                    sentences = int(partial.counts().sum())
                _finish(papers, partial, target, dtype)
            finally:
                Path(lock.lock_file).unlink(missing_ok=True)
    except Timeout as error:
        raise UserError(f"{target}: another process is writing it; wait for it to end.") from error
    cleans = encoder.settings.input_format.cleaning == "markup"
    notes = [*(papers.notes if cleans else ()), *filter(None, [prompt_line(encoder)])]
    if counted.texts:
        notes.append(counted.line(encoder.settings.max_length, "papers"))
    return Embeddings(
        path=target,
        papers=len(papers),
        dim=encoder.dim,
        sentences=sentences,
        continued_from=done,
        without_text=papers.without_text,
        malformed_left_out=papers.malformed,
        notes=tuple(notes),
    )


def fingerprint(encoder: TextInterface) -> str:
    """Sixteen hex digits of an encoder's weights and vocabulary."""
    digest = hashlib.sha256(encoder.tokenizer.fingerprint.encode())
    for name, content in encoder.weights():
        digest.update(name.encode())
        digest.update(content)
    return digest.hexdigest()[:16]


def _compute(
    encoder: TextInterface,
    papers: PaperSource,
    partial: Partial,
    target: Path,
    settings: EmbedSettings,
    restart: bool,
    quiet: bool,
    counted: Truncation,
    dtype: Dtype,
) -> int:
    """Fill the partial vectors; returns the number of papers that were done before.

    ``counted`` gets what is cut of the others.
    """
    from sciembed_train.inference.embedding import (
        NotFiniteError,
        calibrate,
        chunk_size,
        describe,
        encode,
        max_tokens_per_forward,
        token_chunks,
    )
    from sciembed_train.inference.resumable_output import PaperVectors
    from sciembed_train.inference.sentence_embedding import in_papers, sentenced
    from sciembed_train.progress import Progress

    folder = partial.vectors.parent
    tokens = max_tokens_per_forward(encoder, settings)
    size = chunk_size(tokens)
    plan = {
        "version": PARTIAL_VERSION,
        "model": fingerprint(encoder),
        "input": papers.checksums(),
        "papers": len(papers),
        "dtype": dtype,
        "how": {
            **describe(encoder),
            "precision": settings.precision,
            "format": settings.format,
            "batch_tokens": tokens,
            "forward": "unpadded" if encoder.unpadded else "padded",
        },
    }
    if restart:
        shutil.rmtree(folder, ignore_errors=True)
    already_done = _papers_done(partial.vectors, plan, target)
    if already_done == len(papers):
        return len(papers)
    if already_done is None:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        if target.suffix == ".npy":
            _write_ids(folder / "ids.txt", papers)
        if isinstance(partial, PaperVectors):
            texts = ((paper.title, paper.abstract) for paper in papers)
            partial.quantisation = calibrate(encoder, texts, dtype, settings)
            write_json(folder / "quantisation.json", partial.quantisation.record())
        partial.open(None)
        write_json(folder / "done.json", {"papers": 0})
        write_json(folder / "plan.json", plan)  # last: with it, the folder is complete
    else:
        if isinstance(partial, PaperVectors):
            stored = folder / "quantisation.json"
            partial.quantisation = Quantisation.recorded(read_json(stored), stored)
        partial.open(already_done)
    at = already_done or 0
    texts = ((paper.title, paper.abstract) for paper in islice(papers, at, None))
    try:
        with Progress(quiet).stage("embedding", len(papers), "papers", at) as stage:
            done = stage.advance
            if encoder.pooling.per_sentence:
                parts: Iterator[Any] = in_papers(
                    encoder, map(sentenced, texts), settings, done, counted
                )
            else:
                rows = token_chunks(encoder, texts, size, counted)
                parts = (encode(encoder, batch, settings, done) for batch in rows)
            for part in parts:
                partial.add(part)
                at += len(part)
                write_json(folder / "done.json", {"papers": at})
    except NotFiniteError as error:
        paper = next(islice(papers, at + error.number, None))
        raise error.named(f"paper {paper.paper_id}") from None
    except KeyboardInterrupt:
        print(f"Stopped after {at:,} papers; the same command continues.", file=sys.stderr)
        raise
    return already_done or 0


def _papers_done(vectors: Path, plan: dict[str, Any], target: Path) -> int | None:
    """Papers that an unfinished run of the same plan has done; None where there is no such run."""
    folder = vectors.parent
    try:
        earlier = json.loads((folder / "plan.json").read_text(encoding="utf-8"))
        done = json.loads((folder / "done.json").read_text(encoding="utf-8"))["papers"]
    except (OSError, ValueError, KeyError):
        return None
    if earlier == plan:
        # Killed after the last rename: the vectors are the target already.
        complete = vectors.is_file() or (done == plan["papers"] and target.is_file())
        return done if complete else None
    other = [
        text
        for key, text in (
            ("model", "another model"),
            ("input", "another input file"),
            ("papers", "another number of papers"),
            ("dtype", "another --dtype"),
            ("how", "other settings or another device"),
            ("version", "another version of this program"),
        )
        if earlier.get(key) != plan[key]
    ]
    raise UserError(
        f"{folder} holds an unfinished run of {' and '.join(other)}. Finish that one with its own "
        f"command, give another --to than {target}, or discard it with --restart."
    )


def _finish(papers: PaperSource, partial: Partial, target: Path, dtype: Dtype) -> None:
    """Write the target from the vectors, in the target's format, and remove the folder."""
    from sciembed_train.inference.resumable_output import write_jsonl, write_parquet

    folder = partial.vectors.parent
    if partial.vectors.exists():
        if target.suffix == ".npy":
            if (folder / "ids.txt").exists():  # otherwise killed between the two renames
                (folder / "ids.txt").replace(ids_path(target))
            stored = folder / "quantisation.json"
            if dtype not in ENCODED:
                quantisation_path(target).unlink(missing_ok=True)  # of an earlier file of the name
            elif stored.exists():
                stored.replace(quantisation_path(target))
            partial.vectors.replace(target)
        else:
            whole = folder / f"whole{target.suffix}"
            write = write_jsonl if target.suffix == ".jsonl" else write_parquet
            write(whole, (paper.paper_id for paper in papers), partial)
            whole.replace(target)
    shutil.rmtree(folder)


def _write_ids(path: Path, papers: PaperSource) -> None:
    with path.open("w", encoding="utf-8", newline="\n") as file:
        for paper in papers:
            if paper.paper_id.splitlines() != [paper.paper_id]:
                raise UserError(
                    f"{papers.source}: the paper id {paper.paper_id!r} has a line end in "
                    "it, which .ids.txt cannot hold; use .jsonl or .parquet."
                )
            file.write(f"{paper.paper_id}\n")
