"""A small corpus of co-cited pairs, written without `prepare`."""

from pathlib import Path

import numpy as np

from sciembed_train.corpus.alignment import (
    ALIGNED,
    ALIGNMENTS_VERSION,
    MARKER,
    alignment_folder,
)
from sciembed_train.corpus.store.corpus_files import save_info
from sciembed_train.corpus.store.corpus_folder import Corpus
from sciembed_train.corpus.store.sentence_store import write_sentence_store, write_sentences
from sciembed_train.text.input_format import InputFormat
from sciembed_train.text.tokenizer import TextTokenizer
from tests.helpers.small_corpus import write_small_corpus


def write_cocitation_corpus(
    folder: Path,
    tokenizer: Path,
    pairs: int = 80,
    papers: int = 60,
    seed: int = 0,
    input_format: InputFormat = InputFormat(),  # noqa: B008
) -> Corpus:
    """Random pairs of the first papers for training, of the last for validation; all are known."""
    corpus = write_small_corpus(
        folder, tokenizer, n_papers=papers, seed=seed, input_format=input_format
    )
    rng = np.random.default_rng(seed)
    (folder / "cocitations").mkdir()
    known = []
    for split, low, high, count in (
        ("train", 0, papers - 15, pairs),
        ("dev", papers - 15, papers - 5, 12),
        ("test", papers - 5, papers, 4),
    ):
        drawn = np.sort(rng.integers(low, high, (count * 3, 2)), axis=1)
        drawn = np.unique(drawn[drawn[:, 0] != drawn[:, 1]], axis=0)
        drawn = drawn[np.sort(rng.permutation(len(drawn))[:count])].astype(np.int32)
        np.save(folder / "cocitations" / f"{split}.npy", drawn)
        np.save(folder / "cocitations" / f"{split}.count.npy", np.ones(len(drawn), np.int32))
        known.append(drawn[:, 0].astype(np.int64) * papers + drawn[:, 1])
    np.save(folder / "cocitations" / "known.npy", np.sort(np.concatenate(known)))
    return corpus


def write_sentence_corpus(
    folder: Path,
    tokenizer: Path,
    pairs: int = 80,
    papers: int = 60,
    seed: int = 0,
    input_format: InputFormat = InputFormat(),  # noqa: B008
    alignment: str = "random",
) -> Corpus:
    """`write_cocitation_corpus` whose papers have 0 to 7 sentences, and a random alignment.

    Every fifth paper has no abstract, and every fourth pair no citing sentence.
    """
    corpus = write_cocitation_corpus(folder, tokenizer, pairs, papers, seed, input_format)
    rng = np.random.default_rng(seed + 1)
    rows = [
        {
            "abstract": [
                " ".join(f"word{w}" for w in rng.integers(0, 200, rng.integers(1, 9))) + "."
                for _ in range(rng.integers(1, 8) if paper % 5 else 0)
            ]
        }
        for paper in range(papers)
    ]
    write_sentences(folder, rows)
    loaded = TextTokenizer.load(tokenizer)
    to = folder / "sentenced_tokens" / loaded.key(input_format)
    write_sentence_store(to, loaded, input_format, corpus.sentences(), name=str(tokenizer))
    counts = np.maximum([len(row["abstract"]) for row in rows], 1)
    aligned = alignment_folder(corpus, alignment)
    aligned.mkdir(parents=True)
    for split in ALIGNED:
        known = corpus.cocitations(split)
        drawn = (rng.random((len(known), 2, 2)) * counts[known][:, None, :]).astype(np.int16)
        drawn[::4, 0] = -1
        np.save(aligned / f"{split}.npy", drawn.reshape(-1, 4))
    save_info(aligned, {"version": ALIGNMENTS_VERSION}, MARKER)
    return corpus
