"""Pairs of citing sentences that cite the same papers, mined in SQL (``sentence_pair_mining.sql``).

Aspire, Mysore et al. (2022): two sentences on the same work are paraphrases. The steps are those of
co-cited papers (``cocitation_mining.sql``) with papers and sentences exchanged: there the papers of
a context are a list and its pairs are of papers, here the sentences that cite a set of papers (or
one paper) are a list and its pairs are of sentences. So a repeated sentence, one that differs from
another of its list in digits alone, and all but one of a citing paper are left out of a list, and
of a long list ``max_pairs`` pairs are taken around a ring.

A text may stand in several rows, one for each of its mentions. Its pairs follow what each row
cites; its split and its repetitions follow all that the text cites, ignoring digits. It is in test
if one of these papers is, else in dev if one is; a pair of two training sentences is in train, one
with a test sentence in test, any other in dev. Sentences are numbered by what they cite and then
by a digest, so nothing depends on the order of the input.

Shapes: ``P`` papers, ``N`` pairs, ``S`` sentences, ``C`` papers cited by all of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from sciembed_train.corpus.mining.cocitation_mining import LISTS, RING, ROWS, CocitationMiner
from sciembed_train.corpus.mining.cocitation_settings import CocitationMining
from sciembed_train.corpus.sql_engine import Engine, statements

SQL = statements(Path(__file__).with_suffix(".sql"))


@dataclass(frozen=True)
class SentencePairs:
    """A batch of pairs of sentences a < b, ascending, ``[N, 2]``; splits as in `Pairs`, ``[N]``."""

    rows: NDArray[np.int32]
    split: NDArray[np.int32]


class SentenceMiner(CocitationMiner):
    """Mines sentences and their pairs as tables of the database.

    It replaces the tables of a `CocitationMiner` of papers, which must have been read before.
    ``reasons`` say why a sentence is in no list of two or more.
    """

    reasons: ClassVar = (
        "given before",
        "differs from another sentence that cites the same in digits alone",
        "another sentence of the same citing paper cites the same (one_per_citing)",
        "too few other sentences cite the same (min_contexts, and 2 in any case)",
    )

    def __init__(self, engine: Engine, settings: CocitationMining, seed: int) -> None:
        super().__init__(engine, settings, seed)
        # One sentence alone makes no pair.
        self.fixed["min_contexts"] = max(2, settings.min_contexts)

    def mine_sentences(self, mentions: Path, members: Path, split: NDArray[np.int8]) -> None:
        """Fill the tables of sentences and pairs, from two files of `ContextGroups`.

        ``split`` ``[P]`` is that of each paper.
        """
        for table, path in (("citing", mentions), ("cited", members)):
            self.engine.load(table, path)
            path.unlink()
        self.prepare(split)
        by = "sets" if self.settings.sentence_pairs == "set" else "papers"
        self.engine.create("mentions", SQL[by])
        self.make(*LISTS)
        for name in ("numbered", "members"):
            self.engine.create(name, SQL[name])
        self.make(*RING)
        self.engine.create("pairs", SQL["pairs"])

    def sentence_pairs(self) -> Iterator[SentencePairs]:
        """Every pair, ascending, thousands at a time."""
        for batch in self.engine.stream(SQL["ordered_pairs"], ROWS):
            rows = np.stack([batch["a"], batch["b"]], axis=1).astype(np.int32)
            yield SentencePairs(rows, batch["split"].astype(np.int32))

    def cites(self) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int32]]]:
        """Every sentence and paper that its text cites, ascending, thousands at a time."""
        for batch in self.engine.stream(f"{SQL['cites']} ORDER BY sentence, paper", ROWS):
            yield batch["sentence"].astype(np.int64), batch["paper"].astype(np.int32)
