import pytest

from sciembed_train.errors import UserError
from sciembed_train.sampling.related_mask import RelatedMask


def test_a_negative_number_of_times_is_refused():
    with pytest.raises(UserError, match="cocited must be 0 or more"):
        RelatedMask(cocited=-1)
