"""A DeBERTa, whose relative positions only its own padded forward knows: training and export."""

import pytest
import torch

from sciembed_train.commands import fit
from sciembed_train.encoder.encoder import Encoder, EncoderSettings
from sciembed_train.errors import UserError
from sciembed_train.export.export_folder import export_encoder
from tests.helpers.runs import arguments, losses
from tests.helpers.small_corpus import write_small_corpus
from tests.helpers.unpadded_rows import ragged

pytestmark = pytest.mark.filterwarnings(
    "ignore:.*torch.jit.*:DeprecationWarning",  # DeBERTa's own code
    "ignore:.*does not have many workers.*",
    "ignore:.*LeafSpec.*",
)


def test_after_a_step_both_libraries_load_other_vectors(tiny_deberta, tmp_path):
    encoder = Encoder(EncoderSettings(str(tiny_deberta), "mean", 64))
    texts = ["word1 word2 word3", "word4 " * 30, "word5"]
    before = encoder.encode_texts(texts)
    optimiser = torch.optim.AdamW((p for p in encoder.parameters() if p.requires_grad), 1e-2)
    encoder(encoder.rows(texts)).std(0).sum().neg().backward()
    optimiser.step()
    differences = export_encoder(encoder, tmp_path / "m", {})
    assert all(d is not None and d < 1e-5 for d in differences.values())
    assert (Encoder.load(tmp_path / "m").encode_texts(texts) - before).abs().max() > 1e-2


@pytest.mark.slow
def test_a_run_learns_and_its_export_is_loaded_by_both_libraries(tiny_deberta, tmp_path):
    pytest.importorskip("sentence_transformers")
    write_small_corpus(tmp_path / "corpus", tiny_deberta)
    given = arguments(tmp_path, tmp_path / "corpus", tiny_deberta, "--run", "deberta")
    given = [word for word in given if word != "--no_export"]
    # The export proves itself by AutoModel and SentenceTransformer, or the run fails.
    assert fit.main([*given, "--trainer.max_epochs", "1", "--trainer.max_steps", "6"]) == 0
    assert sorted(losses(tmp_path / "deberta")) == [1, 2, 3, 4, 5, 6]
    trained = Encoder.load(tmp_path / "deberta" / "export")
    assert not trained.unpadded
    start = Encoder(EncoderSettings(str(tiny_deberta), max_length=64)).eval()
    texts = ["word1 word2 word3", "word4 " * 30, "word5"]
    assert (trained.encode_texts(texts) - start.encode_texts(texts)).abs().max() > 1e-3


def test_padding_reaches_no_vector_and_every_weight_has_a_gradient(tiny_deberta):
    settings = EncoderSettings(str(tiny_deberta), "mean", 64, dropout=0.0)
    encoder, rows = Encoder(settings).double(), ragged(200, [2, 40, 7, 19])
    together = encoder(rows)
    alone = torch.cat([encoder(rows.select(torch.tensor([i]))) for i in range(4)])
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-9)
    together.square().sum().backward()
    assert all(p.grad is not None for p in encoder.parameters() if p.requires_grad)


def test_it_is_refused_where_padding_is_to_be_left_out(tiny_deberta):
    with pytest.raises(
        UserError, match="model type 'deberta-v2' is not one of bert, camembert, electra"
    ):
        Encoder(EncoderSettings(str(tiny_deberta), forward="unpadded"))
