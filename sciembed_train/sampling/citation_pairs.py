"""Pairs for contrastive training on one's own papers and citations, from several sources.
A paper and one that it cites, two papers that are cited together, a title and its abstract, the
two halves of an abstract. All other texts of a step are negatives, except those that the citation
graph calls related (`related_papers`). Pairs, mixture, order and negatives are functions of (seed,
epoch, step) and not of the number of ranks.

Shapes: ``N`` pairs of the step over all ranks, ``H`` hard negatives of a pair, ``P`` papers.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from sciembed_train.batch import ContrastBatch, DevPairs, DevPairSource, TokenRows
from sciembed_train.corpus.store.corpus_folder import Corpus
from sciembed_train.corpus.store.mined_negatives import MinedNegatives, read_negatives
from sciembed_train.corpus.store.token_kinds import PART_TOKENS
from sciembed_train.errors import UserError
from sciembed_train.sampling.base import (
    ExampleDescription,
    Examples,
    Sampling,
    TextDescription,
    TokenizationSpec,
    check_choices,
    fingerprint,
    no_queries,
)
from sciembed_train.sampling.citation_texts import CitationTexts, TextKind
from sciembed_train.sampling.cocitations import SOURCES
from sciembed_train.sampling.held_out_papers import PaperBatches, choose_dev
from sciembed_train.sampling.mixture_plan import MixturePlan, SourcesPerBatch
from sciembed_train.sampling.negative_draws import HARD_STREAM, TwoHop, distinct_draws
from sciembed_train.sampling.pair_sources import SourceWeights, open_sources
from sciembed_train.sampling.plan import StepPlan
from sciembed_train.sampling.related_mask import RelatedMask
from sciembed_train.sampling.related_papers import RelatedPapers, Texts, text_contents
from sciembed_train.sampling.span_positions import uniforms
from sciembed_train.sampling.step_pairs import flipped

DEV_PAIRS = 2_000  # of each source, where no other number is asked for
MAX_HARD = 8
OF_PAPERS = ("citations", "cocitations")  # sources whose pairs are of two papers
PARTS = {
    TextKind.TITLE: "title of ",
    TextKind.ABSTRACT: "abstract of ",
    TextKind.FIRST_HALF: "first half of the abstract of ",
    TextKind.SECOND_HALF: "second half of the abstract of ",
}

Ints = NDArray[np.int64]
NegativesFrom = Literal["mined", "two_hop"]


@dataclass(frozen=True)
class CitationPairSampling(Sampling):
    """Pairs of several sources mixed by weight; a source that the corpus lacks is left out.

    Args:
        weights: how much comes from each source.
        cocited: how often two papers must be cited together to be a pair of ``cocitations``.
        sources_per_batch: ``one`` source in a step, drawn by weight, or ``mixed``.
        hard_negatives: of a pair of papers, at most, 0 to 8; other pairs have none.
        negatives_from: ``mined`` by an encoder with `mine`, or ``two_hop``: cited by a paper that
            the anchor cites, as SPECTER's (held-out papers' citations are no such way).
        mined_by: name of the mined negatives in the corpus; empty for the only ones.
        mask: which candidates are no negatives.

    Raises:
        UserError: a value is out of its range.
    """

    takes: ClassVar[tuple[str, ...]] = ("papers", *SOURCES)
    needs: ClassVar[tuple[str, ...]] = ("papers",)

    weights: SourceWeights = SourceWeights()  # noqa: RUF009 - frozen
    cocited: int = 2
    sources_per_batch: SourcesPerBatch = "one"
    hard_negatives: int = 0
    negatives_from: NegativesFrom = "mined"
    mined_by: str = ""
    mask: RelatedMask = RelatedMask()  # noqa: RUF009 - frozen

    def __post_init__(self) -> None:
        check_choices(self, sources_per_batch=SourcesPerBatch, negatives_from=NegativesFrom)
        if self.cocited < 1:
            raise UserError(f"data.sampling.cocited must be 1 or more; got {self.cocited}.")
        if not 0 <= self.hard_negatives <= MAX_HARD:
            raise UserError(
                f"data.sampling.hard_negatives must be 0 to {MAX_HARD}; got {self.hard_negatives}."
            )

    def open(
        self, corpus: Corpus, tokenization: TokenizationSpec, dev_limit: int | None
    ) -> CitationPairExamples:
        """The pairs of a corpus whose papers, titles and abstracts were tokenised."""
        return CitationPairExamples(self, corpus, tokenization, dev_limit or DEV_PAIRS)


class CitationPairExamples(Examples):
    """Opened pairs: `Examples` for methods that compare each text with all of a step.

    Args:
        sampling: the settings.
        corpus: what they are of.
        tokenization: how the encoder reads.
        dev_limit: most held-out pairs of each source.
    """

    name = "pairs"

    def __init__(
        self,
        sampling: CitationPairSampling,
        corpus: Corpus,
        tokenization: TokenizationSpec,
        dev_limit: int,
    ) -> None:
        key = tokenization.tokenizer.key(tokenization.input_format)
        self.sampling, self.seed = sampling, tokenization.seed
        self.max_length = tokenization.max_length
        self.tokens = CitationTexts(corpus.tokens(key), corpus.tokens(key, PART_TOKENS))
        self.sources, notes = open_sources(corpus, self.tokens, sampling.weights, sampling.cocited)
        self.notes: tuple[str, ...] = (self._source_counts(), *notes)
        self.paper_pairs: int | None = sum(
            len(source.train) for source in self.sources if source.name in OF_PAPERS
        )
        self.pairs = np.concatenate([source.train for source in self.sources])
        self.firsts = np.cumsum([0, *(len(source.train) for source in self.sources)])
        self.train = len(self.pairs)
        self.related = RelatedPapers.of(corpus, sampling.mask, self.tokens.parts.titles)
        facts = [key, json.dumps(asdict(sampling), sort_keys=True)]
        self.hard: MinedNegatives | TwoHop | None = None
        if sampling.hard_negatives and sampling.negatives_from == "two_hop":
            self.hard = TwoHop(corpus)
        elif sampling.hard_negatives:
            self.hard = read_negatives(corpus, sampling.mined_by)
            facts.append(json.dumps(dict(self.hard.info), sort_keys=True))
        self.fingerprint = fingerprint(corpus, facts, self.pairs)
        self.dev_limit = dev_limit

    def _source_counts(self) -> str:
        counts = [
            f"{source.name} {len(source.train):,} ({weight:.0%} of the steps)"
            for source, weight in zip(self.sources, self.weights, strict=True)
        ]
        return f"training pairs: {', '.join(counts)}"

    @property
    def weights(self) -> tuple[float, ...]:
        """Share of the training pairs of each source; they sum to 1."""
        total = sum(source.weight for source in self.sources)
        return tuple(source.weight / total for source in self.sources)

    def plan(
        self, batch_size: int, seed: int, world_size: int = 1, by_query: bool = False
    ) -> MixturePlan:
        """How the pairs of the sources fill the steps of a run.

        Raises:
            UserError: as `MixturePlan`; or pairs are to stay together by their query.
        """
        if by_query:
            raise no_queries(self.name)
        return MixturePlan(
            names=tuple(source.name for source in self.sources),
            sizes=tuple(len(source.train) for source in self.sources),
            weights=self.weights,
            batch_size=batch_size,
            seed=seed,
            world_size=world_size,
            sources_per_batch=self.sampling.sources_per_batch,
        )

    def training_papers(self) -> Ints:
        """The papers of the training pairs and of their hard negatives."""
        papers = np.unique(self.tokens.paper(self.pairs))
        return papers if self.hard is None else np.union1d(papers, self.hard.papers())

    def source_of(self, indices: Ints) -> Ints:
        """The source of each training pair."""
        return np.searchsorted(self.firsts, indices, side="right") - 1

    def step_texts(self, indices: Ints, epoch: int) -> tuple[Ints, Ints]:
        """Anchor and positive ``[N, 2]`` and hard negatives ``[N, H]``, numbers of texts.

        A missing hard negative is -1.
        """
        indices = np.asarray(indices, np.int64)
        pairs, sources = self.pairs[indices], self.source_of(indices)
        symmetric = np.array([source.symmetric for source in self.sources])[sources]
        if symmetric.any():
            turned = flipped(pairs[symmetric], indices[symmetric], self.seed, epoch)
            pairs = pairs.copy()
            pairs[symmetric] = turned
        hard = np.full((len(pairs), self.sampling.hard_negatives), -1, np.int64)
        of_papers = (pairs < self.tokens.n_papers).all(1)
        if self.hard is not None and of_papers.any():
            draws = uniforms(self.seed, HARD_STREAM, epoch, indices[of_papers], 2 * hard.shape[1])
            anchors, lengths = pairs[of_papers, 0], self.tokens.papers.lengths
            hard[of_papers] = distinct_draws(self.hard, anchors, draws, lengths)
        return pairs, hard

    def batch(
        self, indices: np.ndarray, epoch: int, step: int, share: slice = slice(None)
    ) -> ContrastBatch:
        """A rank's share of a step's pairs, each distinct text once, and the excluded negatives."""
        pairs, hard = self.step_texts(indices, epoch)
        kept = np.flatnonzero(hard.reshape(-1) >= 0)
        filled = np.where(hard >= 0, hard, pairs[:, 1:])
        # Of all ranks: equal texts are recognised by their tokens.
        distinct, place = np.unique(np.concatenate([pairs, filled], axis=1), return_inverse=True)
        place = place.reshape(len(pairs), -1)
        ids, lengths = self.tokens.rows(distinct, self.max_length)
        known = Texts(self.tokens.paper(distinct), text_contents(ids, lengths))
        anchors, positives = known[place[:, 0]], known[place[:, 1]]
        candidates = positives.followed_by(known[place[:, 2:].reshape(-1)[kept]])
        pair_rows = np.arange(len(pairs))[share]
        excluded = self.related.excluded(anchors[share], positives[share], candidates, pair_rows)
        back = self.related.excluded(positives[share], anchors[share], anchors, pair_rows)
        share_places, rows = np.unique(place[share], return_inverse=True)
        rows = torch.from_numpy(rows.reshape(place[share].shape))
        every = TokenRows(torch.from_numpy(ids), torch.from_numpy(lengths))
        return ContrastBatch(
            rows=every if len(share_places) == len(distinct) else every.select(share_places),
            texts=torch.from_numpy(distinct[share_places]),
            anchor=rows[:, 0].contiguous(),
            positive=rows[:, 1].contiguous(),
            hard=rows[:, 2:].contiguous(),
            source=torch.from_numpy(self.source_of(np.asarray(indices))[share]),
            hard_kept=torch.from_numpy(kept),
            excluded=torch.from_numpy(excluded),
            excluded_back=torch.from_numpy(back),
            step=step,
        )

    @cached_property
    def dev_pairs(self) -> list[Ints]:
        """The held-out pairs of each source, those of a query together, always the same."""
        pairs = [source.held_out for source in self.sources]
        return [choose_dev(part, self.dev_limit) if len(part) else part for part in pairs]

    @cached_property
    def dev_texts(self) -> Ints:
        """The distinct texts of the held-out pairs, ascending."""
        return np.unique(np.concatenate([part.reshape(-1) for part in self.dev_pairs]))

    @cached_property
    def dev(self) -> DevPairs:  # pyright: ignore[reportIncompatibleVariableOverride]
        """The held-out pairs by source, and the excluded negatives within each source."""
        parts = []
        for source, weight, pairs in zip(self.sources, self.weights, self.dev_pairs, strict=True):
            if not len(pairs):
                continue
            distinct, place = np.unique(pairs, return_inverse=True)
            ids, lengths = self.tokens.rows(distinct, self.max_length)
            known = Texts(self.tokens.paper(distinct), text_contents(ids, lengths))
            anchors, positives = (known[column] for column in place.reshape(-1, 2).T)
            pair_rows = np.arange(len(pairs))
            of_papers = bool((pairs < self.tokens.n_papers).all())
            pool = np.unique(pairs if of_papers else pairs[:, 1])
            anchor, positive, ranked = (
                torch.from_numpy(np.searchsorted(self.dev_texts, part))
                for part in (pairs[:, 0], pairs[:, 1], pool)
            )
            excluded, back = (
                torch.from_numpy(self.related.excluded(*sides, pair_rows))
                for sides in ((anchors, positives, positives), (positives, anchors, anchors))
            )
            parts.append(
                DevPairSource(source.name, weight, anchor, positive, excluded, back, ranked)
            )
        return DevPairs(tuple(parts), len(self.dev_texts))

    def dev_items(self, rank: int, world_size: int) -> PaperBatches:
        """This rank's texts of the held-out pairs, longest first, each text once."""
        return PaperBatches(self.tokens, self.dev_texts, self.max_length, rank, world_size)

    def describe(self, corpus: Corpus, plan: StepPlan, count: int) -> list[ExampleDescription]:
        """The first pairs of each source in epoch 0, and their hard negatives."""
        paper_ids = corpus.paper_ids()
        shown = np.zeros(len(self.sources), np.int64)
        examples: list[ExampleDescription] = []
        for step in range(plan.steps_per_epoch):
            if (shown >= count).all():
                break
            indices = plan.indices(step)
            sources = self.source_of(indices)
            new = [
                place
                for source in range(len(shown))
                for place in np.flatnonzero(sources == source)[: max(0, count - shown[source])]
            ]
            if not new:
                continue
            np.add.at(shown, sources[new], 1)
            batch = self.batch(indices, 0, step)
            pairs, hard = self.step_texts(indices, 0)
            left_out = np.bincount(batch.excluded[:, 0].numpy(), minlength=len(indices))
            candidates = len(indices) - 1 + len(batch.hard_kept)
            for place in new:
                texts = [
                    self._described("anchor", paper_ids, pairs[place, 0]),
                    self._described("positive", paper_ids, pairs[place, 1]),
                    *(
                        self._described("hard negative", paper_ids, text)
                        for text in hard[place]
                        if text >= 0
                    ),
                ]
                notes = (
                    f"{candidates - left_out[place]:,} negatives of {candidates:,} candidates: "
                    f"{left_out[place]:,} are related to it or the same",
                )
                title = self._title(int(indices[place]), int(sources[place]))
                examples.append(ExampleDescription(title, tuple(texts), notes))
        return examples

    def _title(self, number: int, source: int) -> str:
        opened = self.sources[source]
        within = number - int(self.firsts[source])
        times = "" if opened.counts is None else f", cited together {opened.counts[within]:,} times"
        return f"pair {within:,} of {opened.name}{times}"

    def _described(self, role: str, paper_ids: Sequence[str], text: Any) -> TextDescription:
        ids, _ = self.tokens.rows(np.array([text]), self.max_length)
        kind, paper = divmod(int(text), self.tokens.n_papers)
        return TextDescription(role, ids.tolist(), PARTS.get(TextKind(kind), "") + paper_ids[paper])
