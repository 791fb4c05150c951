"""Spans of documents: anchors and positives for DeCLUTR, masked for its language model.

DeCLUTR, Giorgi et al. (2021), section 3.1; `span_positions` says where spans lie,
`token_masking` what is masked, `span_slicing` how a batch of them is made. Here: the settings, and
which documents take part.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, ClassVar, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from sciembed_train.batch import DevSpans, SpanBatch
from sciembed_train.corpus.store.corpus_folder import Corpus
from sciembed_train.corpus.store.token_kinds import DOCUMENT_TOKENS
from sciembed_train.errors import UserError
from sciembed_train.sampling.base import (
    ExampleDescription,
    Examples,
    Sampling,
    TextDescription,
    TokenizationSpec,
)
from sciembed_train.sampling.plan import StepPlan, first_indices
from sciembed_train.sampling.span_positions import HELD_OUT, TRAIN, Rule, Strategy
from sciembed_train.sampling.span_slicing import Slices, span_batch
from sciembed_train.sampling.token_masking import Masking

DRAWS_VERSION = 1  # of how spans and masks are drawn; a change makes another experiment
DEV_DOCUMENTS = 500  # held-out documents to validate on by default
ITEM_DOCUMENTS = 16  # of a validation batch, at most
ITEM_TOKENS = 2**16  # likewise; the encoder splits it further
SETTINGS = "data.sampling.init_args"
ShortDocuments = Literal["skip", "adapt"]


@dataclass(frozen=True)
class SpanSampling(Sampling):
    """Spans of documents; defaults are DeCLUTR's.

    Args:
        num_anchors: spans of a document that are compared with others, 1 or more.
        num_positives: spans near each anchor, whose mean is its partner; 0 for a masked language
            model alone.
        max_span: most tokens of a span.
        min_span: least tokens of a span.
        strategy: where positives lie: ``any`` (touching or intersecting their anchor),
            ``adjacent`` or ``subsuming`` (inside it).
        short_documents: what becomes of documents of less than ``2 * num_anchors * max_span``
            tokens. ``skip`` leaves them out. ``adapt``, which is not DeCLUTR's but ours, takes the
            spans of a document of ``n`` tokens as if ``max_span`` were ``n // (2 * num_anchors)``,
            if that is at least ``min_span``: with 2 anchors and a ``min_span`` of 32, documents
            of 128 tokens and more.
        mlm_probability: share of the anchors' tokens that the language model predicts; 0 for no
            language model.
        mask_anchor_for_contrastive: compare the anchors as the language model sees them, with
            tokens missing, as published. False compares whole anchors; the masked ones are then
            encoded besides.
        reproduce: place spans as the published code does, which matters from three anchors on and
            for ``adjacent`` positives: see `span_positions.anchor_spans`.

    Raises:
        UserError: a value is out of its range, or there is nothing to learn.
    """

    takes: ClassVar[tuple[str, ...]] = ("fulltexts",)
    needs: ClassVar[tuple[str, ...]] = ("fulltexts",)

    num_anchors: int = 2
    num_positives: int = 2
    max_span: int = 512
    min_span: int = 32
    strategy: Strategy = "any"
    short_documents: ShortDocuments = "skip"
    mlm_probability: float = 0.15
    mask_anchor_for_contrastive: bool = True
    reproduce: bool = False

    def __post_init__(self) -> None:
        def need(holds: bool, key: str, rule: str) -> None:
            if not holds:
                value = getattr(self, key)
                raise UserError(f"{SETTINGS}.{key} must be {rule}; got {value}.")

        for key in ("num_anchors", "num_positives", "min_span", "max_span"):
            need(type(getattr(self, key)) is int, key, "a whole number")
        need(isinstance(self.mlm_probability, int | float), "mlm_probability", "from 0 to 1")
        for key, choices in (("strategy", Strategy), ("short_documents", ShortDocuments)):
            names = get_args(choices)
            need(getattr(self, key) in names, key, f"{', '.join(names[:-1])} or {names[-1]}")
        need(self.num_anchors >= 1, "num_anchors", "1 or more")
        need(self.num_positives >= 0, "num_positives", "0 or more")
        need(self.min_span >= 1, "min_span", "1 or more")
        need(self.max_span >= self.min_span, "max_span", f"min_span={self.min_span} or more")
        need(0 <= self.mlm_probability <= 1, "mlm_probability", "from 0 to 1")
        if not self.num_positives and not self.mlm_probability:
            raise UserError(
                "data.sampling has num_positives=0 and mlm_probability=0: nothing would be "
                "learned. Set one of the two above 0."
            )

    @property
    def shortest_document(self) -> int:
        """Tokens that a document needs."""
        least = self.max_span if self.short_documents == "skip" else self.min_span
        return 2 * self.num_anchors * least

    def open(
        self, corpus: Corpus, tokenization: TokenizationSpec, dev_limit: int | None
    ) -> SpanExamples:
        """The documents of a corpus that are long enough.

        Raises:
            UserError: there are none, they were not tokenised for this encoder, or its tokenizer
                has no mask token and a language model is asked for.
        """
        limit = DEV_DOCUMENTS if dev_limit is None else dev_limit
        return SpanExamples(self, corpus, tokenization, limit)

    @property
    def rule(self) -> Rule:
        """Where spans lie."""
        return Rule(
            anchors=self.num_anchors,
            positives=self.num_positives,
            max_span=self.max_span,
            min_span=self.min_span,
            strategy=self.strategy,
            reproduce=self.reproduce,
        )


class SpanExamples(Examples):
    """The documents of a corpus that are long enough; raises as `SpanSampling.open`."""

    name: str = "documents"

    def __init__(
        self, sampling: SpanSampling, corpus: Corpus, tokenization: TokenizationSpec, dev_limit: int
    ) -> None:
        self.sampling, self.rule, self.seed = sampling, sampling.rule, tokenization.seed
        hides = sampling.mlm_probability > 0
        self.masking = (
            Masking.of(tokenization.tokenizer, sampling.mlm_probability) if hides else None
        )
        if tokenization.input_format.prompt:
            raise UserError(
                "Spans of documents are read without a prompt, and "
                "model.encoder.input_format.prompt is "
                f"{tokenization.input_format.prompt!r}. Set it to '' (empty)."
            )
        self.tokens: Slices = corpus.tokens(tokenization.tokenizer.document_key, DOCUMENT_TOKENS)
        special = len(self.tokens.prefix) + len(self.tokens.suffix)
        self.max_tokens = tokenization.max_length - special
        if self.max_tokens < 1:
            raise UserError(
                f"model.encoder.max_length must be above the {special} special tokens; "
                f"got {tokenization.max_length}."
            )
        notes: list[str] = []
        self.documents = self._long_enough(corpus, "train", notes)
        held_out = self._long_enough(corpus, "dev", notes)
        self.dev_documents = _choose(held_out, dev_limit)
        self.train = len(self.documents)
        self.dev = DevSpans(len(self.dev_documents), self.rule.anchors, self.rule.positives)
        if tokenization.max_length < self.rule.max_span:
            notes.append(
                f"Spans have up to {self.rule.max_span:,} tokens and the encoder reads "
                f"{tokenization.max_length:,}: the longer ones lose their tail."
            )
        self.notes = tuple(notes)
        self.fingerprint = self._fingerprint(corpus, tokenization)

    def batch(
        self, indices: np.ndarray, epoch: int, step: int, share: slice = slice(None)
    ) -> SpanBatch:
        """The spans that a rank's documents have in an epoch, for an optimiser step."""
        return self._batch(
            self.documents[indices[share]],
            key=(self.seed, TRAIN, epoch),
            step=step,
            masked_apart=not self.sampling.mask_anchor_for_contrastive,
        )

    def dev_batch(self, start: int, stop: int) -> SpanBatch:
        """Spans of held-out documents, the same in every run whatever its seed.

        Anchors are whole, as texts are when the encoder is used; those for the language model
        are apart.
        """
        documents = self.dev_documents[start:stop]
        return self._batch(documents, key=(0, HELD_OUT, 0), step=-1, first=start, masked_apart=True)

    def _batch(self, documents: NDArray[np.int32], **settings: Any) -> SpanBatch:
        """`span_batch` of documents, with the settings that differ in training and validation."""
        tokens, rule, masking = self.tokens, self.rule, self.masking
        return span_batch(tokens, documents, rule, masking, self.max_tokens, **settings)

    def dev_items(self, rank: int, world_size: int) -> Sequence[SpanBatch]:
        """A rank's share of the held-out documents, in batches."""
        return _DevItems(self, rank, world_size)

    def describe(self, corpus: Corpus, plan: StepPlan, count: int) -> list[ExampleDescription]:
        """The first documents, with their spans in epoch 0 as the model reads them."""
        document_ids = corpus.document_ids()
        examples = []
        for index in first_indices(plan, count).tolist():
            batch = self.batch(np.array([index]), epoch=0, step=0)
            rows = [ids.tolist() for ids in batch.rows.ids.split(batch.rows.lengths.tolist())]
            texts = []
            for number, anchor in enumerate(batch.anchor.tolist()):
                texts.append(TextDescription(f"anchor {number + 1}", rows[anchor]))
                role = f"positive of anchor {number + 1}"
                positives = batch.positive[number].tolist()
                texts += [TextDescription(role, rows[row]) for row in positives]
            masked = len(batch.masked)
            notes = (f"{masked} tokens of the anchors are to be predicted",) if masked else ()
            document = int(self.documents[index])
            length = int(self.tokens.lengths[document])
            title = f"document {document_ids[document]} ({length:,} tokens)"
            examples.append(ExampleDescription(title, tuple(texts), notes))
        return examples

    def _long_enough(
        self, corpus: Corpus, split: Literal["train", "dev"], notes: list[str]
    ) -> NDArray[np.int32]:
        """The split's documents that are long enough; a note says how many are not.

        Raises:
            UserError: there is nothing to train on.
        """
        sampling, what = self.sampling, "training" if split == "train" else "held-out"
        documents = np.asarray(corpus.documents(split))
        lengths = self.tokens.lengths[documents]
        long_enough = documents[lengths >= sampling.shortest_document]
        adapted = replace(sampling, short_documents="adapt").shortest_document
        more = int((lengths >= adapted).sum()) - len(
            long_enough
        )  # that short_documents=adapt would use
        if len(long_enough) < len(documents):
            bound = "max_span" if sampling.short_documents == "skip" else "min_span"
            short = (
                f"{len(documents) - len(long_enough):,} of {len(documents):,} {what} documents are "
                f"shorter than {sampling.shortest_document:,} tokens (2 x num_anchors x {bound})"
            )
            advice = f"{SETTINGS}.short_documents=adapt would use {more:,} of them" if more else ""
            if split == "train" and not len(long_enough):
                raise UserError(
                    f"Nothing to train on in {corpus.folder}: {short}; the longest has "
                    f"{int(lengths.max()):,}. {advice and f'{advice}. '}Set {SETTINGS}.{bound} "
                    f"or {SETTINGS}.num_anchors lower."
                )
            notes.append(f"{short} and are left out{advice and '; ' + advice}.")
        if not len(documents) and split == "train":
            raise UserError(
                f"{corpus.folder} holds no training documents. Prepare it with --fulltexts F."
            )
        if (
            split == "dev"
            and sampling.num_positives
            and len(long_enough) * sampling.num_anchors == 1
        ):
            notes.append(
                "One held-out anchor alone is compared with nothing: its contrastive_loss is 0 and "
                "its partner_accuracy 1, whatever the encoder. Hold more documents out (dev_share)."
            )
        return long_enough

    def _fingerprint(self, corpus: Corpus, tokenization: TokenizationSpec) -> str:
        """A hash of documents, tokens and settings; the seed is compared separately."""
        sources = [source.get("sha256") for source in corpus.info.get("sources", [])]
        key = tokenization.tokenizer.document_key
        settings = [DRAWS_VERSION, sources, key, self.max_tokens, asdict(self.sampling)]
        digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
        digest.update(np.ascontiguousarray(self.documents, dtype=np.int64).data)
        return digest.hexdigest()[:16]


class _DevItems(Sequence[SpanBatch]):
    """A rank's share of the held-out documents, each item made when it is asked for."""

    def __init__(self, examples: SpanExamples, rank: int, world_size: int) -> None:
        rule = examples.rule
        rows = rule.anchors * (2 + rule.positives)  # masked copies among them
        most = rows * min(rule.max_span, examples.max_tokens)
        self.examples = examples
        share = -(-len(examples.dev_documents) // world_size)  # every rank has some, if it can
        self.each = max(1, min(ITEM_DOCUMENTS, ITEM_TOKENS // most, share))
        self.starts = range(0, len(examples.dev_documents), self.each)[rank::world_size]

    def __len__(self) -> int:
        return len(self.starts)

    def __getitem__(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, index: int
    ) -> SpanBatch:
        start = self.starts[index]
        return self.examples.dev_batch(start, start + self.each)


def _choose(documents: np.ndarray, limit: int) -> np.ndarray:
    """At most so many documents, always the same ones, in their order."""
    if len(documents) <= limit:
        return documents
    return np.sort(np.random.default_rng(0).permutation(documents)[:limit])
