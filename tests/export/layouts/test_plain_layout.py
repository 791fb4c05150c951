import json

import pytest
import torch

from sciembed_train.encoder.encoder import Encoder
from sciembed_train.export import library_vectors
from sciembed_train.export.export_folder import export_encoder
from sciembed_train.export.layouts import plain_layout
from sciembed_train.export.verification import ExportError
from tests.helpers.exports import CARD, DECLUTR, encoder_of
from tests.helpers.tiny_models import write_embedder_files, write_tiny_decoder


@pytest.mark.parametrize("pooling", ["cls", "mean"])
def test_other_libraries_load_the_export_and_give_the_same_vectors(backbone, pooling, tmp_path):
    sentence_transformers = pytest.importorskip("sentence_transformers")
    from transformers import AutoModel, AutoTokenizer

    encoder = encoder_of(backbone, pooling=pooling)
    folder = tmp_path / "model"
    differences = export_encoder(encoder, folder, CARD)
    assert set(differences) == {"AutoModel", "SentenceTransformer"}
    assert all(d is not None and d < 1e-5 for d in differences.values())

    # Again, on texts that the verification does not use.
    texts = [encoder.compose("word7 word9", "word1 " * 700), encoder.compose("word3", None)]
    expected = encoder.encode_texts(texts)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModel.from_pretrained(folder).eval()
    assert tokenizer.model_max_length == 512
    batch = tokenizer(texts, padding=True, truncation=True, return_tensors="pt")
    with torch.inference_mode():
        hidden = model(**batch).last_hidden_state
    mask = batch["attention_mask"].unsqueeze(-1)
    pooled = hidden[:, 0] if pooling == "cls" else (hidden * mask).sum(1) / mask.sum(1)
    assert (pooled - expected).abs().max() < 1e-5
    st = sentence_transformers.SentenceTransformer(str(folder), device="cpu")
    assert st.max_seq_length == 512
    assert st.similarity_fn_name == "euclidean"
    vectors = torch.from_numpy(st.encode(texts))
    assert (vectors - expected).abs().max() < 1e-5
    assert st.similarity(vectors, vectors)[0, 1] < 0


def test_a_head_is_exported_and_every_library_gives_what_was_trained(with_head, tmp_path):
    sentence_transformers = pytest.importorskip("sentence_transformers")
    from transformers import AutoModel, AutoModelForMaskedLM, AutoTokenizer, pipeline

    folder = tmp_path / "m"
    differences = export_encoder(with_head, folder, DECLUTR)
    assert set(differences) == {"AutoModel", "SentenceTransformer", "AutoModelForMaskedLM"}
    assert all(d is not None and d < 1e-5 for d in differences.values())
    assert with_head.training

    tokenizer = AutoTokenizer.from_pretrained(folder)
    texts = ["word7 word9", "a b c " * 300, "word3"]
    batch = tokenizer(texts, padding=True, truncation=True, return_tensors="pt")
    mask = batch["attention_mask"].unsqueeze(-1)
    with torch.inference_mode():
        hidden = AutoModel.from_pretrained(folder).eval()(**batch).last_hidden_state
    expected = with_head.encode_texts(texts)
    assert ((hidden * mask).sum(1) / mask.sum(1) - expected).abs().max() < 1e-5
    st = sentence_transformers.SentenceTransformer(str(folder), device="cpu")
    assert st.similarity_fn_name == "cosine"
    assert (torch.from_numpy(st.encode(texts)) - expected).abs().max() < 1e-5

    model, info = AutoModelForMaskedLM.from_pretrained(folder, output_loading_info=True)
    assert not any(info.values()), info
    own = set(map(torch.Tensor.data_ptr, model.parameters()))
    assert len(own) == len(list(model.parameters())) == len(list(with_head.parameters()))
    sentence = f"a b {tokenizer.mask_token} c"
    ids = torch.tensor(with_head.rows([sentence]).ids.tolist())
    at = torch.nonzero(ids == tokenizer.mask_token_id)[:, 0]
    with with_head.inferring("fp32"):
        _, states = with_head.with_token_states(with_head.rows([sentence]), at)
        probabilities = with_head.token_logits(states)[0].softmax(0)
    for row in pipeline("fill-mask", model=str(folder), device="cpu")(sentence):
        assert row["score"] == pytest.approx(probabilities[row["token"]].item(), rel=1e-4)
    assert row["score"] <= probabilities.max()


@pytest.mark.parametrize("gone", [False, True])
def test_a_spoiled_head_is_noticed_and_removed(gone, with_head, tmp_path, monkeypatch):
    from safetensors.torch import load_file, save_file

    save = Encoder.save

    def spoil(self, folder, record=None):
        save(self, folder, record)
        state = load_file(folder / "model.safetensors")
        biases = ("predictions.bias", "lm_head.bias", "projector.bias", "decoder.bias")
        name = next(key for key in state if key.endswith(biases))
        if gone:
            del state[name]
        else:
            state[name][:] += 1e-2
        save_file(state, folder / "model.safetensors", metadata={"format": "pt"})

    monkeypatch.setattr(Encoder, "save", spoil)
    message = "does not find" if gone else "other logits of masked tokens"
    with pytest.raises(ExportError, match=f"AutoModelForMaskedLM.*{message}"):
        export_encoder(with_head, tmp_path / "m", DECLUTR)
    assert list(tmp_path.iterdir()) == []


def test_loading_warns_of_nothing_because_the_pooler_is_kept(backbone, tmp_path, caplog):
    from safetensors import safe_open
    from transformers import AutoModel
    from transformers.utils import logging as hf_logging

    encoder = encoder_of(backbone)
    export_encoder(encoder, tmp_path / "m", CARD)
    has_pooler = encoder.backbone.config.model_type != "modernbert"
    with safe_open(tmp_path / "m" / "model.safetensors", "pt") as tensors:
        names = set(tensors.keys())
        assert {tensors.get_tensor(n).dtype for n in names} == {torch.float32}
    assert any(n.startswith("pooler.") for n in names) == has_pooler
    logger = hf_logging.get_logger("transformers")
    logger.addHandler(caplog.handler)
    try:
        AutoModel.from_pretrained(tmp_path / "m")
    finally:
        logger.removeHandler(caplog.handler)
    assert caplog.text == ""


def test_a_normalised_encoder_stays_one_in_every_library(tiny_bert, tmp_path):
    encoder = encoder_of(tiny_bert, pooling="mean", normalize=True)
    differences = export_encoder(encoder, tmp_path / "m", {**CARD, "similarity": "cosine"})
    assert {"AutoModel", "SentenceTransformer"} <= differences.keys()
    modules = json.loads((tmp_path / "m/modules.json").read_text())
    assert [module["type"].rpartition(".")[2] for module in modules] == [
        *("Transformer", "Pooling", "Normalize")
    ]
    card = (tmp_path / "m/README.md").read_text()
    assert "scaled to unit length" in card
    assert "embeddings = torch.nn.functional.normalize(embeddings)" in card
    again = Encoder.load(tmp_path / "m")
    assert again.settings.normalize
    torch.testing.assert_close(again.encode_texts(["a"]), encoder.encode_texts(["a"]))


def test_a_tokenizer_that_cut_at_128_does_so_no_more(minilm, tmp_path):
    from transformers import AutoTokenizer

    original = json.loads((minilm / "tokenizer.json").read_text())
    assert original["truncation"]["max_length"] == 128  # else this test shows nothing
    export_encoder(encoder_of(minilm, pooling="mean"), tmp_path / "m", CARD)
    exported = json.loads((tmp_path / "m" / "tokenizer.json").read_text())
    assert exported["truncation"] is None
    assert exported["padding"] is None
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "m")
    assert len(tokenizer("citation " * 400)["input_ids"]) == 402
    assert len(tokenizer("citation " * 900, truncation=True)["input_ids"]) == 512


def test_a_shorter_longest_text_is_kept_by_both_libraries(tiny_bert, tmp_path):
    st = pytest.importorskip("sentence_transformers")
    from transformers import AutoTokenizer

    export_encoder(encoder_of(tiny_bert, max_length=40), tmp_path / "m", CARD)
    assert AutoTokenizer.from_pretrained(tmp_path / "m").model_max_length == 40
    assert st.SentenceTransformer(str(tmp_path / "m"), device="cpu").max_seq_length == 40


@pytest.mark.parametrize("what", ["weights", "pooling", "length", "tokenizer"])
def test_a_wrong_export_is_noticed_and_removed(what, tiny_bert, tmp_path, monkeypatch):
    pytest.importorskip("sentence_transformers")
    save, layout = Encoder.save, plain_layout.write_sentence_transformers

    def spoil_save(self, folder, record=None):
        save(self, folder, record)
        if what == "weights":
            from safetensors.torch import load_file, save_file

            state = load_file(folder / "model.safetensors")
            state["encoder.layer.1.output.LayerNorm.bias"][3] += 1e-3
            save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
        if what == "tokenizer":
            path = folder / "tokenizer.json"
            content = json.loads(path.read_text())
            vocab = content["model"]["vocab"]
            vocab["##a"], vocab["##e"] = vocab["##e"], vocab["##a"]
            path.write_text(json.dumps(content))

    def spoil_layout(folder, encoder, pooling, similarity):
        layout(folder, encoder, "mean" if what == "pooling" else pooling, similarity)
        if what == "length":
            limits = {"max_seq_length": 128, "do_lower_case": False}
            (folder / "sentence_bert_config.json").write_text(json.dumps(limits))

    monkeypatch.setattr(Encoder, "save", spoil_save)
    monkeypatch.setattr(plain_layout, "write_sentence_transformers", spoil_layout)
    with pytest.raises(ExportError, match="removed"):
        export_encoder(encoder_of(tiny_bert), tmp_path / "sub" / "m", CARD)
    assert list((tmp_path / "sub").iterdir()) == []


@pytest.mark.parametrize("kind", ["qwen3", "gemma3_text"])
def test_a_decoder_gives_the_same_vectors_padded_on_either_side(kind, tmp_path):
    folder = write_embedder_files(write_tiny_decoder(tmp_path / "start", kind))
    encoder = Encoder.load(folder, max_length=64)
    card = {**CARD, "similarity": "cosine"}
    differences = export_encoder(encoder, tmp_path / "model", card)
    assert set(differences) == {
        *("AutoModel", "SentenceTransformer"),
        *("AutoModel, padded on the left", "AutoModel, padded on the right"),
    }
    assert all(d is not None and d < 1e-5 for d in differences.values())
    again = Encoder.load(tmp_path / "model")
    assert again.settings.pooling == "last"
    assert again.settings.prompts == encoder.settings.prompts
    assert "pooler_output" not in (tmp_path / "model" / "README.md").read_text()


def test_a_vector_of_the_wrong_end_of_a_padded_row_is_noticed(tiny_qwen3, tmp_path, monkeypatch):
    monkeypatch.setattr(library_vectors, "last_of_rows", lambda hidden, mask: hidden[:, -1])
    encoder = Encoder.load(tiny_qwen3, max_length=64)
    with pytest.raises(ExportError, match="padded on the right computes other embeddings"):
        export_encoder(encoder, tmp_path / "model", {**CARD, "similarity": "cosine"})
    assert not (tmp_path / "model").exists()
