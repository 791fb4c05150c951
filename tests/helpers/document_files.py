"""Synthetic documents as a file, and a corpus of them."""

import json
from pathlib import Path

import numpy as np

from sciembed_train.corpus.store.corpus_files import CORPUS_VERSION, save_documents, save_info
from sciembed_train.corpus.store.corpus_folder import Corpus
from sciembed_train.corpus.store.token_store_writing import write_document_store
from sciembed_train.text.tokenizer import TextTokenizer


def synthetic_documents(count: int, words: tuple[int, int] = (40, 200), seed: int = 0) -> list[str]:
    """Texts that each use a few words often."""
    rng = np.random.default_rng(seed)
    texts = []
    for _ in range(count):
        own = rng.integers(0, 200, 12)
        length = int(rng.integers(*words))
        from_all = rng.integers(0, 200, length)
        mixed = np.where(rng.random(length) < 0.5, rng.choice(own, length), from_all)
        texts.append(" ".join(f"word{w}" for w in mixed))
    return texts


def write_documents(file: Path, count: int, seed: int = 0) -> Path:
    """The documents as JSON Lines."""
    texts = synthetic_documents(count, seed=seed)
    lines = [json.dumps({"paper_id": f"d{i}", "text": text}) for i, text in enumerate(texts)]
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("\n".join(lines) + "\n")
    return file


def write_document_corpus(folder: Path, tokenizer: Path, count: int = 60, seed: int = 0) -> Corpus:
    """A corpus of tokens alone, a fifth of it held out, straight through the writers."""
    held_out = np.arange(count) % 5 == 0
    (folder / "documents").mkdir(parents=True)
    for split, chosen in (("train", ~held_out), ("dev", held_out), ("test", held_out & False)):
        save_documents(folder, split, np.flatnonzero(chosen).astype(np.int32))
    reader = TextTokenizer.load(tokenizer)
    texts = synthetic_documents(count, seed=seed)
    write_document_store(folder / "document_tokens" / reader.document_key, reader, texts)
    counts = {"papers": 0, "documents": count}
    sources = [{"sha256": f"invented {seed}"}]
    save_info(folder, {"version": CORPUS_VERSION, "counts": counts, "sources": sources})
    return Corpus.open(folder)
