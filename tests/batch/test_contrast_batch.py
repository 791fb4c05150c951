import torch

from sciembed_train.batch import ContrastBatch, TokenRows


def contrast_batch(hard=1):
    """Three pairs of six texts of three tokens, of which the second has no hard negative."""
    columns = torch.tensor([[0, 1, 5], [2, 3, 3], [4, 0, 1]])
    return ContrastBatch(
        rows=TokenRows(torch.arange(5, 23), torch.full((6,), 3)),
        texts=torch.arange(40, 46),
        anchor=columns[:, 0].contiguous(),
        positive=columns[:, 1].contiguous(),
        hard=columns[:, 2 : 2 + hard].contiguous(),
        source=torch.tensor([0, 1, 0]),
        hard_kept=torch.tensor([0, 2])[: 2 * hard],
        excluded=torch.tensor([[0, 2]]),
        excluded_back=torch.tensor([[1, 0]]),
        step=4,
    )


def test_micro_batches_hold_the_texts_of_their_pairs_and_know_their_numbers():
    whole = contrast_batch()
    parts = whole.split(9)
    assert [len(part) for part in parts] == [1, 1, 1]
    for number, part in enumerate(parts):
        for name in ("anchor", "positive", "hard"):
            rows = getattr(part, name)[0]
            expected = whole.texts[getattr(whole, name)[number]]
            assert torch.equal(part.texts[rows], expected)
        assert torch.equal(part.excluded, whole.excluded)
        assert part.source.tolist() == [whole.source[number]]


def test_pairs_without_hard_negatives_are_split_too():
    parts = contrast_batch(hard=0).split(9)
    assert [part.rows.tokens for part in parts] == [6, 6, 6]
    assert parts[0].members().shape == (1, 2)


def test_the_largest_batch_excludes_nothing_and_has_no_known_text():
    largest = contrast_batch().largest(4, 8)
    assert largest.rows.tokens == 4 * 3 * 8
    assert set(largest.texts.tolist()) == {-1}
    assert largest.hard_kept.tolist() == [0, 1, 2, 3]
    assert not len(largest.excluded) + len(largest.excluded_back)
    assert len(contrast_batch(hard=0).largest(4, 8).hard_kept) == 0
