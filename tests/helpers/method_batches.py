"""Small batches, made by hand, and methods outside a trainer."""

import torch

from sciembed_train.batch import (
    DevTasks,
    LabelPart,
    PairBatch,
    SentencePairBatch,
    Sentences,
    TaskBatch,
    TaskKind,
    TokenRows,
    TripletPart,
)
from sciembed_train.encoder.encoder import EncoderSettings
from sciembed_train.methods.specter2 import MultiTask

SPANS = [[(1, 2), (3, 4)], [(0, 1), (1, 1), (4, 3)], [(2, 3)], [(1, 5), (6, 1)], [(0, 7)]]
PAIRS = [(0, 1), (2, 3), (4, 0), (1, 4)]
KINDS = (
    TaskKind("level", "number"),
    TaskKind("field", "class", 3),
    TaskKind("topics", "classes", 4),
    TaskKind("near", "triplet"),
)


def pair_batch(negative=(1, 3, 0, -1)):
    """Four pairs of five papers of three tokens."""
    ids = torch.arange(5, 20)
    pairs = torch.tensor([[0, 1], [2, 3], [4, 0], [1, 2]])
    excluded = [[0, 0], [1, 1], [2, 2], [3, 3], [0, 2], [3, 0], [2, 3]]
    return PairBatch(
        TokenRows(ids, torch.full((5,), 3)),
        pairs[:, 0].contiguous(),
        pairs[:, 1].contiguous(),
        torch.tensor(negative),
        torch.tensor(excluded),
        0,
    )


def sentence_pair_batch(negative=(1, 3, 0, -1), aligned=((1, 2), (0, 1), (0, 1), (2, 0))):
    """Four pairs of five papers of seven tokens and one to three sentences."""
    first, second = torch.tensor(PAIRS).T
    counts = torch.tensor([len(spans) for spans in SPANS])
    flat = torch.tensor([span for spans in SPANS for span in spans])
    negative, aligned = torch.tensor(negative), torch.tensor(aligned)
    known = negative >= 0
    return SentencePairBatch(
        TokenRows(torch.arange(5, 40), torch.full((5,), 7)),
        Sentences(flat[:, 0], flat[:, 1], counts),
        first.contiguous(),
        second.contiguous(),
        negative,
        torch.where(known, counts[second[negative]], 0),
        aligned,
        torch.where(known[:, None], aligned[negative], -1),
        3,
        0,
    )


def task_batch():
    """Seven texts of three tokens for two numbers, three classes, two topics and three triplets."""
    ids = torch.arange(5, 5 + 7 * 3)
    return TaskBatch(
        TokenRows(ids, torch.full((7,), 3)),
        torch.tensor([1, 1, 0, 0, 0, 2, 3]),
        (
            LabelPart("level", torch.tensor([0, 1]), torch.tensor([0.5, -2.0])),
            LabelPart("field", torch.tensor([2, 3, 4]), torch.tensor([2, 0, 2])),
            LabelPart("topics", torch.tensor([3, 4]), torch.tensor([[1.0, 0, 0, 1], [0, 0, 0, 1]])),
            TripletPart(
                "near", torch.tensor([6, 6, 5]), torch.tensor([5, 4, 2]), torch.tensor([2, 3, 6])
            ),
        ),
        0,
    )


def task_method(backbone, kinds=KINDS, codes=True, encoder=None, **settings):
    """A method outside a trainer, in float64, with biases that tell tasks apart."""
    encoder = encoder or EncoderSettings(backbone, max_length=16, dropout=0.0, control_codes=codes)
    torch.manual_seed(1)
    module = MultiTask(encoder, **{"head_dropout": 0.0, **settings})
    module.prepare(DevTasks(kinds, (), 0))
    return module.double()
