"""Invented documents as files, and a corpus of them, for tests of the rooms that read one."""

import json
from pathlib import Path

import numpy as np

from sciembed_train.corpus.prepare import PrepareSettings, prepare
from sciembed_train.corpus.store import Corpus


def write_documents(file: Path, count: int, words: tuple[int, int] = (40, 200), seed: int = 0):
    """JSON Lines of documents that each have a few words of their own, used often."""
    rng = np.random.default_rng(seed)
    lines = []
    for number in range(count):
        own = rng.integers(0, 200, 12)
        length = int(rng.integers(*words))
        of_all = rng.integers(0, 200, length)
        mixed = np.where(rng.random(length) < 0.5, rng.choice(own, length), of_all)
        text = " ".join(f"word{w}" for w in mixed)
        lines.append(json.dumps({"paper_id": f"d{number}", "text": text}))
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("\n".join(lines) + "\n")
    return file


def write_document_corpus(folder: Path, tokenizer: Path, count: int = 60, seed: int = 0) -> Corpus:
    file = write_documents(folder.parent / f"{folder.name}.jsonl", count, seed=seed)
    return prepare(
        PrepareSettings(
            papers=None,
            fulltexts=file,
            to=folder,
            tokenizer=tokenizer,
            dev_share=0.2,
            test_share=0.0,
        )
    )
