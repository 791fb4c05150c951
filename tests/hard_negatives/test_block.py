import tracemalloc

import numpy as np
import torch

from sciembed_train.hard_negatives import block as block_module
from sciembed_train.hard_negatives.block import Miner
from sciembed_train.hard_negatives.mine_settings import MineSettings
from sciembed_train.hard_negatives.positives import Positives
from sciembed_train.hard_negatives.relations import PaperTexts, Relations
from sciembed_train.inference.stored_vectors import StoredVectors
from sciembed_train.sampling.related_mask import RelatedMask
from sciembed_train.sampling.related_papers import RelatedPapers

WIDTH = 6


def test_a_paper_without_a_text_is_neither_query_nor_negative(corpus, vectors):
    readable = np.ones(corpus.n_papers, np.bool_)
    readable[[3, 40]] = False
    positives = Positives.of(corpus, readable, 2)
    assert not set(positives.queries.tolist() + positives.papers.tolist()) & {3, 40}
    texts = PaperTexts(readable, *(np.zeros(corpus.n_papers, np.int64) for _ in range(2)))
    stored = StoredVectors.open(vectors[0], corpus.paper_ids())
    miner = Miner(
        MineSettings(corpus.folder, "m", count=40, ranks="0:60", margin=1.0),
        stored,
        Relations(RelatedPapers.of(corpus, RelatedMask(), texts.titles), positives, texts),
        (stored.paper >= 0) & readable[stored.paper],
        None,
        torch.device("cpu"),
    )
    mined = miner.mine(0, len(positives.queries)).papers
    assert (mined >= 0).any()
    assert not set(mined.reshape(-1).tolist()) & {3, 40}


def test_memory_grows_with_the_block_and_not_with_the_papers(corpus, tmp_path, monkeypatch):
    monkeypatch.setattr(block_module, "TILE", 64)
    rng = np.random.default_rng(0)
    peaks = {}
    for rows, queries in ((1_000, 30), (16_000, 30), (16_000, 15)):
        np.save(tmp_path / "v.npy", rng.normal(size=(rows, WIDTH)).astype(np.float32))
        ids = [*corpus.paper_ids(), *(f"x{i}" for i in range(rows - corpus.n_papers))]
        (tmp_path / "v.ids.txt").write_text("".join(f"{i}\n" for i in ids))
        texts = PaperTexts(*(np.ones(corpus.n_papers, kind) for kind in (np.bool_, np.int64, int)))
        stored = StoredVectors.open(tmp_path / "v.npy", corpus.paper_ids())
        positives = Positives.of(corpus, texts.readable, 2)
        none = RelatedMask(False, False, 0, False, False)
        miner = Miner(
            MineSettings(corpus.folder, "m", count=20, ranks="0:50"),
            stored,
            Relations(RelatedPapers.of(corpus, none, texts.titles), positives, texts),
            np.ones(rows, np.bool_),
            None,
            torch.device("cpu"),
        )
        miner.mine(0, queries)
        tracemalloc.start()
        miner.mine(0, queries)
        peaks[rows, queries] = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    # 30 x 16,000 scores alone would be 1.9 MB.
    assert peaks[16_000, 30] < peaks[1_000, 30] + 50_000
    assert peaks[16_000, 15] < 0.75 * peaks[16_000, 30]
