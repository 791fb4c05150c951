"""The citations of a corpus: from their own files, else from the rows of the papers."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sciembed_train.corpus.audit import EXAMPLES, Audit
from sciembed_train.corpus.build_job import PaperJob
from sciembed_train.corpus.citations.citation_files import CitationFiles, reference_blocks
from sciembed_train.corpus.citations.citation_rows import read_citations, save_citations
from sciembed_train.corpus.row_blocks import blocks, keep_rows, release_unused
from sciembed_train.corpus.store.some_papers import titles_in_lines
from sciembed_train.corpus.store.token_store import load_array

OF_EXCLUDED = "of or by an excluded paper"


def build_citations(job: PaperJob) -> NDArray[np.int32] | None:
    """Read the citations ``[E, 2]`` and write them; None where nothing says who cites whom.

    Raises:
        UserError: more rows are malformed than allowed, or it is not clear which column cites.
    """
    inputs, papers, settings = job.inputs, job.papers, job.settings
    if inputs.citations is None and papers.references is None:
        return None
    audit = job.audit("citations")
    with job.progress.stage("citations") as stage:
        if inputs.citations is not None:
            table = inputs.citations
            files = CitationFiles(table, papers.finder, settings.columns)
            citations = read_citations(files.blocks(), table, papers, audit, stage, job.work)
            lines = [
                f"{file}: {citing} cites {cited}" for file, (citing, cited) in files.names.items()
            ]
            if papers.references is not None:
                audit.notes.append(
                    "The papers' rows name references too; they are not read, for --citations is "
                    "given."
                )
        else:
            table = inputs.papers
            assert table is not None
            assert papers.references is not None
            references = reference_blocks(papers.references)
            citations = read_citations(references, table, papers, audit, stage, job.work)
            lines = [f"{table.source}: a paper cites the references that its row names"]
    citations = _without_excluded(job, citations, audit)
    if lines:
        audit.say_read("; ".join(lines[:3]) + _example(job, citations))
    job.report["citations"] = audit.as_dict()
    save_citations(job.folder, citations)
    release_unused()
    del citations  # a gigabyte for a hundred million; from here on it is memory-mapped
    return np.asarray(load_array(job.folder / "citations.npy"))


def _without_excluded(
    job: PaperJob, citations: NDArray[np.int32], audit: Audit
) -> NDArray[np.int32]:
    """The citations that neither come from an excluded paper nor lead to one."""
    papers = job.papers
    if not papers.excluded.any():
        return citations
    touching = np.empty(len(citations), np.bool_)
    for block in blocks(len(citations)):
        touching[block] = papers.excluded[citations[block]].any(1)
    pairs = citations[np.flatnonzero(touching)[:EXAMPLES]].tolist()
    examples = (f"{papers.ids[a]} cites {papers.ids[b]}" for a, b in pairs)
    audit.drop_many(OF_EXCLUDED, int(touching.sum()), examples)
    audit.kept -= int(touching.sum())
    return keep_rows(citations, ~touching)


def _example(job: PaperJob, citations: NDArray[np.int32]) -> str:
    """``, so "A" (1) cites "B" (2).``: one citation in words."""
    if not len(citations):
        return "."
    papers = titles_in_lines(job.folder / "papers.parquet", citations[0].tolist())
    return f", so {papers[0]} cites {papers[1]}."
