"""Synthetic papers, their citations and an untrained encoder, for the examples.

Your own files take their place: papers with ``paper_id``, ``title``, ``abstract``, citations with
``citing``, ``cited``, and a pretrained encoder.
"""

from dataclasses import dataclass
from pathlib import Path

from sciembed_train.synthetic import (
    SyntheticSettings,
    train_tokenizer,
    write_bert,
    write_collection,
)


@dataclass(frozen=True)
class Files:
    """Where the files lie."""

    papers: Path
    citations: Path
    backbone: Path


def make(folder: Path, papers: int = 400, seed: int = 0) -> Files:
    """Write papers, citations and an untrained BERT of two layers."""
    collection = write_collection(folder / "data", SyntheticSettings(papers=papers, seed=seed))
    texts = [f"{paper['title']} {paper['abstract']}" for paper in collection.papers()]
    tokenizer = train_tokenizer(texts, vocab=1000)
    backbone = write_bert(
        folder / "backbone", tokenizer, layers=2, width=64, max_positions=128, seed=seed
    )
    return Files(folder / "data" / "papers.jsonl", folder / "data" / "citations.tsv", backbone)
