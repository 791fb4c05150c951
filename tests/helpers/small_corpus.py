"""Small corpora, written without `prepare`."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from sciembed_train.corpus.store.corpus_files import (
    CORPUS_VERSION,
    SPLITS,
    SplitWriter,
    save_documents,
    save_first_of_text,
    save_info,
    save_queries,
    save_titles,
)
from sciembed_train.corpus.store.corpus_folder import Corpus
from sciembed_train.corpus.store.token_store_writing import write_document_store, write_token_store
from sciembed_train.text.input_format import InputFormat
from sciembed_train.text.normalise import text_number
from sciembed_train.text.tokenizer import TextTokenizer


def small_papers(n: int, seed: int = 0) -> list[dict]:
    """``n`` papers of 2 to about 60 random words each."""
    rng = np.random.default_rng(seed)

    def words(k):
        return " ".join(f"word{w}" for w in rng.integers(0, 200, k))

    return [
        {
            "paper": i,
            "paper_id": f"p{i}",
            "title": words(rng.integers(2, 8)),
            "abstract": words(rng.integers(0, 50)) if i % 3 else None,
        }
        for i in range(n)
    ]


def write_small_corpus(
    folder: Path,
    tokenizer: Path,
    n_papers: int = 60,
    n_triplets: int = 100,
    input_format: InputFormat = InputFormat(),  # noqa: B008
    seed: int = 0,
) -> Corpus:
    """A corpus of random papers, citations and triplets (train, and a tenth as many dev)."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    rng = np.random.default_rng(seed)
    papers = small_papers(n_papers, seed)
    folder.mkdir(parents=True)
    schema = pa.schema(
        [
            ("paper", pa.int32()),
            ("paper_id", pa.string()),
            ("title", pa.string()),
            ("abstract", pa.string()),
            ("sentences", pa.list_(pa.string())),
        ]
    )
    rows = [{**p, "sentences": None} for p in papers]
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), folder / "papers.parquet")
    pairs = rng.integers(0, n_papers, (n_papers * 5, 2))
    pairs = np.unique(pairs[pairs[:, 0] != pairs[:, 1]], axis=0).astype(np.int32)
    np.save(folder / "citations.npy", pairs)
    save_first_of_text(folder, np.arange(n_papers))
    save_titles(folder, np.array([text_number(p["title"]) for p in papers]))
    counts = {"train": n_triplets, "dev": n_triplets // 10, "test": n_triplets // 10}
    held_out = {"train": (0, n_papers - 10), "dev": (n_papers - 10, n_papers - 5)}
    held_out["test"] = (n_papers - 5, n_papers)
    for split, count in counts.items():
        low, high = held_out[split]
        triplets = np.stack(
            [
                np.concatenate([rng.integers(low, high, 1), rng.choice(low or high, 2, False)])
                for _ in range(count)
            ]
        )
        with SplitWriter(folder, split, count) as writer:
            writer.add(triplets.astype(np.int32), np.arange(count) % 5 < 2)
        save_queries(folder, split, np.unique(triplets[:, 0]))
    loaded = TextTokenizer.load(tokenizer)
    key = loaded.key(input_format)
    store = write_token_store(
        folder / "tokens" / key, loaded, input_format, papers, name=str(tokenizer)
    )
    info = {
        "version": CORPUS_VERSION,
        "sources": [],
        "counts": {"papers": n_papers, "triplets": counts},
        "settings": {},
        "token_stores": {key: store.info},
    }
    save_info(folder, info)
    return Corpus.open(folder)


def write_small_documents(
    folder: Path, tokenizer: Path, lengths: Sequence[int], held_out: int = 2, seed: int = 0
) -> Corpus:
    """A corpus of documents alone, of so many random words each (one token each for tiny_bert).

    The last ``held_out`` documents are dev, those before them test, and all others train.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    rng = np.random.default_rng(seed)
    texts = [" ".join(f"word{w}" for w in rng.integers(0, 200, n)) for n in lengths]
    folder.mkdir(parents=True)
    columns = {
        "document": np.arange(len(texts), dtype=np.int32),
        "document_id": [f"d{i}" for i in range(len(texts))],
        "text": texts,
    }
    pq.write_table(pa.table(columns), folder / "documents.parquet", compression="zstd")
    numbers = np.arange(len(texts))
    cuts = max(len(texts) - 2 * held_out, 0), max(len(texts) - held_out, 0)
    train, test, dev = np.split(numbers, cuts)
    split = {"train": train, "dev": dev, "test": test}
    for name in SPLITS:
        save_documents(folder, name, split[name])
    loaded = TextTokenizer.load(tokenizer)
    key = loaded.document_key
    to = folder / "document_tokens" / key
    store = write_document_store(to, loaded, texts, shard_documents=7, name=str(tokenizer))
    info = {
        "version": CORPUS_VERSION,
        "sources": [],
        "counts": {
            "papers": 0,
            "documents": len(texts),
            "documents_by_split": {name: len(split[name]) for name in SPLITS},
        },
        "settings": {},
        "token_stores": {},
        "document_stores": {key: store.info},
    }
    save_info(folder, info)
    return Corpus.open(folder)
