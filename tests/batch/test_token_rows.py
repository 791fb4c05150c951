import numpy as np
import pytest
import torch

from sciembed_train.batch import Sentences, TokenRows, index_ranges, on_device, range_starts


def test_sentences_of_selected_texts_are_where_their_tokens_are():
    rows = TokenRows.from_lists([[1, 2, 3, 4], [5, 6], [7, 8, 9]])
    sentences = Sentences(
        torch.tensor([1, 3, 0, 0, 2]), torch.tensor([2, 1, 2, 1, 1]), torch.tensor([2, 1, 2])
    )
    assert rows.ids[sentences.positions(rows.lengths)].tolist() == [2, 3, 4, 5, 6, 7, 9]
    order = torch.tensor([2, 0, 2])
    texts, selected = rows.select(order), sentences.select(order)
    assert selected.counts.tolist() == [2, 2, 2]
    assert texts.ids[selected.positions(texts.lengths)].tolist() == [7, 9, 2, 3, 4, 7, 9]


def test_filled_rows_repeat_the_ids_of_the_batch():
    rows = TokenRows.from_lists([[1, 2, 3], [4]]).filled(texts=3, length=5)
    assert rows.lengths.tolist() == [5, 5, 5]
    assert rows.ids.tolist() == [1, 2, 3, 4, 1, 2, 3, 4, 1, 2, 3, 4, 1, 2, 3]


def test_lengths_on_a_device_are_refused():
    with pytest.raises(ValueError, match="stay on the host"):
        TokenRows(torch.arange(3), torch.tensor([1, 2], device="meta"))


def test_integers_come_to_a_device_by_one_copy(monkeypatch):
    moves = []
    plain = torch.Tensor.to
    monkeypatch.setattr(torch.Tensor, "to", lambda *a, **k: moves.append(k) or plain(*a, **k))
    arrays = np.array([3, 4]), torch.tensor([5]), np.empty(0, np.int32)
    copies = on_device(torch.device("cpu"), *arrays)
    assert [copy.tolist() for copy in copies] == [[3, 4], [5], []]
    assert len(moves) == 1
    on_device(torch.device("meta"), *arrays)
    assert moves[1:] == [{"non_blocking": True}]


def test_index_ranges_count_on_from_their_starts():
    assert index_ranges(np.array([7, 2, 0]), np.array([2, 0, 3])).tolist() == [7, 8, 0, 1, 2]
    assert range_starts(np.array([2, 0, 3])).tolist() == [0, 2, 2]
