"""Typed batches: the distinct texts of a step once, and index arrays that pair them."""

from sciembed_train.batch.contrast_batch import ContrastBatch
from sciembed_train.batch.dev_examples import (
    DevPairs,
    DevPairSource,
    DevSpans,
    DevTasks,
    DevTriplets,
    PaperBatch,
    TaskKind,
)
from sciembed_train.batch.example_batch import EXAMPLE_ROWS, PER_EXAMPLE, PER_TEXT, ExampleBatch
from sciembed_train.batch.pair_batches import PairBatch, SentencePairBatch, TripletBatch
from sciembed_train.batch.span_batch import SpanBatch
from sciembed_train.batch.task_batch import LabelPart, TaskBatch, TripletPart
from sciembed_train.batch.token_rows import (
    HOST,
    Sentences,
    TokenRows,
    index_ranges,
    on_device,
    range_starts,
)

__all__ = [
    "EXAMPLE_ROWS",
    "HOST",
    "PER_EXAMPLE",
    "PER_TEXT",
    "ContrastBatch",
    "DevPairSource",
    "DevPairs",
    "DevSpans",
    "DevTasks",
    "DevTriplets",
    "ExampleBatch",
    "LabelPart",
    "PairBatch",
    "PaperBatch",
    "SentencePairBatch",
    "Sentences",
    "SpanBatch",
    "TaskBatch",
    "TaskKind",
    "TokenRows",
    "TripletBatch",
    "TripletPart",
    "index_ranges",
    "on_device",
    "range_starts",
]
