"""Pairs of citing sentences that cite the same papers, mined in SQL (``sentence_pair_mining.sql``).

Aspire, Mysore et al. (2022): two sentences on the same work are paraphrases. The steps are those of
co-cited papers (``cocitation_mining.sql``) with papers and sentences exchanged: there the papers of
a context are a list and its pairs are of papers, here the sentences that cite a set of papers (or
one paper) are a list and its pairs are of sentences. So a repeated sentence, one that differs from
another of its list in digits alone, and all but one of a citing paper are left out of a list, and
of a long list ``max_pairs`` pairs are taken around a ring.

A text may stand in several rows, one for each of its mentions. Its pairs follow what each row
cites, but its split, and what repeats it, follow all that the text cites, digits aside. It is
of test if a paper of these is, else of dev if one is; a pair is of training with two sentences of
training, of test with a sentence of test, else of dev. Sentences are numbered by what they cite
and then by a digest, so nothing depends on the order of the input.

Shapes: ``P`` papers, ``N`` pairs, ``S`` sentences, ``C`` papers cited by all of them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sciembed_train.corpus.mining.cocitation_mining import (
    LISTS,
    RING,
    ROWS,
    CocitationMiner,
    left_out,
)
from sciembed_train.corpus.mining.cocitation_settings import CocitationMining
from sciembed_train.corpus.sql_engine import Engine, statements

SQL = statements(Path(__file__).with_suffix(".sql"))
# Why a sentence is in no list of two or more, by the step of LISTS that leaves it out.
LEFT_OUT = (
    "given before",
    "differs from another sentence that cites the same in digits alone",
    "another sentence of the same citing paper cites the same (one_per_citing)",
    "too few other sentences cite the same (min_contexts, and 2 in any case)",
)


@dataclass(frozen=True)
class SentencePairs:
    """A batch of pairs of sentences, ascending.

    Args:
        rows: ``[N, 2]``: sentences a < b.
        split: ``[N]``: 0 for train, 1 for dev, 2 for test.
    """

    rows: NDArray[np.int32]
    split: NDArray[np.int32]


class SentenceMiner:
    """Mines sentences and their pairs as tables of the database.

    It replaces the tables of a `CocitationMiner`, which must have been read before.

    Args:
        engine: runs the SQL.
        work: a folder for the tables that it loads.
        settings: the rules.
        seed: of the choice of pairs from long lists.
    """

    def __init__(self, engine: Engine, work: Path, settings: CocitationMining, seed: int) -> None:
        self.engine, self.settings = engine, settings
        # Of one sentence no pair is made.
        least = dataclasses.replace(settings, min_contexts=max(2, settings.min_contexts))
        self.steps = CocitationMiner(engine, work, least, seed)

    def mine(self, mentions: Path, members: Path, split: NDArray[np.int8]) -> None:
        """Fill the tables of sentences and pairs.

        Args:
            mentions: the sentences that may be used.
            members: the papers that each list of them cites; see `ContextGroups` for both.
            split: ``[P]``, that of each paper.
        """
        for table, path in (("citing", mentions), ("cited", members)):
            self.engine.drop(table)
            self.engine.load(table, path)
            path.unlink()
        self.steps.prepare(split)
        by = "sets" if self.settings.sentence_pairs == "set" else "papers"
        self.engine.create("mentions", SQL[by])
        self.steps.make(*LISTS)
        for name in ("numbered", "members"):
            self.engine.create(name, SQL[name])
        self.steps.make(*RING)
        self.engine.create("pairs", SQL["pairs"])

    def left_out(self) -> dict[str, tuple[int, list[int]]]:
        """Sentences that are in no list; see `cocitation_mining.left_out`."""
        return left_out(self.engine, LEFT_OUT)

    def number(self, table: str, condition: str = "1 = 1") -> int:
        """How many rows a table has."""
        return self.steps.number(table, condition)

    def by_split(self) -> list[int]:
        """Pairs of train, dev and test."""
        return self.steps.by_split()

    def number_of_cites(self) -> int:
        """How many papers the sentences' texts cite, each paper counted for each sentence."""
        return self.engine.number(f"SELECT COUNT(*) FROM ({SQL['cites']}) x")

    def lists(self) -> int:
        """How many lists have two sentences or more."""
        return self.engine.number("SELECT COUNT(DISTINCT list) FROM kept")

    def cut(self) -> tuple[int, int]:
        """How many lists have more than ``max_pairs`` pairs, and their pairs not taken."""
        return self.steps.cut()["contexts"]

    def pairs(self) -> Iterator[SentencePairs]:
        """Every pair, ascending, thousands at a time."""
        for batch in self.engine.stream(SQL["ordered_pairs"], ROWS):
            rows = np.stack([batch["a"], batch["b"]], axis=1).astype(np.int32)
            yield SentencePairs(rows, batch["split"].astype(np.int32))

    def cites(self) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int32]]]:
        """Every sentence and paper that its text cites, ascending, thousands at a time."""
        for batch in self.engine.stream(f"{SQL['cites']} ORDER BY sentence, paper", ROWS):
            yield batch["sentence"].astype(np.int64), batch["paper"].astype(np.int32)
