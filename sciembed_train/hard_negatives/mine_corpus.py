"""Hard negatives of a corpus's training papers, mined by an encoder and written into the corpus.

For each training paper with a positive, all papers are ranked by the cosine of their vectors, what
the citation graph calls related is taken out, and of the nearest others those become negatives
whose score is at most a share of the positives' score: TopK-PercPos of NV-Retriever, Moreira et
al. (2024). Optionally papers two citations away come first, as in SPECTER, Cohan et al. (2020).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch

from sciembed_train.corpus.store.corpus_folder import Corpus
from sciembed_train.corpus.store.mined_negatives import NEGATIVES, write_negatives
from sciembed_train.errors import UserError
from sciembed_train.full_disk import told_full_disk
from sciembed_train.hard_negatives.block import TILE, Miner
from sciembed_train.hard_negatives.mine_settings import MineSettings
from sciembed_train.hard_negatives.mining_summary import Mined, MiningSummary
from sciembed_train.hard_negatives.partial_result import PartialResult
from sciembed_train.hard_negatives.positives import Positives
from sciembed_train.hard_negatives.relations import PaperTexts, Relations, TwoHopPapers
from sciembed_train.inference.corpus_vectors import corpus_vectors
from sciembed_train.inference.options import EmbedSettings
from sciembed_train.inference.stored_vectors import StoredVectors
from sciembed_train.progress import Progress
from sciembed_train.sampling.negative_draws import TwoHop
from sciembed_train.sampling.related_mask import RelatedMask
from sciembed_train.sampling.related_papers import RelatedPapers

VERSION = 1
CONTINUES = (
    "The blocks that were mined are kept, and the corpus is as it was. Make room and run the same "
    "command again; it continues."
)
RULES = ("count", "margin", "ranks", "positive", "two_hop_first", "queries_at_once")


def mine_corpus(
    settings: MineSettings, mask: RelatedMask, embed: EmbedSettings, quiet: bool = True
) -> Mined:
    """Mine the negatives of a corpus; a mining that was killed continues.

    Args:
        settings: what is mined, and by which rules.
        mask: which relations make a paper no negative.
        embed: how the model embeds; of vectors, the device alone is used.
        quiet: show no progress.

    Raises:
        UserError: the corpus, the model or the vectors cannot be used, or another process mines
            under the same name.
        RunError: the disk is full.
    """
    corpus, progress = Corpus.open(settings.corpus), Progress(quiet)
    name, place = settings.negatives_name, settings.vectors
    with _only_one(corpus.folder / NEGATIVES / f".{name}.lock"):
        with progress.stage("reading texts", corpus.n_papers, "papers") as stage:
            texts = PaperTexts.of(corpus, stage.reach)
        positives = Positives.of(corpus, texts.readable, mask.cocited)
        if settings.model is not None:
            without = int((~texts.readable).sum())
            place = corpus_vectors(
                corpus, settings.model, name, embed, without, settings.restart, quiet
            )
        assert place is not None
        with progress.stage("reading vectors", unit="vectors") as stage:
            vectors = StoredVectors.open(place, paper_ids := corpus.paper_ids())
            stage.reach(len(vectors))
        missing = np.flatnonzero(texts.readable & (vectors.row < 0))
        if len(missing):
            raise UserError(
                f"{place} has no vector of {len(missing):,} papers of {corpus.folder}, such as "
                f"{paper_ids[int(missing[0])]!r}. Embed all papers."
            )
        related = RelatedPapers.of(corpus, mask, texts.titles)
        drawn = texts.readable & corpus.distinct_papers()
        two_hop = None
        if settings.two_hop_first:
            hops = TwoHop(corpus)
            two_hop = TwoHopPapers(np.asarray(hops.cited, np.int64), hops.starts)
        miner = Miner(
            settings=settings,
            vectors=vectors,
            relations=Relations(related, positives, texts),
            candidates=(vectors.paper >= 0) & drawn[vectors.paper],
            two_hop=two_hop,
            device=_device(embed.device),
        )
        plan = {
            "version": [VERSION, TILE],
            "vectors": vectors.digest,
            "examples": _examples_digest(corpus, positives),
            "rules": {key: getattr(settings, key) for key in RULES} | {"mask": asdict(mask)},
        }
        shape = (len(positives.queries), settings.count, len(positives.papers))
        partial = PartialResult(
            corpus.folder / NEGATIVES / f".{name}.partial", plan, shape, settings.restart
        )
        before = partial.done
        _fill(partial, miner, progress)
        summary = MiningSummary.of(
            partial.papers,
            partial.scores,
            partial.positives,
            partial.counts,
            settings.two_hop_first,
        )
        encoder = str(settings.model if settings.model is not None else settings.vectors)
        facts = {"encoder": encoder, **plan["rules"], "vectors": vectors.digest}
        write_negatives(
            corpus,
            name,
            positives.queries,
            partial.papers,
            partial.scores,
            {**facts, "summary": summary.as_dict()},
        )
        partial.remove()
    return Mined(corpus.folder / NEGATIVES / name, name, settings.count, before, summary)


def _fill(partial: PartialResult, miner: Miner, progress: Progress) -> None:
    """Mine block after block."""
    positives, size = miner.relations.positives, miner.settings.queries_at_once
    queries = len(positives.queries)
    with progress.stage("ranking", queries, "queries", partial.done) as stage:
        for start in range(partial.done, queries, size):
            stop = min(start + size, queries)
            with torch.inference_mode():
                block = miner.mine(start, stop)
            partial.add(block, start, stop, int(positives.starts[start]))
            stage.reach(stop)


def _examples_digest(corpus: Corpus, positives: Positives) -> str:
    """A hash (16 hex digits) of all that mining reads of a corpus beside the vectors."""
    digest = hashlib.sha256()
    for array in (positives.queries, positives.starts, positives.papers):
        digest.update(np.ascontiguousarray(array).data)
    sources = [source.get("sha256") for source in corpus.info.get("sources", [])]
    digest.update(json.dumps([sources, corpus.info["counts"]], sort_keys=True).encode())
    return digest.hexdigest()[:16]


def _device(name: str) -> torch.device:
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        return torch.empty(0, device=name).device
    except (RuntimeError, AssertionError) as error:
        raise UserError(
            f"--device {name} cannot be used here: {str(error).splitlines()[0].rstrip('.')}. "
            "Leave --device out to use what is available."
        ) from error


@contextmanager
def _only_one(path: Path) -> Iterator[None]:
    """Hold a lock file; UserError where another process holds it, RunError on a full disk."""
    from filelock import FileLock, Timeout

    try:
        path.parent.mkdir(exist_ok=True)
        with told_full_disk(path.parent, CONTINUES), FileLock(str(path), timeout=0):
            try:
                yield
            finally:
                path.unlink(missing_ok=True)
    except Timeout as error:
        raise UserError(
            f"{path}: another process is mining under this name; wait for it."
        ) from error
