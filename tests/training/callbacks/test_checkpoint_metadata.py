"""What a checkpoint says of the training."""

from types import SimpleNamespace

import numpy as np
import torch

from sciembed_train.encoder.encoder import EncoderSettings
from sciembed_train.encoder.io.encoder_checkpoint import encoder_from_checkpoint
from sciembed_train.export.checkpoint_file import card_of, titles_of
from sciembed_train.methods.specter import Specter
from sciembed_train.optim_settings import OptimSettings
from sciembed_train.training.callbacks.checkpoint_metadata import CheckpointMetadata


def test_a_checkpoint_rebuilds_the_encoder_from_plain_values(tiny_bert, tmp_path):
    method = Specter(EncoderSettings(str(tiny_bert), max_length=40), OptimSettings(), margin=0.5)
    checkpoint = {"state_dict": method.state_dict()}
    trainer = SimpleNamespace(global_step=0)
    CheckpointMetadata({"seed": 3}).on_save_checkpoint(trainer, method, checkpoint)
    torch.save(checkpoint, tmp_path / "a.ckpt")
    loaded = torch.load(tmp_path / "a.ckpt", weights_only=True)
    assert loaded["hyper_parameters"]["margin"] == 0.5
    assert loaded["hyper_parameters"]["encoder"]["max_length"] == 40
    assert loaded["sciembed"]["training"] == {"seed": 3, "steps": 0}
    assert loaded["sciembed"]["method"] == "specter"
    encoder = encoder_from_checkpoint(loaded)
    texts = ["word1 word2", "word3"]
    assert torch.equal(encoder.encode_texts(texts), method.encoder.eval().encode_texts(texts))


def test_a_checkpoint_holds_the_titles_that_the_run_reads(tiny_bert):
    method = Specter(EncoderSettings(str(tiny_bert), max_length=40), OptimSettings(), margin=0.5)
    titles = np.array([3, 2**63 + 5], np.uint64)
    checkpoint = {}
    trainer = SimpleNamespace(global_step=0)
    CheckpointMetadata({}, titles=titles).on_save_checkpoint(trainer, method, checkpoint)
    assert np.array_equal(titles_of(checkpoint), titles)


def test_the_widths_of_nested_losses_go_to_the_export(tiny_bert):
    for dims, card in (((), {}), ((32, 8), {"matryoshka_dims": [32, 8]})):
        method = Specter(EncoderSettings(str(tiny_bert), max_length=40), matryoshka_dims=dims)
        checkpoint = {"global_step": 1}
        trainer = SimpleNamespace(global_step=0)
        CheckpointMetadata({}).on_save_checkpoint(trainer, method, checkpoint)
        assert checkpoint["hyper_parameters"]["matryoshka_dims"] == [*dims]
        assert card.items() <= card_of(checkpoint).items()
        assert ("matryoshka_dims" in card_of(checkpoint)) == bool(dims)
