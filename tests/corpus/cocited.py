"""A small corpus of co-cited pairs, written straight through."""

from pathlib import Path

import numpy as np

from sciembed_train.corpus.store import Corpus
from sciembed_train.inputs import InputFormat
from tests.corpus.small import write_small_corpus


def write_cocited_corpus(
    folder: Path,
    tokenizer: Path,
    pairs: int = 80,
    papers: int = 60,
    seed: int = 0,
    form: InputFormat = InputFormat(),  # noqa: B008
) -> Corpus:
    """Random pairs of the first papers for training, of the last for validation; all are known."""
    corpus = write_small_corpus(folder, tokenizer, n_papers=papers, seed=seed, form=form)
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
