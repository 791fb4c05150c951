import torch

from sciembed_train.methods.heldout.heldout_vectors import HeldOutVectors, gather_columns

CPU = torch.device("cpu")


def test_vectors_stand_where_their_slots_say():
    kept = HeldOutVectors()
    kept.add(torch.tensor([3, 0]), torch.tensor([[3.0, 3.0], [0.0, 1.0]]))
    kept.add(torch.tensor([2]), torch.tensor([[2.0, 2.0]]))
    found = kept.table(5, CPU)
    assert found is not None
    table, encoded = found
    assert encoded.tolist() == [True, False, True, True, False]
    assert table[:, 0].tolist() == [0.0, 0.0, 2.0, 3.0, 0.0]
    assert table[0, 1] == 1.0


def test_nothing_encoded_is_no_table():
    assert HeldOutVectors().table(5, CPU) is None


def test_columns_stay_together_and_keep_their_type():
    kept = HeldOutVectors(columns=2)
    kept.add(torch.tensor([1]), torch.ones(1, 3).double(), torch.zeros(1, 3).double())
    slots, (anchors, positives) = kept.gather(CPU)
    assert slots.tolist() == [1]
    assert anchors.dtype == torch.float64
    assert (anchors.sum(), positives.sum()) == (3, 0)
    (none,) = gather_columns([[]], CPU)
    assert none.shape == (0, 0)
