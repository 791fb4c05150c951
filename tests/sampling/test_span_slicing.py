import numpy as np
import pytest

from sciembed_train.sampling.span_positions import TRAIN, Rule
from sciembed_train.sampling.span_slicing import Slices, span_batch
from sciembed_train.sampling.token_masking import Masking

MASK = 4


class Documents:
    """Document d has 100 + d tokens; token t of it is 1000 * (d + 1) + t."""

    prefix, suffix = (2,), (3,)
    lengths = np.arange(100, 110, dtype=np.int32)

    def slices(self, rows, starts, lengths):
        texts = [
            [2, *(1000 * (row + 1) + start + np.arange(length)), 3]
            for row, start, length in zip(rows, starts, lengths, strict=True)
        ]
        return np.concatenate(texts).astype(np.int64), np.array([len(text) for text in texts])


def made(documents, max_tokens=50, p=0.3, apart=False, rule=None):
    rule = rule or Rule(2, 1, 20, 5, "adjacent")
    special = np.zeros(20_000, bool)
    special[:5] = True
    masking = Masking(p, MASK, special) if p else None
    return span_batch(
        *(Documents(), np.array(documents), rule, masking, max_tokens),
        key=(7, TRAIN, 0),
        step=3,
        masked_apart=apart,
    )


def rows(batch):
    return [row.tolist() for row in batch.rows.ids.split(batch.rows.lengths.tolist())]


def test_a_store_of_documents_can_be_sliced():
    assert isinstance(Documents(), Slices)


@pytest.mark.parametrize("apart", [False, True])
def test_spans_are_consecutive_tokens_of_their_document(apart):
    batch = made([4, 1], apart=apart)
    spans = rows(batch)
    assert (len(batch), batch.step, len(spans)) == (2, 3, 4 * (2 + apart))
    labels = dict(zip(batch.masked.tolist(), batch.labels.tolist(), strict=True))
    assert labels
    position = 0
    for number, span in enumerate(spans):
        whole = [labels.get(position + i, token) for i, token in enumerate(span)]
        position += len(span)
        document = (4, 1)[number % 4 // 2]
        assert (whole[0], whole[-1]) == (2, 3)
        assert np.diff(whole[1:-1]).tolist() == [1] * (len(whole) - 3)
        assert whole[1] // 1000 == document + 1
    first_masked = min(labels)
    whole_tokens = sum(map(len, spans[:8])) if apart else 0
    assert first_masked >= whole_tokens
    assert max(labels) < whole_tokens + sum(map(len, spans[:4]))


def test_a_document_has_the_same_spans_beside_any_other():
    alone, beside = made([6]), made([3, 6, 0])
    assert rows(alone)[:2] == rows(beside)[2:4]
    assert rows(alone)[2:] == rows(beside)[8:10]


def test_longer_spans_lose_their_tail():
    short = made([2, 3], max_tokens=6, p=0.0)
    assert short.rows.lengths.max() == 8
    whole = rows(made([2, 3], p=0.0))
    assert [row[:-1] for row in rows(short)] == [row[:-1][:7] for row in whole]


def test_masked_rows_alone_are_encoded_where_nothing_is_compared():
    batch = made([5], apart=True, rule=Rule(2, 0, 20, 5, "any"))
    assert len(batch.rows) == 2
    assert batch.positive.shape == (2, 0)
    assert len(batch.masked)
