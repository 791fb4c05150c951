"""The verb ``embed``: vectors of a file of papers, in the file's order.

Work in progress lies in ``<target>.partial/``: the vectors as a memory-mapped array, how many
chunks of them are done, and what was asked. A killed run continues there after its last finished
chunk. Chunks are cut and sorted alike in every run, so the result is bit-equal to a run that was
not killed.

Shapes: ``P`` papers, ``D`` width.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
import sys
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sciembed_train.errors import UserError
from sciembed_train.evaluation.options import EmbedSettings
from sciembed_train.evaluation.output import writable, write_json

if TYPE_CHECKING:
    from sciembed_train.encoder.encoder import Encoder
    from sciembed_train.evaluation.papers import PaperFile

PARTIAL_VERSION = 1
ENDINGS = (".jsonl", ".npy", ".parquet")


def main(argv: list[str] | None = None) -> int:
    """Run the verb; 0 when done."""
    args = _parse(argv)
    quiet = args.quiet or args.json
    target = Path(args.to)
    if target.suffix not in ENDINGS:
        raise UserError(f"--to {target}: the ending says no format; use {', '.join(ENDINGS)}.")
    writable(target)
    settings = EmbedSettings.from_arguments(args)

    from sciembed_train.evaluation.papers import PaperFile
    from sciembed_train.evaluation.vectors import open_encoder

    papers = PaperFile(args.input, args.max_bad_rows)
    if not len(papers):
        raise UserError(f"{args.input} holds no paper.")
    encoder = open_encoder(args.model, settings)
    summary = embed(encoder, papers, target, settings, restart=args.restart, quiet=quiet)
    if args.json:
        print(json.dumps(summary, ensure_ascii=False))
    elif not args.quiet:
        print(
            f"{summary['papers']:,} embeddings of width {summary['dim']} in {target}"
            + (f" (ids in {ids_path(target)})" if target.suffix == ".npy" else "")
            + "."
        )
        for key, text in (
            ("continued_from", "of them were done already by a run that had stopped"),
            ("without_text", "of them have no title and no abstract: the empty text's vector"),
            ("malformed_left_out", "malformed rows were left out"),
        ):
            if summary[key]:
                print(f"{summary[key]:,} {text}.")
    return 0


def embed(
    encoder: Encoder,
    papers: PaperFile,
    target: Path,
    settings: EmbedSettings,
    restart: bool = False,
    quiet: bool = True,
) -> dict[str, Any]:
    """Write the embeddings of papers; returns counts.

    Args:
        encoder: see `vectors.open_encoder`.
        papers: in the order of the output.
        target: a file ending in .jsonl, .npy or .parquet; replaced when the work is done.
        settings: how.
        restart: throw away what an unfinished run with other settings left.
        quiet: show no progress.

    Raises:
        UserError: another run is at it, an unfinished run asked something else, or the disk is
            full.
    """
    from filelock import FileLock, Timeout

    folder = target.parent / f"{target.name}.partial"
    try:
        with FileLock(str(target.parent / f".{target.name}.lock"), timeout=0) as lock:
            try:
                done = _compute(encoder, papers, folder, target, settings, restart, quiet)
                _finish(papers, folder, target)
            finally:
                Path(lock.lock_file).unlink(missing_ok=True)
    except Timeout as error:
        raise UserError(f"{target}: another process is writing it; wait for it to end.") from error
    except OSError as error:
        if error.errno in (28, 122):  # no space, quota: the user can mend it
            raise UserError(
                f"{target} could not be written: {error.strerror}. Make room and run the same "
                "command again; it continues."
            ) from error
        raise
    return {
        "to": str(target),
        "papers": len(papers),
        "dim": encoder.dim,
        "continued_from": done,
        "without_text": papers.without_text,
        "malformed_left_out": papers.audit.n_bad,
    }


def ids_path(target: Path) -> Path:
    """The file of paper ids beside ``<name>.npy``: ``<name>.ids.txt``, one a line."""
    return target.with_suffix(".ids.txt")


def fingerprint(encoder: Encoder) -> str:
    """Sixteen hex digits of an encoder's weights and vocabulary."""
    import torch

    digest = hashlib.sha256(encoder.tokenizer.fingerprint.encode())
    for name, value in sorted(encoder.state_dict().items()):
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()[:16]


def _compute(
    encoder: Encoder,
    papers: PaperFile,
    folder: Path,
    target: Path,
    settings: EmbedSettings,
    restart: bool,
    quiet: bool,
) -> int:
    """Fill ``vectors.npy``; returns how many papers were done before."""
    import numpy as np

    from sciembed_train.corpus.progress import Progress
    from sciembed_train.evaluation.vectors import (
        chunk_size,
        describe,
        encode,
        piece_tokens,
        token_chunks,
    )

    tokens = piece_tokens(encoder, settings)
    size = chunk_size(tokens)
    plan = {
        "version": PARTIAL_VERSION,
        "model": fingerprint(encoder),
        "input": papers.table.checksums(),
        "papers": len(papers),
        "how": {
            **describe(encoder),
            "precision": settings.precision,
            "batch_tokens": tokens,
            "forward": "packed" if encoder.packed else "padded",
        },
    }
    if restart:
        shutil.rmtree(folder, ignore_errors=True)
    begun = _begun(folder, plan, target)
    if begun == len(papers):
        return len(papers)
    if begun is None:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        if target.suffix == ".npy":
            _write_ids(folder / "ids.txt", papers)
        shape = (len(papers), encoder.dim)
        array = np.lib.format.open_memmap(folder / "vectors.npy", "w+", np.float32, shape)
        write_json(folder / "done.json", {"papers": 0})
        write_json(folder / "plan.json", plan)  # last: with it, the folder is whole
    else:
        array = np.load(folder / "vectors.npy", mmap_mode="r+")
    at = begun or 0
    texts = ((paper.title, paper.abstract) for paper in islice(papers, at, None))
    try:
        with Progress(quiet).stage("embedding", len(papers), "papers") as stage:
            stage.reach(at)
            for rows in token_chunks(encoder, texts, size):
                array[at : at + len(rows)] = encode(
                    encoder, rows, settings, lambda n: stage.reach(stage.done + n)
                )
                at += len(rows)
                array.flush()
                write_json(folder / "done.json", {"papers": at})
    except KeyboardInterrupt:
        print(f"Stopped after {at:,} papers; the same command continues.", file=sys.stderr)
        raise
    return begun or 0


def _begun(folder: Path, plan: dict[str, Any], target: Path) -> int | None:
    """Papers that an unfinished run of the same plan has done; None where there is no such run."""
    try:
        there = json.loads((folder / "plan.json").read_text(encoding="utf-8"))
        done = json.loads((folder / "done.json").read_text(encoding="utf-8"))["papers"]
    except (OSError, ValueError, KeyError):
        return None
    if there == plan:
        # Killed after the last rename, the vectors are the target already.
        whole = (folder / "vectors.npy").is_file() or (done == plan["papers"] and target.is_file())
        return done if whole else None
    other = [
        text
        for key, text in (
            ("model", "another model"),
            ("input", "another input file"),
            ("papers", "another number of papers"),
            ("how", "other settings or another device"),
            ("version", "another version of this program"),
        )
        if there.get(key) != plan[key]
    ]
    raise UserError(
        f"{folder} holds an unfinished run of {' and '.join(other)}. Finish that one with its own "
        f"command, give another --to than {target}, or throw it away with --restart."
    )


def _finish(papers: PaperFile, folder: Path, target: Path) -> None:
    """Write the target from the vectors, in the target's format, and remove the folder."""
    import numpy as np

    vectors = folder / "vectors.npy"
    if vectors.exists():
        if target.suffix == ".npy":
            if (folder / "ids.txt").exists():  # otherwise killed between the two renames
                (folder / "ids.txt").replace(ids_path(target))
            vectors.replace(target)
        else:
            array = np.load(vectors, mmap_mode="r")
            whole = folder / f"whole{target.suffix}"
            write = _write_jsonl if target.suffix == ".jsonl" else _write_parquet
            write(whole, papers, array)
            whole.replace(target)
            del array
    shutil.rmtree(folder)


def _write_ids(path: Path, papers: PaperFile) -> None:
    with path.open("w", encoding="utf-8", newline="\n") as file:
        for paper in papers:
            if paper.paper_id.splitlines() != [paper.paper_id]:
                raise UserError(
                    f"{papers.table.source}: the paper id {paper.paper_id!r} has a line end in "
                    "it, which .ids.txt cannot hold; use .jsonl or .parquet."
                )
            file.write(f"{paper.paper_id}\n")


def _write_jsonl(path: Path, papers: PaperFile, vectors: Any) -> None:
    # Nine digits are enough to give every float32 back.
    form = ", ".join(["%.9g"] * vectors.shape[1])
    with path.open("w", encoding="utf-8", newline="\n") as file:
        for paper, vector in zip(papers, vectors, strict=True):
            paper_id = json.dumps(paper.paper_id, ensure_ascii=False)
            embedding = form % tuple(vector.tolist())
            file.write(f'{{"paper_id": {paper_id}, "embedding": [{embedding}]}}\n')


def _write_parquet(path: Path, papers: PaperFile, vectors: Any) -> None:
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = pa.schema([("paper_id", pa.string()), ("embedding", pa.list_(pa.float32()))])
    with pq.ParquetWriter(path, schema) as writer:
        for start, ids in _id_groups(papers, 4096):
            part = np.ascontiguousarray(vectors[start : start + len(ids)])
            offsets = np.arange(len(ids) + 1, dtype=np.int32) * vectors.shape[1]
            column = pa.ListArray.from_arrays(pa.array(offsets), pa.array(part.reshape(-1)))
            writer.write_table(pa.table([pa.array(ids, pa.string()), column], schema=schema))


def _id_groups(papers: PaperFile, size: int) -> Iterator[tuple[int, list[str]]]:
    ids = (paper.paper_id for paper in papers)
    start = 0
    while few := list(islice(ids, size)):
        yield start, few
        start += len(few)


def _parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="train embed",
        description="Vectors of a file of papers. A run that was killed continues where it was.",
    )
    add = parser.add_argument
    add("--model", required=True, metavar="FOLDER", help="a model folder, run folder or hub name")
    add(
        "--input",
        required=True,
        metavar="F",
        help="papers: paper_id, title, abstract; .jsonl, .csv, .tsv, .parquet (.gz, .zst)",
    )
    add("--to", required=True, metavar="F", help="embeddings.jsonl, .npy (and .ids.txt), .parquet")
    add("--max-bad-rows", type=int, default=0, metavar="N", help="malformed rows to leave out")
    add("--restart", action="store_true", help="throw away an unfinished run")
    add("--json", action="store_true", help="print the counts as JSON")
    add("--quiet", action="store_true", help="print nothing and show no progress")
    EmbedSettings.add_arguments(parser)
    return parser.parse_args(argv)
