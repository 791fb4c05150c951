"""A pooling from outside the package: trained, saved, loaded, embedded with and exported."""

import dataclasses
import json
import subprocess
import sys

import numpy as np
import pytest
import torch

from sciembed_train import cli
from sciembed_train.encoder.encoder import Encoder
from sciembed_train.encoder.io.encoder_checkpoint import describe, encoder_from_checkpoint
from sciembed_train.encoder.pooling.registry import POOLINGS, PoolingEntry
from sciembed_train.encoder.settings import EncoderSettings
from sciembed_train.errors import UserError
from sciembed_train.export.export_folder import export_encoder
from sciembed_train.methods.specter import Specter

MAX = "tests.helpers.outside_poolings.MaxPooling"
ATTENTION = "tests.helpers.outside_poolings.AttentionPooling"
TEXTS = ["word1 word2 word3", "word4 " * 30, "word5"]


def trained(folder, pooling, **settings) -> Encoder:
    """Three steps of a triplet loss; every parameter that is trained must move."""
    torch.manual_seed(0)
    settings = {"max_length": 64, "dropout": 0.0, **settings}
    module = Specter(EncoderSettings(str(folder), pooling, **settings))
    encoder = module.encoder.double()
    before = {name: p.detach().clone() for name, p in encoder.named_parameters()}
    optimizer = torch.optim.SGD(encoder.parameters(), lr=0.1)
    rows = encoder.rows(TEXTS)
    for _ in range(3):
        anchor, positive, negative = encoder(rows)
        optimizer.zero_grad()
        ((anchor - positive).norm() - (anchor - negative).norm()).backward()
        optimizer.step()
    for name, parameter in encoder.named_parameters():
        if parameter.requires_grad:
            assert not torch.equal(parameter, before[name]), name
    return encoder.float().eval()


@pytest.mark.parametrize("pooling", [MAX, ATTENTION])
def test_unpadded_and_padded_give_the_same_vectors_and_gradients(tiny_bert, pooling):
    both = []
    for forward in ("unpadded", "padded"):
        settings = EncoderSettings(str(tiny_bert), pooling, 64, forward=forward, dropout=0.0)
        encoder = Encoder(settings).double()
        vectors = encoder(encoder.rows(TEXTS))
        vectors.square().sum().backward()
        grads = {name: p.grad for name, p in encoder.named_parameters()}
        both.append((vectors.detach(), grads))
    (vectors, grads), (want, want_grads) = both
    torch.testing.assert_close(vectors, want, rtol=0, atol=1e-10)
    for name, grad in grads.items():
        assert (grad is None) == (want_grads[name] is None), name
        if grad is not None:
            torch.testing.assert_close(grad, want_grads[name], rtol=0, atol=1e-8, msg=name)


def test_learned_weights_are_saved_and_loaded_and_come_back_from_a_checkpoint(tiny_bert, tmp_path):
    encoder = trained(tiny_bert, ATTENTION)
    encoder.save(tmp_path / "m")
    assert json.loads((tmp_path / "m" / "sciembed.json").read_text())["pooling"] == ATTENTION
    again = Encoder.load(tmp_path / "m")
    assert torch.equal(again.encode_texts(TEXTS), encoder.encode_texts(TEXTS))
    state = {f"encoder.{name}": value for name, value in encoder.state_dict().items()}
    content = {"sciembed": {"version": 1, **describe(encoder)}, "state_dict": state}
    again = encoder_from_checkpoint(content)
    assert torch.equal(again.encode_texts(TEXTS), encoder.encode_texts(TEXTS))
    # Training goes on with the weights of the folder.
    further = Encoder(dataclasses.replace(encoder.settings, backbone=str(tmp_path / "m")))
    assert torch.equal(
        further.pooling.get_parameter("query"), encoder.pooling.get_parameter("query")
    )
    (tmp_path / "m" / "pooling.safetensors").unlink()
    with pytest.raises(UserError, match=r"pooling\.safetensors: is not the weights"):
        Encoder.load(tmp_path / "m")


def test_sentence_transformers_loads_the_export_of_a_pooling_that_it_has(tiny_bert, tmp_path):
    pytest.importorskip("sentence_transformers")
    encoder = trained(tiny_bert, MAX)
    differences = export_encoder(encoder, tmp_path / "m", {"method": "specter"})
    assert set(differences) == {"AutoModel", "SentenceTransformer"}
    assert all(d is not None and d < 1e-5 for d in differences.values())
    card = (tmp_path / "m" / "README.md").read_text()
    assert "the maximum over tokens of the last layer" in card
    assert "embeddings = hidden.amax(1)" in card


def test_a_command_embeds_with_it_where_the_user_names_it(tiny_bert, tmp_path):
    encoder = trained(tiny_bert, ATTENTION)
    encoder.save(tmp_path / "m")
    papers = tmp_path / "papers.jsonl"
    papers.write_text('{"paper_id": "a", "title": "word1 word2", "abstract": "word3"}\n')
    args = ["embed", "--model", str(tmp_path / "m"), "--input", str(papers), "--device", "cpu"]
    # Another process, which has not imported the class.
    fresh = [sys.executable, "-m", "sciembed_train.cli", *args, "--to", str(tmp_path / "no.npy")]
    done = subprocess.run(fresh, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "No code is imported because a model names it" in done.stderr
    to = tmp_path / "vectors.npy"
    assert cli.main([*args, "--pooling", ATTENTION, "--to", str(to)]) == 0
    want = encoder.encode_texts([encoder.compose("word1 word2", "word3")])
    np.testing.assert_allclose(np.load(to), want.numpy(), atol=1e-6)


def test_a_registered_pooling_has_a_name(tiny_bert, tmp_path, monkeypatch):
    monkeypatch.setitem(POOLINGS, "max", PoolingEntry(MAX))
    encoder = trained(tiny_bert, "max")
    export_encoder(encoder, tmp_path / "m", {"method": "specter"})
    again = Encoder.load(tmp_path / "m")
    assert again.settings.pooling == "max"
    assert torch.equal(again.encode_texts(TEXTS), encoder.encode_texts(TEXTS))
    # A folder of sentence-transformers is read by its own name of the pooling.
    (tmp_path / "m" / "sciembed.json").unlink()
    assert Encoder.load(tmp_path / "m").settings.pooling == "max"
