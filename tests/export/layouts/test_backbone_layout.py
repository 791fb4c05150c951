"""The export of a pooling that no library has."""

import pytest
import torch

from sciembed_train.export.export_folder import export_encoder
from tests.helpers.exports import encoder_of

ATTENTION = "tests.helpers.outside_poolings.AttentionPooling"


def test_an_export_of_a_pooling_that_no_library_has_says_so(tiny_bert, tmp_path):
    torch.manual_seed(0)
    encoder = encoder_of(tiny_bert, pooling=ATTENTION, max_length=64)
    differences = export_encoder(encoder, tmp_path / "m", {"method": "specter"})
    assert set(differences) == {"sciembed_train"}
    assert (differences["sciembed_train"] or 0) < 1e-5
    card = (tmp_path / "m" / "README.md").read_text()
    assert "`sentence-transformers`, which has no such pooling, refuses the folder" in card
    assert "import tests.helpers.outside_poolings" in card
    library = pytest.importorskip("sentence_transformers")
    with pytest.raises((ValueError, OSError), match="pooling of its own"):
        library.SentenceTransformer(str(tmp_path / "m"), device="cpu")
