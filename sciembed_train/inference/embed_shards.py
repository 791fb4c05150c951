"""Vectors of a file of papers in a folder of shards, which several processes can write together.

A shard is a slice of the papers: ``part-00017.npy`` with the ids in ``part-00017.ids.txt`` and its
record ``part-00017.json``. Each file is written under another name, put on the disk and renamed,
the record last: a shard is done when it has one. What is in a shard follows from the input and the
plan alone, not from who writes it; so a restart does what is missing, on any number of processes.
`shard_plan` writes what all processes agree on, before and after.

The processes do not talk to one another. One that has a share (`WorkShare`) does the shards of its
number, any other takes what is free; a lock on each shard keeps two from doing the same.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sciembed_train.corpus.shared_work import Lock, own_name, sweep_own_names
from sciembed_train.errors import UserError
from sciembed_train.full_disk import new_array, told_full_disk
from sciembed_train.inference.options import EmbedFileSettings, EmbedSettings
from sciembed_train.inference.output_file import whole_file, write_json
from sciembed_train.inference.paper_file import PaperFile
from sciembed_train.inference.quantisation import Quantisation
from sciembed_train.inference.shard_plan import (
    VERSION,
    model_facts,
    plan_of,
    read_record,
    write_manifest,
)
from sciembed_train.inference.vector_files import PLAN, ids_path
from sciembed_train.progress import Progress
from sciembed_train.text.truncation import Truncation
from sciembed_train.whole_folder import sync_folder

if TYPE_CHECKING:
    from sciembed_train.corpus.validation import Paper
    from sciembed_train.distributed import WorkShare
    from sciembed_train.encoder.text_interface import TextInterface

CONTINUES = (
    "Shards that are whole are kept. Make room and run the same command again; it does what is "
    "missing."
)


@dataclass(frozen=True)
class EmbeddingShards:
    """A folder of embeddings in shards, and this process's part of the work.

    Args:
        path: the folder.
        papers: all papers.
        dim: the width of a vector.
        shards: all shards.
        done: of these, those that are whole now.
        done_here: of these, those that this process wrote.
        truncation: of the shards that are whole.
        max_length: tokens that the model reads of a text.
        without_text: papers with neither title nor abstract.
        malformed_left_out: malformed rows of the input.
        notes: what to say of the texts: what was cleaned, the prompt, and how many were cut.
    """

    path: Path
    papers: int
    dim: int
    shards: int
    done: int
    done_here: int
    truncation: Truncation
    max_length: int
    without_text: int = 0
    malformed_left_out: int = 0
    notes: tuple[str, ...] = ()

    @property
    def whole(self) -> bool:
        """Whether no shard is missing."""
        return self.done == self.shards

    def __str__(self) -> str:
        before = self.done - self.done_here
        lines = [
            f"{self.papers:,} embeddings of width {self.dim} in {_shards(self.shards)} in "
            f"{self.path}."
        ]
        if not self.whole:
            lines = [
                f"{self.done} of {_shards(self.shards)} in {self.path} are done; the others are "
                "of other processes. Where those have ended, the same command does what is missing."
            ]
        if before:
            others = "was" if before == 1 else "were"
            lines.append(f"{_shards(before)} of these {others} not written by this process.")
        for count, text in (
            (self.without_text, "papers have no title and no abstract: the empty text's vector"),
            (self.malformed_left_out, "malformed rows were left out"),
        ):
            if count:
                lines.append(f"{count:,} {text}.")
        return "\n".join([*lines, *self.notes])

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        values = {**asdict(self), "to": str(self.path), "whole": self.whole}
        del values["path"]
        return values


def embed_shards(
    files: EmbedFileSettings, settings: EmbedSettings, quiet: bool = True
) -> EmbeddingShards:
    """Write the shards of a file of papers that are missing, or this process's share of them.

    Raises:
        UserError: the input, the model or the target cannot be used, the folder is of another
            model, input or settings, or a vector is not finite.
        RunError: the disk is full.
    """
    from sciembed_train.distributed import WorkShare, local_rank, work_share
    from sciembed_train.inference.embedding import (
        calibrate,
        local_device,
        open_encoder,
        prompt_line,
    )

    folder = Path(files.to)
    _writable(folder)
    progress = Progress(quiet)
    share = WorkShare(*files.share, "--shards") if files.share is not None else work_share()
    encoder = open_encoder(files.model, local_device(settings, local_rank()))
    if encoder.pooling.per_sentence:
        raise UserError(
            f"--to {folder}: this model gives a vector for each sentence, and shards hold one "
            "vector a paper. Give a file that ends in .jsonl or .parquet, or name a pooling for "
            "one vector a paper with --pooling mean or cls."
        )
    asked = {
        "version": VERSION,
        **model_facts(files.model, encoder, settings),
        "shard_size": files.shard_size,
        "dtype": files.dtype,
    }

    def calibrated(papers: PaperFile) -> dict[str, Any]:
        texts = ((paper.title, paper.abstract) for paper in papers)
        return calibrate(encoder, texts, files.dtype, settings).record()

    with told_full_disk(folder, CONTINUES):
        papers, plan = plan_of(files, folder, asked, calibrated, progress)
        sweep_own_names(folder)
        writer = _ShardWriter(encoder, papers, folder, settings, plan)
        numbers = _numbers(writer.shards, share, progress)
        done_here = _do(writer, numbers, progress)
        missing = [number for number in range(writer.shards) if not writer.is_done(number)]
        parts = [writer.record(n) for n in range(writer.shards) if n not in set(missing)]
        counted = _sum([Truncation(**part["truncation"]) for part in parts])
        if not missing:
            write_manifest(folder, plan, parts, counted)
            for lock in folder.glob(".part-*.lock"):  # of processes that were killed
                lock.unlink(missing_ok=True)
    cleans = encoder.settings.input_format.cleaning == "markup"
    notes = [*(papers.notes if cleans else ()), *filter(None, [prompt_line(encoder)])]
    if counted.texts:
        notes.append(counted.line(encoder.settings.max_length, "papers"))
    return EmbeddingShards(
        path=folder,
        papers=len(papers),
        dim=encoder.dim,
        shards=writer.shards,
        done=len(parts),
        done_here=done_here,
        truncation=counted,
        max_length=encoder.settings.max_length,
        without_text=papers.without_text,
        malformed_left_out=papers.malformed,
        notes=tuple(notes),
    )


def _numbers(shards: int, share: WorkShare | None, progress: Progress) -> range:
    """The shards that this process may do."""
    if share is None:
        return range(shards)
    numbers = range(share.number, shards, share.processes)
    progress.print(
        f"Process {share.number + 1} of {share.processes} ({share.launcher}): {len(numbers)} of "
        f"{_shards(shards)}"
    )
    return numbers


def _do(writer: _ShardWriter, numbers: Sequence[int], progress: Progress) -> int:
    """Write the missing shards that no other process writes; returns how many."""
    missing = [number for number in numbers if not writer.is_done(number)]
    papers = sum(len(writer.slice(number)) for number in missing)
    reader, count = _Forward(writer.papers), 0
    with progress.stage("embedding", papers, "papers") as stage:
        for number in missing:
            with _locked(writer.folder / f".part-{number:05d}.lock") as mine:
                if not mine or writer.is_done(number):
                    papers -= len(writer.slice(number))
                    stage.reach(stage.done, papers)
                    continue
                try:
                    writer.write(number, reader.take(writer.slice(number)), stage.advance)
                except KeyboardInterrupt:
                    print(
                        f"Stopped after {_shards(count)}; the same command does what is missing.",
                        file=sys.stderr,
                    )
                    raise
                count += 1
    return count


class _Forward:
    """Reads slices of papers in one pass; files without any of them are not read."""

    def __init__(self, papers: PaperFile) -> None:
        self.papers = papers
        self._at: int | None = None  # the number of the next paper; None before the first
        self._rest: Iterator[Paper] = iter(())

    def take(self, numbers: range) -> Iterator[Paper]:
        """The papers with these numbers, which must follow those of the call before."""
        at, file_of = self._at, self.papers.file_of
        if at is None or file_of(at) != file_of(numbers.start):
            self._rest, at = self.papers.since(numbers.start), numbers.start
        skipped = numbers.start - at
        next(islice(self._rest, skipped, skipped), None)
        self._at = numbers.stop
        return islice(self._rest, len(numbers))


class _ShardWriter:
    """Writes the shards of a plan."""

    def __init__(
        self,
        encoder: TextInterface,
        papers: PaperFile,
        folder: Path,
        settings: EmbedSettings,
        plan: Mapping[str, Any],
    ) -> None:
        self.encoder, self.papers, self.folder = encoder, papers, folder
        self.settings, self.plan = settings, plan
        self.size: int = plan["shard_size"]
        self.shards = -(-len(papers) // self.size)
        self.quantisation = Quantisation.recorded(plan["quantisation"], folder / PLAN)

    def slice(self, number: int) -> range:
        """The numbers of a shard's papers."""
        return range(number * self.size, min((number + 1) * self.size, len(self.papers)))

    def path(self, number: int) -> Path:
        """A shard's vectors."""
        return self.folder / f"part-{number:05d}.npy"

    def is_done(self, number: int) -> bool:
        """Whether a shard is whole."""
        path = self.path(number)
        return all(each.is_file() for each in (path.with_suffix(".json"), path, ids_path(path)))

    def record(self, number: int) -> dict[str, Any]:
        """The record of a shard that is whole."""
        return json.loads(self.path(number).with_suffix(".json").read_text(encoding="utf-8"))

    def write(self, number: int, papers: Iterator[Paper], done: Any) -> None:
        """Embed the papers of a shard and write it."""
        from sciembed_train.inference.embedding import (
            NotFiniteError,
            chunk_size,
            encode,
            max_tokens_per_forward,
            token_chunks,
        )

        numbers, path = self.slice(number), self.path(number)
        partial = path.with_name(own_name(path.name))
        ids: list[str] = []
        digest, counted, at = hashlib.sha256(), Truncation(), 0

        def texts() -> Iterator[tuple[str, str | tuple[str, ...]]]:
            for paper in papers:
                ids.append(paper.paper_id)
                text = json.dumps([paper.paper_id, paper.title, paper.abstract])
                digest.update(f"{text}\n".encode())
                yield paper.title, paper.abstract

        size = chunk_size(max_tokens_per_forward(self.encoder, self.settings))
        try:
            stored = self.quantisation
            array = new_array(partial, stored.stored_type, (len(numbers), stored.width))
            for rows in token_chunks(self.encoder, texts(), size, counted):
                try:
                    vectors = encode(self.encoder, rows, self.settings, done)
                    array[at : at + len(rows)] = stored.encode(vectors)
                except NotFiniteError as error:
                    raise error.named(f"paper {ids[at + error.number]}") from None
                at += len(rows)
            if at != len(numbers):
                raise UserError(
                    f"{self.papers.source} has changed while it was read: {at:,} papers where "
                    f"there were {len(numbers):,}. Run the command again."
                )
            array.flush()
            record = {
                "part": path.stem,
                "first": numbers.start,
                "papers": at,
                "model": self.plan["model"]["hash"],
                "texts_sha256": digest.hexdigest(),
                "truncation": asdict(counted),
                "device": self.encoder.device.type,
            }
            self._commit(path, partial, ids, record)
        finally:
            partial.unlink(missing_ok=True)

    def _commit(self, path: Path, partial: Path, ids: list[str], record: dict[str, Any]) -> None:
        """Give the files of a shard their names; its record says that it is done."""
        if read_record(self.folder / PLAN) != self.plan:
            raise UserError(
                f"{self.folder}: another process has begun it anew, with --restart. Its shards "
                "are not mixed with those of this one."
            )
        with partial.open("rb") as file:
            os.fsync(file.fileno())
        with whole_file(ids_path(path)) as file:
            file.writelines(f"{self._one_line(name)}\n" for name in ids)
        partial.replace(path)
        sync_folder(self.folder)
        write_json(path.with_suffix(".json"), record)

    def _one_line(self, paper_id: str) -> str:
        if paper_id.splitlines() != [paper_id]:
            raise UserError(
                f"{self.papers.source}: the paper id {paper_id!r} has a line end in it, which a "
                "file of ids cannot hold. Give a file that ends in .jsonl or .parquet."
            )
        return paper_id


@contextmanager
def _locked(path: Path) -> Iterator[bool]:
    """Try to hold a lock while the block runs; yields whether this process holds it."""
    lock = Lock(path, needed_by="--to FOLDER")
    mine = lock.take()
    try:
        yield mine
    finally:
        if mine:
            path.unlink(missing_ok=True)
            lock.give_up()


def _writable(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / own_name("plan.probe")
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise UserError(
            f"--to {folder} cannot be written: {error.strerror}. Give a place that can."
        ) from error


def _sum(parts: Sequence[Truncation]) -> Truncation:
    whole = Truncation()
    for part in parts:
        for key, value in vars(part).items():
            setattr(whole, key, getattr(whole, key) + value)
    return whole


def _shards(count: int) -> str:
    return "1 shard" if count == 1 else f"{count:,} shards"
