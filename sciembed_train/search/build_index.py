"""Build an index of stored vectors, with the names of the papers and a map of them.

Shapes: ``R`` vectors, ``D`` width.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32

from sciembed_train.errors import UserError
from sciembed_train.full_disk import told_full_disk
from sciembed_train.inference.options import EmbedSettings, Similarity, similarity_of
from sciembed_train.inference.paper_file import PaperFile
from sciembed_train.inference.vector_files import VectorFiles
from sciembed_train.progress import Progress
from sciembed_train.search.collection_map import LARGEST, CollectionMap
from sciembed_train.search.faiss_index import NEAREST, FaissIndex, load_faiss, tune
from sciembed_train.search.index_settings import IndexSettings, Kind
from sciembed_train.search.paper_names import write_names, write_titles
from sciembed_train.whole_folder import whole_folder

VERSION = 1
RECORD, INDEX, MAP = "index.json", "index.faiss", "map.npz"  # files of the folder
BLOCK = 2**15  # vectors that are read and added at once
QUERIES = 200  # vectors by which recall is measured


@dataclass(frozen=True)
class BuiltIndex:
    """An index of vectors, and how it was made.

    Args:
        path: the folder.
        papers: indexed papers.
        dim: the width of a vector.
        kind: of index.
        similarity: what vectors are compared by.
        model: name and hash of the model of the vectors; None where it is unknown.
        parameters: of this kind of index.
        recall: share of the ten nearest papers that it finds; None of one paper alone.
        queries: papers by which that was measured.
        titled: papers whose title is known.
    """

    path: Path
    papers: int
    dim: int
    kind: Kind
    similarity: Similarity
    model: Mapping[str, str] | None
    parameters: Mapping[str, int]
    recall: float | None
    queries: int
    titled: int

    def __str__(self) -> str:
        named = ((key.replace("_", " "), value) for key, value in self.parameters.items())
        how = ", ".join(f"{value:,} {name}" for name, value in named)
        lines = [
            f"{self.papers:,} papers of width {self.dim} in {self.path}, compared by "
            f"{self.similarity}: {self.kind}{f' ({how})' if how else ''}."
        ]
        if self.recall is not None:
            nearest = min(NEAREST, self.papers - 1)
            lines.append(
                f"Recall@{nearest} against an exact search: {self.recall:.3f} (of {self.queries} "
                "papers)."
            )
        if self.titled < self.papers:
            lines.append(f"{self.papers - self.titled:,} papers have no title here (--papers).")
        if self.model is None:
            lines.append("No model is recorded, so that it cannot be searched by text (--model).")
        return "\n".join(lines)

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        values = {**asdict(self), "to": str(self.path)}
        del values["path"]
        return values


def build_index(settings: IndexSettings, quiet: bool = True) -> BuiltIndex:
    """Write the index of some vectors, whole or not at all.

    Memory: the index, that is all vectors in float32, and a block of them. An IVF index is
    trained on a sample of a million vectors at most.

    Raises:
        UserError: the vectors, the papers or the model cannot be used, or the folder may not be
            replaced.
        RunError: the disk is full.
    """
    load_faiss()
    to, progress = Path(settings.to), Progress(quiet)
    _check_target(to, settings.overwrite)
    vectors = VectorFiles.open(settings.vectors)
    if not len(vectors):
        raise UserError(f"--vectors {settings.vectors} holds no vector.")
    facts = _model_facts(settings, vectors)
    similarity = similarity_of(settings.similarity, facts.get("similarity"), settings.vectors)
    papers = None if settings.papers is None else PaperFile(settings.papers, settings.max_bad_rows)
    safe = "An earlier index is as it was. Make room and run the same command again."
    with told_full_disk(to, safe), whole_folder(to) as folder:
        with progress.stage("names", unit="papers"):
            write_names(folder, vectors.ids(), vectors.place)
            titled = 0
            if papers is not None:
                _, titled = write_titles(folder, ((p.paper_id, p.title) for p in papers))
        index = _filled(settings.kind, similarity, vectors, progress)
        rows = _drawn(len(vectors), QUERIES)
        with progress.stage("recall", unit="papers"):
            recall = tune(index, rows, vectors.rows(rows), vectors.blocks(BLOCK))
        rows = _drawn(len(vectors), LARGEST)
        CollectionMap.of(rows, index.prepared(vectors.rows(rows))).save(folder / MAP)
        index.save(folder / INDEX)
        built = BuiltIndex(
            path=to,
            papers=len(vectors),
            dim=vectors.dim,
            kind=settings.kind,
            similarity=similarity,
            model=facts.get("model"),
            parameters=index.facts(),
            recall=recall,
            queries=min(QUERIES, len(vectors)),
            titled=titled,
        )
        record = {
            "version": VERSION,
            **built.as_dict(),
            "effort": index.effort,
            "how": facts.get("how"),
            "program": _program(),
        }
        del record["to"]
        (folder / RECORD).write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    return built


def _check_target(to: Path, overwrite: bool) -> None:
    if not to.exists():
        return
    if not (to / RECORD).is_file():
        if to.is_dir() and not any(to.iterdir()):
            return
        raise UserError(f"--to {to} exists and is no index. Give a new folder.")
    if not overwrite:
        raise UserError(f"--to {to} holds an index already. Give another, or --overwrite.")


def _model_facts(settings: IndexSettings, vectors: VectorFiles) -> Mapping[str, Any]:
    """Model, similarity and settings of vectors: as their manifest says, or of a named model."""
    if settings.model is None:
        return vectors.manifest
    from sciembed_train.inference.embedding import open_encoder
    from sciembed_train.inference.shard_plan import model_facts

    embed = EmbedSettings(device="cpu")
    encoder = open_encoder(settings.model, embed)
    if encoder.pooling.per_sentence:
        raise UserError(
            f"--model {settings.model} gives a vector for each sentence, and an index holds one a "
            "paper."
        )
    named = model_facts(settings.model, encoder, embed)
    if vectors.model is None:
        if named["how"]["dim"] != vectors.dim:
            raise UserError(
                f"--model {settings.model} gives vectors of width {named['how']['dim']}, and those "
                f"of {settings.vectors} have {vectors.dim}: they are of another model."
            )
        return named
    if named["model"]["hash"] != vectors.model:
        recorded = vectors.manifest["model"]["name"]
        raise UserError(
            f"--vectors {settings.vectors} are of another model than --model {settings.model}: of "
            f"{recorded}, says their manifest. Leave --model out."
        )
    return vectors.manifest


def _filled(
    kind: Kind, similarity: Similarity, vectors: VectorFiles, progress: Progress
) -> FaissIndex:
    """The index with all vectors."""
    index = FaissIndex.new(kind, similarity, vectors.dim, len(vectors))
    if index.training_size:
        with progress.stage("clusters", unit="vectors") as stage:
            sample = _drawn(len(vectors), index.training_size)
            index.train(vectors.rows(sample))
            stage.reach(len(sample))
    with progress.stage("indexing", len(vectors), "vectors") as stage:
        for block in _finite(vectors):
            index.add(block)
            stage.advance(len(block))
    return index


def _finite(vectors: VectorFiles) -> Iterator[Float32[np.ndarray, "_ D"]]:
    for block in vectors.blocks(BLOCK):
        if not np.isfinite(block).all():
            raise UserError(
                f"{vectors.place} holds vectors that are not finite. Embed the papers again."
            )
        yield block


def _drawn(count: int, most: int) -> np.ndarray:
    """At most so many of the rows, in their order."""
    if count <= most:
        return np.arange(count)
    return np.sort(np.random.default_rng(0).choice(count, most, replace=False))


def _program() -> str:
    from sciembed_train import __version__

    return f"sciembed_train {__version__}"
