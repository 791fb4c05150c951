import re
import shutil
import time

import numpy as np
import pytest

from sciembed_train.errors import UserError
from sciembed_train.export.export_folder import export_encoder
from sciembed_train.inference import embedding
from sciembed_train.inference.embedding import (
    chunk_size,
    embed_texts,
    encode,
    open_encoder,
    prefetched,
)
from sciembed_train.inference.options import EmbedSettings
from tests.helpers.exports import CARD, encoder_of


def test_ahead_keeps_the_order_and_works_while_the_reader_waits():
    begun = []

    def work(item):
        begun.append(item)
        return item * 10

    found = []
    for value in prefetched(range(5), work):
        if value == 0:
            for _ in range(100):  # the next item is begun before it is asked for
                if 1 in begun:
                    break
                time.sleep(0.01)
            assert 1 in begun
        found.append(value)
    assert found == [0, 10, 20, 30, 40]


def test_ahead_raises_what_the_work_raises():
    with pytest.raises(ZeroDivisionError):
        list(prefetched([1, 0], lambda n: 1 / n))


def test_many_chunks_give_the_vectors_of_one(tiny_bert):
    settings = EmbedSettings(device="cpu", batch_tokens=50)
    encoder = open_encoder(tiny_bert, settings)
    rng = np.random.default_rng(0)
    texts = [(f"word{i}", " ".join(["word1"] * int(rng.integers(0, 60)))) for i in range(150)]
    assert chunk_size(50) == 64
    done = []
    found = embed_texts(encoder, iter(texts), len(texts), settings, done.append)
    assert sum(done) == len(texts)
    alone = np.stack([embed_texts(encoder, [t], 1, settings)[0] for t in texts[::13]])
    np.testing.assert_allclose(found[::13], alone, atol=1e-5)


def test_embeddings_that_are_not_finite_are_refused(tiny_bert):
    import torch

    settings = EmbedSettings(device="cpu")
    encoder = open_encoder(tiny_bert, settings)
    with torch.no_grad():
        encoder.backbone.embeddings.LayerNorm.bias[0] = float("nan")
    with pytest.raises(UserError, match="not finite"):
        encode(encoder, encoder.rows(["word1"]), settings)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"pooling": "cls"}, "--pooling cls does not go with --backend onnx"),
        ({"precision": "bf16"}, "--precision bf16 does not go with --backend onnx"),
        ({"device": "cuda:1"}, "--device cuda:1 does not go with --backend onnx"),
        ({"prompt": "query"}, "--prompt"),
        ({"dim": 33}, "--dim is 33"),
        ({"format_token": "[PRX]"}, "takes no format"),
    ],
)
def test_what_a_graph_cannot_do_is_one_message(with_onnx, settings, message):
    with pytest.raises(UserError, match=re.escape(message)):
        open_encoder(with_onnx, EmbedSettings(backend="onnx", **settings))


def test_a_model_without_weights_is_opened_by_its_graph(with_onnx, tmp_path):
    folder = shutil.copytree(with_onnx, tmp_path / "m")
    (folder / "model.safetensors").unlink()
    encoder = open_encoder(folder, EmbedSettings(dim=8))
    assert (encoder.backend, encoder.dim) == ("onnx", 8)
    with pytest.raises(UserError, match="holds no weights"):
        open_encoder(folder, EmbedSettings(backend="torch"))


def test_processes_of_one_machine_take_a_gpu_each(monkeypatch):
    from sciembed_train.inference.embedding import local_device

    assert local_device(EmbedSettings(), 1).device == "auto"  # there is no GPU
    monkeypatch.setattr("torch.cuda.device_count", lambda: 4)
    assert [local_device(EmbedSettings(), rank).device for rank in (None, 0, 3, 5)] == [
        *("auto", "cuda:0", "cuda:3", "cuda:1")
    ]
    assert local_device(EmbedSettings(device="cpu"), 3).device == "cpu"
    assert local_device(EmbedSettings(backend="onnx"), 3).device == "auto"


TEXTS = [(f"word{n} word{n + 1}", None) for n in range(5)]


@pytest.mark.parametrize("normalize", [False, True])
def test_the_first_numbers_are_those_that_sentence_transformers_gives(
    normalize, tiny_bert, tmp_path, capsys
):
    library = pytest.importorskip("sentence_transformers")
    card = {**CARD, "matryoshka_dims": [32, 8]}
    export_encoder(encoder_of(tiny_bert, normalize=normalize), tmp_path / "m", card)
    settings = EmbedSettings(device="cpu", dim=8)
    encoder = open_encoder(tmp_path / "m", settings)
    found = embed_texts(encoder, TEXTS, 5, settings)
    model = library.SentenceTransformer(str(tmp_path / "m"), truncate_dim=8, device="cpu")
    # It does not scale again what it has cut, unless it is asked to.
    expected = model.encode([title for title, _ in TEXTS], normalize_embeddings=normalize)
    assert found.shape == (5, 8)
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert "truncate_dim=8" in (tmp_path / "m" / "README.md").read_text()
    assert not capsys.readouterr().err


def test_a_dim_that_was_not_trained_is_told_once(tiny_bert, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(embedding, "_warned", set())
    export_encoder(encoder_of(tiny_bert), tmp_path / "m", {**CARD, "matryoshka_dims": [32, 8]})
    for _ in range(2):
        open_encoder(tmp_path / "m", EmbedSettings(device="cpu", dim=16))
        open_encoder(tiny_bert, EmbedSettings(device="cpu", dim=16))
    first, second = capsys.readouterr().err.splitlines()
    assert "was trained for 32, 8" in first
    assert "was trained at its full width alone" in second
    whole = open_encoder(tiny_bert, EmbedSettings(device="cpu", dim=32))
    assert whole.truncate_dim is None
    assert not capsys.readouterr().err


def test_a_dim_that_the_vectors_do_not_have_is_refused(tiny_bert, tmp_path):
    with pytest.raises(UserError, match=r"--dim is 33, and the vectors of .* have 32 numbers"):
        open_encoder(tiny_bert, EmbedSettings(device="cpu", dim=33))
    with pytest.raises(UserError, match="--dim is 0; expected 1 or more"):
        EmbedSettings(dim=0)
    encoder_of(tiny_bert, pooling="sentences").save(tmp_path / "m", {"similarity": "best_match"})
    with pytest.raises(UserError, match="--dim goes with one vector a text"):
        open_encoder(tmp_path / "m", EmbedSettings(device="cpu", dim=8))
